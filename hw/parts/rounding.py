"""A rounding right shift in short stages."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from intformer.hw.parts.streams import delay

__all__ = ["RoundingShift"]

_STEP = 2
"""Bits of the amount that one stage shifts by: a choice of four is a LUT and a multiplexer."""


_HALF = 1
"""What is added before the last bit is dropped: half of the result's step."""


class RoundingShift(wiring.Component):
    """``(x + 2**amount) >> (amount + 1)``: arithmetic shift right by ``amount + 1``, rounding
    half up; a result every cycle.

    ::

        x ─► >> by the top bits of amount ─► ... ─► >> by the lowest ─► + 1, >> 1 ─► saturate ─► o

    Parameters
    ----------
    bits: width of ``x``, signed.
    amount_max: largest ``amount``.
    o_bits: width of the result.
    saturate: clip the result to ``o_bits``, instead of requiring that it fits.

    Members
    -------
    x: ``In``, signed.
    amount: ``In``; unsigned.
    o: ``Out``, signed; :attr:`latency` cycles later.
    """

    def __init__(self, *, bits: int, amount_max: int, o_bits: int, saturate: bool = False) -> None:
        if amount_max < 1:
            raise ValueError(f"amount_max must be at least 1, not {amount_max!r}")
        if not 1 <= o_bits < bits:
            raise ValueError(f"o_bits must be from 1 to {bits - 1}, not {o_bits!r}")
        self._saturate = saturate
        super().__init__(
            {
                "x": In(signed(bits)),
                "amount": In(range(amount_max + 1)),
                "o": Out(signed(o_bits)),
            }
        )

    @staticmethod
    def latency_of(*, amount_max: int, saturate: bool = False) -> int:
        """:attr:`latency` of a unit with these parameters."""
        return -(-amount_max.bit_length() // _STEP) + 1 + saturate

    @property
    def latency(self) -> int:
        """Cycles from operands to result: stages of the shift, rounding, saturation."""
        return len(self._stages()) + 1 + self._saturate

    def _stages(self) -> list[int]:
        """The lowest bit of ``amount`` that each stage shifts by, the highest first."""
        return list(range(0, len(self.amount), _STEP))[::-1]

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        value, amount = self.x, self.amount
        outside = []  # whether bits that are dropped differ from the sign, one cycle each
        for number, low in enumerate(self._stages()):
            shifted = Signal.like(value, name=f"shifted_{number}", reset_less=True)
            by = Cat(Const(0, low), amount[low:]) if low else amount
            m.d.sync += shifted.eq(value >> by)
            if low:
                left = Signal(low, name=f"amount_{number}", reset_less=True)
                m.d.sync += left.eq(amount[:low])
                amount = left
            # One bit more than the result, for rounding, and those that are still shifted out.
            keep = min(len(shifted), len(self.o) + (1 << low))
            if keep < len(shifted):
                outside.append((number, shifted[keep - 1 :]))
            value = shifted[:keep].as_signed()
        rounded = Signal(signed(len(self.o) + 1), reset_less=True)
        m.d.sync += rounded.eq((value + _HALF) >> 1)
        if not self._saturate:
            m.d.comb += self.o.eq(rounded)
            return m
        self._clip(m, rounded, outside)
        return m

    def _clip(self, m: Module, rounded: Signal, outside: list) -> None:
        """Saturate: a dropped bit, or the bit that rounding needs more, differs from the sign."""
        cycles = self.latency - 1
        sign = delay(m, self.x[-1], cycles, name="sign", reset_less=True)
        too_large = Const(0, 1)
        for number, bits in outside:
            flag = Signal(name=f"outside_{number}", reset_less=True)
            m.d.sync += flag.eq(~(bits.all() | ~bits.any()))
            late = delay(m, flag, cycles - number - 2, name=f"outside_{number}", reset_less=True)
            too_large |= late
        clipped = Signal.like(self.o, reset_less=True)
        limit = Cat((~sign).replicate(len(self.o) - 1), sign)
        outsized = too_large | (rounded[-1] ^ rounded[-2])
        m.d.sync += clipped.eq(Mux(outsized, limit, rounded[:-1]).as_signed())
        m.d.comb += self.o.eq(clipped)
