"""Requantization and the epilogue after accumulation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from intformer.reference.integers import IntArray, check_width
from intformer.reference.tables import QuadraticTable, check_function, quadratic_table

__all__ = [
    "ACC_BITS",
    "FACTOR_SHIFT",
    "MULT_BITS",
    "RESCALE_SHIFT_MAX",
    "SHIFT_MAX",
    "SHIFT_MIN",
    "matmul",
    "post",
    "requantize",
    "rescale",
    "round_shift",
]

ACC_BITS = 32
"""Width of an accumulator, bias included."""
MULT_BITS = 16
"""Width of a requantization multiplier (signed)."""
SHIFT_MIN, SHIFT_MAX = 2, 47
"""Range of a requantization shift."""
FACTOR_SHIFT = 12
"""The epilogue divides a row's sums times its factor by two to this power."""
RESCALE_SHIFT_MAX = 62
"""Largest shift of the stream units, which have no fixed widths; the smallest is ``SHIFT_MIN``."""


def requantize(x: IntArray, mult: IntArray, shift: IntArray) -> NDArray[np.int64]:
    """``(x * mult + (1 << (shift - 1))) >> shift``: rescale, rounding half toward +infinity.

    The single-rounding rescale of the TOSA specification. ``x`` is at most 32 bits, ``mult`` a
    signed 16-bit integer, ``2 <= shift <= 47``; ``mult`` and ``shift`` broadcast against ``x``.
    The result is not saturated.
    """
    x = np.asarray(x, dtype=np.int64)
    mult = np.asarray(mult, dtype=np.int64)
    shift = np.asarray(shift, dtype=np.int64)
    check_width(x, ACC_BITS, "value to requantize")
    check_width(mult, MULT_BITS, "multiplier")
    if shift.size and (shift.min() < SHIFT_MIN or shift.max() > SHIFT_MAX):
        raise ValueError(
            f"shift must be from {SHIFT_MIN} to {SHIFT_MAX}, not {shift.min()}..{shift.max()}"
        )
    return (x * mult + (np.int64(1) << (shift - 1))) >> shift


def matmul(a: IntArray, b: IntArray) -> NDArray[np.int64]:
    """Exact integer product ``a @ b.T`` over the last axis of both (the contraction).

    ``a``: ``[..., M, K]`` int8 or uint8; ``b``: ``[..., N, K]`` int8. Result ``[..., M, N]``.
    """
    # float64 holds every sum exactly: |sum| < 2**53 for any K below 2**37.
    product = np.asarray(a, dtype=np.float64) @ np.swapaxes(np.asarray(b, dtype=np.float64), -1, -2)
    acc = product.astype(np.int64)
    check_width(acc, ACC_BITS, "accumulator")
    return acc


def post(
    x: IntArray,
    *,
    factor: IntArray | None = None,
    bias: IntArray | int,
    mult: IntArray | int,
    shift: IntArray | int,
    residual: IntArray | None = None,
    res_mult: int = 0,
    res_shift: int = SHIFT_MIN,
    zero_point: int = 0,
    lo: int,
    hi: int,
    table: IntArray | None = None,
    function: QuadraticTable | None = None,
) -> NDArray[np.int64]:
    """The epilogue: factor, bias, rescale, residual, zero point, saturation, activation table.

    ``y = clip(requantize(x + bias, mult, shift) + requantize(residual, res_mult, res_shift)
    + zero_point, lo, hi)``, then ``table[y & 255]`` if a table is given (then lo..hi must lie
    in -128..127), or ``quadratic_table(y, table=function)`` if a function is given (then lo..hi
    must lie in -32768..32767, and :func:`check_function` must hold). With a ``factor`` (int16,
    broadcast against ``x``: ``[..., 1]`` for one per row) ``x`` is first replaced by
    ``requantize(x, factor, FACTOR_SHIFT)``, which must fit 32 bits. ``bias``, ``mult`` and
    ``shift`` are per channel (last axis) or scalar. The same function serves accumulators and
    element-wise operations on stored tensors.
    """
    if table is not None and function is not None:
        raise ValueError("an epilogue has a table or a function, not both")
    if factor is not None:
        x = requantize(x, factor, np.asarray(FACTOR_SHIFT))
        check_width(x, ACC_BITS, "sum times its row's factor")
    total = np.asarray(x, dtype=np.int64) + np.asarray(bias, dtype=np.int64)
    y = requantize(total, np.asarray(mult), np.asarray(shift))
    if residual is not None:
        y = y + requantize(
            np.asarray(residual, dtype=np.int64), np.asarray(res_mult), np.asarray(res_shift)
        )
    y = np.clip(y + zero_point, lo, hi)
    if table is not None:
        if lo < -128 or hi > 127:
            raise ValueError(f"a table needs lo..hi within -128..127, not {lo}..{hi}")
        y = np.asarray(table, dtype=np.int64)[y & 0xFF]
    if function is not None:
        if lo < -32768 or hi > 32767:
            raise ValueError(f"a function needs lo..hi within int16, not {lo}..{hi}")
        check_function(function)
        y = quadratic_table(y, table=function)
    return y


def round_shift(total: IntArray, shift: IntArray | int) -> NDArray[np.int64]:
    """``(total + (1 << (shift - 1))) >> shift`` for ``2 <= shift <= 62``: half toward +infinity.

    ``total`` is any int64; ``shift`` broadcasts against it.
    """
    total = np.asarray(total, dtype=np.int64)
    shift = np.asarray(shift, dtype=np.int64)
    if shift.size and (shift.min() < SHIFT_MIN or shift.max() > RESCALE_SHIFT_MAX):
        raise ValueError(
            f"shift must be from {SHIFT_MIN} to {RESCALE_SHIFT_MAX}, "
            f"not {shift.min()}..{shift.max()}"
        )
    # Rounding after the shift: the sum before it could exceed int64.
    return ((total >> (shift - 1)) + 1) >> 1


def rescale(
    x: IntArray,
    *,
    mult: IntArray | int,
    shift: IntArray | int,
    zero_point: int = 0,
    lo: int,
    hi: int,
) -> NDArray[np.int64]:
    """``clip(((x * mult + (1 << (shift - 1))) >> shift) + zero_point, lo, hi)``.

    Requantization as a stand-alone operation: ``x`` and ``mult`` signed with up to 32 bits,
    ``2 <= shift <= 62``; ``mult`` and ``shift`` broadcast against ``x``.
    """
    x = np.asarray(x, dtype=np.int64)
    mult = np.asarray(mult, dtype=np.int64)
    check_width(x, 32, "value to rescale")
    check_width(mult, 32, "multiplier")
    return np.clip(round_shift(x * mult, shift) + zero_point, lo, hi)
