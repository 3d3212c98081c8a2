"""The product of two signed operands of any width up to 35 bits."""

from __future__ import annotations

from amaranth.hdl import Module, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from intformer.hw.parts.product import Product
from intformer.hw.parts.wide_product import WideProduct

__all__ = ["ExactProduct", "times"]

_NARROW = 18


class ExactProduct(wiring.Component):
    """``a * b``, a result every cycle, out of one, two or four hardware multipliers.

    Parameters
    ----------
    a_bits, b_bits: widths of the operands, signed, 2 to 35.
    target: family whose multiplier blocks to use; see :class:`intformer.hw.parts.mul18.Mul18`.

    Members
    -------
    a, b: ``In``, signed. o: ``Out``, signed; :attr:`latency` cycles later, from a register.
    """

    def __init__(self, *, a_bits: int, b_bits: int, target: str | None = None) -> None:
        wide, narrow = max(a_bits, b_bits), min(a_bits, b_bits)
        kind = WideProduct if narrow > _NARROW else Product
        self._product = kind(a_bits=wide, b_bits=narrow, target=target)
        self._swap = a_bits < b_bits
        super().__init__(
            {"a": In(signed(a_bits)), "b": In(signed(b_bits)), "o": Out(signed(a_bits + b_bits))}
        )

    @property
    def latency(self) -> int:
        """Cycles from operands to product."""
        return self._product.latency

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.product = product = self._product
        a, b = (self.b, self.a) if self._swap else (self.a, self.b)
        m.d.comb += [product.a.eq(a), product.b.eq(b), self.o.eq(product.o)]
        return m


def times(m: Module, product: ExactProduct, a: Value, b: Value, *, name: str) -> Value:
    """``a * b`` through ``product``, which becomes the submodule ``name``."""
    m.submodules[name] = product
    m.d.comb += [product.a.eq(a), product.b.eq(b)]
    return product.o
