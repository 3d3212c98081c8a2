"""Integer parameters of LayerNorm."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer import reference

__all__ = ["norm_parameters", "smallest_input_scale"]

Array = NDArray[Any]

_SHIFT_TOP = 40
_EPS_TOP = (1 << 40) - 1


def smallest_input_scale(n: int, eps: float) -> float:
    """The scale of the input codes below which ``eps`` would not fit its field."""
    return float(n * np.sqrt(eps / _EPS_TOP))


def norm_parameters(
    gamma: Array, beta: Array, eps: float, *, input_scale: float, output_scale: float
) -> dict[str, Any]:
    """Fields ``gamma``, ``beta``, ``shift`` and ``eps`` of :func:`intformer.reference.layernorm`.

    The largest shift, the same for all channels, at which every gamma and beta fits.
    """
    n = len(gamma)
    g, b = (np.asarray(v, np.float64) / output_scale for v in (gamma, beta))
    shift = _SHIFT_TOP
    while shift > reference.SHIFT_MIN:
        gamma_q = np.rint(np.ldexp(g, shift - reference.NORM_FRACTION))
        beta_q = np.rint(np.ldexp(b, shift - reference.BETA_SHIFT))
        if np.abs(gamma_q).max() < 1 << 15 and np.abs(beta_q).max() < 1 << 31:
            break
        shift -= 1
    eps_q = int(np.rint(n * n * eps / input_scale**2))
    return {
        "gamma": gamma_q.astype(np.int16),
        "beta": beta_q.astype(np.int32),
        "shift": np.full(n, shift, np.uint8),
        "eps": min(eps_q, _EPS_TOP),
    }
