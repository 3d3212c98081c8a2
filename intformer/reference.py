"""The integer reference: the only definition of what every operation means.

Each function takes NumPy integer arrays and returns NumPy integer arrays; nothing here is
floating point. The instruction-level simulator, the compiler's tests and the RTL benches all
call these functions, and the hardware equals them code for code.

Notation: ``>>`` is the arithmetic shift (rounds toward minus infinity), ``clip(v, lo, hi)``
saturates. Sums are exact in int64; the compiler proves that they fit the hardware's widths
(:data:`ACC_BITS` and so on), and the functions raise ``OverflowError`` if they do not.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.integer]

ACC_BITS = 32
"""Width of an accumulator, bias included."""
MULT_BITS = 16
"""Width of a requantization multiplier (signed)."""
SHIFT_MIN, SHIFT_MAX = 2, 47
"""Range of a requantization shift."""

EXP_BITS = 20
"""Width of a softmax table entry; entry 0 is ``2**EXP_BITS - 1``."""
RECIPROCAL_BITS = 18
"""Softmax and LayerNorm reciprocals lie in ``[2**17, 2**18]``, both ends included."""

NORM_FRACTION = 16
"""Fraction bits of the normalized value inside LayerNorm."""
NORM_BITS = 54
"""Width to which LayerNorm's ``n*sum(x^2) - sum(x)^2 + eps`` is normalized (even)."""
BETA_SHIFT = 8
"""LayerNorm's beta is held in units of ``2**BETA_SHIFT`` product steps."""

LIMITS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}
"""Range of each code type."""


def _check_width(values: IntArray, bits: int, what: str) -> None:
    if values.size and (
        int(values.min()) < -(1 << (bits - 1)) or int(values.max()) >= 1 << (bits - 1)
    ):
        raise OverflowError(f"{what} exceeds {bits} bits: {values.min()}..{values.max()}")


def requantize(x: IntArray, mult: IntArray, shift: IntArray) -> NDArray[np.int64]:
    """``(x * mult + (1 << (shift - 1))) >> shift``: rescale, rounding half toward +infinity.

    The single-rounding rescale of the TOSA specification. ``x`` is at most 32 bits, ``mult`` a
    signed 16-bit integer, ``2 <= shift <= 47``; ``mult`` and ``shift`` broadcast against ``x``.
    The result is not saturated.
    """
    x = np.asarray(x, dtype=np.int64)
    mult = np.asarray(mult, dtype=np.int64)
    shift = np.asarray(shift, dtype=np.int64)
    _check_width(x, ACC_BITS, "value to requantize")
    _check_width(mult, MULT_BITS, "multiplier")
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
    _check_width(acc, ACC_BITS, "accumulator")
    return acc


def post(
    x: IntArray,
    *,
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
) -> NDArray[np.int64]:
    """The epilogue: bias, rescale, residual, zero point, saturation and activation table.

    ``y = clip(requantize(x + bias, mult, shift) + requantize(residual, res_mult, res_shift)
    + zero_point, lo, hi)``, then ``table[y & 255]`` if a table is given (then lo..hi must lie
    in -128..127). ``bias``, ``mult`` and ``shift`` are per channel (last axis) or scalar. The
    same function serves accumulators and element-wise operations on stored tensors.
    """
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
    return y


def softmax(
    x: IntArray, *, exp_table: IntArray, keep: NDArray[np.bool_] | None = None
) -> NDArray[np.int64]:
    """Row softmax of int8 codes to uint8 probabilities at 1/256.

    Per row over the kept elements: ``m = max(x)``, ``e = exp_table[m - x]``, ``S = sum(e)``,
    ``b = bit_length(S)``, ``r = 2**(17 + b) // S``,
    ``p = min((e * r + 2**(b + 8)) >> (b + 9), 255)``.
    Elements not kept get code 0; a row that keeps nothing is all 0.

    ``exp_table``: 256 entries, at most ``2**EXP_BITS - 1``; ``keep`` broadcasts against ``x``.
    """
    x = np.asarray(x, dtype=np.int64)
    table = np.asarray(exp_table, dtype=np.int64)
    kept = np.ones(x.shape, bool) if keep is None else np.broadcast_to(keep, x.shape)
    top = np.where(kept, x, -128).max(axis=-1, keepdims=True)
    e = np.where(kept, table[np.clip(top - x, 0, 255)], 0)
    total = e.sum(axis=-1, keepdims=True)
    bits = _bit_length(total)
    some = total > 0
    recip = (np.int64(1) << (RECIPROCAL_BITS - 1 + bits)) // np.where(some, total, 1)
    p = (e * recip + (np.int64(1) << (bits + 8))) >> (bits + 9)
    return np.where(some, np.minimum(p, 255), 0)


def layernorm(
    x: IntArray,
    *,
    gamma: IntArray,
    beta: IntArray,
    shift: IntArray,
    eps: int,
    zero_point: int = 0,
    lo: int,
    hi: int,
) -> NDArray[np.int64]:
    """LayerNorm of int16 codes over the last axis of ``n`` elements.

    ``D = n*sum(x^2) - sum(x)^2 + eps``; with ``j`` such that ``2**52 <= D << 2j < 2**54``,
    ``q = isqrt(D << 2j)`` and ``r = 2**44 // q``:
    ``z = ((n*x - sum(x)) * r + 2**(27 - j)) >> (28 - j)`` is the normalized value with 16
    fraction bits, and ``y = clip(((z*gamma + (beta << 8) + 2**(shift-1)) >> shift)
    + zero_point, lo, hi)``. If ``D`` is 0, ``r`` and so ``z`` are 0.

    ``gamma`` int16, ``beta`` int32 and ``shift`` (2..47) are per channel; ``0 <= eps < 2**40``.
    """
    x = np.asarray(x, dtype=np.int64)
    n = x.shape[-1]
    total = x.sum(axis=-1, keepdims=True)
    squares = (x * x).sum(axis=-1, keepdims=True)
    d = n * squares - total * total + eps
    if d.size and int(d.max()) >= 1 << NORM_BITS:
        raise OverflowError(f"LayerNorm variance exceeds {NORM_BITS} bits: {d.max()}")
    j = (NORM_BITS - _bit_length(np.maximum(d, 1))) // 2
    root = _isqrt(d << (2 * j))
    recip = np.where(d > 0, (np.int64(1) << 44) // np.maximum(root, 1), 0)
    s = 28 - j
    z = ((n * x - total) * recip + (np.int64(1) << (s - 1))) >> s
    shift = np.asarray(shift, dtype=np.int64)
    product = z * np.asarray(gamma, dtype=np.int64) + (
        np.asarray(beta, dtype=np.int64) << BETA_SHIFT
    )
    y = (product + (np.int64(1) << (shift - 1))) >> shift
    return np.clip(y + zero_point, lo, hi)


def _bit_length(x: NDArray[np.int64]) -> NDArray[np.int64]:
    """Elementwise ``int.bit_length`` of non-negative values below ``2**62``."""
    bits = np.zeros_like(x)
    rest = x.copy()
    for step in (32, 16, 8, 4, 2, 1):
        big = rest >= np.int64(1) << step
        bits += np.where(big, step, 0)
        rest = np.where(big, rest >> step, rest)
    return bits + (rest > 0)


def _isqrt(x: NDArray[np.int64]) -> NDArray[np.int64]:
    """Elementwise floor of the square root of non-negative values below ``2**54``."""
    root = np.sqrt(x.astype(np.float64)).astype(np.int64)
    root -= root * root > x
    root += (root + 1) * (root + 1) <= x
    return root
