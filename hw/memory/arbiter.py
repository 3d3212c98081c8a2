"""Arbiters: fixed priority between streams, and the sharing of external memory."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, ShapeLike, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out, connect, flipped

from intformer.config import CoreConfig
from intformer.hw.ports import (
    BURST_MAX,
    BurstCommand,
    BurstPort,
    ReadBurstPort,
    WriteBurstPort,
)

__all__ = ["MemoryArbiter", "PriorityArbiter"]

READS_IN_FLIGHT = 16
"""Read bursts that may be under way at once."""
WRITE_BEATS_IN_FLIGHT = 4 * BURST_MAX
"""Write beats whose commands may be ahead of them, before the next write command waits."""


class PriorityArbiter(wiring.Component):
    """Joins streams; of those that are valid, the first is taken. Combinational.

    A higher client that becomes valid while ``o`` waits changes the payload of ``o``: what follows
    must be always ready, or a register.

    Parameters
    ----------
    shape: shape of the payload.
    clients: number of streams.

    Members
    -------
    i: ``clients`` times ``In(stream)``, the first with the highest priority.
    o: ``Out(stream)``.
    grant: ``Out(clients)``; the bit of the client whose payload is on ``o``; 0 if nobody asks.
    """

    def __init__(self, shape: ShapeLike, *, clients: int) -> None:
        if clients < 2:
            raise ValueError(f"clients must be at least 2, not {clients!r}")
        self._clients = clients
        super().__init__(
            {
                "i": In(stream.Signature(shape)).array(clients),
                "o": Out(stream.Signature(shape)),
                "grant": Out(clients),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        taken = Const(0)
        grants = []
        for client in self.i:
            m.d.comb += client.ready.eq(self.o.ready & ~taken)
            grants.append(client.valid & ~taken)
            taken = taken | client.valid
        m.d.comb += [self.o.valid.eq(taken), self.grant.eq(Cat(grants))]
        # The last client needs no condition: its payload stands when nobody is valid.
        m.d.comb += self.o.payload.eq(self.i[-1].payload)
        for client in reversed(list(self.i)[:-1]):
            with m.If(client.valid):
                m.d.comb += self.o.payload.eq(client.payload)
        return m


class MemoryArbiter(wiring.Component):
    """Shares the external memory port; priority in the order of the members.

    One command per cycle is taken into a register, from which memory takes it. Read beats go to
    the client whose command is the oldest, through a register: one cycle after memory gave
    them. A beat must not arrive in the cycle in which its command is taken. Write beats pass
    unregistered, after their command.

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
        m.submodules.priority = priority = PriorityArbiter(BurstCommand(), clients=len(clients))
        for client, i in zip(clients, priority.i, strict=True):
            connect(m, flipped(client.cmd), i)
        write = clients.index(self.dma_write)
        owners_free, route = self._route_reads(m, clients, priority)
        writes_free = self._pass_writes(m)

        cmd = self.mem.cmd
        free = ~cmd.valid | cmd.ready
        is_write = priority.grant[write]
        m.d.comb += [
            priority.o.ready.eq(free & owners_free & writes_free),
            route.eq(priority.o.valid & priority.o.ready & ~is_write),
        ]
        with m.If(priority.o.valid & priority.o.ready):
            m.d.sync += [
                cmd.valid.eq(1),
                cmd.payload.addr.eq(priority.o.payload.addr),
                cmd.payload.len.eq(priority.o.payload.len),
                cmd.payload.write.eq(is_write),
            ]
        with m.Elif(cmd.ready):
            m.d.sync += cmd.valid.eq(0)
        return m

    def _route_reads(self, m, clients, priority) -> tuple[Signal, Signal]:
        """Hand beats to the owners of the commands, in order.

        Returns whether another read can be noted, and the signal that notes it.
        """
        layout = data.StructLayout({"client": len(clients), "len": 8})
        m.submodules.owners = owners = SyncFIFOBuffered(width=layout.size, depth=READS_IN_FLIGHT)
        note = Signal()
        m.d.comb += [
            owners.w_data.eq(Cat(priority.grant, priority.o.payload.len)),
            owners.w_en.eq(note),
        ]
        head = data.View(layout, owners.r_data)
        beat = Signal(8)
        arrives = self.mem.rdata.valid
        last = beat == head.len
        m.d.comb += [self.mem.rdata.ready.eq(1), owners.r_en.eq(arrives & last)]
        with m.If(arrives):
            m.d.sync += beat.eq(beat + 1)
            with m.If(last):
                m.d.sync += beat.eq(0)
        payload = Signal(8 * self._config.bus_bytes)
        m.d.sync += payload.eq(self.mem.rdata.payload)
        for number, client in enumerate(clients):
            if client is not self.dma_write:
                m.d.sync += client.valid.eq(arrives & head.client[number])
                m.d.comb += client.data.eq(payload)
        return owners.w_rdy, note

    def _pass_writes(self, m) -> Signal:
        """Let through as many write beats as memory has taken commands for.

        Returns whether another write command may be taken.
        """
        cmd, wdata, source = self.mem.cmd, self.mem.wdata, self.dma_write.data
        # The limit is tested before a command that may still be in the register: two more bursts.
        owed = Signal(range(WRITE_BEATS_IN_FLIGHT + 2 * BURST_MAX + 1))
        some = Signal()
        commanded = cmd.valid & cmd.ready & cmd.payload.write
        gone = wdata.valid & wdata.ready
        m.d.comb += [
            some.eq(owed != 0),
            wdata.payload.eq(source.payload),
            wdata.valid.eq(source.valid & some),
            source.ready.eq(wdata.ready & some),
        ]
        added = Mux(commanded, cmd.payload.len + 1, 0)
        m.d.sync += owed.eq(owed + added - gone)
        return owed <= WRITE_BEATS_IN_FLIGHT
