"""Sums of codes with one rounding, nearly: through a 16-bit sum with guard bits.

A sum on the core rounds both of its terms. In a quantized model the sum of two 8-bit codes is
rounded once. So the sum is first made with 16 bits, in units of which the residual's step is a
whole multiple, and then rounded to 8 bits. Of the units that are fine enough the one is taken that
makes the other term's rounding errors least. A constant vector is added to such a 16-bit value by
the bias of the second step, in a unit for each channel; a constant that differs by row, too, is
written in units of which the other term's step is a whole multiple.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer import reference
from intformer.compiler.quantize.scales import Coding, encode_multiplier

__all__ = ["FineBias", "FineConstant", "FineSum", "fine_bias", "fine_constant", "fine_sum"]

Array = NDArray[Any]

_TOP = (1 << 15) - 1
_CANDIDATES = 512


@dataclass(frozen=True)
class FineSum:
    """A sum in 16 bits: its coding, the residual's whole multiplier, the wrong share to expect."""

    coding: Coding
    multiple: int
    error: float


def fine_sum(
    x: Coding, residual: Coding, output: Coding, factors: tuple[float, float]
) -> FineSum | None:
    """How to compute ``factors[0] * x + factors[1] * residual`` for ``output``, an int8 coding.

    ``None`` if the residual's steps are too coarse or too fine for it.
    """
    step = abs(factors[1]) * residual.scale
    most = min(256.0 * step / output.scale, float(_TOP >> 2))
    if most < 64:
        return None
    best: FineSum | None = None
    first = max(int(most / 2), 1)
    for k in np.unique(np.linspace(first, int(most), _CANDIDATES).astype(int)):
        unit = step / int(k)
        multiple = int(np.copysign(k, factors[1]))
        point = _zero_point(output, output.scale / unit, multiple * residual.zero_point)
        if point is None:
            continue
        error = _error(x, factors[0] * x.scale / unit) * unit / output.scale
        if best is None or error < best.error:
            coding = Coding("int16", unit, point)
            best = FineSum(coding, multiple, error)
    return best


@dataclass(frozen=True)
class FineConstant:
    """A sum with constants in 16 bits: ``multiple * (code - zero point) + codes + zero_point``."""

    coding: Coding
    multiple: int
    codes: Array


def fine_constant(
    x: Coding, constant: Array, output: Coding, factors: tuple[float, float]
) -> FineConstant | None:
    """How to compute ``factors[0] * x + factors[1] * constant`` for ``output``, an int8 coding.

    Of the units that are fine enough the one is taken in which the constants are nearest to
    integers. ``None`` if the step of ``x`` is too fine or a constant too large.
    """
    step = abs(factors[0]) * x.scale
    most = min(256.0 * step / output.scale, float(_TOP))
    best, least = None, np.inf
    for k in np.unique(np.linspace(max(most / 2, 1), max(most, 1), _CANDIDATES).astype(int)):
        unit = step / int(k)
        exact = factors[1] * np.asarray(constant, np.float64) / unit
        codes = np.rint(exact)
        point = _zero_point(output, output.scale / unit, 0)
        error = float(np.abs(codes - exact).mean()) * unit
        if point is None or np.abs(codes).max() > _TOP or error >= least:
            continue
        multiple = int(np.copysign(k, factors[0]))
        least = error
        best = FineConstant(Coding("int16", unit, point), multiple, codes.astype(np.int16))
    return best


def _zero_point(output: Coding, per_step: float, shift: int) -> int | None:
    """A zero point at which the sum reaches as far as the output's codes do, nearest to 0."""
    low, high = reference.LIMITS[output.dtype]
    least = -_TOP - 1 - (low - 0.5 - output.zero_point) * per_step
    most = _TOP - (high + 0.5 - output.zero_point) * per_step
    least, most = max(least, -_TOP - 1 + shift), min(most, _TOP + shift)
    least, most = max(np.ceil(least), -_TOP - 1), min(np.floor(most), _TOP)
    if least > most:
        return None
    return int(np.clip(0, least, most))


def _error(x: Coding, factor: float) -> float:
    """Mean error of the rounded term of ``x``, in units of the sum."""
    if x.dtype != "int8":
        return 0.25
    codes = np.arange(-96, 97)
    mult, shift = encode_multiplier(factor, what="a sum")
    return float(np.abs(reference.requantize(codes, mult, shift) - codes * factor).mean())


@dataclass(frozen=True)
class FineBias:
    """A constant vector added in 16 bits: ``multiples[n] * code``, then ``bias[n]``."""

    multiples: Array
    bias: Array
    units: Array


def fine_bias(x: Coding, vector: Array, output: Coding, factors: tuple[float, float]) -> FineBias:
    """How to compute ``factors[0] * x + factors[1] * vector`` per channel for int8 ``x``.

    A channel's unit is a whole part of the step of ``x``, so that the first step is exact; it is
    the one, of those that fit 16 bits, in which the channel's constant is nearest to an integer.
    """
    step = abs(factors[0]) * x.scale
    sign = int(np.sign(factors[0]))
    multiples = np.arange(_TOP // 128 // 2, _TOP // 128 + 1)
    wanted = factors[1] * np.asarray(vector, np.float64)[:, None] * multiples / step
    error = np.abs(wanted - np.rint(wanted)) / multiples
    best = multiples[error.argmin(axis=1)]
    addend = np.rint(factors[1] * np.asarray(vector, np.float64) * best / step)
    return FineBias(
        multiples=sign * best,
        bias=(addend - sign * best * x.zero_point).astype(np.int64),
        units=step / best,
    )
