"""Tables of 256 entries: exponentials for softmax, activations for the epilogue."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from intformer.config import CoreConfig
from intformer.hw.parts.streams import delay
from intformer.hw.ports import READ_LATENCY
from intformer.reference import EXP_BITS

__all__ = ["ActivationTables", "ExpTables", "LaneTables"]


class LaneTables(wiring.Component):
    """``tables`` tables of 256 entries of ``bits`` bits, one copy per lane.

    Members
    -------
    addr: ``In``, ``lanes`` addresses ``{index: 8, table: 2}``.
    data: ``Out``, ``lanes`` entries, ``READ_LATENCY`` cycles after their addresses.
    write: ``In(stream)`` of ``{table: 2, index: 8, data: bits}``; always ready; writes every copy;
        seen by the addresses of the same cycle.
    """

    def __init__(self, *, lanes: int, tables: int, bits: int) -> None:
        if not 1 <= tables <= 4:
            raise ValueError(f"tables must be from 1 to 4, not {tables!r}")
        self._lanes, self._tables, self._bits = lanes, tables, bits
        address = data.StructLayout({"index": 8, "table": 2})
        entry = data.StructLayout({"table": 2, "index": 8, "data": bits})
        super().__init__(
            {
                "addr": In(data.ArrayLayout(address, lanes)),
                "data": Out(data.ArrayLayout(bits, lanes)),
                "write": In(stream.Signature(entry)),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        depth = 256 * self._tables
        item = self.write.payload
        m.d.comb += self.write.ready.eq(1)
        for k in range(self._lanes):
            # What a read gives in the cycle in which its entry is written does not matter.
            attrs = {"no_rw_check": 1}
            store = memory.Memory(shape=self._bits, depth=depth, init=[], attrs=attrs)
            m.submodules[f"lane_{k}"] = store
            write, read = store.write_port(), store.read_port(domain="comb")
            where = self.addr[k]
            entry = delay(m, read.data, READ_LATENCY - 1, name=f"entry_{k}", reset_less=True)
            address = Signal(len(read.addr), name=f"address_{k}", reset_less=True)
            m.d.comb += [
                write.addr.eq(Cat(item.index, item.table)[: len(write.addr)]),
                write.data.eq(item.data),
                write.en.eq(self.write.valid),
                read.addr.eq(address),
                self.data[k].eq(entry),
            ]
            m.d.sync += address.eq(Cat(where.index, where.table))
        return m


class ExpTables(LaneTables):
    """Exponential tables of a core: entries of ``EXP_BITS`` bits."""

    def __init__(self, config: CoreConfig) -> None:
        super().__init__(lanes=config.lanes, tables=config.exp_tables, bits=EXP_BITS)


class ActivationTables(LaneTables):
    """Activation tables of a core: entries of 8 bits."""

    def __init__(self, config: CoreConfig) -> None:
        super().__init__(lanes=config.lanes, tables=config.act_tables, bits=8)
