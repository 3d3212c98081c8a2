"""Serial integer square root: one bit of the root per cycle."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, ShapeLike, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intformer.hw.row.serial import SerialControl

__all__ = ["SquareRoot"]


class SquareRoot(wiring.Component):
    """``floor(sqrt(x))``, digit by digit, without restoring.

    Parameters
    ----------
    width: bits of ``x``; even.
    tag: shape of a value that passes through with each number.

    Members
    -------
    i: ``In(stream)`` of ``{x: width, tag}``.
    o: ``Out(stream)`` of ``{root: width // 2, tag}``.
    """

    def __init__(self, width: int, *, tag: ShapeLike) -> None:
        if width < 2 or width % 2:
            raise ValueError(f"width must be even and positive, not {width!r}")
        self._width = width
        super().__init__(
            {
                "i": In(stream.Signature(data.StructLayout({"x": width, "tag": tag}))),
                "o": Out(stream.Signature(data.StructLayout({"root": width // 2, "tag": tag}))),
            }
        )

    @staticmethod
    def latency_of(width: int) -> int:
        """:attr:`latency` of a unit with these parameters."""
        return width // 2 + 1

    @property
    def latency(self) -> int:
        """Cycles from the transfer at ``i`` to ``o.valid``."""
        return self.latency_of(self._width)

    @property
    def interval(self) -> int:
        """Least number of cycles from one number to the next."""
        return self.latency + 1

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        digits = self._width // 2
        m.submodules.control = control = SerialControl(digits)
        x = Signal(self._width, reset_less=True)
        root = Signal(digits - 1, reset_less=True)  # without the last digit
        # x so far - root**2; with a digit that was too large, it is below 0 and not put back:
        # the next step adds where it would take away. So the sign stands in a register before.
        rest = Signal(digits + 2, reset_less=True)
        tag = Signal.like(self.i.payload.tag, reset_less=True)
        fits = ~rest[-1]
        # -(4*root + 1) or, after a digit 0, 4*root + 3; the last digit of the root is `fits`.
        summand = Cat(Const(3, 3), root ^ fits.replicate(digits - 1), fits)
        m.d.comb += [
            control.i_valid.eq(self.i.valid),
            self.i.ready.eq(control.ready),
            self.o.valid.eq(control.o_valid),
            control.o_ready.eq(self.o.ready),
            self.o.payload.root.eq(Cat(fits, root)),
            self.o.payload.tag.eq(tag),
        ]
        with m.If(control.idle):
            m.d.sync += [
                x.eq(self.i.payload.x),
                root.eq(0),
                rest.eq(-1),
                tag.eq(self.i.payload.tag),
            ]
        with m.Elif(~control.o_valid):
            m.d.sync += [
                x.eq(x << 2),
                root.eq(Cat(fits, root)),
                rest.eq(Cat(x[-2:], rest) + summand),
            ]
        return m
