"""Scales and codes: from real ranges to integers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer import reference
from intformer.errors import UserError

__all__ = [
    "Coding",
    "activation_table",
    "asymmetric",
    "encode_multiplier",
    "exp_table",
    "quantize_weights",
    "symmetric",
]

Array = NDArray[Any]

INT16_HEADROOM = 2.0
"""int16 codes reach to this many times the calibrated range, so that new data rarely saturates."""


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


def symmetric(dtype: str, low: float, high: float, *, floor: float = 0.0) -> Coding:
    """Coding with zero point 0 for reals from ``low`` to ``high``; scale at least ``floor``."""
    top = max(abs(low), abs(high))
    if dtype == "int16":
        top *= INT16_HEADROOM
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


def quantize_weights(matrix: Array, bits: int, *, floor: Array) -> tuple[Array, Array]:
    """Codes of ``matrix`` ``[N, K]`` and a scale for each row, symmetric.

    8 bits: the largest magnitude becomes 127. 4 bits: the clipping that makes the squared error
    least, out of a grid. Scales are at least ``floor``. Integers in range stay as they are.
    """
    matrix = np.asarray(matrix, np.float64)
    top = 127 if bits == 8 else 7
    if np.abs(matrix).max(initial=0) <= top and np.array_equal(matrix, np.rint(matrix)):
        return matrix.astype(np.int8), np.maximum(np.ones(len(matrix)), floor)
    largest = np.abs(matrix).max(axis=1)
    largest = np.where(largest > 0, largest, largest.max(initial=0) or 1.0)
    best = np.full(len(matrix), np.inf)
    scale = largest / top
    for share in np.linspace(0.4, 1.0, 61) if bits == 4 else [1.0]:
        trial = share * largest / top
        codes = np.clip(np.rint(matrix / trial[:, None]), -top, top)
        error = ((codes * trial[:, None] - matrix) ** 2).sum(axis=1)
        scale = np.where(error < best, trial, scale)
        best = np.minimum(best, error)
    scale = np.maximum(scale, floor)
    return np.clip(np.rint(matrix / scale[:, None]), -top, top).astype(np.int8), scale


def exp_table(scale: float) -> Array:
    """Softmax table: entry ``d`` is ``exp(-d * scale)``, in units of the largest entry."""
    top = (1 << reference.EXP_BITS) - 1
    return np.rint(top * np.exp(-np.arange(256) * scale)).astype(np.int32)


def activation_table(function: Any, index: Coding, output: Coding) -> Array:
    """Table of an element-wise function, by index ``code & 255``; entries correctly rounded."""
    codes = np.arange(256).astype(np.uint8).view(np.int8)
    return output.encode(function(index.decode(codes)))
