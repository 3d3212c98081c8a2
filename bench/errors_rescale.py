"""Requantize and the elementwise units against exact mathematics.

Products have at most 63 bits, which the extended precision of x86 holds; a shift moves the exponent
only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer import reference
from intformer.hw.units.functions import RANGES
from intformer.reference import MULT_BITS

__all__ = ["add", "multiply", "requantize"]

_CHUNK = 1 << 16
_LIMITS = {"int4": (-8, 7), **RANGES, "int32": (-(1 << 31), (1 << 31) - 1)}


def _multiplier(factor: float, bits: int = MULT_BITS) -> tuple[int, int]:
    """``mult`` of ``bits`` bits and ``shift`` for a real factor."""
    shift = int(bits - 2 - np.floor(np.log2(factor)))
    return min(int(np.rint(factor * 2.0**shift)), (1 << (bits - 1)) - 1), shift


def _summary(
    got: NDArray[np.int64], exact: NDArray[np.floating], limits: tuple[int, int]
) -> tuple[int, int, float]:
    exact = np.clip(exact, *limits)
    right = np.floor(exact + 0.5).clip(*limits)
    return got.size, int((got == right).sum()), float(np.abs(got - exact).max())


def _total(parts: list[tuple[int, int, float]]) -> dict[str, Any]:
    cases = sum(part[0] for part in parts)
    return {
        "cases": cases,
        "worst_steps": max(part[2] for part in parts),
        "correctly_rounded": sum(part[1] for part in parts) / cases,
    }


def requantize(
    cases: int | None = 1_000_000, seed: int = 1, *, output: str = "int8", mult_bits: int = 16
) -> dict[str, Any]:
    """Random 32-bit values times random factors, with random zero points.

    The exact value is that of the integer multiplier and shift. ``worst_steps_of_real_factor``
    and ``correctly_rounded_of_real_factor`` compare with the real factor, which a multiplier of
    16 bits meets to one part in 32,768 only: take ``mult_bits=32`` where that matters.
    """
    rng = np.random.default_rng(seed)
    limits = _LIMITS[output]
    integer, real = [], []
    left = cases or 1_000_000
    while left > 0:
        count = min(left, _CHUNK // 16)
        left -= count
        x = np.rint(rng.normal(0, 2.0 ** rng.uniform(8, 29), count)).astype(np.int64)
        x = np.clip(x, -(1 << 31), (1 << 31) - 1)
        # About the whole output range.
        factor = min(rng.uniform(0.2, 2) * limits[1] / max(1, int(np.abs(x).max())), 4096.0)
        mult, shift = _multiplier(factor, mult_bits)
        zero = int(rng.integers(*limits)) // 4
        got = reference.rescale(
            x, mult=mult, shift=shift, zero_point=zero, lo=limits[0], hi=limits[1]
        )
        integer.append(
            _summary(got, np.ldexp(x.astype(np.longdouble) * mult, -shift) + zero, limits)
        )
        real.append(_summary(got, x * np.longdouble(factor) + zero, limits))
    result, other = _total(integer), _total(real)
    for name in ("worst_steps", "correctly_rounded"):
        result[f"{name}_of_real_factor"] = other[name]
    return result


def add(cases: int | None = 1_000_000, seed: int = 1, *, code: str = "int8") -> dict[str, Any]:
    """Random codes, scales and zero points; exact is the sum at the integer multipliers."""
    rng = np.random.default_rng(seed)
    limits = _LIMITS[code]
    parts = []
    left = cases or 1_000_000
    while left > 0:
        count = min(left, _CHUNK // 16)
        left -= count
        a, b = rng.integers(limits[0], limits[1] + 1, (2, count))
        shift = int(rng.integers(15, 20))
        a_mult, b_mult = (int(v) for v in rng.integers(1 << 12, 1 << 15, 2))
        a_zero, b_zero, zero = (int(v) // 4 for v in rng.integers(*limits, 3))
        got = reference.elementwise_add(
            a,
            b,
            a_mult=a_mult,
            b_mult=b_mult,
            shift=shift,
            a_zero_point=a_zero,
            b_zero_point=b_zero,
            zero_point=zero,
            lo=limits[0],
            hi=limits[1],
        )
        total = (a - a_zero) * a_mult + (b - b_zero) * b_mult
        parts.append(_summary(got, total / 2.0**shift + zero, limits))
    return _total(parts)


def multiply(cases: int | None = 1_000_000, seed: int = 1, *, code: str = "int8") -> dict[str, Any]:
    """Random codes, scales and zero points; exact is the product at the integer multiplier."""
    rng = np.random.default_rng(seed)
    limits = _LIMITS[code]
    parts = []
    left = cases or 1_000_000
    while left > 0:
        count = min(left, _CHUNK // 16)
        left -= count
        a, b = rng.integers(limits[0], limits[1] + 1, (2, count))
        a_zero, b_zero, zero = (int(v) // 4 for v in rng.integers(*limits, 3))
        mult, shift = _multiplier(rng.uniform(0.5, 4) / limits[1])
        got = reference.elementwise_multiply(
            a,
            b,
            mult=mult,
            shift=shift,
            a_zero_point=a_zero,
            b_zero_point=b_zero,
            zero_point=zero,
            lo=limits[0],
            hi=limits[1],
        )
        exact = ((a - a_zero) * (b - b_zero) * mult) / 2.0**shift + zero
        parts.append(_summary(got, exact, limits))
    return _total(parts)
