"""POST: the epilogue after accumulation, and element-wise operations on stored tensors.

::

    accumulators ─┐  (x factor)                         ┌► act
    act or wide  ─┴► + bias ► x mult >> shift ─┐        │
    act or wide  ──► x res_mult >> res_shift ──┴► + zero_point ► clip ► table ─┴► wide
                                                                    or function
"""

from __future__ import annotations

from functools import cache

from amaranth.hdl import Array, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2

from intformer.config import CoreConfig
from intformer.hw.memory.functions import FUNCTION_ADDRESS, SEGMENT, limits_layout
from intformer.hw.parts.access import RESPONSES, GroupReader, GroupWriter
from intformer.hw.parts.streams import ClaimFifo, CreditFifo, delay
from intformer.hw.parts.walk import GroupCounter
from intformer.hw.ports import (
    ACC_LATENCY,
    READ_LATENCY,
    NarrowReadPort,
    ParamReadPort,
    UnitPort,
    WritePort,
    operation_layout,
)
from intformer.hw.post.factor import FactorLane
from intformer.hw.post.function import FunctionLane
from intformer.hw.post.lane import PostLane, constants_layout
from intformer.isa import Op
from intformer.reference import FACTOR_SHIFT

__all__ = ["PostUnit"]

_OPERANDS = READ_LATENCY + 2
"""Cycles from a parameter's or accumulator's address to the operands of the lanes."""
_BEHIND = 4
"""Cycles from a result to its place in the FIFO being free again, at the least."""


@cache
def _function_cycles(config: CoreConfig) -> int:
    """Cycles that the lanes take longer for the sake of functions."""
    return FunctionLane(config).latency - READ_LATENCY if config.functions else 0


def _factor_cycles(config: CoreConfig) -> int:
    """Cycles that the lanes take longer for the sake of factors."""
    return FactorLane.latency if config.row_scales else 0


