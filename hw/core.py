"""The core: memories, units and sequencer put together."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from intformer.config import CoreConfig
from intformer.hw.counters import Counters
from intformer.hw.dma.unit import DmaUnit
from intformer.hw.fetch.unit import FetchUnit
from intformer.hw.matmul.unit import MatmulUnit
from intformer.hw.memory.arbiter import MemoryArbiter
from intformer.hw.memory.functions import FunctionTables
from intformer.hw.memory.scratchpad import ActScratchpad, ParamMemory, WideScratchpad
from intformer.hw.memory.tables import ActivationTables, ExpTables
from intformer.hw.move.unit import MoveUnit
from intformer.hw.ports import BurstPort, WriteItem
from intformer.hw.post.unit import PostUnit
from intformer.hw.row.unit import RowUnit
from intformer.hw.sequencer import Sequencer
from intformer.hw.serial.core import SerialCore
from intformer.isa import COUNTERS, Unit

__all__ = ["Core", "TraceItem"]


class TraceItem(data.StructLayout):
    """An accepted scratchpad write: which unit wrote what, where."""

    def __init__(self, config: CoreConfig, *, bits: int) -> None:
        super().__init__({"unit": 3, "item": WriteItem(config, bits=bits)})


class Core(wiring.Component):
    """A whole core of one configuration, of the structure that it asks for.

    Parameters
    ----------
    config: the parameters of this core.
    trace: add ports that show every scratchpad write; for simulation.
    target: family whose multipliers are used, as for its :class:`SystolicArray`.

    Members
    -------
    start: ``In(1)``, entry: ``In(32)``: run the program at this byte address of external memory.
    busy, done, error: ``Out(1)``; see :class:`intformer.hw.sequencer.Sequencer`.
    counter_addr: ``In(8)``, counter_data: ``Out(32)``: performance counters in the order of
        :data:`intformer.isa.COUNTERS`, cleared by start; data three cycles after the address.
    mem: ``Out(BurstPort)``; external memory.
    trace_act, trace_wide, trace_act_valid, trace_wide_valid, trace_done, trace_busy: with ``trace``
        only: the accepted write of this cycle to each scratchpad, the units' ``done`` pulses (a
        unit's write belongs to its instruction number [pulses in earlier cycles]), and the units
        that hold an instruction.
    """

    def __init__(
        self, config: CoreConfig, *, trace: bool = False, target: str | None = None
    ) -> None:
        self.config = config
        self._trace = trace
        self._target = target
        members = {
            "start": In(1),
            "entry": In(32),
            "busy": Out(1),
            "done": Out(1),
            "error": Out(1),
            "counter_addr": In(8),
            "counter_data": Out(32),
            "mem": Out(BurstPort(config)),
        }
        if trace:
            members |= {
                "trace_act": Out(TraceItem(config, bits=8)),
                "trace_act_valid": Out(1),
                "trace_wide": Out(TraceItem(config, bits=16)),
                "trace_wide_valid": Out(1),
                "trace_done": Out(len(Unit)),
                "trace_busy": Out(len(Unit)),
            }
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        config = self.config
        m = Module()
        if config.structure == "serial":
            m.submodules.serial = serial = SerialCore(config, self.signature, target=self._target)
            connect(m, serial, flipped(self))
            return m
        m.submodules.sequencer = sequencer = Sequencer(config)
        m.submodules.dma = dma = DmaUnit(config)
        m.submodules.fetch = fetch = FetchUnit(config)
        m.submodules.matmul = matmul = MatmulUnit(config, target=self._target)
        m.submodules.post = post = PostUnit(config, target=self._target)
        m.submodules.row = row = RowUnit(config, target=self._target)
        m.submodules.move = move = MoveUnit(config)
        units: dict[Unit, Any] = {
            Unit.DMA: dma,
            Unit.FETCH: fetch,
            Unit.MATMUL: matmul,
            Unit.POST: post,
            Unit.ROW: row,
            Unit.MOVE: move,
        }
        for number, unit in units.items():
            connect(m, sequencer.units[number], unit.unit)

        self._connect_memory(m, sequencer, dma, fetch)
        self._connect_scratchpads(m, dma, fetch, matmul, post, row, move)
        self._connect_tables(m, dma, post, row)
        connect(m, fetch.columns, matmul.columns)
        # What comes from outside begins in a register.
        start, entry = Signal(), Signal.like(self.entry, reset_less=True)
        m.d.sync += [start.eq(self.start), entry.eq(self.entry)]
        m.d.comb += [
            matmul.acc_addr.eq(post.acc_addr),
            post.acc_data.eq(matmul.acc_data),
            sequencer.start.eq(start),
            sequencer.entry.eq(entry),
            self.busy.eq(sequencer.busy | start),
            self.done.eq(sequencer.done),
            self.error.eq(sequencer.error),
        ]
        self._connect_counters(m, sequencer, units, matmul)
        if self._trace:
            m.d.comb += [
                self.trace_done.eq(Cat(sequencer.units[unit].done for unit in Unit)),
                self.trace_busy.eq(Cat(sequencer.units[unit].busy for unit in Unit)),
            ]
        return m

    def _connect_memory(self, m, sequencer, dma, fetch) -> None:
        m.submodules.memory_arbiter = arbiter = MemoryArbiter(self.config)
        connect(m, sequencer.mem, arbiter.instructions)
        connect(m, dma.mem_read, arbiter.dma_read)
        connect(m, dma.mem_write, arbiter.dma_write)
        connect(m, fetch.mem, arbiter.fetch)
        connect(m, arbiter.mem, flipped(self.mem))

    def _connect_scratchpads(self, m, dma, fetch, matmul, post, row, move) -> None:
        m.submodules.act = act = ActScratchpad(self.config)
        connect(m, matmul.act, act.wide_matmul)
        connect(m, fetch.act, act.wide_fetch)
        connect(m, post.act_res, act.narrow_post_res)
        connect(m, post.act_src, act.narrow_post_src)
        connect(m, row.act_read, act.narrow_row)
        connect(m, move.act_read, act.narrow_move)
        connect(m, dma.act_read, act.narrow_dma)
        m.submodules.wide = wide = WideScratchpad(self.config)
        connect(m, post.wide_res, wide.residual)
        connect(m, post.wide_src, wide.narrow_post_src)
        connect(m, row.wide_read, wide.narrow_row)
        connect(m, move.wide_read, wide.narrow_move)
        connect(m, dma.wide_read, wide.narrow_dma)
        for memory, prefix in ((act, "act"), (wide, "wide")):
            for client, name in ((post, "post"), (row, "row"), (move, "move"), (dma, "dma")):
                connect(m, getattr(client, f"{prefix}_write"), getattr(memory, f"write_{name}"))
        m.submodules.param = param = ParamMemory(self.config)
        connect(m, post.param, param.post)
        connect(m, row.param, param.row)
        connect(m, dma.param_write, param.write)
        if self._trace:
            for memory, prefix in ((act, "act"), (wide, "wide")):
                item = getattr(self, f"trace_{prefix}")
                m.d.comb += [
                    getattr(self, f"trace_{prefix}_valid").eq(memory.trace.valid),
                    item.unit.eq(memory.trace.unit),
                    item.item.word.eq(memory.trace.word),
                    item.item.sub.eq(memory.trace.sub),
                    item.item.mask.eq(memory.trace.mask),
                    item.item.data.eq(memory.trace.data),
                ]

    def _connect_tables(self, m, dma, post, row) -> None:
        m.submodules.exp_tables = exp = ExpTables(self.config)
        m.submodules.activation_tables = tables = ActivationTables(self.config)
        m.d.comb += [
            exp.addr.eq(row.exp_addr),
            row.exp_data.eq(exp.data),
            tables.addr.eq(post.table_addr),
            post.table_data.eq(tables.data),
        ]
        connect(m, dma.exp_write, exp.write)
        connect(m, dma.table_write, tables.write)
        if self.config.functions:
            m.submodules.function_tables = functions = FunctionTables(self.config)
            connect(m, dma.function_write, functions.write)
            m.d.comb += [
                functions.table.eq(post.function_table),
                functions.addr.eq(post.function_addr),
                post.function_limits.eq(functions.limits),
                post.function_data.eq(functions.data),
            ]

    def _connect_counters(self, m, sequencer, units, matmul) -> None:
        m.submodules.counters = counters = Counters(len(COUNTERS))
        events = [sequencer.busy]
        for unit in Unit:
            port = sequencer.units[unit]
            events += [port.busy, sequencer.waiting[unit] & ~port.busy, port.stall]
        events += [
            matmul.rows_fed,
            self.mem.rdata.valid,
            self.mem.wdata.valid & self.mem.wdata.ready,
        ]
        clear = Signal()  # one cycle late, as the events are inside
        m.d.sync += clear.eq(sequencer.start & ~sequencer.busy)
        m.d.comb += [
            counters.event.eq(Cat(*events)),
            counters.enable.eq(1),
            counters.clear.eq(clear),
            counters.addr.eq(self.counter_addr),
            self.counter_data.eq(counters.data),
        ]
