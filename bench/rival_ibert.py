"""I-BERT's integer softmax, GELU and LayerNorm, ported from the paper's formulas.

S. Kim, A. Gholami, Z. Yao, M. W. Mahoney, K. Keutzer: I-BERT: Integer-only BERT Quantization,
ICML 2021, arXiv:2101.01321, sections 3.3 to 3.6. Polynomials of second degree in the input's own
integers; scales are floating-point constants that only choose the integers below.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from amaranth.hdl import Module, Value, unsigned
from numpy.typing import NDArray

from intformer.bench.rival_rows import ReciprocalSoftmax, stage
from intformer.hw.parts.streams import delay
from intformer.reference.integers import IntArray, isqrt

__all__ = ["ExpConstants", "IBertSoftmax", "exp_constants", "gelu", "layernorm", "softmax"]

GUARD_BITS = 6
"""Bits below the polynomial's that halvings keep: 16 in all at 1/16, as in the authors' program."""
FACTOR_BITS = 32
"""The reciprocal of a sum is ``floor(2**FACTOR_BITS / sum)``."""
EXP_SHIFT_MAX = 30
"""Halvings after which an exponential is 0 anyway."""

_A, _B, _C = 0.3585, 1.353, 0.344  # exp(p) on -ln 2 < p <= 0, equation 13
_ERF_A, _ERF_B = -0.2888, -1.769  # erf, equation 8


@dataclass(frozen=True, kw_only=True)
class ExpConstants:
    """Integers of ``i-exp`` for one input scale: ``exp = ((p + b)**2 + c) * 2**-z``."""

    ln2: int
    b: int
    c: int


def exp_constants(scale: float) -> ExpConstants:
    """The integers for codes of ``scale`` (Algorithm 2: I-POLY's floors)."""
    return ExpConstants(
        ln2=math.floor(math.log(2) / scale),
        b=math.floor(_B / scale),
        c=math.floor(_C / (_A * scale**2)),
    )


def exponential(distance: NDArray[np.int64], k: ExpConstants) -> NDArray[np.int64]:
    """``i-exp`` of ``-distance`` (Algorithm 2): ``z`` halvings and a polynomial of the rest."""
    z = distance // k.ln2
    p = z * k.ln2 - distance
    return (((p + k.b) ** 2 + k.c) << GUARD_BITS) >> np.minimum(z, EXP_SHIFT_MAX)


def softmax(x: IntArray, *, scale: float) -> NDArray[np.int64]:
    """Softmax of int8 codes of ``scale`` to uint8 at 1/256 (Algorithm 2).

    The quotient is ``(exp * floor(2**32 / sum)) >> 24``, rounded down as there.
    """
    x = np.asarray(x, dtype=np.int64)
    e = exponential(x.max(axis=-1, keepdims=True) - x, exp_constants(scale))
    factor = (np.int64(1) << FACTOR_BITS) // e.sum(axis=-1, keepdims=True)
    return np.minimum((e * factor) >> (FACTOR_BITS - 8), 255)


def gelu(x: IntArray, *, x_scale: float, y_scale: float) -> NDArray[np.int64]:
    """GELU of int8 codes (Algorithm 1, I-GELU), requantized to int8 with a real multiplier."""
    x = np.asarray(x, dtype=np.int64)
    scale = x_scale / math.sqrt(2)
    b = math.floor(_ERF_B / scale)
    c = math.floor(1 / (_ERF_A * scale**2))
    erf = np.sign(x) * ((np.minimum(np.abs(x), -b) + b) ** 2 + c)
    erf_scale = _ERF_A * scale**2
    product = x * (erf + math.floor(1 / erf_scale))
    real = product * (x_scale * erf_scale / 2)
    return np.clip(np.floor(real / y_scale + 0.5), -128, 127).astype(np.int64)


def layernorm(x: IntArray, *, y_scale: float) -> NDArray[np.int64]:
    """LayerNorm of codes to int8, without gamma and beta (section 3.6, Algorithm 4).

    The mean is rounded to an input step, the standard deviation is an integer square root of the
    mean square, and their quotient has 30 fraction bits.
    """
    x = np.asarray(x, dtype=np.int64)
    n = x.shape[-1]
    mean = np.floor(x.sum(axis=-1, keepdims=True) / n + 0.5).astype(np.int64)
    y = x - mean
    root = np.maximum(isqrt((y * y).sum(axis=-1, keepdims=True)), 1)
    normal = (y * ((np.int64(1) << 31) // root)) >> 1
    real = normal * (math.sqrt(n) / 2**30)
    return np.clip(np.floor(real / y_scale + 0.5), -128, 127).astype(np.int64)


class IBertSoftmax(ReciprocalSoftmax):
    """:func:`softmax` of logits at 1/16."""

    CONSTANTS = exp_constants(1 / 16)
    TOP = (CONSTANTS.b**2 + CONSTANTS.c) << GUARD_BITS
    E_BITS = TOP.bit_length()
    EXP_LATENCY = 5
    POWER = FACTOR_BITS
    FACTOR_BITS = ((1 << FACTOR_BITS) // TOP).bit_length()

    def exponential(self, m: Module, distance: Value, *, name: str) -> Value:
        k = self.CONSTANTS
        # Equal to the division by ln2 for all distances.
        z = stage(m, (distance * -(-(1 << 12) // k.ln2)) >> 12, name=f"{name}_z", shape=5)
        later = stage(m, distance, name=f"{name}_distance_d")
        p = stage(m, k.b + z * k.ln2 - later, name=f"{name}_p", shape=unsigned(k.b.bit_length()))
        square = stage(m, p * p, name=f"{name}_square")
        value = (square + k.c) << GUARD_BITS
        value = stage(m, value, name=f"{name}_value", shape=unsigned(self.E_BITS))
        return stage(m, value >> delay(m, z, 3, name=f"{name}_z"), name=f"{name}_e")
