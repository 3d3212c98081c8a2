"""The FETCH unit: fills the column FIFO with weights."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from intformer.config import CoreConfig
from intformer.hw.columns import column_layout, scale_beats
from intformer.hw.fetch.act import ActColumns, ActJob
from intformer.hw.fetch.stream import StreamColumns, column_beats, times
from intformer.hw.memory.bursts import BurstReader
from intformer.hw.parts.streams import CreditFifo, delay
from intformer.hw.ports import ReadBurstPort, UnitPort, WidePort, operation_layout
from intformer.isa import Op

__all__ = ["FetchUnit"]

_BEAT_BITS = 30
"""Beats of an instruction: 24 bits of columns, at most 64 beats each."""


class FetchUnit(wiring.Component):
    """FETCH_STREAM and FETCH_ACT, and the column FIFO.

    Parameters
    ----------
    config: the core's parameters.
    tiles: weight tiles that the column FIFO holds.
    beats: beats that can be under way or stored; covers the latency of external memory.

    Members
    -------
    unit: ``In(UnitPort)``. Numbers of columns and tiles are at least 1.
    act: ``Out(WidePort)``; for FETCH_ACT.
    mem: ``Out(ReadBurstPort)``; for FETCH_STREAM. Beats of the next FETCH_STREAM are asked for
        while the one before is still being unpacked.
    columns: ``Out(stream)`` of :func:`~intformer.hw.columns.column_layout`.

    Notes
    -----
    One beat, or one word of ``act``, per cycle. An instruction is done when its last column is
    put in the FIFO. ``stall``: an instruction is held, and no beat or word was taken.
    """

    def __init__(self, config: CoreConfig, *, tiles: int = 2, beats: int = 64) -> None:
        self._config = config
        self._columns = tiles * config.cols
        self._beats = beats
        super().__init__(
            {
                "unit": In(UnitPort()),
                "act": Out(WidePort(config)),
                "mem": Out(ReadBurstPort(config)),
                "columns": Out(stream.Signature(column_layout(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        config = self._config
        m = Module()
        m.submodules.reader = reader = BurstReader(config, beat_bits=_BEAT_BITS, depth=self._beats)
        m.submodules.from_stream = from_stream = StreamColumns(config)
        m.submodules.from_act = from_act = ActColumns(config)
        connect(m, reader.mem, flipped(self.mem))
        connect(m, reader.o, from_stream.beats)
        connect(m, from_act.act, flipped(self.act))
        self._decode(m, reader, from_stream, from_act)
        self._store(m, from_stream, from_act)

        taken = from_act.begin | (from_stream.beats.valid & from_stream.beats.ready)
        begin = self.unit.cmd.valid & self.unit.cmd.ready
        held = Signal(3)  # instructions: one decoded, one running, one leaving
        m.d.sync += held.eq(held + begin - self.unit.done)
        m.d.comb += [
            self.unit.busy.eq(held != 0),
            self.unit.stall.eq(self.unit.busy & ~taken & ~self.unit.done),
        ]
        return m

    def _decode(
        self,
        m: Module,
        reader: BurstReader,
        from_stream: StreamColumns,
        from_act: ActColumns,
    ) -> None:
        """Keep one instruction, and hand it over in order; start to read its beats at once."""
        config, cmd = self._config, self.unit.cmd
        body = cmd.payload.body
        streamed, stored = (
            data.View(layout, body[: layout.size])
            for layout in map(operation_layout, (Op.FETCH_STREAM, Op.FETCH_ACT))
        )
        is_act = cmd.payload.op == Op.FETCH_ACT
        full, act, asking = Signal(), Signal(), Signal()
        ext = Signal(32, reset_less=True)
        stream_job = Signal(from_stream.job.p.shape(), reset_less=True)
        act_job = Signal(ActJob(), reset_less=True)
        beats = [
            times(stream_job.columns, column_beats(config, int4=int4)) for int4 in (False, True)
        ]
        wanted = Mux(stream_job.int4, beats[1], beats[0])
        take = cmd.valid & cmd.ready
        valid, asked = asking, reader.i.ready
        if config.group_scales:
            wanted, known = self._count_scales(m, streamed, stream_job, take, wanted)
            valid = asking & known
            asked &= valid
        m.d.comb += [reader.i.valid.eq(valid), reader.i.payload.beats.eq(wanted)]
        settled = delay(m, full, 2, name="full")  # what follows from the fields is known
        m.d.comb += [
            cmd.ready.eq(~full & ~asking),
            reader.i.payload.addr.eq(ext),
            from_stream.job.payload.eq(stream_job),
            from_act.job.payload.eq(act_job),
            # A job begins only when the other kind's columns are all in the FIFO.
            from_stream.job.valid.eq(full & ~act & from_act.idle),
            from_act.job.valid.eq(full & settled & act & from_stream.idle),
        ]
        m.d.sync += [
            act_job.tile_stride.eq(times(act_job.stride, config.cols)),
            act_job.first.eq(act_job.base + act_job.tile_stride - act_job.stride),
        ]
        with m.If(take):
            m.d.sync += [
                full.eq(1),
                asking.eq(~is_act),
                act.eq(is_act),
                ext.eq(streamed.ext),
                stream_job.columns.eq(streamed.columns),
                stream_job.int4.eq(streamed.int4),
            ]
            for name in operation_layout(Op.FETCH_ACT).members:
                m.d.sync += act_job[name].eq(stored[name])
        with m.Elif(asked):
            m.d.sync += asking.eq(0)
        for job in (from_stream.job, from_act.job):
            with m.If(job.valid & job.ready):
                m.d.sync += full.eq(0)

    def _count_scales(
        self, m: Module, fields: Any, job: Any, take: Value, beats: Value
    ) -> tuple[Signal, Signal]:
        """Beats of weights and scales, and whether they are known, one cycle after the fields."""
        scales = Signal.like(fields.scales, reset_less=True)
        total = Signal(_BEAT_BITS, reset_less=True)
        known = Signal()
        with m.If(take):
            m.d.sync += [
                scales.eq(fields.scales),
                job.group_tiles.eq(fields.group_tiles),
                job.grouped.eq(fields.scales.any()),
            ]
        m.d.sync += [
            known.eq(~take),
            total.eq(beats + times(scales, scale_beats(self._config))),
        ]
        return total, known

    def _store(self, m: Module, from_stream: StreamColumns, from_act: ActColumns) -> None:
        """The column FIFO. Places are taken when a column begins, so it never refuses one."""
        layout = column_layout(self._config)
        m.submodules.fifo = fifo = CreditFifo(layout, depth=self._columns)
        word = Signal(layout)  # of `act`: no scales
        m.d.comb += word.weights.eq(from_act.column)
        connect(m, fifo.o, flipped(self.columns))
        m.d.comb += [
            from_stream.room.eq(fifo.room),
            from_act.room.eq(fifo.room),
            fifo.take.eq(from_stream.begin | from_act.begin),
            fifo.push.eq(from_stream.valid | from_act.valid),
            fifo.i.eq(Mux(from_act.valid, word.as_value(), from_stream.column.as_value())),
            self.unit.done.eq(
                (from_stream.valid & from_stream.last) | (from_act.valid & from_act.last)
            ),
        ]
