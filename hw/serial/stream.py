"""Bytes from external memory, in order: bursts into a small FIFO; single bytes out to it."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from intformer.config import CoreConfig
from intformer.hw.ports import BURST_MAX, BurstPort

__all__ = ["EXTERNAL_BITS", "ByteStream"]

EXTERNAL_BITS = 24
"""Width of external addresses and byte counts."""
_DEPTH = 64


class ByteStream(wiring.Component):
    """Reads ``count`` bytes from ``addr`` on, as far ahead as the FIFO has room; writes bytes.

    Members
    -------
    addr: ``In(24)``, set_addr: ``In(1)``; count: ``In(24)``, set_count: ``In(1)``, which begins
        to read. All bytes of the reading before have been taken then.
    o: ``Out(stream)`` of bytes.
    push: ``In(1)``, byte: ``In(8)``; put a byte into the FIFO, while nothing is being read and
        there is room.
    write: ``In(1)``; write ``byte`` to the address, which moves on; held, with ``byte``, until
        written: ``Out(1)``. Only while nothing is being read.
    mem: ``Out(BurstPort)``.
    """

    def __init__(self, config: CoreConfig) -> None:
        super().__init__(
            {
                "addr": In(EXTERNAL_BITS),
                "set_addr": In(1),
                "count": In(EXTERNAL_BITS),
                "set_count": In(1),
                "o": Out(stream.Signature(unsigned(8))),
                "push": In(1),
                "byte": In(8),
                "write": In(1),
                "written": Out(1),
                "mem": Out(BurstPort(config)),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        mem = self.mem
        address, left = Signal(EXTERNAL_BITS), Signal(EXTERNAL_BITS)
        used = Signal(range(_DEPTH + 1))  # bytes asked for or stored
        whole, asking, data_phase = Signal(), Signal(), Signal()
        beats = Signal(range(BURST_MAX + 1))
        m.d.comb += [
            whole.eq(left[4:] != 0),
            beats.eq(Mux(whole, BURST_MAX, left[:4])),
            asking.eq((whole | (left[:4] != 0)) & (used < _DEPTH - BURST_MAX)),
            mem.cmd.valid.eq(asking | (self.write & ~data_phase)),
            mem.cmd.payload.addr.eq(address),
            mem.cmd.payload.len.eq(Mux(self.write, 0, (beats - 1)[:4])),
            mem.cmd.payload.write.eq(self.write),
            mem.wdata.valid.eq(data_phase),
            mem.wdata.payload.eq(self.byte),
            mem.rdata.ready.eq(1),
            self.written.eq(data_phase & mem.wdata.ready),
        ]
        asked = Signal()
        m.d.comb += asked.eq(mem.cmd.valid & mem.cmd.ready)
        with m.If(self.set_addr):
            m.d.sync += address.eq(self.addr)
        with m.Elif(asked):
            m.d.sync += address.eq(address + Mux(self.write, 1, BURST_MAX))
        with m.If(self.set_count):
            m.d.sync += left.eq(self.count)
        with m.Elif(asked & ~self.write):
            m.d.sync += [left[4:].eq(left[4:] - whole), left[:4].eq(Mux(whole, left[:4], 0))]
        with m.If(data_phase):
            m.d.sync += data_phase.eq(~mem.wdata.ready)
        with m.Else():
            m.d.sync += data_phase.eq(self.write & mem.cmd.ready)
        taken = Signal()
        m.d.comb += taken.eq(self.o.valid & self.o.ready)
        m.d.sync += used.eq(used + Mux(asked & ~self.write, beats, 0) + self.push - taken)
        self._fifo(m, taken)
        return m

    def _fifo(self, m: Module, taken: Signal) -> None:
        m.submodules.store = store = Memory(shape=8, depth=_DEPTH, init=[])
        write, read = store.write_port(), store.read_port()
        first, end = Signal(range(_DEPTH)), Signal(range(_DEPTH))
        following = Signal(range(_DEPTH))
        m.d.comb += [
            following.eq(first + taken),
            write.addr.eq(end),
            write.en.eq(self.mem.rdata.valid | self.push),
            write.data.eq(Mux(self.push, self.byte, self.mem.rdata.payload)),
            read.addr.eq(following),
            read.en.eq(1),
            self.o.payload.eq(read.data),
        ]
        m.d.sync += [
            first.eq(following),
            end.eq(end + write.en),
            self.o.valid.eq(following != end),
        ]
