"""Linear transfers of external memory in bursts."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out, connect, flipped

from intformer.config import CoreConfig
from intformer.hw.ports import BURST_MAX, BurstCommand, ReadBurstPort, WriteBurstPort

__all__ = ["BurstReader", "BurstSplitter", "BurstWriter", "transfer_layout"]


def transfer_layout(beat_bits: int) -> data.StructLayout:
    """A linear transfer: ``addr`` in bytes and ``beats`` (not 0), ``beat_bits`` bits wide."""
    return data.StructLayout({"addr": 32, "beats": beat_bits})


class BurstSplitter(wiring.Component):
    """Splits transfers into bursts of at most :data:`BURST_MAX` beats.

    The first command is valid one cycle after the transfer was taken; then one command per
    cycle. The next transfer is taken with the last command.

    Members
    -------
    i: ``In(stream)`` of :func:`transfer_layout`.
    o: ``Out(stream)`` of :class:`BurstCommand`.
    beats: ``Out(5)``; beats of the command on ``o``.
    full: ``Out(1)``; a transfer is held.
    room: ``In(1)``; the command may be given. Must hold until it is taken.
    """

    def __init__(self, config: CoreConfig, *, beat_bits: int) -> None:
        self._shift = config.bus_bytes.bit_length() - 1
        self._beat_bits = beat_bits
        super().__init__(
            {
                "i": In(stream.Signature(transfer_layout(beat_bits))),
                "o": Out(stream.Signature(BurstCommand())),
                "beats": Out(range(BURST_MAX + 1)),
                "full": Out(1),
                "room": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        held = Signal(transfer_layout(self._beat_bits))
        last = held.beats <= BURST_MAX
        given = self.o.valid & self.o.ready
        m.d.comb += [
            self.beats.eq(Mux(last, held.beats, BURST_MAX)),
            self.o.valid.eq(self.full & self.room),
            self.o.payload.addr.eq(held.addr),
            self.o.payload.len.eq(self.beats - 1),
            self.i.ready.eq(~self.full | (given & last)),
        ]
        with m.If(self.i.ready):
            m.d.sync += [self.full.eq(self.i.valid), held.eq(self.i.payload)]
        with m.Elif(given):
            m.d.sync += [
                held.addr.eq(held.addr + (BURST_MAX << self._shift)),
                held.beats.eq(held.beats - BURST_MAX),
            ]
        return m


class BurstReader(wiring.Component):
    """Reads transfers into a FIFO, as far ahead as there is room.

    Parameters
    ----------
    beat_bits: width of ``beats`` in a transfer.
    depth: beats that can be under way or stored at once; a power of two, two bursts or more.

    Members
    -------
    i: ``In(stream)`` of :func:`transfer_layout`.
    mem: ``Out(ReadBurstPort)``.
    o: ``Out(stream)`` of beats; two cycles after they arrived at the earliest.
    """

    def __init__(self, config: CoreConfig, *, beat_bits: int, depth: int = 4 * BURST_MAX) -> None:
        if depth < 2 * BURST_MAX or depth & (depth - 1):
            raise ValueError(f"depth must be a power of two from {2 * BURST_MAX} on, not {depth!r}")
        self._config = config
        self._beat_bits = beat_bits
        self._depth = depth
        super().__init__(
            {
                "i": In(stream.Signature(transfer_layout(beat_bits))),
                "mem": Out(ReadBurstPort(config)),
                "o": Out(stream.Signature(8 * config.bus_bytes)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.splitter = splitter = BurstSplitter(self._config, beat_bits=self._beat_bits)
        # One more than is reserved: a beat on its way to the output register counts in both.
        m.submodules.store = store = SyncFIFOBuffered(
            width=8 * self._config.bus_bytes, depth=self._depth + 1
        )
        connect(m, flipped(self.i), splitter.i)
        connect(m, splitter.o, flipped(self.mem.cmd))
        m.d.comb += [
            store.w_data.eq(self.mem.data),
            store.w_en.eq(self.mem.valid),
            self.o.payload.eq(store.r_data),
            self.o.valid.eq(store.r_rdy),
            store.r_en.eq(self.o.ready),
        ]
        free = Signal(range(self._depth + 1), init=self._depth)
        asked = Mux(self.mem.cmd.valid & self.mem.cmd.ready, splitter.beats, 0)
        m.d.sync += free.eq(free - asked + (self.o.valid & self.o.ready))
        m.d.comb += splitter.room.eq(free >= BURST_MAX)
        return m


class BurstWriter(wiring.Component):
    """Writes transfers; a burst is asked for once all its beats are there.

    Members
    -------
    i: ``In(stream)`` of :func:`transfer_layout`.
    beats: ``In(stream)`` of beats, stored while memory is busy.
    mem: ``Out(WriteBurstPort)``.
    """

    def __init__(self, config: CoreConfig, *, beat_bits: int) -> None:
        self._config = config
        self._beat_bits = beat_bits
        super().__init__(
            {
                "i": In(stream.Signature(transfer_layout(beat_bits))),
                "beats": In(stream.Signature(8 * config.bus_bytes)),
                "mem": Out(WriteBurstPort(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        depth = 2 * BURST_MAX
        m.submodules.splitter = splitter = BurstSplitter(self._config, beat_bits=self._beat_bits)
        m.submodules.store = store = SyncFIFOBuffered(width=8 * self._config.bus_bytes, depth=depth)
        connect(m, flipped(self.i), splitter.i)
        connect(m, splitter.o, flipped(self.mem.cmd))
        m.d.comb += [
            store.w_data.eq(self.beats.payload),
            store.w_en.eq(self.beats.valid),
            self.beats.ready.eq(store.w_rdy),
            self.mem.data.payload.eq(store.r_data),
            self.mem.data.valid.eq(store.r_rdy),
            store.r_en.eq(self.mem.data.ready),
        ]
        unclaimed = Signal(range(depth + 1))  # stored beats that no command covers yet
        asked = Mux(self.mem.cmd.valid & self.mem.cmd.ready, splitter.beats, 0)
        m.d.sync += unclaimed.eq(unclaimed + (store.w_en & store.w_rdy) - asked)
        m.d.comb += splitter.room.eq(unclaimed >= splitter.beats)
        return m
