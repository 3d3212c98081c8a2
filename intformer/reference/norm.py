"""Normalization over rows of integer codes: LayerNorm and RMSNorm.

With ``gamma``, ``beta``, ``shift`` and ``eps`` as given, the real function of a row of ``n`` codes
``x`` is, in output steps,

    y = (c * gamma * 2**16 / sqrt(D) + beta * 2**8) / 2**shift + zero_point

where ``c = n*x - sum(x)`` and ``D = n*sum(x**2) - sum(x)**2 + eps`` (RMSNorm: both without
``sum(x)``), so that ``c / sqrt(D)`` is ``(x - mean) / sqrt(variance + eps/n**2)``.

The functions here return the nearest integer, half rounded up. What they round is never below the
real value, so that every tie is seen as one; it is above it by less than ``2**-36`` of the term
with ``gamma``. Only a real value that close below a tie is rounded the wrong way.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from intformer.reference.integers import IntArray, bit_length, isqrt

__all__ = [
    "BETA_SHIFT",
    "NORM_BITS",
    "NORM_FRACTION",
    "NORM_GUARD",
    "NORM_RECIPROCAL_BITS",
    "NORM_ROOT_BITS",
    "layernorm",
    "rmsnorm",
]

NORM_FRACTION = 16
"""``shift`` counts from a normalized value with this many fraction bits."""
BETA_SHIFT = 8
"""``beta`` is held in units of ``2**BETA_SHIFT`` product steps."""
NORM_GUARD = 23
"""Further fraction bits that the normalized value has."""
NORM_BITS = 52
"""Width to which ``D`` is normalized (even)."""
NORM_ROOT_BITS = 42
"""Bits of the square root of the normalized ``D``."""
NORM_RECIPROCAL_BITS = 39
"""Bits of the root's reciprocal."""

_ROOT_FRACTION = NORM_ROOT_BITS - NORM_BITS // 2
# z = a * r >> _Z_SHIFT: r is 2**(root + reciprocal bits - 1) / q, and q has fraction bits.
_Z_SHIFT = NORM_ROOT_BITS + NORM_RECIPROCAL_BITS - 1 - _ROOT_FRACTION - NORM_FRACTION - NORM_GUARD
_LOW = 17  # a product with the whole reciprocal would not fit 64 bits


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
    """LayerNorm of int16 codes over the last axis of ``n`` elements, at most 1024.

    ``D = n*sum(x^2) - sum(x)^2 + eps`` and ``c = n*x - sum(x)``; with ``j`` such that
    ``2**50 <= D << 2j < 2**52``,

    - ``q = isqrt(D << (2*j + 32))``, ``r = 2**80 // (q + 1)``, ``a = c << j``;
    - ``z = (a*r >> 25)``, plus ``a >> 24`` where ``a`` and ``gamma`` are both negative or both
      not, plus 2 where ``gamma`` is not: the normalized value with 39 fraction bits;
    - ``w = z*gamma + (beta << 31)``;
    - ``y = clip(((w + 2**(shift + 22)) >> (shift + 23)) + zero_point, lo, hi)``.

    ``r`` is at most the exact reciprocal and ``r + 2`` is more than it, so that what ``z`` gets on
    top makes ``z*gamma`` no less than its exact value.

    ``gamma`` int16, ``beta`` int32 and ``shift`` (2..47) are per channel; ``0 <= eps < 2**40``.
    """
    codes: NDArray[np.int64] = np.asarray(x, dtype=np.int64)
    z = _normalize(codes, codes.sum(axis=-1, keepdims=True), eps)
    return _scale(z, gamma=gamma, beta=beta, shift=shift, zero_point=zero_point, lo=lo, hi=hi)


def rmsnorm(
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
    """RMSNorm: :func:`layernorm` without the terms of ``sum(x)``."""
    codes: NDArray[np.int64] = np.asarray(x, dtype=np.int64)
    z = _normalize(codes, np.zeros((*codes.shape[:-1], 1), np.int64), eps)
    return _scale(z, gamma=gamma, beta=beta, shift=shift, zero_point=zero_point, lo=lo, hi=hi)


def _normalize(
    x: NDArray[np.int64], total: NDArray[np.int64], eps: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """``a`` and ``a*r >> 25`` of :func:`layernorm`."""
    n = x.shape[-1]
    d = n * (x * x).sum(axis=-1, keepdims=True) - total * total + eps
    if d.size and int(d.max()) >= 1 << NORM_BITS:
        raise OverflowError(f"variance exceeds {NORM_BITS} bits: {d.max()}")
    j = (NORM_BITS - bit_length(np.maximum(d, 1))) // 2
    r = _reciprocal(_root(np.maximum(d, 1) << (2 * j)))
    a = (n * x - total) << j
    low = a * (r & ((1 << _LOW) - 1)) >> _LOW
    return a, (a * (r >> _LOW) + low) >> (_Z_SHIFT - _LOW)


def _root(d: NDArray[np.int64]) -> NDArray[np.int64]:
    """``isqrt(d << (2*_ROOT_FRACTION))``, digit by digit after the point."""
    root = isqrt(d)
    rest = d - root * root
    for _ in range(_ROOT_FRACTION):
        rest, trial = rest << 2, (root << 2) + 1
        fits = rest >= trial
        rest -= np.where(fits, trial, 0)
        root = (root << 1) + fits
    return root


def _reciprocal(root: NDArray[np.int64]) -> NDArray[np.int64]:
    """``2**80 // (root + 1)``, in two steps, as ``2**80`` does not fit 64 bits."""
    late = 20
    one = np.int64(1) << (NORM_ROOT_BITS + NORM_RECIPROCAL_BITS - 1 - late)
    quotient, rest = np.divmod(one, root + 1)
    return (quotient << late) + (rest << late) // (root + 1)


def _scale(
    normalized: tuple[NDArray[np.int64], NDArray[np.int64]],
    *,
    gamma: IntArray,
    beta: IntArray,
    shift: IntArray,
    zero_point: int,
    lo: int,
    hi: int,
) -> NDArray[np.int64]:
    """``y`` of :func:`layernorm` from :func:`_normalize`'s values."""
    a, z = normalized
    gamma = np.asarray(gamma, dtype=np.int64)
    beta = np.asarray(beta, dtype=np.int64) << (BETA_SHIFT + NORM_GUARD)
    z = z + np.where((a >= 0) == (gamma >= 0), a >> (_Z_SHIFT - 1), 0)
    w = (z + 2 * (gamma >= 0)) * gamma + beta
    # |w| < 2**63. Halves are seen in two steps: what is added to round does not fit beside `w`.
    s = np.minimum(np.asarray(shift, dtype=np.int64) + NORM_GUARD - 1, 63)
    y = ((w >> s) + 1) >> 1
    return np.clip(y + zero_point, lo, hi)
