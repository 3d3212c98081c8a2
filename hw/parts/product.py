"""Exact products of wide operands, in multiplier blocks or in LUTs."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from intformer.hw.parts.lut_product import LutProduct
from intformer.hw.parts.mul18 import Mul18
from intformer.hw.parts.streams import delay

__all__ = ["Product"]

_PART = 17
"""Magnitude bits of a multiplier operand: with its sign it fits an 18-bit hardware multiplier."""


class Product(wiring.Component):
    """``a * b`` for a signed ``a`` of up to 35 bits; a result every cycle.

    Out of one or two 18-bit multipliers with all their registers and one more behind them, or
    (``multipliers="luts"``) out of carry chains.

    Parameters
    ----------
    a_bits: width of ``a``, 2 to 35.
    b_bits: width of ``b``, 2 to 18.
    multipliers: ``"dsp"`` or ``"luts"``.
    target: family whose multiplier blocks to use; see :class:`intformer.hw.parts.mul18.Mul18`.

    Members
    -------
    a, b: ``In``, signed.
    o: ``Out``, signed, ``a_bits + b_bits`` wide; :attr:`latency` cycles later.
    """

    def __init__(
        self, *, a_bits: int, b_bits: int, multipliers: str = "dsp", target: str | None = None
    ) -> None:
        if not 2 <= a_bits <= 2 * _PART + 1:
            raise ValueError(f"a_bits must be from 2 to {2 * _PART + 1}, not {a_bits!r}")
        if not 2 <= b_bits <= _PART + 1:
            raise ValueError(f"b_bits must be from 2 to {_PART + 1}, not {b_bits!r}")
        if multipliers not in ("dsp", "luts"):
            raise ValueError(f"multipliers must be dsp or luts, not {multipliers!r}")
        self._in_luts = multipliers == "luts"
        self._target = target
        super().__init__(
            {
                "a": In(signed(a_bits)),
                "b": In(signed(b_bits)),
                "o": Out(signed(a_bits + b_bits)),
            }
        )

    @staticmethod
    def latency_of(a_bits: int, b_bits: int, *, multipliers: str = "dsp") -> int:
        """:attr:`latency` for operands of these widths."""
        if multipliers == "luts":
            return LutProduct.latency_of(a_bits, b_bits)
        return Mul18.latency + (2 if a_bits > _PART + 1 else 1)

    @property
    def latency(self) -> int:
        """Cycles from operands to product."""
        multipliers = "luts" if self._in_luts else "dsp"
        return self.latency_of(len(self.a), len(self.b), multipliers=multipliers)

    @property
    def _is_split(self) -> bool:
        return len(self.a) > _PART + 1

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        if self._in_luts:
            m.submodules.luts = luts = LutProduct(
                a=self.a.shape(), b=self.b.shape(), target=self._target
            )
            m.d.comb += [luts.a.eq(self.a), luts.b.eq(self.b), self.o.eq(luts.o)]
            return m
        low_bits = len(self.a) // 2 if self._is_split else 0
        high = self._part(m, "high", self.a[low_bits:].as_signed())
        if not low_bits:
            m.d.comb += self.o.eq(high)
            return m
        low = self._part(m, "low", Cat(self.a[:low_bits], Const(0, 1)).as_signed())
        total = Signal.like(self.o, reset_less=True)
        # The low bits of the low product pass unchanged.
        m.d.sync += total.eq(Cat(low[:low_bits], high + low[low_bits:].as_signed()))
        m.d.comb += self.o.eq(total)
        return m

    def _part(self, m: Module, name: str, a) -> Signal:
        """``a * b``, from a register: a multiplier block answers late in the cycle."""
        part = Mul18(a_bits=len(a), b_bits=len(self.b), target=self._target)
        m.submodules[name] = part
        m.d.comb += [part.a.eq(a), part.b.eq(self.b)]
        return delay(m, part.p, 1, name=f"{name}_product", reset_less=True)
