"""The row unit: SOFTMAX, LAYERNORM and ROWSCALE on rows in the scratchpads."""

from __future__ import annotations

from functools import cache

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from amaranth.utils import ceil_log2

from intformer.config import CoreConfig
from intformer.hw.parts.access import GroupWriter
from intformer.hw.parts.streams import delay, row_beats
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
from intformer.hw.row.timing import RowTiming
from intformer.hw.units.row_scale import RowScale
from intformer.isa import Op
from intformer.reference import EXP_BITS

__all__ = ["RowUnit"]

_OVERHEAD = 6 + READ_LATENCY
"""Cycles from the instruction to the first beat, and from the last to ``done``."""


@cache
def _scale_timing(lanes: int, row_max: int) -> RowTiming:
    """Latency and throughput of :class:`RowScale`."""
    scale = RowScale(lanes=lanes, row_max=row_max)
    return RowTiming(lanes=lanes, latency_of_beat=scale.latency, passes=2, serial_cycles=1)


class RowUnit(wiring.Component):
    """Executes SOFTMAX and LAYERNORM, and ROWSCALE if the core has ``row_scales``;
    :mod:`intformer.isa` defines them.

    One instruction at a time; its rows overlap in the pipelines of :class:`RowSoftmax`,
    :class:`RowLayerNorm` and :class:`RowScale`. ``rows`` and ``n`` are at least 1, and ``n`` at
    most ``config.row_max`` (ROWSCALE: ``config.row_scales``). Source and destination may be the
    same rows.

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
        self._scale = None
        if config.row_scales:
            self._scale = RowScale(lanes=lanes, row_max=config.row_scales, target=target)
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
        elif op == Op.ROWSCALE:
            timing = _scale_timing(config.lanes, config.row_scales)
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
        connect(m, flipped(self.act_read), reader.act_read)
        connect(m, flipped(self.wide_read), reader.wide_read)
        connect(m, flipped(self.act_write), writer.act)

        body, job = Signal(BODY_BITS), Signal(row_job_layout())
        final, more_rows = Signal(11 if self._scale is None else 13), Signal(12)
        is_softmax = Signal()
        is_scale = None if self._scale is None else Signal(name="is_scale")
        unit, start = self.unit, Signal()
        active, stall = writer.active, reader.stall | writer.stall
        if is_scale is None:
            connect(m, flipped(self.wide_write), writer.wide)
        else:
            factors = self._factors(m, is_scale, start, body, job, writer)
            active, stall = active | factors.active, stall | factors.stall
        # What is offered is taken over and over until it counts: the registers are many, and far.
        follows = Signal(init=1, attrs={"keep": 1})
        given = unit.cmd.payload
        with m.If(follows):
            m.d.sync += body.eq(given.body)
        with m.FSM():
            with m.State("idle"):
                m.d.comb += unit.cmd.ready.eq(1)
                with m.If(unit.cmd.valid):
                    sizes = _fields(Op.SOFTMAX, given.body)  # alike in LAYERNORM
                    m.d.sync += [
                        is_softmax.eq(given.op == Op.SOFTMAX),
                        follows.eq(0),
                        final.eq(sizes.n - 1),
                        more_rows.eq(sizes.rows - 1),
                    ]
                    if is_scale is not None:
                        m.d.sync += is_scale.eq(given.op == Op.ROWSCALE)
                        with m.If(given.op == Op.ROWSCALE):
                            m.d.sync += final.eq(_fields(Op.ROWSCALE, given.body).n - 1)
                    m.next = "prepare"
            with m.State("prepare"):
                m.d.comb += unit.busy.eq(1)
                m.d.sync += start.eq(1)
                self._set_job(m, job, is_softmax, is_scale, body, final, more_rows)
                m.next = "start"
            with m.State("start"):
                m.d.comb += unit.busy.eq(1)
                m.d.sync += start.eq(0)
                m.next = "run"
            with m.State("run"):
                m.d.comb += unit.busy.eq(1)
                with m.If(~active):
                    m.d.comb += unit.done.eq(1)
                    m.d.sync += follows.eq(1)
                    m.next = "idle"
        m.d.comb += unit.stall.eq(stall)
        m.d.comb += [
            reader.load.eq(start),
            reader.job.eq(job),
            writer.load.eq(start),
            writer.more_rows.eq(job.more_rows),
            writer.more_groups.eq(job.more_groups),
            writer.place.eq(job.dst),
            writer.tail.eq(job.tail),
        ]
        self._streams(m, is_softmax, is_scale, reader, writer)
        self._parameters(m, body)
        return m

    def _set_job(
        self,
        m: Module,
        job: data.View,
        is_softmax: Signal,
        is_scale: Signal | None,
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
        if is_scale is not None:
            scale = _fields(Op.ROWSCALE, body)
            with m.If(is_scale):
                m.d.sync += job.dst.mem.eq(0)
                for role in ("src", "dst"):
                    m.d.sync += job[role].word.eq(scale[role])
                    m.d.sync += job[role].stride.eq(scale[f"{role}_stride"])

    def _streams(
        self,
        m: Module,
        is_softmax: Signal,
        is_scale: Signal | None,
        reader: RowReader,
        writer: GroupWriter,
    ) -> None:
        """Lead the beats from the reader through one of the components to the writer."""
        m.submodules.softmax = softmax = self._softmax
        m.submodules.layernorm = layernorm = self._layernorm
        to_softmax = Signal(attrs={"keep": 1})  # for the handshakes, apart from what selects data
        m.d.sync += to_softmax.eq(is_softmax)
        to_layernorm: Value = ~to_softmax
        beat, lanes = reader.o.payload, self._config.lanes
        ready = Mux(to_softmax, softmax.i.ready, layernorm.i.ready)
        valid = Mux(to_softmax, softmax.o.valid, layernorm.o.valid)
        codes = Cat(Cat(softmax.o.payload.p[k], Const(0, 8)) for k in range(lanes))
        result = Mux(is_softmax, codes, layernorm.o.payload.y.as_value())
        if self._scale is not None:
            assert is_scale is not None
            m.submodules.scale = scale = self._scale
            to_scale, to_layernorm = Signal(attrs={"keep": 1}), Signal(attrs={"keep": 1})
            m.d.sync += [to_scale.eq(is_scale), to_layernorm.eq(~is_softmax & ~is_scale)]
            m.d.comb += [
                scale.i.valid.eq(reader.o.valid & to_scale),
                scale.i.payload.x.eq(beat.data),
                scale.i.payload.keep.eq(beat.valid),
                scale.i.payload.last.eq(beat.last),
                scale.o.ready.eq(writer.i.ready & to_scale),
            ]
            ready = Mux(to_scale, scale.i.ready, ready)
            valid = Mux(to_scale, scale.o.valid, valid)
            codes = Cat(Cat(scale.o.payload.y[k], Const(0, 8)) for k in range(lanes))
            result = Mux(is_scale, codes, result)
        m.d.comb += [
            softmax.i.valid.eq(reader.o.valid & to_softmax),
            softmax.i.payload.x.eq(Cat(beat.data.word_select(k, 16)[:8] for k in range(lanes))),
            softmax.i.payload.keep.eq(beat.keep),
            softmax.i.payload.last.eq(beat.last),
            layernorm.i.valid.eq(reader.o.valid & to_layernorm),
            layernorm.i.payload.x.eq(beat.data),
            layernorm.i.payload.valid.eq(beat.valid),
            layernorm.i.payload.last.eq(beat.last),
            reader.o.ready.eq(ready),
        ]
        m.d.comb += [
            writer.i.valid.eq(valid),
            writer.i.payload.eq(result),
            softmax.o.ready.eq(writer.i.ready & to_softmax),
            layernorm.o.ready.eq(writer.i.ready & to_layernorm),
        ]

    def _factors(
        self,
        m: Module,
        is_scale: Signal,
        start: Signal,
        body: Signal,
        job: data.View,
        writer: GroupWriter,
    ) -> GroupWriter:
        """Write the rows' factors to wide, whose port codes of ROWSCALE do not need."""
        scale = self._scale
        assert scale is not None
        m.submodules.factors = factors = GroupWriter(self._config)
        fields = _fields(Op.ROWSCALE, body)
        top = scale.top.payload
        m.d.comb += [
            factors.load.eq(delay(m, start & is_scale, 1, name="load_factors", keep=True)),
            factors.more_rows.eq(job.more_rows),
            factors.place.mem.eq(1),
            factors.place.word.eq(fields.factor),
            factors.place.stride.eq(fields.factor_stride),
            factors.tail.eq(1),
            factors.i.valid.eq(scale.top.valid),
            factors.i.payload.eq(top[:-1] | top[-1].replicate(len(top) - 1)),  # at most 32767
            scale.top.ready.eq(factors.i.ready),
        ]
        chosen = Signal(attrs={"keep": 1})
        m.d.sync += chosen.eq(is_scale)
        # Only one of the two has a write for wide.
        port, codes, ours = self.wide_write.req, writer.wide.req, factors.wide.req
        m.d.comb += [
            port.valid.eq(codes.valid | ours.valid),
            port.payload.eq(Mux(chosen, ours.payload, codes.payload)),
            codes.ready.eq(port.ready),
            ours.ready.eq(port.ready),
        ]
        return factors

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
