"""Requantization of one lane: bias, multiplier, rounding shift."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from intformer.hw.parts.product import Product
from intformer.hw.parts.rounding import RoundingShift
from intformer.hw.parts.streams import delay
from intformer.reference import ACC_BITS, MULT_BITS, SHIFT_MAX, SHIFT_MIN

__all__ = ["Requantize"]


class Requantize(wiring.Component):
    """``((x + bias) * mult + 2**(shift - 1)) >> shift``, saturated to ``o_bits`` bits.

    A pipeline without back-pressure, one value per cycle; equal to
    :func:`intformer.reference.requantize` wherever the result fits ``o_bits``.

    Parameters
    ----------
    x_bits: width of ``x`` and ``bias``; at most 32.
    o_bits: width of the result.
    with_bias: whether there is a ``bias``; without, the result comes a cycle earlier.
    multipliers, target: see :class:`intformer.hw.parts.product.Product`.

    Members
    -------
    x: ``In(signed(x_bits))``, bias: ``In(signed(x_bits))``; their sum must fit ``x_bits``.
    mult: ``In(signed(16))``, shift: ``In(8)``, 2 to 47.
    o: ``Out(signed(o_bits))``; :attr:`latency` cycles later.
    """

    def __init__(
        self,
        *,
        x_bits: int = ACC_BITS,
        o_bits: int,
        with_bias: bool = True,
        multipliers: str = "dsp",
        target: str | None = None,
    ) -> None:
        self._with_bias = with_bias
        self._product = Product(
            a_bits=x_bits, b_bits=MULT_BITS, multipliers=multipliers, target=target
        )
        # The largest product, of the two least numbers, needs a bit less than the product's.
        needed = x_bits + MULT_BITS - SHIFT_MIN
        self._round = RoundingShift(
            bits=x_bits + MULT_BITS,
            amount_max=SHIFT_MAX - 1,
            o_bits=o_bits,
            saturate=o_bits < needed,
        )
        members = {
            "x": In(signed(x_bits)),
            "mult": In(signed(MULT_BITS)),
            "shift": In(8),
            "o": Out(signed(o_bits)),
        }
        if with_bias:
            members["bias"] = In(signed(x_bits))
        super().__init__(members)

    @property
    def latency(self) -> int:
        """Cycles from operands to result: sum, product, shift."""
        return self._with_bias + self._product.latency + self._round.latency

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.product = product = self._product
        m.submodules.round = rounder = self._round
        amount = Signal.like(rounder.amount, reset_less=True)
        m.d.sync += amount.eq(self.shift - 1)
        if self._with_bias:
            total = Signal.like(self.x, reset_less=True)
            m.d.sync += total.eq(self.x + self.bias)
            m.d.comb += product.a.eq(total)
        else:
            m.d.comb += product.a.eq(self.x)
        cycles = self._with_bias + product.latency - 1
        m.d.comb += [
            product.b.eq(delay(m, self.mult, self._with_bias, name="mult", reset_less=True)),
            rounder.x.eq(product.o),
            rounder.amount.eq(delay(m, amount, cycles, name="amount", reset_less=True)),
            self.o.eq(rounder.o),
        ]
        return m
