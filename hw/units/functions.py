"""Real functions, and their integer tables: 256 codes, or quadratic segments for 16 bits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from intformer.reference.tables import (
    COEFFICIENT_BITS,
    CURVATURE_SHIFT_MAX,
    GUARD_BITS,
    SEGMENT_BITS,
    SEGMENTS,
    SLOPE_SHIFT_MAX,
    QuadraticTable,
)

__all__ = [
    "FUNCTIONS",
    "RANGES",
    "Coding",
    "Function",
    "code_table",
    "find_function",
    "quadratic_coefficients",
    "real_codes",
]

RANGES = {
    "int8": (-128, 127),
    "uint8": (0, 255),
    "int16": (-32768, 32767),
    "uint16": (0, 65535),
}
"""Codes of each type."""

_HALF = 1 << (SEGMENT_BITS - 1)
_MARGIN = 1 << 14
"""Codes past the output's range up to which a function is followed."""


@dataclass(frozen=True)
class Function:
    """A real function; ``breaks``: where its derivative jumps."""

    call: Callable[[float], float]
    breaks: tuple[float, ...] = ()


@dataclass(frozen=True)
class Coding:
    """Codes for real values: ``real = scale * (code - zero_point)``."""

    type: str
    scale: float
    zero_point: int = 0


def _gelu(x: float) -> float:
    return 0.5 * x * math.erfc(-x / math.sqrt(2))


def _gelu_tanh(x: float) -> float:
    # 0.5 * (1 + tanh(v)) = 1 / (1 + exp(-2v)), without cancellation.
    return x * _sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))


def _sigmoid(x: float) -> float:
    if x >= 0:
        return 1 / (1 + math.exp(-x))
    e = math.exp(x)
    return e / (1 + e)


def _hard_swish(x: float) -> float:
    return x * min(max(x + 3, 0.0), 6.0) / 6


FUNCTIONS = {
    "gelu": Function(_gelu),
    "gelu_tanh": Function(_gelu_tanh),
    "silu": Function(lambda x: x * _sigmoid(x)),
    "sigmoid": Function(_sigmoid),
    "tanh": Function(math.tanh),
    "exp": Function(math.exp),
    "hard_swish": Function(_hard_swish, breaks=(-3.0, 3.0)),
}
"""Functions by name: ``gelu`` (erf form), ``gelu_tanh``, ``silu`` and so on."""


def find_function(function: str | Function | Callable[[float], float]) -> Function:
    """The function of a name, or of a Python function without breaks."""
    if isinstance(function, Function):
        return function
    if callable(function):
        return Function(function)
    if function not in FUNCTIONS:
        allowed = ", ".join(FUNCTIONS)
        raise ValueError(f"function must be callable or one of {allowed}, not {function!r}")
    return FUNCTIONS[function]


def real_codes(function: Function, x: Coding, y: Coding) -> NDArray[np.float64]:
    """The exact output code, a real number, for every input code from the lowest up."""
    low, high = RANGES[x.type]

    def evaluate(code: int) -> float:
        try:
            value = float(function.call(x.scale * (code - x.zero_point)))
        except OverflowError:
            value = math.inf
        if math.isnan(value):
            raise ValueError(f"function is not a number at {x.scale * (code - x.zero_point)!r}")
        return value

    values = np.array([evaluate(code) for code in range(low, high + 1)])
    return values / y.scale + y.zero_point


def code_table(function: Function, x: Coding, y: Coding) -> NDArray[np.int64]:
    """256 correctly rounded codes (half up), indexed by the input code's 8 bits."""
    low, high = RANGES[y.type]
    codes = np.floor(np.clip(real_codes(function, x, y), low, high) + 0.5).astype(np.int64)
    return np.roll(codes, RANGES[x.type][0])


