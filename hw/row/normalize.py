"""Serial normalizer: shift a number left until its top bits are in use."""

from __future__ import annotations

from amaranth.hdl import Module, ShapeLike, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Normalizer"]


class Normalizer(wiring.Component):
    """Shift ``x`` left by steps of ``step`` bits until one of its top ``step`` bits is 1.

    One halving step of a binary search per cycle. For ``x = 0`` every shift is made:
    :attr:`count_max`.

    Parameters
    ----------
    width: bits of ``x``, a multiple of ``step``.
    step: bits per shift.
    tag: shape of a value that passes through with each number; ``None`` for none.

    Members
    -------
    i: ``In(stream)`` of ``{x: width, tag}``.
    o: ``Out(stream)`` of ``{x: width, count, tag}``: ``i.x << (step * count)``.
    """

    def __init__(self, width: int, *, step: int = 1, tag: ShapeLike | None = None) -> None:
        if step < 1 or width < 2 * step or width % step:
            raise ValueError(f"width must be a multiple of step ({step!r}), not {width!r}")
        self._width = width
        self._step = step
        self._shifts = shifts = _shifts(width, step)
        tags = {} if tag is None else {"tag": tag}
        self.o_layout = data.StructLayout({"x": width, "count": unsigned(len(shifts)), **tags})
        super().__init__(
            {
                "i": In(stream.Signature(data.StructLayout({"x": width, **tags}))),
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
        return len(_shifts(width, step)) + 1

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
        left = Signal(range(len(self._shifts) + 1))
        o = Signal(self.o_layout)
        m.d.comb += [self.i.ready.eq((left == 0) & ~self.o.valid), self.o.payload.eq(o)]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                o.x.eq(self.i.payload.x),
                o.count.eq(0),
                left.eq(len(self._shifts)),
            ]
            if "tag" in dict(self.o_layout):
                m.d.sync += o.tag.eq(self.i.payload.tag)
        with m.If(left != 0):
            m.d.sync += [left.eq(left - 1), self.o.valid.eq(left == 1)]
        with m.Elif(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.Switch(left):
            for index, shift in enumerate(self._shifts):
                bits = shift * self._step
                with m.Case(len(self._shifts) - index), m.If(o.x[-bits:] == 0):
                    m.d.sync += [o.x.eq(o.x << bits), o.count.eq(o.count | shift)]
        return m


def _shifts(width: int, step: int) -> list[int]:
    """The shifts that are tried, in steps, the largest first."""
    shifts = [1]
    while 2 * shifts[-1] * step < width:
        shifts.append(2 * shifts[-1])
    return shifts[::-1]
