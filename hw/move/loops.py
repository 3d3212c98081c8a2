"""Nested loops over element positions, as MOVE runs them."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from intformer.config import CoreConfig

__all__ = ["LOOPS", "POSITION", "LoopCounter", "PositionCounter"]

LOOPS = 3
"""Nested loops, the last innermost."""
POSITION = data.StructLayout({"word": 18, "lane": 6})
"""Place of an element in a scratchpad."""


class LoopCounter(wiring.Component):
    """Counts three nested loops, the last innermost.

    Members
    -------
    start: ``In(1)``; take the counts ``n``, none of them 0; valid from the next cycle on.
    n: three ``In(12)``.
    step: ``In(1)``; go to the next iteration.
    running: ``Out(1)``; between ``start`` and the ``step`` of the last iteration.
    axis: ``Out(2)``; the loop whose index the next iteration increments.
    last: ``Out(1)``; this is the last iteration.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "start": In(1),
                "n": In(12).array(LOOPS),
                "step": In(1),
                "running": Out(1),
                "axis": Out(2),
                "last": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        left = [Signal(12, name=f"left_{axis}") for axis in range(LOOPS)]
        ends, following = Signal(LOOPS), Signal(LOOPS)  # left is 1; in the next cycle
        m.d.comb += [following.eq(ends), self.last.eq(ends.all())]
        # Many registers choose by it: a register, too.
        m.d.sync += [
            ends.eq(following),
            self.axis.eq(Mux(~following[2], 2, Mux(~following[1], 1, 0))),
        ]
        with m.If(self.start):
            m.d.sync += self.running.eq(1)
        with m.Elif(self.step & self.last):
            m.d.sync += self.running.eq(0)
        for axis in range(LOOPS):
            with m.If(self.start | (self.step & (self.axis < axis))):
                m.d.sync += left[axis].eq(self.n[axis])
                m.d.comb += following[axis].eq(self.n[axis] == 1)
            with m.Elif(self.step & (self.axis == axis)):
                m.d.sync += left[axis].eq(left[axis] - 1)
                m.d.comb += following[axis].eq(left[axis] == 2)
        return m


class PositionCounter(wiring.Component):
    """The element position that goes with a :class:`LoopCounter`.

    Positions are added as one number, word above lane. Lanes are kept in a form in which they
    carry into the word by themselves: those of the wide scratchpad shifted up (:attr:`shift`),
    those of a number of rows that is no power of two with an offset.

    Members
    -------
    start: ``In(1)``; begin at ``first``; valid from the next cycle on.
    first: ``In({word: 18, lane: 6})``; strides: three of them, for the loops.
    is_wide: ``In(1)``; lanes carry at ``lanes``, else at ``rows``. If it is 1, the lanes of
        ``first``, ``strides`` and ``o`` are shifted up by :attr:`shift`.
    step: ``In(1)``, axis: ``In(2)``: go on along this loop; those inside begin anew.
    o: ``Out({word: 18, lane: 6})``.
    """

    def __init__(self, config: CoreConfig) -> None:
        self._lane_bits = ceil_log2(config.rows)
        self._offset = (1 << self._lane_bits) - config.rows
        self.shift = self._lane_bits - ceil_log2(config.lanes)
        """Bits by which lanes of the wide scratchpad are shifted up."""
        super().__init__(
            {
                "start": In(1),
                "first": In(POSITION),
                "strides": In(POSITION).array(LOOPS),
                "is_wide": In(1),
                "step": In(1),
                "axis": In(2),
                "o": Out(POSITION),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = self._lane_bits
        flat = data.StructLayout({"lane": bits, "word": 18})
        offset = Mux(self.is_wide, 0, self._offset) if self._offset else 0
        # Where the innermost iteration of each loop stands; the last is the position itself.
        here = [Signal(flat, name=f"here_{axis}") for axis in range(LOOPS)]
        then = [Signal(flat, name=f"then_{axis}") for axis in range(LOOPS)]
        for place, after, stride in zip(here, then, self.strides, strict=True):
            total = place.as_value() + Cat(stride.lane[:bits], stride.word)
            m.d.comb += after.as_value().eq(total)
            if self._offset:
                lane = place.lane + stride.lane[:bits]
                m.d.comb += after.lane.eq(lane + Mux(lane[bits], offset, 0))
        for axis in range(LOOPS):
            with m.If(self.start):
                m.d.sync += [
                    here[axis].word.eq(self.first.word),
                    here[axis].lane.eq(self.first.lane + offset),
                ]
            for outer in range(axis + 1):
                with m.Elif(self.step & (self.axis == outer)):
                    m.d.sync += here[axis].eq(then[outer])
        m.d.comb += [
            self.o.word.eq(here[-1].word),
            self.o.lane.eq(here[-1].lane - offset),
        ]
        return m
