"""Products too wide for one 18-bit multiplier."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Signal, Value, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from intformer.hw.parts.lut_product import LutProduct
from intformer.hw.parts.mul18 import Mul18
from intformer.hw.parts.streams import delay

__all__ = ["WideProduct"]

_PART = 17
"""Magnitude bits of a multiplier operand: with its sign it fits an 18-bit hardware multiplier."""
_WIDEST = 2 * _PART + 1
"""Bits of an operand in two parts."""
_EXTRA_MAX = 4
"""Low bits of ``b`` beyond that: a product of their own, in LUTs, as fast as a multiplier block."""


class WideProduct(wiring.Component):
    """``(a * b) >> drop`` for wide signed operands, out of four 18x18 products.

    Where ``b`` has more than 35 bits, the lowest of them are multiplied in LUTs.

    A pipeline: operands every cycle, never stalls. There is a register between the multipliers
    and the first addition.

    Parameters
    ----------
    a_bits, b_bits: widths of the operands, from 19 to 35; ``b_bits`` to 39, but not 36.
    drop: low bits of the product that are not wanted, from 0 to 34.
    target: family whose multiplier blocks to use; see :class:`intformer.hw.parts.mul18.Mul18`.

    Members
    -------
    a, b: ``In``, signed.
    o: ``Out``, signed, ``a_bits + b_bits - drop`` wide; :attr:`latency` cycles later.
    """

    def __init__(
        self, *, a_bits: int, b_bits: int, drop: int = 0, target: str | None = None
    ) -> None:
        for name, bits, most in (("a_bits", a_bits, 0), ("b_bits", b_bits, _EXTRA_MAX)):
            if not _PART + 2 <= bits <= _WIDEST + most:
                raise ValueError(
                    f"{name} must be from {_PART + 2} to {_WIDEST + most}, not {bits!r}"
                )
        self._extra = max(b_bits - _WIDEST, 0)
        if self._extra == 1:
            raise ValueError(f"b_bits must not be {b_bits!r}")
        if not 0 <= drop <= 2 * _PART:
            raise ValueError(f"drop must be from 0 to {2 * _PART}, not {drop!r}")
        self._drop = drop
        self._target = target
        super().__init__(
            {
                "a": In(signed(a_bits)),
                "b": In(signed(b_bits)),
                "o": Out(signed(a_bits + b_bits - drop)),
            }
        )

    latency = Mul18.latency + 4
    """Cycles from operands to product."""

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        a_parts, b_parts = _parts(self.a), _parts(self.b[self._extra :])
        products = {}
        for i, a in enumerate(a_parts):
            for j, b in enumerate(b_parts):
                name = f"product_{i}{j}"
                part = Mul18(a_bits=len(a), b_bits=len(b), target=self._target)
                m.submodules[name] = part
                m.d.comb += [part.a.eq(a), part.b.eq(b)]
                # A multiplier block answers late in the cycle.
                products[i, j] = delay(m, part.p, 1, name=name, reset_less=True)
        extra = self._extra_product(m)
        low, high = products[0, 0], products[1, 1]
        middle_bits = max(len(products[0, 1]), len(products[1, 0])) + 1
        middle = Signal(signed(middle_bits), reset_less=True)
        carried = Signal(signed(middle_bits + 1), reset_less=True)
        top = Signal(signed(len(self.a) + len(self.b) - self._extra - 2 * _PART), reset_less=True)
        grown = Signal(signed(len(low) + 1), reset_less=True)
        low_carry = grown[_PART:].as_signed()
        m.d.sync += [
            grown.eq(low + (extra >> self._extra)),
            middle.eq(products[0, 1] + products[1, 0]),
            carried.eq(middle + low_carry),
            top.eq(delay(m, high, 2, name="high", reset_less=True) + (carried >> _PART)),
        ]
        lowest = delay(m, grown[:_PART], 2, name="low", reset_less=True)
        last = delay(m, extra[: self._extra], 3, name="extra", reset_less=True)
        above = delay(m, carried[:_PART], 1, name="middle", reset_less=True)
        m.d.comb += self.o.eq(Cat(last, lowest, above, top) >> self._drop)
        return m

    def _extra_product(self, m: Module) -> Value:
        """The product of ``a`` and the low bits of ``b``; with those of the blocks."""
        if not self._extra:
            return Const(0)
        m.submodules.extra = extra = LutProduct(
            a=self.a.shape(), b=unsigned(self._extra), target=self._target
        )
        m.d.comb += [extra.a.eq(self.a), extra.b.eq(self.b[: self._extra])]
        return delay(m, extra.o, Mul18.latency + 1 - extra.latency, name="extra_product")


def _parts(value: Value) -> tuple[Value, Value]:
    """The low bits as a non-negative signed number, and the rest."""
    return Cat(value[:_PART], Const(0, 1)).as_signed(), value[_PART:].as_signed()
