"""Scales and codes: from real ranges to integers."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer import reference
from intformer.compiler.quantize.settings import WeightFormat
from intformer.errors import UserError

__all__ = [
    "Coding",
    "LayerWeights",
    "activation_table",
    "asymmetric",
    "encode_multiplier",
    "exp_table",
    "function_table",
    "group_layout",
    "is_int8",
    "quantize_weights",
    "round_weights",
    "symmetric",
]

Array = NDArray[Any]

INT16_HEADROOM = 2.0
"""int16 codes reach to this many times the calibrated range, so that new data rarely saturates."""
GROUP_TOP = (1 << reference.GROUP_SCALE_BITS) - 1
"""Largest integer scale of a group of weights."""


@dataclass(frozen=True)
class Coding:
    """How reals become codes: ``real = scale * (code - zero_point)``."""

    dtype: str
    scale: float
    zero_point: int = 0

    def encode(self, real: Array) -> Array:
        """Nearest codes, saturated."""
        low, high = reference.LIMITS[self.dtype]
        codes = np.rint(np.asarray(real, np.float64) / self.scale) + self.zero_point
        return np.clip(codes, low, high).astype(self.dtype)

    def decode(self, codes: Array) -> Array:
        """Real values of codes, float64."""
        return (np.asarray(codes, np.float64) - self.zero_point) * self.scale


def symmetric(
    dtype: str, low: float, high: float, *, floor: float = 0.0, headroom: float = INT16_HEADROOM
) -> Coding:
    """Coding with zero point 0 for reals from ``low`` to ``high``; scale at least ``floor``.

    int16 codes reach ``headroom`` times as far.
    """
    top = max(abs(low), abs(high))
    if dtype == "int16":
        top *= headroom
    scale = max(top / reference.LIMITS[dtype][1], floor)
    return Coding(dtype, scale if scale > 0 else 1.0)


def asymmetric(low: float, high: float) -> Coding:
    """int8 coding that spends all codes on ``low`` to ``high`` and 0, which gets a code."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / 255.0
    if scale <= 0:
        return Coding("int8", 1.0)
    return Coding("int8", scale, int(np.clip(np.rint(-128 - low / scale), -128, 127)))


def encode_multiplier(scale: Array | float, *, what: str) -> tuple[Array, Array]:
    """``mult`` and ``shift`` with ``mult * 2**-shift`` nearest to ``scale``, elementwise.

    ``|mult|`` lies in ``[2**14, 2**15)`` unless the scale is too small for the largest shift.

    Raises
    ------
    UserError
        If a scale is ``2**13`` or more; ``what`` names the site.
    """
    scale = np.atleast_1d(np.asarray(scale, np.float64))
    magnitude = np.abs(scale)
    safe = np.where(magnitude > 0, magnitude, 1.0)
    shift = 14 - np.floor(np.log2(safe)).astype(np.int64)
    shift = np.clip(shift, None, reference.SHIFT_MAX)
    mult = np.rint(magnitude * np.exp2(shift.astype(np.float64)))
    over = mult >= 1 << 15
    mult, shift = np.where(over, mult / 2, mult), np.where(over, shift - 1, shift)
    if shift.size and shift.min() < reference.SHIFT_MIN:
        raise UserError(
            f"{what}: cannot rescale by {magnitude.max():.3g}; the calibration data makes the "
            "range of its output far smaller than what it is computed from"
        )
    mult = np.copysign(np.rint(mult), scale)
    return mult.astype(np.int16), shift.astype(np.uint8)


@dataclass(frozen=True, eq=False)
class LayerWeights:
    """Codes ``[N, K]`` (int8) of a layer's weights, and what they mean.

    Attributes
    ----------
    scale: ``[N]``, one for each output channel.
    group: elements of the contraction that share an integer scale; 0: none.
    group_scales: uint8 ``[N, K / group]``, factors of ``scale``.
    """

    codes: Array
    scale: Array
    group: int = 0
    group_scales: Array | None = None

    def factors(self) -> Array:
        """The integer factor of each code, ``[N, K]`` or ``[N, 1]``."""
        if self.group_scales is None:
            return np.ones((len(self.codes), 1), np.int64)
        return np.repeat(self.group_scales.astype(np.int64), self.group, axis=1)

    def steps(self) -> Array:
        """The real value of code 1, ``[N, K]``."""
        return np.broadcast_to(self.factors() * self.scale[:, None], self.codes.shape)

    def integers(self) -> Array:
        """Codes times integer factors, int64 ``[N, K]``: what products are made with."""
        return self.codes.astype(np.int64) * self.factors()

    def decode(self) -> Array:
        """The real weights."""
        return self.codes * self.steps()


