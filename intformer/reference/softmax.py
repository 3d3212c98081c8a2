"""Softmax of integer codes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from intformer.reference.integers import IntArray

__all__ = ["EXP_BITS", "ExpTables", "exponential", "softmax", "softmax_keep"]

EXP_BITS = 24
"""Width of a softmax table entry; entry 0 is ``2**EXP_BITS - 1``."""
FACTOR_BITS = 34
"""Fraction bits of the entries of a pair of exponential tables."""
PRODUCT_BITS = 29
"""Fraction bits kept of the product of two entries."""
SLOPE_BITS = 30
"""Fraction bits of the exponent's part below the tables."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ExpTables:
    """``exp(-scale * d)`` for distances ``d >= 0``, as tables; see :func:`exponential`.

    Attributes
    ----------
    limit: distances from here on give 0; a power of two.
    high: entries by the upper bits of ``d``.
    low: entries by the next 9 bits of ``d``; empty if ``high`` takes all bits.
    rest_bits: bits of ``d`` below the tables.
    slope, slope_shift: ``scale * 2**SLOPE_BITS`` is about ``slope >> slope_shift``.
    """

    limit: int
    high: IntArray
    low: IntArray
    rest_bits: int = 0
    slope: int = 0
    slope_shift: int = 0


def exponential(d: IntArray, *, tables: ExpTables) -> NDArray[np.int64]:
    """``exp(-scale * d)`` in units of about ``2**-EXP_BITS``.

    With one table ``e = high[d]``. With two tables, ``i``, ``j``, ``k`` the upper bits of ``d``,
    the 9 bits below them and the ``r = rest_bits`` lowest:

        g = (high[i] * low[j]) >> (2*FACTOR_BITS - PRODUCT_BITS)
        z = ((k - 2**(r - 1)) * slope) >> slope_shift             (0 if r = 0)
        e = (g - (((g >> 12) * z) >> 18) + 16) >> 5

    ``e = 0`` if ``d >= limit``.
    """
    d = np.asarray(d, dtype=np.int64)
    near = np.minimum(d, tables.limit - 1)
    if not len(tables.low):
        e = np.asarray(tables.high, dtype=np.int64)[near]
        return np.where(d < tables.limit, e, 0)
    digit = len(tables.low).bit_length() - 1
    rest = tables.rest_bits
    high = np.asarray(tables.high, dtype=np.int64)[near >> (digit + rest)]
    low = np.asarray(tables.low, dtype=np.int64)[(near >> rest) & (len(tables.low) - 1)]
    g = _shifted_product(high, low, 2 * FACTOR_BITS - PRODUCT_BITS)
    if rest:
        offset = (near & ((1 << rest) - 1)) - (1 << (rest - 1))
        z = (offset * tables.slope) >> tables.slope_shift
        g = g - (((g >> 12) * z) >> (SLOPE_BITS - 12))
    guard = PRODUCT_BITS - EXP_BITS
    return np.where(d < tables.limit, (g + (1 << (guard - 1))) >> guard, 0)


def _shifted_product(a: IntArray, b: IntArray, shift: int) -> NDArray[np.int64]:
    """``(a * b) >> shift`` of non-negative factors below ``2**34``, for ``shift >= 34``."""
    half = 17
    mask = (1 << half) - 1
    a1, a0, b1, b0 = a >> half, a & mask, b >> half, b & mask
    middle = a1 * b0 + a0 * b1 + ((a0 * b0) >> half)
    return ((a1 * b1) + (middle >> half)) >> (shift - 2 * half)


def softmax(
    x: IntArray, *, exp_table: IntArray | ExpTables, keep: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """Row softmax of integer codes to uint8 probabilities at 1/256.

    Per row over the kept elements: ``m = max(x)``, ``e = exp_table[m - x]``, ``S = sum(e)``,
    ``p = min(((e << 9) // S + 1) >> 1, 255)``: the quotient ``256 * e / S``, rounded half up.
    Elements not kept get code 0; a row that keeps nothing is all 0.

    ``exp_table``: 256 entries of at most ``2**EXP_BITS - 1`` for int8 codes, or
    :class:`ExpTables`; ``keep`` broadcasts against ``x``.
    """
    x = np.asarray(x, dtype=np.int64)
    kept = np.ones(x.shape, bool) if keep is None else np.broadcast_to(keep, x.shape)
    top = np.where(kept, x, np.iinfo(np.int32).min).max(axis=-1, keepdims=True)
    d = np.where(kept, top - x, 0)
    if isinstance(exp_table, ExpTables):
        e = exponential(d, tables=exp_table)
    else:
        e = np.asarray(exp_table, dtype=np.int64)[d]
    e = np.where(kept, e, 0)
    total = e.sum(axis=-1, keepdims=True)
    p = ((e << 9) // np.maximum(total, 1) + 1) >> 1
    return np.where(total > 0, np.minimum(p, 255), 0)


def softmax_keep(
    n: int, *, length: IntArray, causal: IntArray | bool = False, position: IntArray | int = 0
) -> NDArray[np.bool_]:
    """What the predicates of rows of ``n`` elements keep: one row of the result per row.

    Element ``j`` is kept if ``j < length`` and, if ``causal``, ``j <= position``.
    """
    length, causal, position = (np.asarray(v)[..., None] for v in (length, causal, position))
    j = np.arange(n)
    return (j < length) & (~causal.astype(bool) | (j <= position))
