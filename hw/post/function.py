"""A function of int16 codes in one lane of the epilogue: a quadratic in each of 512 segments."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from intformer.config import CoreConfig
from intformer.hw.memory.functions import SEGMENT, limits_layout
from intformer.hw.parts.product import Product
from intformer.hw.parts.streams import delay
from intformer.hw.ports import READ_LATENCY
from intformer.reference.tables import COEFFICIENT_BITS, CONSTANT_BITS, GUARD_BITS, SEGMENT_BITS

__all__ = ["FunctionLane"]

_T_BITS = SEGMENT_BITS + 2
_STEP = 2
"""Bits of the amount that one stage of a shift takes."""


class FunctionLane(wiring.Component):
    """:func:`intformer.reference.quadratic_table` of a code per cycle; never stalls.

    ::

        x ─► segment, t ─► table ─┬─ curvature ─► x t ─► >> ─► + slope ─► x t ─► >> ─┐
                                  └─ constant ───────────────────────────────────────┴► + ─► clip

    Parameters
    ----------
    config: its ``multipliers`` says what multiplies.
    target: family whose multiplier blocks to use; see :class:`intformer.hw.parts.mul18.Mul18`.

    Members
    -------
    limits: ``In``; of the table, see :func:`~intformer.hw.memory.functions.limits_layout`; must
        not change while codes are on their way.
    x: ``In(signed(16))``; from a register.
    segment: ``Out(9)``; for the table. entry: ``In``; ``READ_LATENCY`` cycles after it.
    o: ``Out(16)``; :attr:`latency` cycles after ``x``.
    """

    def __init__(self, config: CoreConfig, *, target: str | None = None) -> None:
        self._products = [
            Product(
                a_bits=COEFFICIENT_BITS,
                b_bits=_T_BITS,
                multipliers=config.multipliers,
                target=target,
            )
            for _ in range(2)
        ]
        super().__init__(
            {
                "limits": In(limits_layout()),
                "x": In(signed(16)),
                "segment": Out(16 - SEGMENT_BITS),
                "entry": In(SEGMENT),
                "o": Out(16),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from ``x`` to ``o``: place, table, both terms, sum and saturation."""
        first, second = self._products
        limits = self.limits
        bend = first.latency + _stages(limits.curvature_shift) + 1
        rise = second.latency + _stages(limits.slope_shift) + 1
        return 2 + READ_LATENCY + bend + rise + 2

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        limits, entry = self.limits, self.entry
        m.submodules.bend = first = self._products[0]
        m.submodules.rise = second = self._products[1]
        t = delay(m, self._place(m), READ_LATENCY, name="t", reset_less=True).as_signed()
        m.d.comb += [first.a.eq(entry.curvature), first.b.eq(t)]
        bend = _shift(m, first.o, limits.curvature_shift, name="bend")
        cycles = first.latency + _stages(limits.curvature_shift)
        slope = delay(m, entry.slope, cycles, name="slope", reset_less=True)
        total = Signal(signed(COEFFICIENT_BITS), reset_less=True)
        m.d.sync += total.eq(slope + bend)
        t = delay(m, t, cycles + 1, name="t_rise", reset_less=True)
        m.d.comb += [second.a.eq(total), second.b.eq(t)]
        rise = _shift(m, second.o, limits.slope_shift, name="rise")
        cycles += 1 + second.latency + _stages(limits.slope_shift)
        constant = delay(m, entry.constant, cycles, name="constant", reset_less=True)
        y = Signal(signed(CONSTANT_BITS + 1), reset_less=True)
        m.d.sync += y.eq(constant + rise)
        self._clip(m, (y >> GUARD_BITS).as_signed())
        return m

    def _place(self, m: Module) -> Signal:
        """Drive ``segment`` from a register; ``t``, in the same cycle."""
        u = Cat(self.x[:-1], ~self.x[-1])  # from the lowest code up
        segment = Signal(16 - SEGMENT_BITS, reset_less=True)
        offset = Signal(SEGMENT_BITS, reset_less=True)
        m.d.sync += [segment.eq(u[SEGMENT_BITS:]), offset.eq(u[:SEGMENT_BITS])]
        beyond: Value = Const(0, 1)
        for number, position in enumerate(self.limits.breaks):
            here = Signal(name=f"here_{number}", reset_less=True)
            reached = Signal(name=f"reached_{number}", reset_less=True)
            used = Signal(name=f"used_{number}", reset_less=True)
            m.d.sync += [
                here.eq(u[SEGMENT_BITS:] == position.segment),
                reached.eq(u[:SEGMENT_BITS] >= position.offset),
                used.eq(position.as_value().any()),
            ]
            beyond |= here & reached & used
        # Beyond a break the next segment goes on; offset - 64 is the offset with its top bit
        # turned to a sign.
        index = Signal.like(segment, name="index", reset_less=True)
        t = Signal(signed(_T_BITS), reset_less=True)
        top = offset[-1]
        m.d.sync += [
            index.eq(segment + beyond),
            # t - 128: the two bits above those of t become 11 or, if t is below 0, 10.
            t.eq(Cat(offset[:-1], ~top, ~top ^ beyond, ~top | beyond).as_signed()),
        ]
        m.d.comb += self.segment.eq(index)
        return t

    def _clip(self, m: Module, y: Value) -> None:
        """``y`` between the table's limits, two cycles later."""
        below, above = Signal(reset_less=True), Signal(reset_less=True)
        value, clipped = Signal(16, reset_less=True), Signal(16, reset_less=True)
        lo, hi = self.limits.lo, self.limits.hi
        m.d.sync += [below.eq(y < lo), above.eq(y > hi), value.eq(y)]
        m.d.sync += clipped.eq(Mux(below, lo, Mux(above, hi, value)))
        m.d.comb += self.o.eq(clipped)


def _stages(amount: Value) -> int:
    return -(-len(amount) // _STEP)


def _shift(m: Module, value: Value, amount: Value, *, name: str) -> Value:
    """``value >> amount`` (arithmetic), a stage for every two bits of ``amount``, which holds."""
    for low in range(0, len(amount), _STEP)[::-1]:
        by = amount[low : low + _STEP] << low
        shifted = Signal.like(value, name=f"{name}_shifted_{low}", reset_less=True)
        m.d.sync += shifted.eq(value >> by)
        value = shifted
    return value
