"""A softmax in the manner of Softermax: base 2, straight lines in four segments.

J. R. Stevens, R. Venkatesan, S. Dai, B. Khailany, A. Raghunathan: Softermax: Hardware/Software
Co-Design of an Efficient Softmax for Transformers, DAC 2021, arXiv:2103.09301, section III. The
paper trains with base 2; here the logits are multiplied with log2(e), so that softmax comes out.
Widths are the paper's where it gives them: exponentials of 15 fraction bits; reciprocal and result
are one bit wider here, for uint8.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
from amaranth.hdl import Module, Signal, Value, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import NDArray

from intformer.bench.rival_rows import RivalSoftmax, stage
from intformer.hw.parts.streams import delay
from intformer.reference.integers import IntArray, bit_length

__all__ = ["POWER", "RECIPROCAL", "SoftermaxLike", "log2_step", "softmax"]

FRACTION = 8
"""Fraction bits of an exponent of two."""
EXP_BITS = 15
"""Fraction bits of an exponential."""
RECIPROCAL_BITS = 8
"""Fraction bits of the reciprocal of a sum between 1 and 2."""
SUM_FRACTION = 8
"""Bits of a normalized sum that the reciprocal looks at, after the leading one."""


def _lines(values: list[float], *, bits: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Values at the left of four segments, and rises to the next, at ``2**-bits``."""
    at = [round(value * (1 << bits)) for value in values]
    return tuple(at[:4]), tuple(b - a for a, b in pairwise(at))


POWER = _lines([2.0 ** -(k / 4) for k in range(5)], bits=EXP_BITS)
"""``2**-f`` for ``0 <= f < 1``."""
RECIPROCAL = _lines([1 / (1 + k / 4) for k in range(5)], bits=RECIPROCAL_BITS)
"""``1/(1 + f)`` for ``0 <= f < 1``."""


def log2_step(scale: float) -> int:
    """Multiplier, 12 fraction bits, from codes of ``scale`` to exponents of two."""
    return round(scale / math.log(2) * (1 << (FRACTION + 4)))


def _line(
    table: tuple[tuple[int, ...], tuple[int, ...]], fraction: NDArray[np.int64], bits: int
) -> NDArray[np.int64]:
    at, rise = (np.array(column) for column in table)
    segment, rest = fraction >> (bits - 2), fraction & ((1 << (bits - 2)) - 1)
    return at[segment] + ((rise[segment] * rest) >> (bits - 2))


def softmax(x: IntArray, *, scale: float) -> NDArray[np.int64]:
    """Softmax of int8 codes of ``scale`` to uint8 at 1/256."""
    x = np.asarray(x, dtype=np.int64)
    distance = (x.max(axis=-1, keepdims=True) - x) * log2_step(scale) >> 4
    whole, fraction = distance >> FRACTION, distance & ((1 << FRACTION) - 1)
    e = _line(POWER, fraction, FRACTION) >> np.minimum(whole, EXP_BITS + 1)
    total = e.sum(axis=-1, keepdims=True)
    bits = bit_length(total)
    normal = ((total << 16) >> (bits - 1)) >> (16 - SUM_FRACTION)
    reciprocal = _line(RECIPROCAL, normal & ((1 << SUM_FRACTION) - 1), SUM_FRACTION)
    shift = bits - 1 + RECIPROCAL_BITS - 8
    return np.minimum((e * reciprocal + (np.int64(1) << (shift - 1))) >> shift, 255)


class SoftermaxLike(RivalSoftmax):
    """:func:`softmax` of logits at 1/16."""

    E_BITS = EXP_BITS + 1
    EXP_LATENCY = 5
    SCALE_LATENCY = 4

    def exponential(self, m: Module, distance: Value, *, name: str) -> Value:
        power = (distance * log2_step(1 / 16)) >> 4
        power = stage(m, power, name=f"{name}_power", shape=unsigned(FRACTION + 5))
        value = _line_unit(m, POWER, power[:FRACTION], bits=self.E_BITS, name=name)
        whole = delay(m, power[FRACTION:], 3, name=f"{name}_whole")
        return stage(m, value >> whole, name=f"{name}_e")

    def factors(self, m: Module, sums: stream.Interface) -> stream.Interface:
        m.submodules.reciprocal = unit = LineReciprocal(self._sum_bits)
        wiring.connect(m, unit.i, sums)
        return unit.o

    def probability(self, m: Module, e: Value, factor: Value, *, name: str) -> Value:
        left, right = stage(m, e, name=f"{name}_e"), stage(m, factor.value, name=f"{name}_factor")
        product = stage(m, left * right, name=f"{name}_product")
        amount = (factor.shift - 1)[: len(factor.shift)]
        amount = delay(m, amount, 2, name=f"{name}_amount")
        shifted = stage(m, product >> amount, name=f"{name}_shifted", shape=unsigned(10))
        p = (shifted + 1) >> 1
        return stage(m, p[:8] | p[8].replicate(8), name=name)


class LineReciprocal(wiring.Component):
    """Leading one and reciprocal of a row's sum, one row after the other.

    Members
    -------
    i: ``In(stream)`` of sums of at least ``2**EXP_BITS``.
    o: ``Out(stream)`` of ``{value, shift}``: the quotient is ``(e * value) >> shift``, rounded.
    """

    def __init__(self, width: int) -> None:
        layout = data.StructLayout({"value": RECIPROCAL_BITS + 1, "shift": range(width)})
        super().__init__({"i": In(stream.Signature(width)), "o": Out(stream.Signature(layout))})

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        width = len(self.i.payload)
        total, shift = Signal(width, reset_less=True), Signal(range(width))
        state = Signal(range(7))  # 0: waiting; 1: looking for the leading one; then the line's
        m.d.comb += self.i.ready.eq(state == 0)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [total.eq(self.i.payload), shift.eq(width - 1), state.eq(1)]
        with m.Elif(state == 1):
            with m.If(total[-1]):
                m.d.sync += state.eq(2)
            with m.Else():
                m.d.sync += [total.eq(total << 1), shift.eq(shift - 1)]
        with m.Elif((state != 0) & (state != 5)):
            m.d.sync += state.eq(state + 1)
        with m.Elif((state == 5) & self.o.ready):
            m.d.sync += state.eq(0)
        fraction = total[-1 - SUM_FRACTION : -1]
        value = _line_unit(m, RECIPROCAL, fraction, bits=RECIPROCAL_BITS + 1, name="line")
        m.d.comb += [
            self.o.valid.eq(state == 5),
            self.o.payload.value.eq(value),
            self.o.payload.shift.eq(shift),
        ]
        return m


def _line_unit(
    m: Module,
    table: tuple[tuple[int, ...], tuple[int, ...]],
    fraction: Value,
    *,
    bits: int,
    name: str,
) -> Value:
    """:func:`_line` in three cycles."""
    rest_bits = len(fraction) - 2
    at, rise = Signal(bits, name=f"{name}_at_c"), Signal(signed(bits), name=f"{name}_rise_c")
    with m.Switch(fraction[rest_bits:]):
        for segment, (left, change) in enumerate(zip(*table, strict=True)):
            with m.Case(segment):
                m.d.comb += [at.eq(left), rise.eq(change)]
    at = stage(m, at, name=f"{name}_at")
    rise = stage(m, rise, name=f"{name}_rise")
    rest = stage(m, fraction[:rest_bits], name=f"{name}_rest")
    product = stage(m, rise * rest, name=f"{name}_line_product")
    at = stage(m, at, name=f"{name}_at_d")
    value = at + (product >> rest_bits)
    return stage(m, value, name=f"{name}_line", shape=unsigned(bits))
