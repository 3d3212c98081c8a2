"""The control that the serial units share."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["SerialControl"]


class SerialControl(wiring.Component):
    """Takes a job, counts its steps, then holds the result until it is taken.

    The data registers of a unit load in every cycle that is ``idle``, make a step in every
    cycle that is neither ``idle`` nor ``o_valid``, and hold while ``o_valid``: they depend on
    nothing but registers.

    Parameters
    ----------
    steps: steps of a job; at least 1.

    Members
    -------
    i_valid: ``In(1)``; a job is there; taken if ``idle``.
    idle: ``Out(1)``; no job: for the enables of the data registers.
    ready: ``Out(1)``; the same for the unit's input: a register apart, whose fan-out is small.
    left: ``Out``; steps left to do, this one included.
    o_valid: ``Out(1)``, ``o_ready``: ``In(1)``; handshake of the result.
    """

    def __init__(self, steps: int) -> None:
        self._steps = steps
        super().__init__(
            {
                "i_valid": In(1),
                "idle": Out(1, init=1),
                "ready": Out(1),
                "left": Out(range(steps + 1)),
                "o_valid": Out(1),
                "o_ready": In(1),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        ready = Signal(init=1, attrs={"keep": 1})
        m.d.comb += self.ready.eq(ready)
        with m.If(self.idle):
            m.d.sync += self.left.eq(self._steps)
            m.d.sync += [self.idle.eq(~self.i_valid), ready.eq(~self.i_valid)]
        with m.Elif(self.o_valid):
            m.d.sync += self.o_valid.eq(~self.o_ready)
            m.d.sync += [self.idle.eq(self.o_ready), ready.eq(self.o_ready)]
        with m.Else():
            m.d.sync += [self.left.eq(self.left - 1), self.o_valid.eq(self.left == 1)]
        return m
