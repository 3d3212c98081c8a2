"""Single-port memory: the SB_SPRAM256KA of iCE40 UltraPlus, or a generic one of the same size."""

from __future__ import annotations

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

__all__ = ["SPRAM_WORDS", "Spram"]

SPRAM_WORDS = 1 << 14


class Spram(wiring.Component):
    """16,384 words of 16 bits, one access per cycle.

    Parameters
    ----------
    words: how many of them are there; the primitive has all.
    target: ``"ice40"`` for the primitive, else its behavioural twin.

    Members
    -------
    addr: ``In(14)``; enable: ``In(1)``, an access; write: ``In(1)``, it writes.
    mask: ``In(2)``; bytes to write; data: ``In(16)``.
    o: ``Out(16)``; what was read in the cycle before, kept until the next access; undefined after
        a write.
    """

    def __init__(self, *, words: int = SPRAM_WORDS, target: str | None = None) -> None:
        if not 1 <= words <= SPRAM_WORDS:
            raise ValueError(f"words must be from 1 to {SPRAM_WORDS}, not {words!r}")
        self._words = words
        self._target = target
        super().__init__(
            {
                "addr": In(14),
                "enable": In(1),
                "write": In(1),
                "mask": In(2),
                "data": In(16),
                "o": Out(16),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        if self._target == "ice40":
            m.submodules.spram = Instance(
                "SB_SPRAM256KA",
                i_ADDRESS=self.addr,
                i_DATAIN=self.data,
                i_MASKWREN=Cat(self.mask[0].replicate(2), self.mask[1].replicate(2)),
                i_WREN=self.write,
                i_CHIPSELECT=self.enable,
                i_CLOCK=ClockSignal(),
                i_STANDBY=Const(0, 1),
                i_SLEEP=Const(0, 1),
                i_POWEROFF=Const(1, 1),
                o_DATAOUT=self.o,
            )
            return m
        m.submodules.memory = memory = Memory(shape=16, depth=self._words, init=[])
        read, write = memory.read_port(), memory.write_port(granularity=8)
        m.d.comb += [
            read.addr.eq(self.addr),
            read.en.eq(self.enable & ~self.write),
            self.o.eq(read.data),
            write.addr.eq(self.addr),
            write.data.eq(self.data),
            write.en.eq(self.mask & (self.enable & self.write).replicate(2)),
        ]
        return m
