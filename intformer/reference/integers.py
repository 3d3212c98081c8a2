"""Integer helpers that the operations share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.integer]

__all__ = ["LIMITS", "IntArray", "bit_length", "check_width", "isqrt"]

LIMITS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}
"""Range of each code type."""


def check_width(values: IntArray, bits: int, what: str) -> None:
    if values.size and (
        int(values.min()) < -(1 << (bits - 1)) or int(values.max()) >= 1 << (bits - 1)
    ):
        raise OverflowError(f"{what} exceeds {bits} bits: {values.min()}..{values.max()}")


def bit_length(x: NDArray[np.int64]) -> NDArray[np.int64]:
    """Elementwise ``int.bit_length`` of non-negative values below ``2**62``."""
    bits = np.zeros_like(x)
    rest = x.copy()
    for step in (32, 16, 8, 4, 2, 1):
        big = rest >= np.int64(1) << step
        bits += np.where(big, step, 0)
        rest = np.where(big, rest >> step, rest)
    return bits + (rest > 0)


def isqrt(x: NDArray[np.int64]) -> NDArray[np.int64]:
    """Elementwise floor of the square root of non-negative values below ``2**54``."""
    root = np.sqrt(x.astype(np.float64)).astype(np.int64)
    root -= root * root > x
    root += (root + 1) * (root + 1) <= x
    return root
