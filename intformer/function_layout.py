"""How a table of a function of int16 codes lies in external memory and in the core.

:data:`ENTRIES` entries of :data:`ENTRY_BYTES` bytes, little endian. First the segments, each
``{constant: 28, slope: 18, curvature: 18}`` bits, two's complement, ``constant`` lowest; then one
entry ``{slope_shift: 8, curvature_shift: 8, lo: 16, hi: 16, zero: 16}``, and one of the breaks,
``{break: 16, break: 16, zero: 32}``, 0 where there is none.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from intformer.reference.tables import (
    BREAKS_MAX,
    COEFFICIENT_BITS,
    CONSTANT_BITS,
    SEGMENTS,
    QuadraticTable,
    check_function,
)

__all__ = ["ENTRIES", "ENTRY_BYTES", "TABLE_STRIDE", "pack_function", "unpack_function"]

ENTRY_BYTES = 8
ENTRIES = SEGMENTS + 2
"""Entries that a LOAD of a whole table has."""
TABLE_STRIDE = 1024
"""Entries from one table to the next, as the memory's addresses count them."""

_WIDTHS = (CONSTANT_BITS, COEFFICIENT_BITS, COEFFICIENT_BITS)


def pack_function(table: QuadraticTable) -> bytes:
    """The bytes of ``table``; ``ValueError`` if no epilogue can hold it."""
    check_function(table)
    words = np.zeros(ENTRIES, np.uint64)
    offset = 0
    columns = (table.constant, table.slope, table.curvature)
    for values, bits in zip(columns, _WIDTHS, strict=True):
        field = np.asarray(values, np.int64) & ((1 << bits) - 1)
        words[:SEGMENTS] |= field.astype(np.uint64) << np.uint64(offset)
        offset += bits
    words[SEGMENTS] = (
        table.slope_shift
        | table.curvature_shift << 8
        | (table.lo & 0xFFFF) << 16
        | (table.hi & 0xFFFF) << 32
    )
    breaks = [*table.breaks, *[0] * BREAKS_MAX][:BREAKS_MAX]
    words[SEGMENTS + 1] = sum(position << (16 * k) for k, position in enumerate(breaks))
    return words.astype("<u8").tobytes()


def unpack_function(words: NDArray[np.uint64]) -> QuadraticTable:
    """Inverse of :func:`pack_function`, from the entries as 64-bit words."""
    words = np.asarray(words, np.uint64)
    columns = []
    offset = 0
    for bits in _WIDTHS:
        raw = (words[:SEGMENTS] >> np.uint64(offset)) & np.uint64((1 << bits) - 1)
        half = 1 << (bits - 1)
        columns.append((raw.astype(np.int64) ^ half) - half)
        offset += bits
    limits, breaks = (int(word) for word in words[SEGMENTS:ENTRIES])
    lo, hi = (((limits >> at & 0xFFFF) ^ 0x8000) - 0x8000 for at in (16, 32))
    positions = (breaks >> 16 * k & 0xFFFF for k in range(BREAKS_MAX))
    return QuadraticTable(
        constant=columns[0],
        slope=columns[1],
        curvature=columns[2],
        slope_shift=limits & 0xFF,
        curvature_shift=limits >> 8 & 0xFF,
        breaks=tuple(position for position in positions if position),
        x_lo=-32768,
        lo=lo,
        hi=hi,
    )
