"""Serial normalizer: shift a number left until its top bits are in use."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, ShapeLike, Signal, Value, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intformer.hw.row.serial import SerialControl

__all__ = ["Normalizer"]


class Normalizer(wiring.Component):
    """Shift ``x`` left by steps of ``step`` bits until one of its top ``step`` bits is 1.

    One halving step of a binary search in two cycles: look at the top bits, then shift. For
    ``x = 0`` every shift is made: :attr:`count_max`.

    Parameters
    ----------
    width: bits of ``x``, a multiple of ``step``.
    step: bits per shift.
    tag: shape of a value that passes through with each number.

    Members
    -------
    i: ``In(stream)`` of ``{x: width, tag}``.
    o: ``Out(stream)`` of ``{x: width, count, tag}``: ``i.x << (step * count)``.
    """

    def __init__(self, width: int, *, step: int = 1, tag: ShapeLike) -> None:
        if step < 1 or width < 2 * step or width % step:
            raise ValueError(f"width must be a multiple of step ({step!r}), not {width!r}")
        self._width = width
        self._step = step
        self._shifts = shifts = _shifts(width, step)
        self.o_layout = data.StructLayout({"x": width, "count": unsigned(len(shifts)), "tag": tag})
        super().__init__(
            {
                "i": In(stream.Signature(data.StructLayout({"x": width, "tag": tag}))),
                "o": Out(stream.Signature(self.o_layout)),
            }
        )

    @property
    def count_max(self) -> int:
        """The count for ``x = 0``."""
        return sum(self._shifts)

    @staticmethod
    def latency_of(width: int, *, step: int = 1) -> int:
        """:attr:`latency` of a unit with these parameters."""
        return 2 * len(_shifts(width, step)) + 1

    @property
    def latency(self) -> int:
        """Cycles from the transfer at ``i`` to ``o.valid``."""
        return self.latency_of(self._width, step=self._step)

    @property
    def interval(self) -> int:
        """Least number of cycles from one number to the next."""
        return self.latency + 1

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.control = control = SerialControl(2 * len(self._shifts))
        o = Signal(self.o_layout, reset_less=True)
        m.d.comb += [
            control.i_valid.eq(self.i.valid),
            self.i.ready.eq(control.ready),
            self.o.valid.eq(control.o_valid),
            control.o_ready.eq(self.o.ready),
            self.o.payload.eq(o),
        ]
        # The shift that is next, if its top bits are 0: from registers, as it selects every bit.
        chosen = Signal(len(self._shifts))
        turn = ~control.idle & ~control.o_valid
        shifted: Value = Const(0, self._width)
        for index, shift in enumerate(self._shifts):
            bits = shift * self._step
            look = turn & (control.left == 2 * (len(self._shifts) - index))
            m.d.sync += chosen[index].eq(look & (o.x[-bits:] == 0))
            shifted |= (o.x << bits)[: self._width] & chosen[index].replicate(self._width)
        with m.If(control.idle):
            m.d.sync += [
                o.x.eq(self.i.payload.x),
                o.count.eq(0),
                o.tag.eq(self.i.payload.tag),
            ]
        with m.Elif(chosen.any()):
            # `chosen` is the count of this shift, its bits in reverse.
            m.d.sync += [o.x.eq(shifted), o.count.eq(o.count | Cat(reversed(chosen)))]
        return m


def _shifts(width: int, step: int) -> list[int]:
    """The shifts that are tried, in steps, the largest first."""
    shifts = [1]
    while 2 * shifts[-1] * step < width:
        shifts.append(2 * shifts[-1])
    return shifts[::-1]
