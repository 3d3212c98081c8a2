"""Sums and products of two coded tensors, rounded once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from intformer.reference.integers import IntArray, check_width
from intformer.reference.rescale import MULT_BITS, round_shift

__all__ = ["elementwise_add", "elementwise_multiply"]


def elementwise_add(
    a: IntArray,
    b: IntArray,
    *,
    a_mult: int,
    b_mult: int,
    shift: int,
    a_zero_point: int = 0,
    b_zero_point: int = 0,
    zero_point: int = 0,
    lo: int,
    hi: int,
) -> NDArray[np.int64]:
    """Sum of codes with two scales, rounded once, half toward +infinity::

        s = (a - a_zero_point) * a_mult + (b - b_zero_point) * b_mult
        y = clip(((s + (1 << (shift - 1))) >> shift) + zero_point, lo, hi)

    ``a`` and ``b`` are int8 or int16 codes, the multipliers signed 16-bit integers: the real
    factors ``a_scale / y_scale`` and ``b_scale / y_scale`` times ``2**shift``, 2 <= shift <= 62.
    """
    check_width(np.asarray([a_mult, b_mult]), MULT_BITS, "multiplier")
    total = (np.asarray(a, dtype=np.int64) - a_zero_point) * a_mult
    total = total + (np.asarray(b, dtype=np.int64) - b_zero_point) * b_mult
    return np.clip(round_shift(total, shift) + zero_point, lo, hi)


def elementwise_multiply(
    a: IntArray,
    b: IntArray,
    *,
    mult: int,
    shift: int,
    a_zero_point: int = 0,
    b_zero_point: int = 0,
    zero_point: int = 0,
    lo: int,
    hi: int,
) -> NDArray[np.int64]:
    """Product of codes, rounded once, half toward +infinity::

        p = (a - a_zero_point) * (b - b_zero_point) * mult
        y = clip(((p + (1 << (shift - 1))) >> shift) + zero_point, lo, hi)

    ``a`` and ``b`` are int8 or int16 codes, ``mult`` a signed 16-bit integer: the real factor
    ``a_scale * b_scale / y_scale`` times ``2**shift``, 2 <= shift <= 62.
    """
    check_width(np.asarray(mult), MULT_BITS, "multiplier")
    total = (np.asarray(a, dtype=np.int64) - a_zero_point) * (
        np.asarray(b, dtype=np.int64) - b_zero_point
    )
    return np.clip(round_shift(total * mult, shift) + zero_point, lo, hi)
