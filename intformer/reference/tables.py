"""Functions of one code by table: 256 entries, or quadratic segments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from intformer.reference.integers import IntArray

__all__ = [
    "COEFFICIENT_BITS",
    "GUARD_BITS",
    "SEGMENT_BITS",
    "QuadraticTable",
    "quadratic_table",
    "table_lookup",
]

SEGMENT_BITS = 7
"""A quadratic segment covers ``2**SEGMENT_BITS`` codes: 512 segments for 16 bits."""
GUARD_BITS = 10
"""Fraction bits of a quadratic table's constant coefficients."""
COEFFICIENT_BITS = 18
"""Width of the slope and of the curvature (signed): the width of a hardware multiplier."""

_HALF = 1 << (SEGMENT_BITS - 1)


def table_lookup(x: IntArray, *, table: IntArray) -> NDArray[np.int64]:
    """``table[x & 255]`` for 8-bit codes ``x``, signed or not."""
    return np.asarray(table, dtype=np.int64)[np.asarray(x, dtype=np.int64) & 0xFF]


@dataclass(frozen=True, kw_only=True)
class QuadraticTable:
    """Coefficients of :func:`quadratic_table`.

    Attributes
    ----------
    constant, slope, curvature: one entry per segment. ``constant`` holds the output's zero point
        and the half for rounding.
    slope_shift, curvature_shift: see :func:`quadratic_table`.
    breaks: positions (code - lowest code) from which the rest of a segment belongs to the next
        one; at most one per segment, none in the last.
    x_lo: lowest input code.
    lo, hi: range of the output codes.
    """

    constant: IntArray
    slope: IntArray
    curvature: IntArray
    slope_shift: int
    curvature_shift: int
    breaks: tuple[int, ...]
    x_lo: int
    lo: int
    hi: int


def quadratic_table(x: IntArray, *, table: QuadraticTable) -> NDArray[np.int64]:
    """A quadratic in each of 512 segments of 128 codes, for 16-bit codes ``x``.

    ``u = x - x_lo``, ``k = u >> 7``, ``t = (u & 127) - 64``; from a break of the table to the end
    of its segment ``k`` is one more and ``t`` is 128 less. Then::

        s = slope[k] + ((curvature[k] * t) >> curvature_shift)
        y = clip((constant[k] + ((s * t) >> slope_shift)) >> 10, lo, hi)
    """
    u = np.asarray(x, dtype=np.int64) - table.x_lo
    if u.size and (u.min() < 0 or u.max() > 0xFFFF):
        raise OverflowError(f"not 16-bit codes from {table.x_lo}: {np.min(x)}..{np.max(x)}")
    k = u >> SEGMENT_BITS
    t = (u & (2 * _HALF - 1)) - _HALF
    for position in table.breaks:
        beyond = (u >= position) & (u >> SEGMENT_BITS == position >> SEGMENT_BITS)
        k = k + beyond
        t = t - beyond * 2 * _HALF
    constant, slope, curvature = (
        np.asarray(values, dtype=np.int64)[k]
        for values in (table.constant, table.slope, table.curvature)
    )
    s = slope + ((curvature * t) >> table.curvature_shift)
    return np.clip((constant + ((s * t) >> table.slope_shift)) >> GUARD_BITS, table.lo, table.hi)
