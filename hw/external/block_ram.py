"""Block RAM behind a burst port: for boards without other memory."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In
from amaranth.utils import ceil_log2

from intformer.config import CoreConfig
from intformer.hw.parts.streams import Skid
from intformer.hw.ports import BurstPort

__all__ = ["BlockRam"]


class BlockRam(wiring.Component):
    """A memory of the device's block RAM, inferred.

    One beat per cycle, in both directions, also across bursts. The first beat of a read comes three
    cycles after its command was taken.

    Parameters
    ----------
    config: ``bus_bytes`` counts.
    size: bytes; a multiple of ``bus_bytes``.
    init: content after configuration, from address 0 on; what it does not cover is 0.

    Members
    -------
    mem: ``In(BurstPort)``; bursts of any length. What lies at addresses from ``size`` on is not
        defined; they may be read, and writing there may change anything.

    Raises
    ------
    ValueError
        If ``size`` is not such a number, or ``init`` is longer.
    """

    def __init__(self, config: CoreConfig, *, size: int, init: bytes = b"") -> None:
        bus = config.bus_bytes
        if size < bus or size % bus:
            raise ValueError(f"size must be a positive multiple of bus_bytes ({bus}), not {size!r}")
        if len(init) > size:
            raise ValueError(f"init must be at most size ({size}) bytes, not {len(init)}")
        self._bus = bus
        self._depth = size // bus
        padded = bytes(init) + bytes(-len(init) % bus)
        self._init = [
            int.from_bytes(padded[at : at + bus], "little") for at in range(0, len(padded), bus)
        ]
        super().__init__({"mem": In(BurstPort(config))})

    @property
    def size(self) -> int:
        """Bytes."""
        return self._depth * self._bus

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        mem = self.mem
        bits = max(1, ceil_log2(self._depth))
        shift = ceil_log2(self._bus)
        layout = data.StructLayout({"word": bits, "len": 8, "write": 1})
        m.submodules.commands = commands = Skid(layout)
        command = commands.o
        m.d.comb += [
            commands.i.valid.eq(mem.cmd.valid),
            mem.cmd.ready.eq(commands.i.ready),
            commands.i.payload.word.eq(mem.cmd.payload.addr >> shift),
            commands.i.payload.len.eq(mem.cmd.payload.len),
            commands.i.payload.write.eq(mem.cmd.payload.write),
        ]

        word = Signal(bits, reset_less=True)
        left = Signal(8, reset_less=True)  # beats after this one
        last = Signal(reset_less=True)
        reading = Signal()
        writing = Signal()
        stored = writing & mem.wdata.valid
        m.d.comb += [
            mem.wdata.ready.eq(writing),
            command.ready.eq(~(reading | writing) | (last & (reading | stored))),
        ]
        with m.If(reading | stored):
            m.d.sync += [word.eq(word + 1), left.eq(left - 1), last.eq(left == 1)]
        with m.If(command.ready):
            m.d.sync += [
                reading.eq(command.valid & ~command.payload.write),
                writing.eq(command.valid & command.payload.write),
                word.eq(command.payload.word),
                left.eq(command.payload.len),
                last.eq(command.payload.len == 0),
            ]

        # Never read in the cycle in which it is written: see MemoryCopy for the attribute.
        memory = Memory(
            shape=8 * self._bus, depth=self._depth, init=self._init, attrs={"no_rw_check": 1}
        )
        m.submodules.memory = memory
        write, read = memory.write_port(), memory.read_port(domain="comb")
        m.d.comb += [
            write.addr.eq(word),
            write.data.eq(mem.wdata.payload),
            write.en.eq(stored),
            read.addr.eq(word),
        ]
        answer = Signal(8 * self._bus, reset_less=True)
        beat = Signal(8 * self._bus, reset_less=True)
        answered = Signal()
        valid = Signal()
        m.d.sync += [answer.eq(read.data), answered.eq(reading), beat.eq(answer)]
        m.d.sync += valid.eq(answered)
        m.d.comb += [mem.rdata.payload.eq(beat), mem.rdata.valid.eq(valid)]
        return m
