"""From external memory into the on-chip memories: LOAD, and the rows of GATHER."""

from __future__ import annotations

from amaranth.hdl import Array, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from intformer.config import CoreConfig
from intformer.hw.dma.gearbox import Gearbox
from intformer.hw.memory.bursts import BurstReader
from intformer.hw.ports import ReadBurstPort, WritePort
from intformer.isa import Mem

__all__ = ["LoadEngine", "beats_of", "entry_bytes", "write_ports"]

COUNT_BITS = 22


def entry_bytes(config: CoreConfig, mem: Mem) -> int:
    """Bytes of an entry of ``mem`` in external memory."""
    sizes = {
        Mem.ACT: config.lanes,
        Mem.WIDE: 2 * config.lanes,
        Mem.PARAM: 8 * config.lanes,
        Mem.EXP: 4,
        Mem.TABLE: 1,
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
    exp = data.StructLayout({"table": 2, "index": 8, "data": 20})
    param = data.StructLayout({"addr": 12, "data": 64 * config.lanes})
    return {
        "act_write": Out(WritePort(config, bits=8)),
        "wide_write": Out(WritePort(config, bits=16)),
        "param_write": Out(stream.Signature(param)),
        "exp_write": Out(stream.Signature(exp)),
        "table_write": Out(stream.Signature(table)),
    }


class LoadEngine(wiring.Component):
    """Copies ``rows`` rows of ``groups`` packed entries each into one on-chip memory.

    One beat or one entry per cycle, whichever takes longer; no cycle is lost between rows, if
    the addresses come in time.

    Members
    -------
    start: ``In(1)``; begin; ``mem``, ``addr``, ``stride`` and ``groups`` hold until ``done``.
    mem: ``In(3)``, addr: ``In(18)``: as in LOAD; stride: ``In(12)``: words from row to row.
    rows, groups: ``In``; not 0.
    row_addr: ``In(stream)`` of 32-bit addresses, one per row.
    mem_read: ``Out(ReadBurstPort)``.
    act_write, wide_write, param_write, exp_write, table_write: see :func:`write_ports`.
    moved: ``Out(1)``; an entry is written in this cycle.
    done: ``Out(1)``; one cycle after the last entry was taken.
    """

    def __init__(self, config: CoreConfig) -> None:
        self._config = config
        self._sizes = [(config.bus_bytes, entry_bytes(config, mem)) for mem in Mem]
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
        choices = [beats_of(self.groups, entry=entry, beat=beat) for beat, entry in self._sizes]
        row_beats = Signal(beat_bits)
        with m.If(self.start):
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
        row_word = Signal(18)
        word = Signal(18)
        sub = Signal(4)
        rows_left = Signal(12)
        groups_left = Signal(COUNT_BITS)
        moved = gearbox.o.valid & gearbox.o.ready
        row_end = groups_left == 1
        next_row = row_word + self.stride
        m.d.comb += [self.moved.eq(moved), gearbox.last.eq(row_end)]
        m.d.sync += self.done.eq(moved & row_end & (rows_left == 1))
        is_table = (self.mem == Mem.EXP) | (self.mem == Mem.TABLE)
        first = Mux(is_table, self.addr.shift_left(8), self.addr)
        with m.If(self.start):
            m.d.sync += [
                row_word.eq(self.addr),
                word.eq(first),
                sub.eq(0),
                rows_left.eq(self.rows),
                groups_left.eq(self.groups),
            ]
        with m.Elif(moved & row_end):
            m.d.sync += [
                row_word.eq(next_row),
                word.eq(next_row),
                sub.eq(0),
                rows_left.eq(rows_left - 1),
                groups_left.eq(self.groups),
            ]
        with m.Elif(moved):
            m.d.sync += groups_left.eq(groups_left - 1)
            with m.If((self.mem != Mem.ACT) | (sub == config.groups_per_word - 1)):
                m.d.sync += [word.eq(word + 1), sub.eq(0)]
            with m.Else():
                m.d.sync += sub.eq(sub + 1)
        self._write(m, gearbox, word=word, sub=sub)

    def _write(self, m, gearbox, *, word: Signal, sub: Signal) -> None:
        """Offer the entry to the memory that it is for."""
        act, wide, param = self.act_write.req, self.wide_write.req, self.param_write
        m.d.comb += [
            act.payload.word.eq(word),
            act.payload.sub.eq(sub),
            wide.payload.word.eq(word),
            param.payload.addr.eq(word),
            param.payload.data.eq(gearbox.output(Mem.PARAM)),
        ]
        for port, mem in ((act, Mem.ACT), (wide, Mem.WIDE)):
            m.d.comb += [
                port.payload.mask.eq(Const(-1, self._config.lanes)),
                port.payload.data.eq(gearbox.output(mem)),
            ]
        for port, mem in ((self.exp_write, Mem.EXP), (self.table_write, Mem.TABLE)):
            m.d.comb += [
                port.payload.table.eq(word[8:]),
                port.payload.index.eq(word),
                port.payload.data.eq(gearbox.output(mem)),
            ]
        ports = {
            Mem.ACT: act,
            Mem.WIDE: wide,
            Mem.PARAM: param,
            Mem.EXP: self.exp_write,
            Mem.TABLE: self.table_write,
        }
        with m.Switch(self.mem):
            for mem, port in ports.items():
                with m.Case(mem):
                    m.d.comb += [
                        port.valid.eq(gearbox.o.valid),
                        gearbox.o.ready.eq(port.ready),
                    ]
