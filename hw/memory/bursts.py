"""Linear transfers of external memory in bursts."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out, connect, flipped

from intformer.config import CoreConfig
from intformer.hw.parts.streams import Skid
from intformer.hw.ports import BURST_MAX, BurstCommand, ReadBurstPort, WriteBurstPort

__all__ = ["BurstReader", "BurstSplitter", "BurstWriter", "transfer_layout"]


def transfer_layout(beat_bits: int) -> data.StructLayout:
    """A linear transfer: ``addr`` in bytes and ``beats`` (not 0), ``beat_bits`` bits wide."""
    return data.StructLayout({"addr": 32, "beats": beat_bits})


class BurstSplitter(wiring.Component):
    """Splits transfers into bursts of at most :data:`BURST_MAX` beats.

    The first command is valid three cycles after the transfer was taken, if there is room; then
    one command in three cycles. The next transfer is taken one cycle after the last command.

    Members
    -------
    i: ``In(stream)`` of :func:`transfer_layout`.
    o: ``Out(stream)`` of :class:`BurstCommand`.
    beats: ``Out(5)``; beats of the next command, from two cycles before it is valid on.
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
                "room": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        held = Signal(transfer_layout(self._beat_bits), reset_less=True)
        last = Signal()
        m.d.comb += [
            self.o.payload.addr.eq(held.addr),
            self.o.payload.len.eq(self.beats - 1),
        ]
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += self.i.ready.eq(1)
                m.d.sync += held.eq(self.i.payload)
                with m.If(self.i.valid):
                    m.next = "SPLIT"
            with m.State("SPLIT"):
                whole = held.beats > BURST_MAX
                m.d.sync += [last.eq(~whole), self.beats.eq(Mux(whole, BURST_MAX, held.beats))]
                m.next = "OFFER"
            with m.State("OFFER"), m.If(self.room):
                m.d.sync += self.o.valid.eq(1)
                m.next = "GIVE"
            with m.State("GIVE"), m.If(self.o.ready):
                m.d.sync += [
                    self.o.valid.eq(0),
                    held.addr.eq(held.addr + (BURST_MAX << self._shift)),
                    held.beats.eq(held.beats - BURST_MAX),
                ]
                with m.If(last):
                    m.next = "IDLE"
                with m.Else():
                    m.next = "SPLIT"
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
    o: ``Out(stream)`` of beats, out of a skid; three cycles after they arrived at the earliest.
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
        # Who takes beats may be far from the block RAM that waits for it: the skid lies between.
        m.submodules.skid = skid = Skid(self.o.payload.shape())
        connect(m, skid.o, flipped(self.o))
        valid, payload = Signal(), Signal.like(self.o.payload, reset_less=True)
        moves = ~valid | skid.i.ready
        m.d.comb += [
            store.w_data.eq(self.mem.data),
            store.w_en.eq(self.mem.valid),
            store.r_en.eq(moves),
            skid.i.valid.eq(valid),
            skid.i.payload.eq(payload),
        ]
        with m.If(moves):
            m.d.sync += [payload.eq(store.r_data), valid.eq(store.r_rdy)]
        # Places beyond those of one burst, so that the sign tells whether there is room for it.
        spare = Signal(signed(self._depth.bit_length() + 1), init=self._depth - BURST_MAX)
        asked = Mux(self.mem.cmd.valid & self.mem.cmd.ready, splitter.beats, 0)
        m.d.sync += spare.eq(spare - asked + (self.o.valid & self.o.ready))
        m.d.comb += splitter.room.eq(spare >= 0)
        return m


class BurstWriter(wiring.Component):
    """Writes transfers; a burst is asked for once all its beats are there.

    Parameters
    ----------
    beat_bits: width of ``beats`` in a transfer.
    reserve: beats that may still come once ``room`` has fallen.

    Members
    -------
    i: ``In(stream)`` of :func:`transfer_layout`.
    beat, valid: ``In``; a beat to store.
    room: ``Out(1)``; in the cycle before, there were places for ``reserve`` beats.
    mem: ``Out(WriteBurstPort)``.
    """

    def __init__(self, config: CoreConfig, *, beat_bits: int, reserve: int) -> None:
        self._config = config
        self._beat_bits = beat_bits
        self._reserve = reserve
        super().__init__(
            {
                "i": In(stream.Signature(transfer_layout(beat_bits))),
                "beat": In(8 * config.bus_bytes),
                "valid": In(1),
                "room": Out(1),
                "mem": Out(WriteBurstPort(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        depth = 2 * BURST_MAX + self._reserve
        m.submodules.splitter = splitter = BurstSplitter(self._config, beat_bits=self._beat_bits)
        m.submodules.store = store = SyncFIFOBuffered(width=8 * self._config.bus_bytes, depth=depth)
        connect(m, flipped(self.i), splitter.i)
        connect(m, splitter.o, flipped(self.mem.cmd))
        m.d.comb += [
            store.w_data.eq(self.beat),
            store.w_en.eq(self.valid),
            self.mem.data.payload.eq(store.r_data),
            self.mem.data.valid.eq(store.r_rdy),
            store.r_en.eq(self.mem.data.ready),
        ]
        unclaimed = Signal(range(depth + 1))  # stored beats that no command covers yet
        asked = Mux(self.mem.cmd.valid & self.mem.cmd.ready, splitter.beats, 0)
        m.d.sync += [
            unclaimed.eq(unclaimed + self.valid - asked),
            self.room.eq(store.level <= depth - self._reserve),
        ]
        m.d.comb += splitter.room.eq(unclaimed >= splitter.beats)
        return m