class PostUnit(wiring.Component):
    """Runs POST_ACC and POST_MEM; see :func:`intformer.reference.post`.

    One lane group per cycle while ports are granted; one instruction at a time. With
    ``row_scales`` a POST_ACC that has factors reads one for each row, as its source. Without,
    ``src_mem`` of POST_ACC means nothing.

    Parameters
    ----------
    config: the core.
    target: family whose multiplier blocks to use; see :class:`intformer.hw.parts.mul18.Mul18`.

    Members
    -------
    unit: ``In(UnitPort)``.
    acc_addr: ``Out(12)``, acc_data: ``In(32*cols)``: accumulators, ``ACC_LATENCY`` later.
    act_src, wide_src, act_res, wide_res: ``Out(NarrowReadPort)``: source and residual.
    param: ``Out(ParamReadPort)``.
    table_addr, table_data: activation tables, one address ``{index: 8, table: 2}`` and one entry
        per lane, ``READ_LATENCY`` later.
    function_table, function_limits, function_addr, function_data: with ``functions`` only; see
        ``table``, ``limits``, ``addr`` and ``data`` of
        :class:`~intformer.hw.memory.functions.FunctionTables`.
    act_write, wide_write: ``Out(WritePort)``.
    """

    def __init__(self, config: CoreConfig, *, target: str | None = None) -> None:
        self._config = config
        lanes = config.lanes
        self._lanes = [PostLane(config, target=target) for _ in range(lanes)]
        address = data.StructLayout({"index": 8, "table": 2})
        members = {
            "unit": In(UnitPort()),
            "acc_addr": Out(12),
            "acc_data": In(32 * config.cols),
            "act_src": Out(NarrowReadPort(8 * lanes)),
            "wide_src": Out(NarrowReadPort(16 * lanes)),
            "act_res": Out(NarrowReadPort(8 * lanes)),
            "wide_res": Out(NarrowReadPort(16 * lanes)),
            "param": Out(ParamReadPort(config)),
            "table_addr": Out(data.ArrayLayout(address, lanes)),
            "table_data": In(data.ArrayLayout(8, lanes)),
            "act_write": Out(WritePort(config, bits=8)),
            "wide_write": Out(WritePort(config, bits=16)),
        }
        if config.functions:
            members |= {
                "function_table": Out(2),
                "function_limits": In(limits_layout()),
                "function_addr": Out(data.ArrayLayout(FUNCTION_ADDRESS, lanes)),
                "function_data": In(data.ArrayLayout(SEGMENT, lanes)),
            }
        super().__init__(members)

    @staticmethod
    def instruction_cycles(
        config: CoreConfig, op: Op, *, groups: int, residual: bool, factors: bool = False
    ) -> int:
        """Cycles from the acceptance of a command to ``done`` while every port is granted.

        ``groups``: rows times lane groups per row. ``residual``: ``res_en``. ``factors``: whether
        the rows have factors. What lies in a scratchpad has to be read first.
        """
        reading = READ_LATENCY + 1 if op == Op.POST_MEM or residual or factors else 0
        lanes = READ_LATENCY + 20 + _function_cycles(config) + _factor_cycles(config)
        return groups + reading + _OPERANDS + lanes

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        config = self._config
        fields = Signal(operation_layout(Op.POST_ACC if config.row_scales else Op.POST_MEM))
        from_acc, start = Signal(), Signal()
        m.submodules.source = source = GroupReader(config)
        m.submodules.residual = residual = GroupReader(config)
        m.submodules.writer = writer = GroupWriter(config)
        m.submodules.joined = joined = GroupCounter()
        more_rows, more_groups = Signal(12), Signal(10)
        cmd = self.unit.cmd
        with m.If(cmd.valid & cmd.ready):
            body = data.View(fields.shape(), cmd.payload.body[: len(fields.as_value())])
            m.d.sync += [more_rows.eq(body.rows - 1), more_groups.eq(body.groups - 1)]
        reads_source, source_groups = ~from_acc, more_groups
        if config.row_scales:
            reads_source = ~from_acc | fields.src_mem
            source_groups = Signal.like(more_groups)
            with m.If(cmd.valid & cmd.ready):
                # A factor is one group, whatever the row has.
                is_mem = cmd.payload.op == Op.POST_MEM
                m.d.sync += source_groups.eq(Mux(is_mem, body.groups - 1, 0))
        for part in (source, residual, writer, joined):
            chosen = {source: reads_source, residual: fields.res_en}.get(part, 1)
            m.d.comb += [
                # A register of its own: it selects in all the counters of the part.
                part.load.eq(delay(m, start & chosen, 1, name="load", keep=True)),
                part.more_rows.eq(more_rows),
                part.more_groups.eq(source_groups if part is source else more_groups),
            ]
        self._control(m, fields, from_acc, start, (source, residual, writer))
        self._places(m, fields, source, residual, writer)

        lane = self._lanes[0]
        # More places for results than the pipeline holds.
        depth = 1 << ceil_log2(_OPERANDS + lane.latency + _BEHIND)
        m.submodules.results = results = CreditFifo(16 * config.lanes, depth=depth)
        connect(m, results.o, writer.i)
        group = 16 * config.lanes
        stored = ClaimFifo(group, depth=RESPONSES, latency=_OPERANDS - 1)
        waits = _OPERANDS + lane.residual_latency
        # From the request of a residual to the release of its place.
        added = ClaimFifo(group, depth=max(RESPONSES, READ_LATENCY + 1 + waits), latency=waits)
        m.submodules.stored, m.submodules.added = stored, added
        fire = Signal()
        claims, spared = ~from_acc, from_acc
        if config.row_scales:
            claims = self._claims(m, start | fire, reads_source, start | joined.last, from_acc)
            spared = ~claims
        for reader, fifo, wanted in ((source, stored, claims), (residual, added, fields.res_en)):
            m.d.comb += [
                reader.room.eq(fifo.room),
                fifo.take.eq(reader.taken),
                fifo.push.eq(reader.arrives),
                fifo.i.eq(reader.data),
                fifo.claim.eq(fire & wanted),
            ]
        m.d.comb += [
            fire.eq(
                joined.active
                & results.room
                & (stored.some | spared)
                & (added.some | ~fields.res_en)
            ),
            results.take.eq(fire),
            joined.step.eq(fire),
            results.push.eq(delay(m, fire, _OPERANDS + lane.latency, name="fired")),
        ]
        x = self._operands(m, fields, from_acc, start, fire, joined, stored)
        self._arithmetic(m, fields, x, added, results)
        return m

    def _claims(self, m: Module, step, reads_source, begins, from_acc) -> Signal:
        """Whether the next group claims an entry of the source: from accumulators, if its row
        ``begins`` with it and has a factor; then ``step`` to the group after it.
        """
        claims = Signal(attrs={"keep": 1})
        with m.If(step):
            m.d.sync += claims.eq(reads_source & (begins | ~from_acc))
        return claims

    def _control(self, m: Module, fields, from_acc, start, parts) -> None:
        """Take a command, start the parts, report when the last write has been taken."""
        source, residual, writer = parts
        cmd = self.unit.cmd
        m.d.comb += self.unit.stall.eq(source.stall | residual.stall | writer.stall)
        # What is offered is taken over and over until it counts: the registers are many, and far.
        follows = Signal(init=1, attrs={"keep": 1})
        with m.If(follows):
            m.d.sync += fields.eq(cmd.payload.body)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += cmd.ready.eq(1)
                with m.If(cmd.valid):
                    m.d.sync += [
                        follows.eq(0),
                        from_acc.eq(cmd.payload.op == Op.POST_ACC),
                        start.eq(1),
                    ]
                    m.next = "START"
            with m.State("START"):
                m.d.comb += self.unit.busy.eq(1)
                m.d.sync += start.eq(0)
                m.next = "LOAD"
            with m.State("LOAD"):
                m.d.comb += self.unit.busy.eq(1)
                m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += self.unit.busy.eq(1)
                with m.If(~writer.active):
                    m.d.comb += self.unit.done.eq(1)
                    m.d.sync += follows.eq(1)
                    m.next = "IDLE"

    def _places(self, m: Module, fields, source, residual, writer) -> None:
        """Tell the readers and the writer where their rows lie, and connect their ports."""
        for part, prefix in ((source, "src"), (residual, "res"), (writer, "dst")):
            m.d.comb += [
                part.place.mem.eq(fields[f"{prefix}_mem"]),
                part.place.word.eq(fields[prefix]),
                part.place.sub.eq(fields[f"{prefix}_sub"]),
                part.place.stride.eq(fields[f"{prefix}_stride"]),
            ]
        tail = Cat(fields.tail > k for k in range(self._config.lanes))
        m.d.sync += writer.tail.eq(tail)
        connect(m, source.act, flipped(self.act_src))
        connect(m, source.wide, flipped(self.wide_src))
        connect(m, residual.act, flipped(self.act_res))
        connect(m, residual.wide, flipped(self.wide_res))
        connect(m, writer.act, flipped(self.act_write))
        connect(m, writer.wide, flipped(self.wide_write))

    def _operands(self, m: Module, fields, from_acc, start, fire, joined, stored) -> list[Signal]:
        """Ask for parameters and accumulators; the values of the lanes, from registers."""
        lanes = self._config.lanes
        group = Signal(range(max(self._config.cols // lanes, 2)))
        param_addr, acc = self.param.addr, fields.src
        if self._config.row_scales:
            # The address waits for what the lanes do before they need parameters: it is small.
            param_addr = Signal.like(self.param.addr)
            cycles = self._lanes[0].param_latency
            late = delay(m, param_addr, cycles, name="param_addr", reset_less=True)
            m.d.comb += self.param.addr.eq(late)
            acc = Mux(fields.src_mem, fields.acc, fields.src)
        with m.If(start | (fire & joined.last)):
            m.d.sync += group.eq(0)
            m.d.sync += param_addr.eq(fields.param)
        with m.Elif(fire):
            m.d.sync += group.eq(group + 1)
            m.d.sync += param_addr.eq(param_addr + fields.param_step)
        with m.If(start):
            m.d.sync += self.acc_addr.eq(acc)
        with m.Elif(fire & joined.last):
            m.d.sync += self.acc_addr.eq(self.acc_addr + 1)
        sums = self._group(m, delay(m, group, ACC_LATENCY, name="group"))
        x = [Signal(signed(32), name=f"x_{k}", reset_less=True) for k in range(lanes)]
        for k in range(lanes):
            code = stored.o.word_select(k, 16).as_signed()
            accumulator = sums.word_select(k, 32).as_signed()
            m.d.sync += x[k].eq(Mux(from_acc, accumulator, code))
        if self._config.row_scales:
            has_factors = Signal()
            factor = Signal(signed(16), reset_less=True)
            m.d.sync += [
                has_factors.eq(from_acc & fields.src_mem),
                factor.eq(Mux(has_factors, stored.o[:16].as_signed(), 1 << FACTOR_SHIFT)),
            ]
            m.d.comb += [lane.factor.eq(factor) for lane in self._lanes]
        return x

    def _group(self, m: Module, group: Signal) -> Signal:
        """Lane group ``group`` of a row of accumulators, two cycles later: they lie far apart."""
        width = 32 * self._config.lanes
        count = self._config.cols // self._config.lanes
        low = min(2, len(group))
        quarters = []
        for first in range(0, count, 1 << low):
            quarter = Signal(width, name=f"sums_from_{first}", reset_less=True)
            part = self.acc_data[width * first : width * min(first + (1 << low), count)]
            m.d.sync += quarter.eq(part.word_select(group[:low], width))
            quarters.append(quarter)
        high = delay(m, group[low:], 1, name="group_high")
        sums = Signal(width, reset_less=True)
        m.d.sync += sums.eq(Array(quarters)[high])
        return sums

    def _arithmetic(self, m: Module, fields, x: list[Signal], added, results) -> None:
        """Connect the lanes."""
        constants = Signal(constants_layout())
        mult = Signal(signed(16), reset_less=True)
        param = Signal.like(self.param.data, reset_less=True)
        m.d.sync += [
            param.eq(delay(m, self.param.data, _OPERANDS - READ_LATENCY - 1, name="parameters")),
            mult.eq(Mux(fields.res_en, fields.res_mult, 0)),
        ]
        m.d.comb += [constants.mult.eq(mult), constants.shift.eq(fields.res_shift)]
        for name in ("zero_point", "lo", "hi", "table_en", "function_en"):
            m.d.comb += constants[name].eq(fields[name])
        for k, lane in enumerate(self._lanes):
            m.submodules[f"lane_{k}"] = lane
            m.d.comb += [
                lane.constants.eq(constants),
                lane.x.eq(x[k]),
                lane.param.eq(param.word_select(k, 64)),
                lane.r.eq(added.o.word_select(k, 16)),
                self.table_addr[k].index.eq(lane.index),
                self.table_addr[k].table.eq(fields.table),
                lane.entry.eq(self.table_data[k]),
            ]
        if self._config.functions:
            m.d.comb += self.function_table.eq(fields.table)
            for k, lane in enumerate(self._lanes):
                m.d.comb += [
                    lane.limits.eq(self.function_limits),
                    lane.function_entry.eq(self.function_data[k]),
                    self.function_addr[k].segment.eq(lane.segment),
                    self.function_addr[k].table.eq(fields.table),
                ]
        m.d.comb += results.i.eq(Cat(lane.o for lane in self._lanes))
