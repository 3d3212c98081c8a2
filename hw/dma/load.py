"""From external memory into the on-chip memories: LOAD, and the rows of GATHER."""

from __future__ import annotations

from amaranth.hdl import Array, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2

from intformer.config import CoreConfig
from intformer.function_layout import ENTRY_BYTES, TABLE_STRIDE
from intformer.hw.dma.gearbox import Gearbox
from intformer.hw.memory.bursts import BurstReader
from intformer.hw.memory.functions import FunctionWrite
from intformer.hw.ports import ReadBurstPort, WritePort
from intformer.isa import Mem
from intformer.reference import EXP_BITS

__all__ = ["LoadEngine", "beats_of", "entry_bytes", "write_ports"]

COUNT_BITS = 22
_FIFO = 8
"""Entries that wait for a scratchpad before no more beats are taken."""


def entry_bytes(config: CoreConfig, mem: Mem) -> int:
    """Bytes of an entry of ``mem`` in external memory."""
    sizes = {
        Mem.ACT: config.lanes,
        Mem.WIDE: 2 * config.lanes,
        Mem.PARAM: 8 * config.lanes,
        Mem.EXP: 4,
        Mem.TABLE: 1,
        Mem.FUNCTION: ENTRY_BYTES,
    }
    return sizes[mem]


