"""Between the buffer and memory, and from the core's counters: the commands that take time."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Value

from intformer.host.protocol import Command, Status
from intformer.hw.link.registers import Registers
from intformer.hw.ports import BURST_MAX

__all__ = ["add_transfers"]

_COUNTER_BIT = 2
"""Of the timer, from an address to its counter: four cycles; the core needs three."""


def add_transfers(m: Module, r: Registers) -> None:
    """States ``GRANT`` to ``COUNTER``: all lead to ``OPEN``, or to ``RESET`` if memory fails."""
    bus = r.identity.bus_bytes
    host = r.share.host
    with m.State("GRANT"):
        with m.If(r.share.granted & r.crc.i.ready):
            m.d.comb += r.crc.clear.eq(1)
            m.next = "NEXT"
        _give_up(m, r)
    with m.State("NEXT"):
        beats = r.left[bus.bit_length() - 1 :]
        last = Mux(beats[4:].any(), BURST_MAX - 1, (beats[:4] - 1)[:4])
        m.d.sync += r.burst.eq(Mux(r.command == Command.WRITE, last, 0))
        m.next = "ASK"
        with m.If(r.command == Command.COUNTERS):
            m.next = "SETTLE"
        with m.If(~r.left.any()):
            m.next = "OPEN"
            with m.If(r.command == Command.CHECKSUM):
                m.next = "DIGEST"
    with m.State("ASK"):
        m.d.comb += [host.cmd.valid.eq(1)]
        with m.If(host.cmd.ready):
            m.next = "BEAT"
            with m.If(r.command == Command.WRITE):
                m.next = "FILL"
        _give_up(m, r)
    _add_reading(m, r)
    _add_writing(m, r)
    _add_counters(m, r)


def _give_up(m: Module, r: Registers) -> None:
    """Watch the time in a state that waits for memory."""
    m.d.comb += r.waiting.eq(1)
    with m.If(r.memory_over):
        m.d.sync += [
            r.status.eq(Status.MEMORY),
            r.last_status.eq(Status.MEMORY),
            r.event("memory").eq(1),
            r.length.eq(1),
        ]
        m.next = "RESET"


def _count_result(m: Module, r: Registers) -> None:
    """One more byte of the answer goes into the buffer."""
    m.d.sync += [r.place.eq(r.place + 1), r.length.eq(r.length + 1)]


def _count_lane(m: Module, r: Registers) -> Value:
    """The next byte of a beat; returns whether this was the last one."""
    last = r.identity.bus_bytes - 1
    if last == 0:
        return Const(1, 1)
    m.d.sync += r.lane.eq(Mux(r.lane == last, 0, r.lane + 1))
    return r.lane == last


def _step(m: Module, r: Registers, bytes_: int) -> None:
    m.d.sync += [r.address.eq(r.address + bytes_), r.left.eq(r.left - bytes_)]


def _add_reading(m: Module, r: Registers) -> None:
    bus = r.identity.bus_bytes
    with m.State("BEAT"):
        m.d.sync += r.beat.eq(r.share.host.rdata.payload)
        with m.If(r.share.host.rdata.valid):
            _step(m, r, bus)
            m.next = "BYTES"
        _give_up(m, r)
    with m.State("BYTES"):
        m.d.comb += [r.write.data.eq(r.beat[:8])]
        taken = (r.command == Command.READ) | r.crc.i.ready
        with m.If(r.command == Command.READ):
            m.d.comb += r.write.en.eq(1)
            _count_result(m, r)
        with m.Else():
            m.d.comb += r.crc.i.valid.eq(1)
        with m.If(taken):
            m.d.sync += r.beat.eq(r.beat >> 8)
            with m.If(_count_lane(m, r)):
                m.next = "NEXT"
    with m.State("DIGEST"):
        m.d.comb += [r.write.data.eq(r.crc.o)]
        with m.If(r.crc.i.ready):
            m.d.comb += [r.write.en.eq(1), r.crc.next.eq(1)]
            m.d.sync += r.lane.eq(r.lane + 1)
            _count_result(m, r)
            with m.If(r.lane == 3):
                m.next = "OPEN"


def _add_writing(m: Module, r: Registers) -> None:
    bus = r.identity.bus_bytes
    host = r.share.host
    with m.State("FILL"):
        m.d.sync += [r.beat.eq(Cat(r.beat, r.read)[8:]), r.place.eq(r.place + 1)]
        m.next = "FETCH"
        with m.If(_count_lane(m, r)):
            m.next = "PUT"
    with m.State("FETCH"):  # the buffer reads
        m.next = "FETCHED"
    with m.State("FETCHED"):
        m.next = "FILL"
    with m.State("PUT"):
        m.d.comb += [host.wdata.valid.eq(1)]
        with m.If(host.wdata.ready):
            _step(m, r, bus)
            m.d.sync += r.burst.eq(r.burst - 1)
            m.next = "FETCH"
            with m.If(r.burst == 0):
                m.next = "NEXT"
        _give_up(m, r)


def _add_counters(m: Module, r: Registers) -> None:
    with m.State("SETTLE"):
        m.d.comb += r.waiting.eq(1)
        with m.If(r.timer[_COUNTER_BIT]):
            m.next = "COUNTER"
    with m.State("COUNTER"):
        m.d.comb += [
            r.write.en.eq(1),
            r.write.data.eq(r.counter.word_select(r.lane[:2], 8)),
        ]
        m.d.sync += r.lane.eq(r.lane + 1)
        _count_result(m, r)
        with m.If(r.lane == 3):
            m.d.sync += r.lane.eq(0)
            _step(m, r, 1)
            m.next = "NEXT"
