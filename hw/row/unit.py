"""The row unit: SOFTMAX and LAYERNORM on rows in the scratchpads."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from intformer.config import CoreConfig
from intformer.hw.parts.streams import row_beats
from intformer.hw.ports import (
    BODY_BITS,
    NarrowReadPort,
    ParamReadPort,
    UnitPort,
    WritePort,
    operation_layout,
)
from intformer.hw.row.access import RowReader, RowWriter, row_job_layout
from intformer.hw.row.layernorm import LayerNorm
from intformer.hw.row.softmax import Softmax
from intformer.isa import Op

__all__ = ["RowUnit"]

_OVERHEAD = 7  # cycles from the instruction to the first beat, and from the last to ``done``


class RowUnit(wiring.Component):
    """Executes SOFTMAX and LAYERNORM; :mod:`intformer.isa` defines them.

    One instruction at a time; its rows overlap in the pipelines of :class:`Softmax` and
    :class:`LayerNorm`. ``rows`` and ``n`` are at least 1, and ``n`` at most
    ``config.row_max``. Source and destination may be the same rows.

    Parameters
    ----------
    config: the core.

    Members
    -------
    unit: ``In(UnitPort)``.
    act_read, wide_read: ``Out(NarrowReadPort)``; one request per cycle.
    act_write, wide_write: ``Out(WritePort)``; one write per cycle.
    param: ``Out(ParamReadPort)``.
    exp_addr, exp_data: as in :class:`Softmax`.
    """

    def __init__(self, config: CoreConfig) -> None:
        self._config = config
        lanes = config.lanes
        self._softmax = Softmax(lanes=lanes, row_max=config.row_max)
        self._layernorm = LayerNorm(lanes=lanes, row_max=config.row_max)
        softmax_ports = self._softmax.signature.members
        super().__init__(
            {
                "unit": In(UnitPort()),
                "act_read": Out(NarrowReadPort(8 * lanes)),
                "wide_read": Out(NarrowReadPort(16 * lanes)),
                "act_write": Out(WritePort(config, bits=8)),
                "wide_write": Out(WritePort(config, bits=16)),
                "param": Out(ParamReadPort(config)),
                "exp_addr": softmax_ports["exp_addr"],
                "exp_data": softmax_ports["exp_data"],
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
        part = Softmax if op == Op.SOFTMAX else LayerNorm
        timing = part.timing_of(lanes=config.lanes, row_max=config.row_max)
        beats = row_beats(n, config.lanes)
        mask_beats = beats if masked else 0
        period = max(timing.row_cycles(n), beats + mask_beats)
        return _OVERHEAD + timing.latency(n) + mask_beats + (rows - 1) * period

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.reader = reader = RowReader(self._config)
        m.submodules.writer = writer = RowWriter(self._config)
        wiring.connect(m, wiring.flipped(self.act_read), reader.act_read)
        wiring.connect(m, wiring.flipped(self.wide_read), reader.wide_read)
        wiring.connect(m, wiring.flipped(self.act_write), writer.act_write)
        wiring.connect(m, wiring.flipped(self.wide_write), writer.wide_write)

        op, body = Signal(4), Signal(BODY_BITS)
        unit, start = self.unit, Signal()
        with m.FSM():
            with m.State("idle"):
                m.d.comb += unit.cmd.ready.eq(1)
                with m.If(unit.cmd.valid):
                    m.d.sync += [op.eq(unit.cmd.payload.op), body.eq(unit.cmd.payload.body)]
                    m.next = "start"
            with m.State("start"):
                m.d.comb += [start.eq(1), unit.busy.eq(1)]
                m.next = "run"
            with m.State("run"):
                m.d.comb += unit.busy.eq(1)
                with m.If(~writer.active):
                    m.d.comb += unit.done.eq(1)
                    m.next = "idle"
        m.d.comb += unit.stall.eq(reader.stall | writer.stall)
        job = _job(m, op, body)
        for part in (reader, writer):
            m.d.comb += [part.start.eq(start), part.job.eq(job)]
        self._streams(m, op, reader, writer)
        self._parameters(m, body)
        return m

    def _streams(self, m: Module, op: Signal, reader: RowReader, writer: RowWriter) -> None:
        """Lead the beats from the reader through one of the two components to the writer."""
        m.submodules.softmax = softmax = self._softmax
        m.submodules.layernorm = layernorm = self._layernorm
        is_softmax = Signal()
        beat, lanes = reader.o.payload, self._config.lanes
        m.d.comb += [
            is_softmax.eq(op == Op.SOFTMAX),
            softmax.i.valid.eq(reader.o.valid & is_softmax),
            softmax.i.payload.x.eq(beat.data[: 8 * lanes]),
            softmax.i.payload.keep.eq(beat.keep),
            softmax.i.payload.last.eq(beat.last),
            layernorm.i.valid.eq(reader.o.valid & ~is_softmax),
            layernorm.i.payload.x.eq(beat.data),
            layernorm.i.payload.valid.eq(beat.valid),
            layernorm.i.payload.last.eq(beat.last),
            reader.o.ready.eq(Mux(is_softmax, softmax.i.ready, layernorm.i.ready)),
        ]
        codes = Cat(Cat(softmax.o.payload.p[k], Const(0, 8)) for k in range(lanes))
        m.d.comb += [
            writer.i.valid.eq(Mux(is_softmax, softmax.o.valid, layernorm.o.valid)),
            writer.i.payload.eq(Mux(is_softmax, codes, layernorm.o.payload.y.as_value())),
            softmax.o.ready.eq(writer.i.ready & is_softmax),
            layernorm.o.ready.eq(writer.i.ready & ~is_softmax),
        ]

    def _parameters(self, m: Module, body: Signal) -> None:
        """Connect tables, parameters and the constants of the instruction."""
        softmax, layernorm = self._softmax, self._layernorm
        fields = _fields(Op.LAYERNORM, body)
        m.d.comb += [
            softmax.table.eq(_fields(Op.SOFTMAX, body).table),
            self.exp_addr.eq(softmax.exp_addr),
            softmax.exp_data.eq(self.exp_data),
            self.param.addr.eq(fields.param + layernorm.param_index),
            layernorm.param_data.eq(self.param.data),
        ]
        for name in ("n", "eps", "zero_point", "lo", "hi"):
            m.d.comb += getattr(layernorm, name).eq(fields[name])


def _fields(op: Op, body: Signal) -> data.View:
    layout = operation_layout(op)
    return data.View(layout, body[: layout.size])


def _job(m: Module, op: Signal, body: Signal) -> data.View:
    """What reader and writer need of the instruction."""
    job = Signal(row_job_layout())
    softmax, layernorm = _fields(Op.SOFTMAX, body), _fields(Op.LAYERNORM, body)
    with m.If(op == Op.SOFTMAX):
        for name in ("rows", "n", "src", "src_stride", "dst", "dst_stride"):
            m.d.comb += job[name].eq(softmax[name])
        for name in ("mask_en", "mask", "mask_stride"):
            m.d.comb += job[name].eq(softmax[name])
        m.d.comb += [job.length.eq(softmax.len0), job.length_step.eq(softmax.len_step)]
    with m.Else():
        for name in ("rows", "n", "src", "src_stride", "dst", "dst_stride"):
            m.d.comb += job[name].eq(layernorm[name])
        m.d.comb += [job.src_wide.eq(1), job.dst_wide.eq(layernorm.dst_mem)]
    return job
