"""Rotary position embedding of integer codes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from intformer.reference.integers import IntArray

__all__ = ["ROTARY_FRACTION", "rotary"]

ROTARY_FRACTION = 16
"""Usual fraction bits of cosines and sines: with sign and integer bit, a multiplier's 18."""


def rotary(
    x: IntArray,
    *,
    cos: IntArray,
    sin: IntArray,
    fraction: int = ROTARY_FRACTION,
    halves: bool,
    lo: int,
    hi: int,
) -> NDArray[np.int64]:
    """Turn the pairs of the last axis by their angles, given at ``2**-fraction``.

    A pair is ``(x[2j], x[2j + 1])``, or ``(x[j], x[j + n/2])`` with ``halves``; ``cos`` and
    ``sin`` have ``n/2`` entries on the last axis and broadcast against the rest of ``x``::

        y1 = clip((x1 * cos - x2 * sin + 2**(fraction - 1)) >> fraction, lo, hi)
        y2 = clip((x2 * cos + x1 * sin + 2**(fraction - 1)) >> fraction, lo, hi)
    """
    x = np.asarray(x, dtype=np.int64)
    cos, sin = np.asarray(cos, dtype=np.int64), np.asarray(sin, dtype=np.int64)
    half = x.shape[-1] // 2
    first = np.s_[..., :half] if halves else np.s_[..., 0::2]
    second = np.s_[..., half:] if halves else np.s_[..., 1::2]
    a, b = x[first], x[second]
    y = np.empty_like(x)
    rounding = 1 << (fraction - 1)
    y[first] = (a * cos - b * sin + rounding) >> fraction
    y[second] = (b * cos + a * sin + rounding) >> fraction
    return np.clip(y, lo, hi)
