"""I-ViT's Shiftmax, ShiftGELU and I-LayerNorm, ported from the paper's formulas.

Z. Li, Q. Gu: I-ViT: Integer-only Quantization for Efficient Vision Transformer Inference,
ICCV 2023, arXiv:2207.01405, section 3.3 to 3.5. Base 2 by shifts and adds, with a straight line
between powers of two.
"""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Module, Mux, Signal, Value, unsigned
from numpy.typing import NDArray

from intformer.bench.rival_rows import ReciprocalSoftmax, stage
from intformer.reference import IntArray

__all__ = ["IVitSoftmax", "gelu", "layernorm", "one", "shift_exp", "softmax"]

SHIFT, GELU_SHIFT = 15, 23
"""The paper's N in softmax and GELU: an exponential is at most ``one << SHIFT``."""
FACTOR_BITS = 31
"""The paper's M: the reciprocal of a sum is ``floor(2**FACTOR_BITS / sum)``."""
ROOT_STEPS, ROOT_START = 10, 1 << 16
"""Newton steps of the square root, and where they begin: half the bits of a 32-bit integer."""


def one(scale: float) -> int:
    """The integer that stands for 1 at ``scale``."""
    return round(1 / scale)


def shift_exp(x: NDArray[np.int64], unit: int, *, shift: int = SHIFT) -> NDArray[np.int64]:
    """ShiftExp of ``x <= 0`` (Algorithm 1): ``x * 1.0111b``, then ``2**-q`` and a straight line."""
    power = np.maximum(x + (x >> 1) - (x >> 4), -shift * unit)
    q = power // -unit
    rest = -(power + q * unit)
    return (unit + (-rest >> 1)) << (shift - q)


def _divide(e: NDArray[np.int64], total: NDArray[np.int64], bits: int) -> NDArray[np.int64]:
    """IntDiv: ``e / total`` at ``2**-bits``."""
    return (((np.int64(1) << FACTOR_BITS) // total) * e) >> (FACTOR_BITS - bits)


def softmax(x: IntArray, *, scale: float) -> NDArray[np.int64]:
    """Shiftmax of int8 codes of ``scale`` to uint8 at 1/256 (Algorithm 1)."""
    x = np.asarray(x, dtype=np.int64)
    e = shift_exp(x - x.max(axis=-1, keepdims=True), one(scale))
    return np.minimum(_divide(e, e.sum(axis=-1, keepdims=True), 8), 255)


def gelu(x: IntArray, *, x_scale: float, y_scale: float) -> NDArray[np.int64]:
    """ShiftGELU of int8 codes (Algorithm 2), requantized to int8 with a real multiplier.

    ``x * sigmoid(1.702 x)``, the sigmoid relative to the largest code of the row.
    """
    x = np.asarray(x, dtype=np.int64)
    power = x + (x >> 1) + (x >> 3) + (x >> 4)
    top = power.max(axis=-1, keepdims=True)
    unit = one(x_scale)
    e = shift_exp(power - top, unit, shift=GELU_SHIFT)
    e_top = shift_exp(np.minimum(-top, 0), unit, shift=GELU_SHIFT)
    real = x * _divide(e, e + e_top, 7) * (x_scale / 128)
    return np.clip(np.floor(real / y_scale + 0.5), -128, 127).astype(np.int64)


def layernorm(x: IntArray, *, y_scale: float) -> NDArray[np.int64]:
    """I-LayerNorm of codes to int8, without gamma and beta (section 3.5).

    The mean is rounded to an input step; ten Newton steps give the root of the sum of squares.
    """
    x = np.asarray(x, dtype=np.int64)
    n = x.shape[-1]
    y = x - np.floor(x.sum(axis=-1, keepdims=True) / n + 0.5).astype(np.int64)
    squares = (y * y).sum(axis=-1, keepdims=True)
    root = np.full_like(squares, ROOT_START)
    for _ in range(ROOT_STEPS):
        root = (root + squares // np.maximum(root, 1)) >> 1
    normal = (y * ((np.int64(1) << 31) // np.maximum(root, 1))) >> 1
    real = normal * (np.sqrt(n) / 2**30)
    return np.clip(np.floor(real / y_scale + 0.5), -128, 127).astype(np.int64)


class IVitSoftmax(ReciprocalSoftmax):
    """:func:`softmax` of logits at 1/16."""

    UNIT = one(1 / 16)
    E_BITS = (UNIT << SHIFT).bit_length()
    EXP_LATENCY = 3
    POWER = FACTOR_BITS
    FACTOR_BITS = ((1 << FACTOR_BITS) // (UNIT << SHIFT)).bit_length()

    def exponential(self, m: Module, distance: Value, *, name: str) -> Value:
        bits, largest = self.UNIT.bit_length() - 1, SHIFT * self.UNIT
        power = distance + ((distance + 1) >> 1) - ((distance + 15) >> 4)
        power = stage(m, power, name=f"{name}_power", shape=unsigned(9))
        power = Mux(power > largest, largest, power)
        power = stage(m, power, name=f"{name}_limited", shape=unsigned(8))
        line = Signal(bits + 1, name=f"{name}_line")
        m.d.comb += line.eq(self.UNIT - ((power[:bits] + 1) >> 1))
        e = line << (SHIFT - power[bits:])[:4]
        return stage(m, e, name=f"{name}_e", shape=unsigned(self.E_BITS))
