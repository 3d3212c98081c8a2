"""Functions by table against float64 mathematics, on every input code."""

from __future__ import annotations

from typing import Any

import numpy as np

from intformer.hw.units.functions import RANGES, real_codes
from intformer.hw.units.table import TableFunction

__all__ = ["SCALES", "errors"]

_BOUNDED = ("sigmoid", "tanh", "exp")
SCALES = {
    8: (1 / 32, 1 / 16, 0.05, 0.11),
    16: (3 / 32767, 1 / 8192, 1 / 4096, 0.000173),
}
"""Input scales by width: inputs up to 3, 4, 8 and so on."""


def errors(
    cases: int | None = None, seed: int = 1, *, function: str = "gelu", bits: int = 8
) -> dict[str, Any]:
    """Compare the reference with the function, on every code, at each of :data:`SCALES`.

    The output scale is the input's, or one step below 1 at full scale for functions of at most 1.

    Parameters
    ----------
    cases, seed: not used: every code is tried.
    function: one of :data:`intformer.hw.units.functions.FUNCTIONS`.
    bits: 8 or 16.

    Returns
    -------
    ``cases``; ``worst_steps``, the largest distance from the exact value, saturated like the code;
    ``correctly_rounded``, the share; and ``scales``, the same for each input scale.
    """
    code = f"int{bits}"
    scales = []
    for scale in SCALES[bits]:
        full = 2.0 ** (1 - bits)
        unit = TableFunction(
            function,
            x_scale=scale,
            y_scale=full if function in _BOUNDED else scale,
            x_type=code,
            y_type=code,
        )
        low, high = RANGES[code]
        exact = np.clip(real_codes(unit.function, unit.x, unit.y), low, high)
        got = unit.reference(np.arange(low, high + 1))
        scales.append(
            {
                "x_scale": scale,
                "cases": len(got),
                "worst_steps": float(np.abs(got - exact).max()),
                "correctly_rounded": float(np.mean(got == np.floor(exact + 0.5).clip(low, high))),
            }
        )
    total = sum(part["cases"] for part in scales)
    right = sum(part["correctly_rounded"] * part["cases"] for part in scales)
    return {
        "cases": total,
        "worst_steps": max(part["worst_steps"] for part in scales),
        "correctly_rounded": right / total,
        "scales": scales,
    }
