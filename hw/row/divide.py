"""Serial reciprocal: one quotient bit per cycle."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, ShapeLike, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intformer.hw.row.serial import SerialControl

__all__ = ["Reciprocal"]


class Reciprocal(wiring.Component):
    """``2**(width + bits - 1) // (x + 1)`` for a normalized ``x``, by non-restoring division.

    Parameters
    ----------
    width: bits of ``x``; ``2**(width - 1) <= x < 2**width``.
    bits: bits of the quotient, ``2**(bits - 1) <= q < 2**bits``.
    tag: shape of a value that passes through with each division.

    Members
    -------
    i: ``In(stream)`` of ``{x: width, tag}``. A divisor outside its range gives an undefined
        quotient.
    o: ``Out(stream)`` of ``{q: bits, tag}``.
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
                "o": Out(stream.Signature(data.StructLayout({"q": bits, "tag": tag}))),
            }
        )

    @staticmethod
    def latency_of(*, bits: int) -> int:
        """:attr:`latency` of a unit with these parameters."""
        return bits + 1

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
        m.submodules.control = control = SerialControl(self._bits)
        divisor = Signal(self._width, reset_less=True)
        rest = Signal(self._width + 1, reset_less=True)  # signed, half of what comes next
        tag = Signal.like(self.i.payload.tag, reset_less=True)
        quotient = Signal(self._bits - 1, reset_less=True)  # without the last bit
        # A rest below 0 is not put back: its double plus the divisor is what follows from there.
        # So the sign stands in a register before it chooses between minus and plus.
        negative, positive = rest[-1], ~rest[-1]
        summand = Cat(divisor ^ positive.replicate(self._width), positive)  # -(x + 1) is ~x
        m.d.comb += [
            control.i_valid.eq(self.i.valid),
            self.i.ready.eq(control.ready),
            self.o.valid.eq(control.o_valid),
            control.o_ready.eq(self.o.ready),
            self.o.payload.q.eq(Cat(positive, quotient)),
            self.o.payload.tag.eq(tag),
        ]
        with m.If(control.idle):
            m.d.sync += [
                divisor.eq(self.i.payload.x),
                rest.eq(1 << (self._width - 1)),
                tag.eq(self.i.payload.tag),
            ]
        with m.Elif(~control.o_valid):
            m.d.sync += [
                quotient.eq(Cat(positive, quotient)),
                rest.eq(Cat(negative, rest) + summand),
            ]
        return m