def quadratic_coefficients(function: Function, x: Coding, y: Coding) -> QuadraticTable:
    """Coefficients whose largest error over a segment's codes is about as small as can be.

    Curvature and slope are fitted and rounded in this order; the constant then halves the range
    of what is left, computed as the hardware does.
    """
    x_low, (low, high) = RANGES[x.type][0], RANGES[y.type]
    exact = np.clip(real_codes(function, x, y), low - _MARGIN, high + _MARGIN)
    breaks = _break_positions(function, x)
    segments = _segments(exact, breaks)
    fits = np.array([_fit(t, f, degree=2) for t, f in segments])
    slope_bound = max(
        float(np.abs(fit[1] + fit[2] * t).max()) for fit, (t, _) in zip(fits, segments, strict=True)
    )
    limit = (1 << (COEFFICIENT_BITS - 1)) - 4
    slope_shift = _largest_shift(slope_bound * 2**GUARD_BITS, limit, SLOPE_SHIFT_MAX)
    curvature_bound = float(np.abs(fits[:, 2]).max()) * 2 ** (GUARD_BITS + slope_shift)
    curvature_shift = _largest_shift(curvature_bound, limit, CURVATURE_SHIFT_MAX)
    slope_unit = 2.0 ** (GUARD_BITS + slope_shift)
    entries = []
    for fit, (t, f) in zip(fits, segments, strict=True):
        curvature = round(fit[2] * slope_unit * 2**curvature_shift)
        bend = (curvature * t) >> curvature_shift
        rest = f - bend * t / slope_unit
        slope = round(_fit(t, rest, degree=1)[1] * slope_unit)
        rest = f * 2**GUARD_BITS - (((slope + bend) * t) >> slope_shift)
        constant = math.floor((rest.max() + rest.min() + 1) / 2) + (1 << (GUARD_BITS - 1))
        entries.append((constant, slope, curvature))
    constants, slopes, curvatures = np.array(entries, dtype=np.int64).T
    return QuadraticTable(
        constant=constants,
        slope=slopes,
        curvature=curvatures,
        slope_shift=slope_shift,
        curvature_shift=curvature_shift,
        breaks=breaks,
        x_lo=x_low,
        lo=low,
        hi=high,
    )


def _break_positions(function: Function, x: Coding) -> tuple[int, ...]:
    """Breaks inside a segment; one in the last segment is left to the fit."""
    positions = []
    for value in function.breaks:
        position = math.ceil(value / x.scale + x.zero_point) - RANGES[x.type][0]
        if 0 < position < 65536 - 2 * _HALF and position % (2 * _HALF):
            positions.append(position)
    if len({position >> SEGMENT_BITS for position in positions}) < len(positions):
        raise ValueError(f"x_scale must keep the breaks of the function apart, not {x.scale!r}")
    return tuple(positions)


def _segments(
    exact: NDArray[np.float64], breaks: tuple[int, ...]
) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Offsets and values of every segment, moved to the breaks."""
    starts = [2 * _HALF * k for k in range(SEGMENTS)] + [65536]
    for position in breaks:
        starts[(position >> SEGMENT_BITS) + 1] = position
    result = []
    for k in range(SEGMENTS):
        u = np.arange(starts[k], starts[k + 1])
        result.append((u - (2 * _HALF * k + _HALF), exact[u]))
    return result


def _fit(t: NDArray[np.int64], f: NDArray[np.float64], *, degree: int) -> NDArray[np.float64]:
    """A polynomial near the one of least maximum error: the ends weigh more, as in Chebyshev's."""
    place = (2 * t - t.max() - t.min()) / len(t)
    reach = min(degree, len(t) - 1)
    fit = np.polynomial.polynomial.polyfit(t, f, reach, w=(1 - place**2) ** -0.25)
    return np.pad(np.asarray(fit, dtype=np.float64), (0, degree - reach))


def _largest_shift(bound: float, limit: int, most: int) -> int:
    """The largest shift up to ``most`` at which ``bound`` stays below ``limit``."""
    for shift in range(most, -1, -1):
        if bound * 2**shift < limit:
            return shift
    raise ValueError("y_scale is too small for this function: it is too steep")
