"""Arbiters: grants from registers between streams, and the sharing of external memory."""

from __future__ import annotations

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Mux, ShapeLike, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from intformer.config import CoreConfig
from intformer.hw.ports import (
    BURST_MAX,
    BurstCommand,
    BurstPort,
    ReadBurstPort,
    WriteBurstPort,
)

__all__ = ["GrantArbiter", "MemoryArbiter"]

READS_IN_FLIGHT = 16
"""Read bursts that may be under way at once."""
WRITE_BEATS_IN_FLIGHT = 4 * BURST_MAX
"""Write beats whose commands may be ahead of them, before the next write command waits."""


class GrantArbiter(wiring.Component):
    """Joins streams; each ``ready`` is a register.

    The grant for the next cycle is chosen in this one, so that no client's ``ready`` depends on
    what another does in the same cycle. A client that is alone streams without a gap. A slot is
    lost where the client that holds the grant ends, and nobody else waited.

    Parameters
    ----------
    shape: shape of the payload.
    clients: number of streams.
    strict: the first valid client always goes first, and an idle arbiter waits for the first
        client. Otherwise the grant passes to the first client that waits without one, so that two
        clients that ask all the time take turns, and stays where it was if nobody waits.

    Members
    -------
    i: ``clients`` times ``In(stream)``.
    o: ``Out(stream)``; always taken: what ``ready`` is does not count.
    grant: ``Out(clients)``; exactly one bit: the client whose payload is on ``o``.
    """

    def __init__(self, shape: ShapeLike, *, clients: int, strict: bool = False) -> None:
        if clients < 2:
            raise ValueError(f"clients must be at least 2, not {clients!r}")
        self._clients = clients
        self._strict = strict
        super().__init__(
            {
                "i": In(stream.Signature(shape)).array(clients),
                "o": Out(stream.Signature(shape)),
                "grant": Out(clients, init=1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        valid = Cat(client.valid for client in self.i)
        wanted = Signal(self._clients)
        first = Signal(self._clients)  # of those that are wanted
        m.d.comb += [
            wanted.eq(valid if self._strict else valid & ~self.grant),
            first.eq(_first(wanted)),
        ]
        with m.If(wanted.any()):
            m.d.sync += self.grant.eq(first)
        if self._strict:
            with m.Else():
                m.d.sync += self.grant.eq(1)
        payloads = []
        for client, granted in zip(self.i, self.grant, strict=True):
            payload = Value.cast(client.payload)
            payloads.append(payload & granted.replicate(len(payload)))
            m.d.comb += client.ready.eq(granted)
        m.d.comb += [
            self.o.valid.eq((valid & self.grant).any()),
            Value.cast(self.o.payload).eq(reduce(or_, payloads)),
        ]
        return m


def _first(bits: Signal) -> Value:
    """The lowest bit of ``bits`` that is 1, alone."""
    return Cat(bit & ~bits[:k].any() for k, bit in enumerate(bits))


class MemoryArbiter(wiring.Component):
    """Shares the external memory port; priority in the order of the members.

    A command is chosen in one cycle, taken into a register in the next, and memory takes it from
    there: one command in two cycles at most. Read beats go to the client whose command is the
    oldest, two cycles after memory gave them. Write beats pass unregistered, after their command.

    Members
    -------
    instructions, dma_read: ``In(ReadBurstPort)``.
    dma_write: ``In(WriteBurstPort)``.
    fetch: ``In(ReadBurstPort)``.
    mem: ``Out(BurstPort)``.
    """

    def __init__(self, config: CoreConfig) -> None:
        self._config = config
        super().__init__(
            {
                "instructions": In(ReadBurstPort(config)),
                "dma_read": In(ReadBurstPort(config)),
                "dma_write": In(WriteBurstPort(config)),
                "fetch": In(ReadBurstPort(config)),
                "mem": Out(BurstPort(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        clients = (self.instructions, self.dma_read, self.dma_write, self.fetch)
        grant = Signal(len(clients))
        asking = Signal(len(clients))
        write = grant[clients.index(self.dma_write)]
        chosen = Signal(BurstCommand())
        payloads = []
        for client, granted in zip(clients, grant, strict=True):
            payload = client.cmd.payload.as_value()
            payloads.append(payload & granted.replicate(len(payload)))
            m.d.comb += client.cmd.ready.eq(granted)
        m.d.comb += [
            asking.eq(Cat(client.cmd.valid for client in clients)),
            chosen.as_value().eq(reduce(or_, payloads)),
        ]
        owners_free = self._route_reads(m, clients, grant, chosen)
        writes_free = self._pass_writes(m)

        cmd = self.mem.cmd
        room = (~cmd.valid | cmd.ready) & owners_free & writes_free & ~grant.any()
        m.d.sync += grant.eq(Mux(room, _first(asking), 0))
        with m.If(grant.any()):
            m.d.sync += [
                cmd.valid.eq(1),
                cmd.payload.addr.eq(chosen.addr),
                cmd.payload.len.eq(chosen.len),
                cmd.payload.write.eq(write),
            ]
        with m.Elif(cmd.ready):
            m.d.sync += cmd.valid.eq(0)
        return m

    def _route_reads(self, m, clients, grant, chosen) -> Value:
        """Hand beats to the owners of the commands, in order.

        Returns whether another read can be noted.
        """
        layout = data.StructLayout({"client": len(clients), "len": 8})
        m.submodules.owners = owners = SyncFIFOBuffered(width=layout.size, depth=READS_IN_FLIGHT)
        reads = Cat(client is not self.dma_write for client in clients)
        m.d.comb += [
            owners.w_data.eq(Cat(grant, chosen.len)),
            owners.w_en.eq((grant & reads).any()),
        ]
        head = data.View(layout, owners.r_data)
        beat = Signal(8)
        arrives = Signal()
        arrived = Signal(8 * self._config.bus_bytes, reset_less=True)
        payload = Signal.like(arrived)
        m.d.sync += [
            arrives.eq(self.mem.rdata.valid),
            arrived.eq(self.mem.rdata.payload),
            payload.eq(arrived),
        ]
        last = beat == head.len
        m.d.comb += [self.mem.rdata.ready.eq(1), owners.r_en.eq(arrives & last)]
        with m.If(arrives):
            m.d.sync += beat.eq(beat + 1)
            with m.If(last):
                m.d.sync += beat.eq(0)
        for number, client in enumerate(clients):
            if client is not self.dma_write:
                m.d.sync += client.valid.eq(arrives & head.client[number])
                m.d.comb += client.data.eq(payload)
        return owners.w_rdy

    def _pass_writes(self, m) -> Value:
        """Let through as many write beats as memory has taken commands for.

        Returns whether another write command may be taken.
        """
        cmd, wdata, source = self.mem.cmd, self.mem.wdata, self.dma_write.data
        # The limit is tested before the last commands count: two more bursts.
        owed = Signal(range(WRITE_BEATS_IN_FLIGHT + 2 * BURST_MAX + 1))
        some = Signal()
        added = Signal(range(BURST_MAX + 1))
        gone = wdata.valid & wdata.ready
        m.d.sync += [
            added.eq(Mux(cmd.valid & cmd.ready & cmd.payload.write, cmd.payload.len + 1, 0)),
            owed.eq(owed + added - gone),
        ]
        m.d.comb += [
            some.eq(owed != 0),
            wdata.payload.eq(source.payload),
            wdata.valid.eq(source.valid & some),
            source.ready.eq(wdata.ready & some),
        ]
        return owed <= WRITE_BEATS_IN_FLIGHT
