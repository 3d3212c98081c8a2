"""Performance counters: one 32-bit counter per event."""

from __future__ import annotations

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Counters"]

_GROUP = 8
"""Counters from which the first stage of a read chooses."""


class Counters(wiring.Component):
    """Counts the cycles in which each event bit is high; read one counter at a time.

    Parameters
    ----------
    events: number of counters.

    Members
    -------
    clear: ``In(1)``; set every counter to 0.
    enable: ``In(1)``; count in this cycle.
    event: ``In(events)``.
    addr: ``In(8)``, data: ``Out(32)``: the counter ``addr``, three cycles later; 0 past the end.
    """

    def __init__(self, events: int) -> None:
        if events < 1 or events > 256:
            raise ValueError(f"events must be from 1 to 256, not {events!r}")
        self._events = events
        super().__init__(
            {
                "clear": In(1),
                "enable": In(1),
                "event": In(events),
                "addr": In(8),
                "data": Out(32),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        seen = Signal(self._events)  # the events end long paths: register them
        m.d.sync += seen.eq(self.event & self.enable.replicate(self._events))
        counts = []
        for i in range(self._events):
            count = Signal(32, name=f"count_{i}")
            with m.If(self.clear):
                m.d.sync += count.eq(0)
            with m.Elif(seen[i]):
                m.d.sync += count.eq(count + 1)
            counts.append(count)
        # Two stages of choice, from a register.
        addr = Signal.like(self.addr, reset_less=True)
        chosen = Signal(range(-(-self._events // _GROUP)), reset_less=True)
        known = Signal()
        groups = []
        m.d.sync += [
            addr.eq(self.addr),
            chosen.eq(addr // _GROUP),
            known.eq(addr < self._events),
        ]
        for first in range(0, self._events, _GROUP):
            group = Signal(32, name=f"group_{first}", reset_less=True)
            m.d.sync += group.eq(Array(counts[first : first + _GROUP])[addr % _GROUP])
            groups.append(group)
        m.d.sync += self.data.eq(Mux(known, Array(groups)[chosen], 0))
        return m
