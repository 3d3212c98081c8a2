"""The factor of a row in one lane of the epilogue."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from intformer.hw.parts.product import Product
from intformer.reference import ACC_BITS, FACTOR_SHIFT, MULT_BITS

__all__ = ["FactorLane"]


class FactorLane(wiring.Component):
    """``(x * factor + 2**(FACTOR_SHIFT - 1)) >> FACTOR_SHIFT``: a value per cycle, never stalls.

    Takes two multiplier blocks. ``1 << FACTOR_SHIFT`` leaves ``x`` as it is.

    Parameters
    ----------
    target: family whose multiplier blocks to use; see :class:`intformer.hw.parts.mul18.Mul18`.

    Members
    -------
    x: ``In(signed(32))``, factor: ``In(signed(16))``.
    o: ``Out(signed(32))``; :attr:`latency` cycles later. The result must fit.
    """

    def __init__(self, *, target: str | None = None) -> None:
        self._target = target
        super().__init__(
            {
                "x": In(signed(ACC_BITS)),
                "factor": In(signed(MULT_BITS)),
                "o": Out(signed(ACC_BITS)),
            }
        )

    latency = Product.latency_of(ACC_BITS, MULT_BITS) + 1
    """Cycles from operands to result: product, rounding."""

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.product = product = Product(
            a_bits=ACC_BITS, b_bits=MULT_BITS, target=self._target
        )
        # As many bits as the result has, and the one that rounding drops.
        kept = product.o[FACTOR_SHIFT - 1 : FACTOR_SHIFT + ACC_BITS]
        rounded = Signal(1 + ACC_BITS, reset_less=True)
        m.d.sync += rounded.eq(kept + 1)
        m.d.comb += [
            product.a.eq(self.x),
            product.b.eq(self.factor),
            self.o.eq(rounded[1:].as_signed()),
        ]
        return m
