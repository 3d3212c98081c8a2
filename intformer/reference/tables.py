"""Functions of one code by table: 256 entries, or quadratic segments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from intformer.reference.integers import IntArray

__all__ = [
    "BREAKS_MAX",
    "COEFFICIENT_BITS",
    "CONSTANT_BITS",
    "CURVATURE_SHIFT_MAX",
    "GUARD_BITS",
    "SEGMENTS",
    "SEGMENT_BITS",
    "SLOPE_SHIFT_MAX",
    "QuadraticTable",
    "check_function",
    "quadratic_table",
    "table_lookup",
]

SEGMENT_BITS = 7
"""A quadratic segment covers ``2**SEGMENT_BITS`` codes: 512 segments for 16 bits."""
GUARD_BITS = 10
"""Fraction bits of a quadratic table's constant coefficients."""
COEFFICIENT_BITS = 18
"""Width of the slope and of the curvature (signed): the width of a hardware multiplier."""
CONSTANT_BITS = 28
"""Width of the constant (signed)."""
SLOPE_SHIFT_MAX, CURVATURE_SHIFT_MAX = 10, 16
"""Largest shifts of a quadratic table; the smallest is 0."""
SEGMENTS = 1 << (16 - SEGMENT_BITS)
"""Segments of a quadratic table."""
BREAKS_MAX = 2
"""Breaks of a quadratic table in an epilogue (:func:`check_function`)."""

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


def check_function(table: QuadraticTable) -> None:
    """Check that an epilogue can hold ``table``: the input is int16, everything fits its width.

    Its input codes are int16 and its output codes lie in int16 or uint8; 512 segments, constants
    of 28 bits, slopes and curvatures of 18, slopes of at most 18 bits over their whole segment
    once they are bent, at most :data:`BREAKS_MAX` breaks, inside different segments.

    Raises
    ------
    ValueError
        If not; the message names what does not fit.
    """
    if table.x_lo != -32768:
        raise ValueError(
            f"a function in an epilogue takes int16 codes, not codes from {table.x_lo}"
        )
    if not -32768 <= table.lo <= table.hi <= 32767:
        raise ValueError(f"a function's results must be within int16, not {table.lo}..{table.hi}")
    columns = (
        ("constant", CONSTANT_BITS),
        *((n, COEFFICIENT_BITS) for n in ("slope", "curvature")),
    )
    for name, bits in columns:
        _check_column(name, np.asarray(getattr(table, name), dtype=np.int64), bits)
    shifts = (("slope_shift", SLOPE_SHIFT_MAX), ("curvature_shift", CURVATURE_SHIFT_MAX))
    for name, most in shifts:
        if not 0 <= getattr(table, name) <= most:
            raise ValueError(f"{name} must be from 0 to {most}, not {getattr(table, name)}")
    segments = [position >> SEGMENT_BITS for position in table.breaks]
    if len(segments) > BREAKS_MAX or len(set(segments)) < len(segments):
        raise ValueError(
            f"a function in an epilogue has at most {BREAKS_MAX} breaks, in different segments, "
            f"not {table.breaks}"
        )
    if any(not 0 < p < 65536 - 2 * _HALF for p in table.breaks):
        raise ValueError(f"no break can be in the last segment or at 0: {table.breaks}")
    _check_bent_slopes(table)


def _check_column(name: str, values: NDArray[np.int64], bits: int) -> None:
    if values.shape != (SEGMENTS,):
        raise ValueError(f"{name} must have {SEGMENTS} entries, not shape {values.shape}")
    if values.min() < -(1 << (bits - 1)) or values.max() >= 1 << (bits - 1):
        raise ValueError(f"{name} must fit {bits} bits, not {values.min()}..{values.max()}")


def _check_bent_slopes(table: QuadraticTable) -> None:
    slope, curvature = (np.asarray(c, dtype=np.int64) for c in (table.slope, table.curvature))
    lowest = np.full(SEGMENTS, -_HALF)
    for position in table.breaks:
        lowest[(position >> SEGMENT_BITS) + 1] -= 2 * _HALF - (position & (2 * _HALF - 1))
    for t in (lowest, np.full(SEGMENTS, _HALF - 1)):
        bent = slope + ((curvature * t) >> table.curvature_shift)
        _check_column("a bent slope", bent, COEFFICIENT_BITS)
