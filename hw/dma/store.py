"""From the scratchpads to external memory: STORE."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from intformer.config import CoreConfig
from intformer.hw.dma.gearbox import Gearbox
from intformer.hw.dma.load import COUNT_BITS, beats_of, entry_bytes
from intformer.hw.memory.bursts import BurstWriter
from intformer.hw.parts.access import Requests
from intformer.hw.parts.streams import CreditFifo, delay
from intformer.hw.ports import READ_LATENCY, NarrowReadPort, WriteBurstPort
from intformer.isa import Mem

__all__ = ["StoreEngine"]


class StoreEngine(wiring.Component):
    """Copies ``count`` lane groups of ``act`` or ``wide`` to external memory.

    One beat or one lane group per cycle, whichever takes longer. Bursts are asked for when their
    beats are ready, so that other clients of external memory are not held up.

    Members
    -------
    start: ``In(1)``; begin; ``mem``, ``addr``, ``count`` and ``ext`` hold until ``done``.
    mem: ``In(3)``, addr: ``In(18)``, count: ``In(22)`` (not 0), ext: ``In(32)``: as in STORE.
    act_read, wide_read: ``Out(NarrowReadPort)``.
    mem_write: ``Out(WriteBurstPort)``.
    moved: ``Out(1)``; a beat was taken in the cycle before.
    done: ``Out(1)``; two cycles after the last beat was taken.
    """

    def __init__(self, config: CoreConfig) -> None:
        self._config = config
        self._sizes = [(entry_bytes(config, mem), config.bus_bytes) for mem in (Mem.ACT, Mem.WIDE)]
        super().__init__(
            {
                "start": In(1),
                "mem": In(3),
                "addr": In(18),
                "count": In(COUNT_BITS),
                "ext": In(32),
                "act_read": Out(NarrowReadPort(8 * config.lanes)),
                "wide_read": Out(NarrowReadPort(16 * config.lanes)),
                "mem_write": Out(WriteBurstPort(config)),
                "moved": Out(1),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        beat_bits = (
            COUNT_BITS + max(*(entry // beat for entry, beat in self._sizes), 1).bit_length()
        )
        m.submodules.entries = entries = CreditFifo(16 * self._config.lanes, depth=16)
        m.submodules.gearbox = gearbox = Gearbox(sizes=self._sizes)
        m.submodules.writer = writer = BurstWriter(
            self._config, beat_bits=beat_bits, reserve=gearbox.late(0, 1) + 2
        )
        connect(m, writer.mem, flipped(self.mem_write))
        self._read(m, entries)
        self._pack(m, entries, gearbox)

        is_wide = self.mem[0]
        m.d.comb += [
            gearbox.mode.eq(is_wide),
            gearbox.hold.eq(~writer.room),
            writer.valid.eq(gearbox.valid),
            writer.beat.eq(Mux(is_wide, gearbox.output(1), gearbox.output(0))),
        ]
        beats = Signal(beat_bits, reset_less=True)
        left = Signal(signed(beat_bits + 1))  # beats after this one, less one
        choices = [beats_of(self.count, entry=entry, beat=beat) for entry, beat in self._sizes]
        begin = Signal(2)
        moved = Signal()
        m.d.comb += [
            writer.i.valid.eq(begin[0]),
            writer.i.payload.addr.eq(self.ext),
            writer.i.payload.beats.eq(beats),
            moved.eq(self.mem_write.data.valid & self.mem_write.data.ready),
        ]
        m.d.sync += [
            begin.eq(Cat(self.start, begin)),
            self.moved.eq(moved),
            self.done.eq(self.moved & left[-1]),
        ]
        with m.If(self.start):
            m.d.sync += beats.eq(Mux(is_wide, choices[1], choices[0]))
        with m.If(begin[0]):
            m.d.sync += left.eq(beats - 2)
        with m.Elif(self.moved):
            m.d.sync += left.eq(left - 1)
        return m

    def _read(self, m, entries) -> None:
        """Ask the scratchpad for lane groups, as many as there is room for."""
        is_wide = self.mem[0]
        word = Signal(18, reset_less=True)
        sub = Signal(4)
        left = Signal(signed(COUNT_BITS + 1), init=-1)  # less one
        m.submodules.requests = requests = Requests(self._config)
        connect(m, requests.act, flipped(self.act_read))
        connect(m, requests.wide, flipped(self.wide_read))
        i, ask, asked = requests.i, Signal(), Signal()
        m.d.comb += [
            ask.eq(entries.room & ~left[-1]),
            asked.eq(ask & i.ready),
            requests.in_wide.eq(is_wide),
            i.valid.eq(ask),
            i.payload.word.eq(word),
            i.payload.sub.eq(sub),
            entries.take.eq(asked),
            entries.push.eq(delay(m, requests.taken, READ_LATENCY, name="taken")),
            entries.i.eq(Mux(is_wide, self.wide_read.data, self.act_read.data)),
        ]
        with m.If(self.start):
            m.d.sync += [word.eq(self.addr), sub.eq(0), left.eq(self.count - 1)]
        with m.Elif(asked):
            m.d.sync += left.eq(left - 1)
            with m.If(is_wide | (sub == self._config.groups_per_word - 1)):
                m.d.sync += [word.eq(word + 1), sub.eq(0)]
            with m.Else():
                m.d.sync += sub.eq(sub + 1)

    def _pack(self, m, entries, gearbox) -> None:
        """Feed the gearbox, after the last lane group with zeros until its beat is full."""
        left = Signal(signed(COUNT_BITS + 1), init=-1)  # less one
        rest = ~left[-1]
        with m.If(self.start):
            m.d.sync += left.eq(self.count - 1)
        with m.Elif(rest & gearbox.i.valid & gearbox.i.ready):
            m.d.sync += left.eq(left - 1)
        m.d.comb += [
            gearbox.i.valid.eq(Mux(rest, entries.o.valid, gearbox.partial)),
            gearbox.i.payload.eq(Mux(rest, entries.o.payload, 0)),
            entries.o.ready.eq(gearbox.i.ready & rest),
        ]
