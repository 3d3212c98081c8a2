"""Nested loops over element positions, as MOVE runs them."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

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
        ends = [count == 1 for count in left]
        m.d.comb += [
            self.axis.eq(Mux(~ends[2], 2, Mux(~ends[1], 1, 0))),
            self.last.eq(Cat(ends).all()),
        ]
        with m.If(self.start):
            m.d.sync += self.running.eq(1)
        with m.Elif(self.step & self.last):
            m.d.sync += self.running.eq(0)
        for axis in range(LOOPS):
            with m.If(self.start | (self.step & (self.axis < axis))):
                m.d.sync += left[axis].eq(self.n[axis])
            with m.Elif(self.step & (self.axis == axis)):
                m.d.sync += left[axis].eq(left[axis] - 1)
        return m


class PositionCounter(wiring.Component):
    """The element position that goes with a :class:`LoopCounter`.

    Members
    -------
    start: ``In(1)``; begin at ``first``; valid from the next cycle on.
    first: ``In({word: 18, lane: 6})``; strides: three of them, for the loops.
    is_wide: ``In(1)``; lanes carry at ``lanes``, else at ``rows``.
    step: ``In(1)``, axis: ``In(2)``: go on along this loop; those inside begin anew.
    o: ``Out({word: 18, lane: 6})``.
    """

    def __init__(self, config: CoreConfig) -> None:
        self._config = config
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
        # Where the innermost iteration of each loop stands; the last is the position itself.
        here = [Signal(POSITION, name=f"here_{axis}") for axis in range(LOOPS)]
        base = Signal(POSITION)
        stride = Signal(POSITION)
        with m.Switch(self.axis):
            for axis in range(LOOPS):
                with m.Case(axis):
                    m.d.comb += [base.eq(here[axis]), stride.eq(self.strides[axis])]
        radix = Mux(self.is_wide, self._config.lanes, self._config.rows)
        lanes = base.lane + stride.lane
        carry = lanes >= radix
        then = Signal(POSITION)
        m.d.comb += [
            then.word.eq(base.word + stride.word + carry),
            then.lane.eq(Mux(carry, lanes - radix, lanes)),
            self.o.eq(here[-1]),
        ]
        for axis in range(LOOPS):
            with m.If(self.start):
                m.d.sync += here[axis].eq(self.first)
            with m.Elif(self.step & (self.axis <= axis)):
                m.d.sync += here[axis].eq(then)
        return m
