"""The serial core's parameters and tables, in one memory."""

from __future__ import annotations

from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

__all__ = ["PARAMETERS", "TABLES", "TABLE_BASE", "Tables"]

PARAMETERS = 256
"""Channels: two words each, bias and (multiplier, shift)."""
TABLES = 2
"""Blocks of 256 words; an entry of an exponential in bits 31:8, of an activation in bits 7:0."""
TABLE_BASE = 2 * PARAMETERS
"""First word of the tables."""


class Tables(wiring.Component):
    """Words of 32 bits: first the parameters, then the tables.

    Members
    -------
    addr: ``In(10)``; read, write: ``In(1)``.
    low, high: ``In(1)``; write bits 7:0, bits 31:8. data: ``In(32)``.
    o: ``Out(32)``; the word read last, one cycle later.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "addr": In(10),
                "read": In(1),
                "write": In(1),
                "low": In(1),
                "high": In(1),
                "data": In(32),
                "o": Out(32),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.words = words = Memory(shape=32, depth=1024, init=[])
        read, write = words.read_port(), words.write_port(granularity=8)
        m.d.comb += [
            read.addr.eq(self.addr),
            read.en.eq(self.read),
            self.o.eq(read.data),
            write.addr.eq(self.addr),
            write.en.eq(Cat(self.low, self.high.replicate(3)) & self.write.replicate(4)),
            write.data.eq(self.data),
        ]
        return m
