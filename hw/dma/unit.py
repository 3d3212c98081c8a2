"""The DMA unit: LOAD, STORE and GATHER."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from intformer.config import CoreConfig
from intformer.hw.dma.gather import RowAddresses
from intformer.hw.dma.load import LoadEngine, write_ports
from intformer.hw.dma.store import StoreEngine
from intformer.hw.parts.streams import delay
from intformer.hw.ports import (
    NarrowReadPort,
    ReadBurstPort,
    UnitPort,
    WriteBurstPort,
    operation_layout,
)
from intformer.isa import Op

__all__ = ["DmaUnit"]


class DmaUnit(wiring.Component):
    """Runs LOAD, STORE and GATHER, one after the other.

    Counts, rows and groups must not be 0; external addresses, and the stride of a GATHER, must
    be multiples of ``bus_bytes``. The transfers round up to whole beats.

    ::

        LOAD    ext ───────────────┐
        GATHER  ids ─► addresses ──┴─► bursts ─► beats ─► gearbox ─► memory
        STORE   memory ─► lane groups ─► gearbox ─► beats ─► bursts

    Members
    -------
    unit: ``In(UnitPort)``.
    mem_read: ``Out(ReadBurstPort)``, mem_write: ``Out(WriteBurstPort)``.
    act_read, wide_read: ``Out(NarrowReadPort)``.
    act_write, wide_write: ``Out(WritePort)``.
    param_write: ``Out(stream)`` of ``{addr: 12, data: 64*lanes}``.
    exp_write, table_write: ``Out(stream)`` of ``{table: 2, index: 8, data: 24 or 8}``.
    function_write: ``Out(stream)`` of :class:`~intformer.hw.memory.functions.FunctionWrite`; with
        ``functions`` only.
    """

    def __init__(self, config: CoreConfig) -> None:
        self._config = config
        super().__init__(
            {
                "unit": In(UnitPort()),
                "mem_read": Out(ReadBurstPort(config)),
                "mem_write": Out(WriteBurstPort(config)),
                "act_read": Out(NarrowReadPort(8 * config.lanes)),
                "wide_read": Out(NarrowReadPort(16 * config.lanes)),
                **write_ports(config),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.load = load = LoadEngine(self._config)
        m.submodules.store = store = StoreEngine(self._config)
        m.submodules.addresses = addresses = RowAddresses(self._config)
        connect(m, load.mem_read, flipped(self.mem_read))
        connect(m, store.mem_write, flipped(self.mem_write))
        connect(m, store.act_read, flipped(self.act_read))
        for name in write_ports(self._config):
            connect(m, getattr(load, name), flipped(getattr(self, name)))

        unit = self.unit
        op = Signal.like(unit.cmd.payload.op, reset_less=True)
        body = Signal.like(unit.cmd.payload.body, reset_less=True)
        arrived = Signal()
        start = Signal()
        take = unit.cmd.valid & unit.cmd.ready
        m.d.comb += unit.cmd.ready.eq(~unit.busy)
        m.d.sync += [arrived.eq(take), start.eq(arrived)]
        with m.If(take):
            m.d.sync += [
                unit.busy.eq(1),
                op.eq(unit.cmd.payload.op),
                body.eq(unit.cmd.payload.body),
            ]
        with m.Elif(unit.done):
            m.d.sync += unit.busy.eq(0)
        m.d.comb += [
            unit.done.eq(load.done | store.done),
            unit.stall.eq(unit.busy & ~load.moved & ~store.moved),
        ]
        self._decode(m, op, body, start, load=load, store=store, addresses=addresses)
        self._share_wide_read(m, addresses, store)
        return m

    def _decode(self, m, op, body, start, *, load, store, addresses) -> None:
        """Hand the fields of the instruction to the engines."""
        views = {}
        for code in (Op.LOAD, Op.STORE, Op.GATHER):
            layout = operation_layout(code)
            views[code] = data.View(layout, body[: layout.size])
        is_store, is_gather = Signal(), Signal()
        m.d.sync += [is_store.eq(op == Op.STORE), is_gather.eq(op == Op.GATHER)]
        plain, gather = views[Op.LOAD], views[Op.GATHER]  # STORE's fields are those of LOAD
        single = Signal()  # LOAD's only row waits to be read
        beats_known = delay(m, start & ~is_store & ~is_gather, 2, name="load_start")
        with m.If(beats_known):
            m.d.sync += single.eq(1)
        with m.Elif(load.row_addr.ready):
            m.d.sync += single.eq(0)
        m.d.comb += [
            load.start.eq(start & ~is_store),
            load.mem.eq(plain.mem),
            load.addr.eq(plain.addr),
            load.stride.eq(gather.stride),
            load.rows.eq(Mux(is_gather, gather.n, 1)),
            load.groups.eq(Mux(is_gather, gather.row_groups, plain.count)),
            load.row_addr.valid.eq(Mux(is_gather, addresses.o.valid, single)),
            load.row_addr.payload.eq(Mux(is_gather, addresses.o.payload, plain.ext)),
            addresses.o.ready.eq(load.row_addr.ready & is_gather),
            addresses.start.eq(start & is_gather),
            addresses.ext.eq(gather.ext),
            addresses.ext_stride.eq(gather.ext_stride),
            addresses.idx.eq(gather.idx),
            addresses.n.eq(gather.n),
            store.start.eq(start & is_store),
            store.mem.eq(plain.mem),
            store.addr.eq(plain.addr),
            store.count.eq(plain.count),
            store.ext.eq(plain.ext),
        ]

    def _share_wide_read(self, m, addresses, store) -> None:
        """GATHER's ids and STORE's codes never meet: one instruction runs at a time."""
        port = self.wide_read
        m.d.comb += [
            port.req.valid.eq(addresses.read.req.valid | store.wide_read.req.valid),
            port.req.payload.word.eq(
                Mux(
                    addresses.read.req.valid,
                    addresses.read.req.payload.word,
                    store.wide_read.req.payload.word,
                )
            ),
        ]
        for client in (addresses.read, store.wide_read):
            m.d.comb += [client.req.ready.eq(port.req.ready), client.data.eq(port.data)]
