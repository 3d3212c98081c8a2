"""One external memory for two: the core, and the host when the core is at rest."""

from __future__ import annotations

from amaranth.hdl import Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from intformer.config import CoreConfig
from intformer.hw.ports import BurstPort

__all__ = ["MemoryShare"]


class MemoryShare(wiring.Component):
    """Hands the memory from the core to the host and back, never in the middle of a burst.

    The host gets it while no program runs and the core asks for nothing. What the core asks for
    meanwhile waits.

    Members
    -------
    core, host: ``In(BurstPort)``. ``host`` may only ask while ``granted``, one burst at a time.
    mem: ``Out(BurstPort)``.
    running: ``In(1)``; a program runs, or something of it is under way: the host gets nothing.
    want: ``In(1)``; the host wants the memory; it keeps it until ``want`` falls.
    granted: ``Out(1)``; from a register.
    clear: ``In(1)``; core and memory are being reset: take it from the host.
    """

    def __init__(self, config: CoreConfig) -> None:
        super().__init__(
            {
                "core": In(BurstPort(config)),
                "host": In(BurstPort(config)),
                "mem": Out(BurstPort(config)),
                "running": In(1),
                "want": In(1),
                "granted": Out(1),
                "clear": In(1),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        core, host, mem, granted = self.core, self.host, self.mem, self.granted
        rests = ~(self.running | core.cmd.valid)
        m.d.sync += granted.eq(self.want & ~self.clear & (granted | rests))
        m.d.comb += [
            mem.cmd.valid.eq(Mux(granted, host.cmd.valid, core.cmd.valid)),
            mem.cmd.payload.eq(Mux(granted, host.cmd.payload, core.cmd.payload)),
            core.cmd.ready.eq(mem.cmd.ready & ~granted),
            host.cmd.ready.eq(mem.cmd.ready & granted),
            mem.wdata.valid.eq(Mux(granted, host.wdata.valid, core.wdata.valid)),
            mem.wdata.payload.eq(Mux(granted, host.wdata.payload, core.wdata.payload)),
            core.wdata.ready.eq(mem.wdata.ready & ~granted),
            host.wdata.ready.eq(mem.wdata.ready & granted),
            mem.rdata.ready.eq(1),
            core.rdata.valid.eq(mem.rdata.valid & ~granted),
            core.rdata.payload.eq(mem.rdata.payload),
            host.rdata.valid.eq(mem.rdata.valid & granted),
            host.rdata.payload.eq(mem.rdata.payload),
        ]
        return m
