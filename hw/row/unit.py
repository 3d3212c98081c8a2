"""The row unit: SOFTMAX and LAYERNORM on rows in the scratchpads."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from intformer.config import CoreConfig
from intformer.hw.parts.access import GroupWriter
from intformer.hw.parts.streams import row_beats
from intformer.hw.ports import (
    BODY_BITS,
    READ_LATENCY,
    NarrowReadPort,
    ParamReadPort,
    UnitPort,
    WritePort,
    operation_layout,
)
from intformer.hw.row.access import RowReader, row_job_layout
from intformer.hw.row.layernorm import RowLayerNorm
from intformer.hw.row.softmax import RowSoftmax
from intformer.isa import Op
from intformer.reference import EXP_BITS

__all__ = ["RowUnit"]

_OVERHEAD = 6 + READ_LATENCY
"""Cycles from the instruction to the first beat, and from the last to ``done``."""


class RowUnit(wiring.Component):
    """Executes SOFTMAX and LAYERNORM; :mod:`intformer.isa` defines them.

    One instruction at a time; its rows overlap in the pipelines of :class:`RowSoftmax` and
    :class:`RowLayerNorm`. ``rows`` and ``n`` are at least 1, and ``n`` at most
    ``config.row_max``. Source and destination may be the same rows.

    Parameters
    ----------
    config: the core.
    target: family whose multiplier blocks to use; see :class:`intformer.hw.parts.mul18.Mul18`.

    Members
    -------
    unit: ``In(UnitPort)``.
    act_read, wide_read: ``Out(NarrowReadPort)``; one request per cycle.
    act_write, wide_write: ``Out(WritePort)``; one write per cycle.
    param: ``Out(ParamReadPort)``.
    exp_addr: ``Out``, ``lanes`` addresses ``{index: 8, table: 2}`` of exponential table entries.
    exp_data: ``In``, ``lanes`` entries, ``READ_LATENCY`` cycles after their addresses.
    """

    def __init__(self, config: CoreConfig, *, target: str | None = None) -> None:
        self._config = config
        lanes = config.lanes
        self._softmax = RowSoftmax(lanes=lanes, row_max=config.row_max, exp_latency=READ_LATENCY)
        self._layernorm = RowLayerNorm(
            lanes=lanes, row_max=config.row_max, multipliers=config.multipliers, target=target
        )
        address = data.StructLayout({"index": 8, "table": 2})
        super().__init__(
            {
                "unit": In(UnitPort()),
                "act_read": Out(NarrowReadPort(8 * lanes)),
                "wide_read": Out(NarrowReadPort(16 * lanes)),
                "act_write": Out(WritePort(config, bits=8)),
                "wide_write": Out(WritePort(config, bits=16)),
                "param": Out(ParamReadPort(config)),
                "exp_addr": Out(data.ArrayLayout(address, lanes)),
                "exp_data": In(data.ArrayLayout(EXP_BITS, lanes)),
            }
        )

    @staticmethod
    def instruction_cycles(
        config: CoreConfig, op: Op, *, rows: int, n: int, masked: bool = False
    ) -> int:
        """Cycles from the transfer of an instruction to its ``done``, if no port stalls.

        The next instruction can be taken one cycle later. ``masked``: SOFTMAX with ``mask_en``,
        which reads for two cycles per beat.
        """
        if op == Op.SOFTMAX:
            timing = RowSoftmax.timing_of(lanes=config.lanes, exp_latency=READ_LATENCY)
        else:
            timing = RowLayerNorm.timing_of(
                lanes=config.lanes, row_max=config.row_max, multipliers=config.multipliers
            )
        beats = row_beats(n, config.lanes)
        mask_beats = beats if masked else 0
        period = max(timing.row_cycles(n), beats + mask_beats)
        return _OVERHEAD + timing.latency(n) + mask_beats + (rows - 1) * period

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.reader = reader = RowReader(self._config)
        m.submodules.writer = writer = GroupWriter(self._config)
        wiring.connect(m, wiring.flipped(self.act_read), reader.act_read)
        wiring.connect(m, wiring.flipped(self.wide_read), reader.wide_read)
        wiring.connect(m, wiring.flipped(self.act_write), writer.act)
        wiring.connect(m, wiring.flipped(self.wide_write), writer.wide)

        body, job = Signal(BODY_BITS), Signal(row_job_layout())
        final, more_rows = Signal(11), Signal(12)
        is_softmax = Signal()
        unit, start = self.unit, Signal()
        # What is offered is taken over and over until it counts: the registers are many, and far.
        follows = Signal(init=1, attrs={"keep": 1})
        given = unit.cmd.payload
        with m.If(follows):
            m.d.sync += body.eq(given.body)
        with m.FSM():
            with m.State("idle"):
                m.d.comb += unit.cmd.ready.eq(1)
                with m.If(unit.cmd.valid):
                    sizes = _fields(Op.SOFTMAX, given.body)  # alike in both
                    m.d.sync += [
                        is_softmax.eq(given.op == Op.SOFTMAX),
                        follows.eq(0),
                        final.eq(sizes.n - 1),
                        more_rows.eq(sizes.rows - 1),
                    ]
                    m.next = "prepare"
            with m.State("prepare"):
                m.d.comb += unit.busy.eq(1)
                m.d.sync += start.eq(1)
                self._set_job(m, job, is_softmax, body, final, more_rows)
                m.next = "start"
            with m.State("start"):
                m.d.comb += unit.busy.eq(1)
                m.d.sync += start.eq(0)
                m.next = "run"
            with m.State("run"):
                m.d.comb += unit.busy.eq(1)
                with m.If(~writer.active):
                    m.d.comb += unit.done.eq(1)
                    m.d.sync += follows.eq(1)
                    m.next = "idle"
        m.d.comb += unit.stall.eq(reader.stall | writer.stall)
        m.d.comb += [
            reader.load.eq(start),
            reader.job.eq(job),
            writer.load.eq(start),
            writer.more_rows.eq(job.more_rows),
            writer.more_groups.eq(job.more_groups),
            writer.place.eq(job.dst),
            writer.tail.eq(job.tail),
        ]
        self._streams(m, is_softmax, reader, writer)
        self._parameters(m, body)
        return m

    def _set_job(
        self,
        m: Module,
        job: data.View,
        is_softmax: Signal,
        body: Signal,
        final: Signal,
        more_rows: Signal,
    ) -> None:
        """Store what reader and writer need of the instruction; ``final``: a row's last element."""
        softmax, layernorm = _fields(Op.SOFTMAX, body), _fields(Op.LAYERNORM, body)
        lanes = self._config.lanes
        lane_bits = ceil_log2(lanes)
        m.d.sync += [
            job.more_rows.eq(more_rows),
            job.more_groups.eq(final >> lane_bits),
            job.tail.eq(Cat(final[:lane_bits] >= k for k in range(lanes))),
            job.src.mem.eq(~is_softmax),
            job.dst.mem.eq(~is_softmax & layernorm.dst_mem),
            job.mask_en.eq(is_softmax & softmax.mask_en),
            job.mask.word.eq(softmax.mask),
            job.mask.stride.eq(softmax.mask_stride),
            job.length.eq(softmax.len0),
            job.length_step.eq(softmax.len_step),
        ]
        for role in ("src", "dst"):
            for name, part in ((role, "word"), (f"{role}_stride", "stride")):
                value = Mux(is_softmax, softmax[name], layernorm[name])
                m.d.sync += job[role][part].eq(value)

    def _streams(
        self, m: Module, is_softmax: Signal, reader: RowReader, writer: GroupWriter
    ) -> None:
        """Lead the beats from the reader through one of the two components to the writer."""
        m.submodules.softmax = softmax = self._softmax
        m.submodules.layernorm = layernorm = self._layernorm
        to_softmax = Signal(attrs={"keep": 1})  # for the handshakes, apart from what selects data
        m.d.sync += to_softmax.eq(is_softmax)
        beat, lanes = reader.o.payload, self._config.lanes
        m.d.comb += [
            softmax.i.valid.eq(reader.o.valid & to_softmax),
            softmax.i.payload.x.eq(Cat(beat.data.word_select(k, 16)[:8] for k in range(lanes))),
            softmax.i.payload.keep.eq(beat.keep),
            softmax.i.payload.last.eq(beat.last),
            layernorm.i.valid.eq(reader.o.valid & ~to_softmax),
            layernorm.i.payload.x.eq(beat.data),
            layernorm.i.payload.valid.eq(beat.valid),
            layernorm.i.payload.last.eq(beat.last),
            reader.o.ready.eq(Mux(to_softmax, softmax.i.ready, layernorm.i.ready)),
        ]
        codes = Cat(Cat(softmax.o.payload.p[k], Const(0, 8)) for k in range(lanes))
        m.d.comb += [
            writer.i.valid.eq(Mux(to_softmax, softmax.o.valid, layernorm.o.valid)),
            writer.i.payload.eq(Mux(is_softmax, codes, layernorm.o.payload.y.as_value())),
            softmax.o.ready.eq(writer.i.ready & to_softmax),
            layernorm.o.ready.eq(writer.i.ready & ~to_softmax),
        ]

    def _parameters(self, m: Module, body: Signal) -> None:
        """Connect tables, parameters and the constants of the instruction."""
        softmax, layernorm = self._softmax, self._layernorm
        fields = _fields(Op.LAYERNORM, body)
        m.d.comb += [
            softmax.exp.eq(self.exp_data),
            self.param.addr.eq(fields.param + layernorm.param_index),
            layernorm.param_data.eq(self.param.data),
        ]
        for k, address in enumerate(self.exp_addr):
            m.d.comb += [
                address.index.eq(softmax.index[k]),
                address.table.eq(_fields(Op.SOFTMAX, body).table),
            ]
        for name in ("n", "eps", "zero_point", "lo", "hi"):
            m.d.comb += getattr(layernorm, name).eq(fields[name])


def _fields(op: Op, body: Signal) -> data.View:
    layout = operation_layout(op)
    return data.View(layout, body[: layout.size])