def beats_of(count: Signal, *, entry: int, beat: int) -> Signal:
    """Beats of ``beat`` bytes that hold ``count`` entries of ``entry`` bytes."""
    if entry >= beat:
        return count.shift_left((entry // beat).bit_length() - 1)
    return (count + (beat // entry - 1)).shift_right((beat // entry).bit_length() - 1)


def write_ports(config: CoreConfig) -> dict[str, wiring.Member]:
    """The DMA unit's write ports to the on-chip memories."""
    table = data.StructLayout({"table": 2, "index": 8, "data": 8})
    exp = data.StructLayout({"table": 2, "index": 8, "data": EXP_BITS})
    param = data.StructLayout({"addr": 12, "data": 64 * config.lanes})
    ports = {
        "act_write": Out(WritePort(config, bits=8)),
        "wide_write": Out(WritePort(config, bits=16)),
        "param_write": Out(stream.Signature(param)),
        "exp_write": Out(stream.Signature(exp)),
        "table_write": Out(stream.Signature(table)),
    }
    if config.functions:
        ports["function_write"] = Out(stream.Signature(FunctionWrite()))
    return ports


class LoadEngine(wiring.Component):
    """Copies ``rows`` rows of ``groups`` packed entries each into one on-chip memory.

    One beat or one entry per cycle, whichever takes longer, also the entries of a row's last beat
    that are dropped; no other cycle is lost between rows, if the addresses come in time.

    Members
    -------
    start: ``In(1)``; begin; ``mem``, ``addr``, ``stride`` and ``groups`` hold until ``done``.
    mem: ``In(3)``, addr: ``In(18)``: as in LOAD; stride: ``In(12)``: words from row to row.
    rows, groups: ``In``; not 0.
    row_addr: ``In(stream)`` of 32-bit addresses, one per row, from the third cycle after ``start``
        on.
    mem_read: ``Out(ReadBurstPort)``.
    act_write, wide_write, param_write, exp_write, table_write, function_write: see
        :func:`write_ports`. All but the first two must always be ready.
    moved: ``Out(1)``; an entry leaves the gearbox, or is written, in this cycle.
    done: ``Out(1)``; one cycle after the last entry was taken.
    """

    def __init__(self, config: CoreConfig) -> None:
        self._config = config
        memories = [mem for mem in Mem if mem is not Mem.FUNCTION or config.functions]
        self._sizes = [(config.bus_bytes, entry_bytes(config, mem)) for mem in memories]
        super().__init__(
            {
                "start": In(1),
                "mem": In(3),
                "addr": In(18),
                "stride": In(12),
                "rows": In(12),
                "groups": In(COUNT_BITS),
                "row_addr": In(stream.Signature(unsigned(32))),
                "mem_read": Out(ReadBurstPort(config)),
                **write_ports(config),
                "moved": Out(1),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        largest = max(entry // beat for beat, entry in self._sizes)
        beat_bits = COUNT_BITS + max(largest, 1).bit_length() - 1
        m.submodules.reader = reader = BurstReader(self._config, beat_bits=beat_bits)
        m.submodules.gearbox = gearbox = Gearbox(sizes=self._sizes)
        connect(m, reader.mem, flipped(self.mem_read))
        connect(m, reader.o, gearbox.i)
        groups = Signal(COUNT_BITS, reset_less=True)
        choices = [beats_of(groups, entry=entry, beat=beat) for beat, entry in self._sizes]
        row_beats = Signal(beat_bits, reset_less=True)
        with m.If(self.start):
            m.d.sync += groups.eq(self.groups)
        m.d.sync += row_beats.eq(Array(choices)[self.mem])
        m.d.comb += [
            reader.i.payload.addr.eq(self.row_addr.payload),
            reader.i.payload.beats.eq(row_beats),
            reader.i.valid.eq(self.row_addr.valid),
            self.row_addr.ready.eq(reader.i.ready),
            gearbox.mode.eq(self.mem),
        ]
        self._count(m, gearbox)
        return m

    def _count(self, m, gearbox) -> None:
        """Follow the position of the entry that leaves the gearbox."""
        config = self._config
        place = Signal(data.StructLayout({"word": 18, "sub": 4}), reset_less=True)
        following = Signal(18, reset_less=True)  # first word of the next row
        # One less than are left after this one, so that the sign tells the last.
        rows, groups = Signal(signed(13)), Signal(signed(COUNT_BITS + 1))
        whole_row = Signal.like(groups, reset_less=True)
        row_end = groups[-1]
        is_table = (self.mem == Mem.EXP) | (self.mem == Mem.TABLE)
        first: Value = Mux(is_table, self.addr.shift_left(8), self.addr)
        if config.functions:
            entries = self.addr.shift_left(TABLE_STRIDE.bit_length() - 1)
            first = Mux(self.mem == Mem.FUNCTION, entries, first)
        m.d.comb += gearbox.last.eq(row_end)
        with m.If(self.start):
            m.d.sync += [
                following.eq(self.addr + self.stride),
                place.word.eq(first),
                place.sub.eq(0),
                rows.eq(self.rows - 2),
                groups.eq(self.groups - 2),
                whole_row.eq(self.groups - 2),
            ]
        with m.Elif(gearbox.valid & row_end):
            m.d.sync += [
                following.eq(following + self.stride),
                place.word.eq(following),
                place.sub.eq(0),
                rows.eq(rows - 1),
                groups.eq(whole_row),
            ]
        with m.Elif(gearbox.valid):
            m.d.sync += groups.eq(groups - 1)
            with m.If((self.mem != Mem.ACT) | (place.sub == config.groups_per_word - 1)):
                m.d.sync += [place.word.eq(place.word + 1), place.sub.eq(0)]
            with m.Else():
                m.d.sync += place.sub.eq(place.sub + 1)
        self._write(m, gearbox, place=place, last=row_end & rows[-1])

    def _write(self, m, gearbox, *, place: data.View, last: Value) -> None:
        """Bring the entry to the memory that it is for; those of scratchpads through a FIFO."""
        config = self._config
        param = self.param_write
        is_act, is_wide, is_param = Signal(), Signal(), Signal()
        for chosen, mem in ((is_act, Mem.ACT), (is_wide, Mem.WIDE), (is_param, Mem.PARAM)):
            m.d.sync += chosen.eq(self.mem == mem)
        bits = 16 * config.lanes
        item = data.StructLayout({"place": place.shape(), "last": 1, "data": bits})
        depth = _FIFO + gearbox.late(Mem.ACT, Mem.WIDE) + 1
        m.submodules.fifo = fifo = SyncFIFOBuffered(width=item.size, depth=1 << ceil_log2(depth))
        entry = Signal(item)
        head = data.View(item, fifo.r_data)
        m.d.comb += [
            entry.place.eq(place),
            entry.last.eq(last),
            entry.data.eq(Mux(is_wide, gearbox.output(Mem.WIDE), gearbox.output(Mem.ACT))),
            fifo.w_data.eq(entry),
            fifo.w_en.eq(gearbox.valid & (is_act | is_wide)),
        ]
        m.d.sync += gearbox.hold.eq(fifo.level >= _FIFO)
        act, wide = self.act_write.req, self.wide_write.req
        for port, chosen in ((act, is_act), (wide, is_wide)):
            m.d.comb += [
                port.valid.eq(fifo.r_rdy & chosen),
                port.payload.word.eq(head.place.word),
                port.payload.mask.eq(Const(-1, config.lanes)),
                port.payload.data.eq(head.data),
            ]
        m.d.comb += [
            act.payload.sub.eq(head.place.sub),
            fifo.r_en.eq(Mux(is_wide, wide.ready, act.ready)),
            param.valid.eq(gearbox.valid & is_param),
            param.payload.addr.eq(place.word),
            param.payload.data.eq(gearbox.output(Mem.PARAM)),
        ]
        for port, mem in ((self.exp_write, Mem.EXP), (self.table_write, Mem.TABLE)):
            m.d.comb += [
                port.valid.eq(gearbox.valid & (self.mem == mem)),
                port.payload.table.eq(place.word[8:]),
                port.payload.index.eq(place.word),
                port.payload.data.eq(gearbox.output(mem)),
            ]
        if config.functions:
            function = self.function_write
            m.d.comb += [
                function.valid.eq(gearbox.valid & (self.mem == Mem.FUNCTION)),
                function.payload.index.eq(place.word),
                function.payload.table.eq(place.word[len(function.payload.index) :]),
                function.payload.data.eq(gearbox.output(Mem.FUNCTION)),
            ]
        written = fifo.r_rdy & fifo.r_en
        m.d.comb += self.moved.eq(gearbox.valid | written)
        m.d.sync += self.done.eq(Mux(is_act | is_wide, written & head.last, gearbox.valid & last))
