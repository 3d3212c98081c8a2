"""Tables of functions of int16 codes for the epilogue: quadratic segments and their limits."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Signal, signed
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from intformer.config import CoreConfig
from intformer.function_layout import ENTRY_BYTES, TABLE_STRIDE
from intformer.hw.parts.streams import delay
from intformer.hw.ports import READ_LATENCY
from intformer.reference.tables import (
    BREAKS_MAX,
    COEFFICIENT_BITS,
    CONSTANT_BITS,
    CURVATURE_SHIFT_MAX,
    SEGMENT_BITS,
    SEGMENTS,
    SLOPE_SHIFT_MAX,
)

__all__ = [
    "FUNCTION_ADDRESS",
    "SEGMENT",
    "FunctionTables",
    "FunctionWrite",
    "limits_layout",
]

SEGMENT = data.StructLayout(
    {
        "constant": signed(CONSTANT_BITS),
        "slope": signed(COEFFICIENT_BITS),
        "curvature": signed(COEFFICIENT_BITS),
    }
)
"""An entry of a segment; see :mod:`intformer.function_layout`."""

FUNCTION_ADDRESS = data.StructLayout({"segment": range(SEGMENTS), "table": 2})
"""Address of an entry."""

_INDEX_BITS = (TABLE_STRIDE - 1).bit_length()
_BREAK = data.StructLayout({"offset": SEGMENT_BITS, "segment": 16 - SEGMENT_BITS})


def limits_layout() -> data.StructLayout:
    """What is the same for all segments of a table; a ``break`` of 0 is none."""
    return data.StructLayout(
        {
            "slope_shift": range(SLOPE_SHIFT_MAX + 1),
            "curvature_shift": range(CURVATURE_SHIFT_MAX + 1),
            "lo": signed(16),
            "hi": signed(16),
            "breaks": data.ArrayLayout(_BREAK, BREAKS_MAX),
        }
    )


class FunctionWrite(data.StructLayout):
    """An entry of a table on its way in, in the order of :mod:`intformer.function_layout`."""

    def __init__(self) -> None:
        super().__init__({"table": 2, "index": _INDEX_BITS, "data": 8 * ENTRY_BYTES})


class FunctionTables(wiring.Component):
    """The core's tables of functions, one copy of the segments per lane.

    Parameters
    ----------
    config: the core; ``functions`` is at least 1.

    Members
    -------
    addr: ``In``, ``lanes`` of :data:`FUNCTION_ADDRESS`.
    data: ``Out``, ``lanes`` of :data:`SEGMENT`, ``READ_LATENCY`` cycles after their addresses.
    table: ``In(2)``, limits: ``Out`` of :func:`limits_layout`; of table ``table``, one cycle later.
    write: ``In(stream)`` of :class:`FunctionWrite`; always ready; writes every copy; seen by the
        addresses of the same cycle.
    """

    def __init__(self, config: CoreConfig) -> None:
        if config.functions < 1:
            raise ValueError(f"functions must be at least 1, not {config.functions!r}")
        self._lanes, self._tables = config.lanes, config.functions
        super().__init__(
            {
                "addr": In(data.ArrayLayout(FUNCTION_ADDRESS, config.lanes)),
                "data": Out(data.ArrayLayout(SEGMENT, config.lanes)),
                "table": In(2),
                "limits": Out(limits_layout()),
                "write": In(stream.Signature(FunctionWrite())),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        item = self.write.payload
        segment_bits = (SEGMENTS - 1).bit_length()
        m.d.comb += self.write.ready.eq(1)
        for k in range(self._lanes):
            # What a read gives in the cycle in which its entry is written does not matter.
            store = memory.Memory(
                shape=SEGMENT,
                depth=SEGMENTS * self._tables,
                init=[],
                attrs={"no_rw_check": 1, "ram_style": "block"},
            )
            m.submodules[f"lane_{k}"] = store
            write, read = store.write_port(), store.read_port(domain="comb")
            address = Signal(len(read.addr), name=f"address_{k}", reset_less=True)
            entry = Signal(SEGMENT.size, name=f"entry_{k}", reset_less=True)
            where = self.addr[k]
            m.d.comb += [
                write.addr.eq(Cat(item.index[:segment_bits], item.table)[: len(write.addr)]),
                write.data.eq(item.data),
                write.en.eq(self.write.valid & ~item.index[segment_bits]),
                read.addr.eq(address),
            ]
            m.d.sync += [address.eq(Cat(where.segment, where.table)), entry.eq(read.data)]
            late = delay(m, entry, READ_LATENCY - 2, name=f"entry_{k}", reset_less=True)
            m.d.comb += self.data[k].as_value().eq(late)
        self._keep_limits(m, item, segment_bits)
        return m

    def _keep_limits(self, m: Module, item: data.View, segment_bits: int) -> None:
        """The two entries behind the segments, in registers."""
        rows = []
        for table in range(self._tables):
            limits = Signal(limits_layout(), name=f"limits_{table}", reset_less=True)
            mine = self.write.valid & item.index[segment_bits] & (item.table == table)
            with m.If(mine & ~item.index[0]):
                m.d.sync += [
                    limits.slope_shift.eq(item.data[:8]),
                    limits.curvature_shift.eq(item.data[8:16]),
                    limits.lo.eq(item.data[16:32]),
                    limits.hi.eq(item.data[32:48]),
                ]
            with m.If(mine & item.index[0]):
                m.d.sync += limits.breaks.as_value().eq(item.data)
            rows.append(limits.as_value())
        chosen = Signal(limits_layout(), reset_less=True)
        m.d.sync += chosen.as_value().eq(Array(rows)[self.table])
        m.d.comb += self.limits.as_value().eq(chosen.as_value())
