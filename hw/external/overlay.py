"""A block RAM over a part of another memory's addresses.

For cores whose program and weights are in a memory that is slow to write, or must not be written: a
flash. Inputs, outputs and what passes between layers are in the block RAM.
"""

from __future__ import annotations

from amaranth.hdl import Const, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from intformer.config import CoreConfig
from intformer.hw.ports import BurstPort

__all__ = ["Overlay"]


class Overlay(wiring.Component):
    """Bursts from ``base`` on go to a block RAM, those below to ``lower``.

    A burst belongs to the side of its first address. Address ``base`` is the first of the RAM;
    beyond the RAM's end it begins again. A burst that runs over the base (or over the end) still
    transfers all its beats.

    Commands to one side follow each other without waiting: ``lower`` sees the next read while
    beats of the one before are still to come, so a flash goes on with a linear stream. A
    command to the other side, and any after a write, waits until all beats before it have passed.

    Parameters
    ----------
    config: only ``bus_bytes`` matters.
    ram_size: bytes of the block RAM; a power of two, two beats or more.
    address_bits: higher bits of addresses are not looked at, and must be the same everywhere; 24
        saves logic on a small device.

    Members
    -------
    mem: ``In(BurstPort)``; bursts of at most 256 beats. ``lower``: ``Out(BurstPort)``.
    base: ``In(32)``; a multiple of ``bus_bytes``. It may change while no burst is under way.

    Notes
    -----
    A command reaches ``lower`` one cycle after it was offered, and a beat from there comes one
    cycle later. The first beat of a read of the RAM comes four cycles after its command was
    offered; then one in each cycle. A write to the RAM takes one beat per cycle.
    """

    def __init__(self, config: CoreConfig, *, ram_size: int, address_bits: int = 32) -> None:
        bus = config.bus_bytes
        if ram_size < 2 * bus or ram_size & (ram_size - 1):
            raise ValueError(f"ram_size must be a power of two from {2 * bus} on, not {ram_size!r}")
        if not (ram_size - 1).bit_length() <= address_bits <= 32:
            raise ValueError(
                f"address_bits must be from {(ram_size - 1).bit_length()} to 32, "
                f"not {address_bits!r}"
            )
        self._bus = bus
        self._depth = ram_size // bus
        self._address_bits = address_bits
        super().__init__(
            {
                "mem": In(BurstPort(config)),
                "lower": Out(BurstPort(config)),
                "base": In(32),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        mem, lower = self.mem, self.lower
        # Never read and written in one cycle: with this attribute no logic is made for that case.
        ram = Memory(shape=8 * self._bus, depth=self._depth, init=[], attrs={"no_rw_check": 1})
        m.submodules.ram = ram
        write, read = ram.write_port(), ram.read_port()

        # Beats that have not passed yet, minus one: the sign tells that there are none.
        pending = Signal(10, init=-1)
        none, room = pending[-1], ~pending[-2]
        local, writing = Signal(), Signal()  # what the pending beats are
        taken, beat = Signal(), Signal()

        asked, above, passed = Signal(), Signal(), Signal()
        cmd = mem.cmd
        place = Signal(range(self._depth), reset_less=True)  # of the next beat in the RAM
        m.d.comb += [write.addr.eq(place), read.addr.eq(place)]
        # While the RAM is not in use, the command that waits is compared with the base.
        free = none | ~local
        low, high = self._bus.bit_length() - 1, self._address_bits
        difference = Signal(high - low + 1)
        m.d.comb += difference.eq(cmd.payload.addr[low:high] - self.base[low:high])
        with m.If(free):
            m.d.sync += [place.eq(difference), above.eq(~difference[-1])]
        with m.Elif(beat):
            m.d.sync += place.eq(place + 1)
        m.d.comb += [
            # Another read of the same side may follow; all else waits for what is pending.
            passed.eq(asked & ~above & (none | (room & ~local & ~writing & ~cmd.payload.write))),
            lower.cmd.valid.eq(passed),
            lower.cmd.payload.eq(cmd.payload),
            cmd.ready.eq(Mux(above, asked & none, passed & lower.cmd.ready)),
            taken.eq(cmd.valid & cmd.ready),
        ]
        m.d.sync += asked.eq(cmd.valid & ~cmd.ready & free)
        with m.If(taken):
            m.d.sync += [local.eq(above), writing.eq(cmd.payload.write)]
        # One sum: adds the beats of a command, takes one away, both or neither.
        change = Mux(taken, cmd.payload.len, Const(-1, 10))
        m.d.sync += pending.eq(pending + change + ~beat)

        ours, theirs = ~none & local, ~none & ~local
        m.d.comb += [
            mem.wdata.ready.eq(writing & (ours | (theirs & lower.wdata.ready))),
            lower.wdata.valid.eq(theirs & writing & mem.wdata.valid),
            lower.wdata.payload.eq(mem.wdata.payload),
            write.en.eq(ours & writing & mem.wdata.valid),
            write.data.eq(mem.wdata.payload),
            lower.rdata.ready.eq(1),
            beat.eq(
                Mux(
                    writing,
                    mem.wdata.valid & mem.wdata.ready,
                    ours | (theirs & lower.rdata.valid),
                )
            ),
        ]
        was_read = Signal()
        payload = Signal.like(mem.rdata.payload, reset_less=True)
        m.d.sync += [
            was_read.eq(ours & ~writing),
            mem.rdata.valid.eq(was_read | (theirs & ~writing & lower.rdata.valid)),
            payload.eq(Mux(was_read, read.data, lower.rdata.payload)),
        ]
        m.d.comb += mem.rdata.payload.eq(payload)
        return m