def group_layout(fmt: WeightFormat, depth: int) -> int:
    """Group length for a contraction of ``depth``; 0 where the groups do not divide it."""
    return fmt.group if fmt.group and depth % fmt.group == 0 else 0


def round_weights(
    matrix: Array,
    fmt: WeightFormat,
    *,
    floor: Array | float = 0.0,
    importance: Array | None = None,
) -> LayerWeights:
    """Nearest codes of ``matrix`` ``[N, K]``, symmetric.

    8 bits: the largest magnitude becomes 127. 4 bits: the clipping that makes the squared error
    least, out of a grid, for each output channel or group; ``importance`` ``[K]`` weighs the
    errors. Scales of groups are integers, 255 at most, times the channel's scale. Channels'
    scales are at least ``floor``. Integers in range stay as they are.
    """
    matrix = np.asarray(matrix, np.float64)
    n, depth = matrix.shape
    top, group = fmt.top, group_layout(fmt, depth)
    if np.abs(matrix).max(initial=0) <= top and np.array_equal(matrix, np.rint(matrix)):
        return LayerWeights(matrix.astype(np.int8), np.maximum(np.ones(n), floor))
    parts = matrix.reshape(n, -1, group or depth)
    largest = np.abs(parts).max(axis=2)
    row_top = np.where(largest.max(axis=1) > 0, largest.max(axis=1), largest.max() or 1.0)
    largest = np.where(largest > 0, largest, row_top[:, None])
    weight = np.ones(depth) if importance is None else importance + 1e-6 * importance.mean() + 1e-30
    weight = weight.reshape(1, -1, parts.shape[2])
    best = np.full(largest.shape, np.inf)
    scale = largest / top
    for share in np.linspace(0.4, 1.0, 61) if fmt.bits == 4 else [1.0]:
        trial = (share * largest / top)[..., None]
        codes = np.clip(np.rint(parts / trial), -top, top)
        error = (weight * (codes * trial - parts) ** 2).sum(axis=2)
        scale = np.where(error < best, trial[..., 0], scale)
        best = np.minimum(best, error)
    group_scales = None
    unit = scale[:, 0]
    if group:
        unit = np.maximum(scale.max(axis=1) / GROUP_TOP, floor)
        group_scales = np.clip(np.rint(scale / unit[:, None]), 1, GROUP_TOP).astype(np.uint8)
        scale = group_scales * unit[:, None]
    else:
        unit = np.maximum(unit, floor)
        scale = unit[:, None]
    codes = np.clip(np.rint(parts / scale[..., None]), -top, top)
    return LayerWeights(codes.reshape(n, depth).astype(np.int8), unit, group, group_scales)


def quantize_weights(matrix: Array, bits: int, *, floor: Array) -> tuple[Array, Array]:
    """Codes of ``matrix`` ``[N, K]`` and a scale for each row: :func:`round_weights`."""
    result = round_weights(matrix, WeightFormat(bits), floor=floor)
    return result.codes, result.scale


def is_int8(array: Array) -> bool:
    """Whether reals are int8 codes already."""
    return bool(np.abs(array).max(initial=0) <= 127 and np.array_equal(array, np.rint(array)))


def exp_table(scale: float) -> Array:
    """Softmax table: entry ``d`` is ``exp(-d * scale)``, in units of the largest entry."""
    top = (1 << reference.EXP_BITS) - 1
    return np.rint(top * np.exp(-np.arange(256) * scale)).astype(np.int32)


def activation_table(function: Any, index: Coding, output: Coding) -> Array:
    """Table of an element-wise function, by index ``code & 255``; entries correctly rounded."""
    codes = np.arange(256).astype(np.uint8).view(np.int8)
    return output.encode(function(index.decode(codes)))


@functools.lru_cache(maxsize=256)
def function_table(
    kind: str, factor: float, index: Coding, output: Coding
) -> reference.QuadraticTable:
    """Quadratic segments of ``kind(factor * x)`` from int16 codes to the codes of ``output``."""
    from intformer.hw.units import functions

    found = functions.FUNCTIONS[kind]
    call, breaks = found.call, tuple(b / factor for b in found.breaks)
    return functions.quadratic_coefficients(
        functions.Function(lambda x: call(factor * x), breaks),
        functions.Coding(index.dtype, index.scale, index.zero_point),
        functions.Coding(output.dtype, output.scale, output.zero_point),
    )
