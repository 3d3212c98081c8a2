"""Requantization of one lane: bias, multiplier, rounding shift."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from intformer.hw.parts.arithmetic import RoundShift, SplitProduct
from intformer.hw.parts.streams import delay
from intformer.reference import ACC_BITS, MULT_BITS, SHIFT_MAX

__all__ = ["Requantize"]


class Requantize(wiring.Component):
    """``((x + bias) * mult + 2**(shift - 1)) >> shift``, saturated to ``o_bits`` bits.

    A pipeline without back-pressure, one value per cycle; equal to
    :func:`intformer.reference.requantize` wherever the result fits ``o_bits``.

    Parameters
    ----------
    x_bits: width of ``x`` and ``bias``; at most 32.
    o_bits: width of the result.

    Members
    -------
    x: ``In(signed(x_bits))``, bias: ``In(signed(x_bits))``; their sum must fit ``x_bits``.
    mult: ``In(signed(16))``, shift: ``In(8)``, 2 to 47.
    o: ``Out(signed(o_bits))``; :attr:`latency` cycles later.
    """

    def __init__(self, *, x_bits: int = ACC_BITS, o_bits: int) -> None:
        self._x_bits = x_bits
        self._product = SplitProduct(a_bits=x_bits, b_bits=MULT_BITS)
        self._round = RoundShift(
            bits=x_bits + MULT_BITS, amount_max=SHIFT_MAX - 1, o_bits=o_bits, saturate=True
        )
        super().__init__(
            {
                "x": In(signed(x_bits)),
                "bias": In(signed(x_bits)),
                "mult": In(signed(MULT_BITS)),
                "shift": In(8),
                "o": Out(signed(o_bits)),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from operands to result: sum, product, shift."""
        return 1 + self._product.latency + self._round.latency

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.product = product = self._product
        m.submodules.round = rounder = self._round
        amount = Signal.like(rounder.amount)
        total = Signal(signed(self._x_bits))
        mult = Signal(signed(MULT_BITS))
        m.d.sync += [
            total.eq(self.x + self.bias),
            mult.eq(self.mult),
            amount.eq(self.shift - 1),
        ]
        m.d.comb += [
            product.a.eq(total),
            product.b.eq(mult),
            rounder.x.eq(product.o),
            rounder.amount.eq(delay(m, amount, product.latency, name="amount")),
            self.o.eq(rounder.o),
        ]
        return m
