"""Serial reciprocal: one quotient bit per cycle."""

from __future__ import annotations

from amaranth.hdl import Module, ShapeLike, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Reciprocal"]


class Reciprocal(wiring.Component):
    """``2**(width + bits - 1) // x`` for a normalized ``x``, by restoring division.

    Parameters
    ----------
    width: bits of the divisor ``x``; ``2**(width - 1) <= x < 2**width``.
    bits: bits after the quotient's leading one: the quotient lies in
        ``2**(bits - 1) .. 2**bits`` (both included).
    tag: shape of a value that passes through with each division.

    Members
    -------
    i: ``In(stream)`` of ``{x: width, tag}``. A divisor outside its range gives an undefined
        quotient.
    o: ``Out(stream)`` of ``{q: bits + 1, tag}``.
    """

    def __init__(self, width: int, *, bits: int, tag: ShapeLike) -> None:
        if width < 2:
            raise ValueError(f"width must be at least 2, not {width!r}")
        if bits < 1:
            raise ValueError(f"bits must be at least 1, not {bits!r}")
        self._width = width
        self._bits = bits
        super().__init__(
            {
                "i": In(stream.Signature(data.StructLayout({"x": width, "tag": tag}))),
                "o": Out(stream.Signature(data.StructLayout({"q": bits + 1, "tag": tag}))),
            }
        )

    @staticmethod
    def latency_of(*, bits: int) -> int:
        """:attr:`latency` of a unit with these parameters."""
        return bits + 2

    @property
    def latency(self) -> int:
        """Cycles from the transfer at ``i`` to ``o.valid``."""
        return self.latency_of(bits=self._bits)

    @property
    def interval(self) -> int:
        """Least number of cycles from one division to the next."""
        return self.latency + 1

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        left = Signal(range(self._bits + 2))
        divisor = Signal(self._width)
        rest = Signal(self._width + 1)
        tag = Signal.like(self.i.payload.tag)
        quotient = Signal.like(self.o.payload.q)
        m.d.comb += [
            self.i.ready.eq((left == 0) & ~self.o.valid),
            self.o.payload.q.eq(quotient),
            self.o.payload.tag.eq(tag),
        ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                divisor.eq(self.i.payload.x),
                rest.eq(1 << (self._width - 1)),
                tag.eq(self.i.payload.tag),
                left.eq(self._bits + 1),
            ]
        difference = Signal(self._width + 2)
        m.d.comb += difference.eq(rest - divisor)
        fits = ~difference[-1]
        with m.If(left != 0):
            m.d.sync += [
                left.eq(left - 1),
                quotient.eq((quotient << 1) | fits),
                rest.eq(rest << 1),
                self.o.valid.eq(left == 1),
            ]
            with m.If(fits):
                m.d.sync += rest.eq(difference << 1)
        with m.Elif(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        return m
