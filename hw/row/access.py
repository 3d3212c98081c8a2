"""The row unit's access to the scratchpads: rows as streams of beats."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intformer.config import CoreConfig
from intformer.hw.parts.streams import CreditFifo, delay
from intformer.hw.parts.walk import RowAddress, RowCounter
from intformer.hw.ports import READ_LATENCY, NarrowReadPort, WritePort

__all__ = ["RowReader", "RowWriter", "row_job_layout"]

_RESPONSES = 8  # more than the cycles from a request to the release of its place


def row_job_layout() -> data.StructLayout:
    """What the reader and the writer know of an instruction."""
    return data.StructLayout(
        {
            "rows": 12,
            "n": 11,
            "src_wide": 1,
            "src": 18,
            "src_stride": 12,
            "dst_wide": 1,
            "dst": 18,
            "dst_stride": 12,
            "mask_en": 1,
            "mask": 18,
            "mask_stride": 12,
            "length": 12,
            "length_step": 1,
        }
    )


class RowReader(wiring.Component):
    """Reads rows, and their masks, as beats. One beat per cycle, or per two with a mask.

    Members
    -------
    start: ``In(1)``; begin with ``job``, which is constant until the last beat has left.
    job: ``In`` of :func:`row_job_layout`.
    o: ``Out(stream)`` of ``{data: 16*lanes, valid: lanes, keep: lanes, last: 1}``: a lane
        group of the wide scratchpad, or one of the activation scratchpad in the low half; its
        lanes that are part of the row; those of them that are kept; last of the row.
    act_read, wide_read: to the scratchpads.
    stall: ``Out(1)``; a request waits for its port.
    """

    def __init__(self, config: CoreConfig) -> None:
        self._config = config
        lanes = config.lanes
        self._beat = data.StructLayout(
            {"data": 16 * lanes, "valid": lanes, "keep": lanes, "last": 1}
        )
        super().__init__(
            {
                "start": In(1),
                "job": In(row_job_layout()),
                "o": Out(stream.Signature(self._beat)),
                "act_read": Out(NarrowReadPort(8 * lanes)),
                "wide_read": Out(NarrowReadPort(16 * lanes)),
                "stall": Out(1),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.counter = counter = RowCounter(self._config)
        m.submodules.responses = responses = CreditFifo(self._beat, depth=_RESPONSES)
        wiring.connect(m, wiring.flipped(self.o), responses.o)
        job = self.job
        asks_mask, request, taken, data_taken = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            request.eq(counter.active & responses.room),
            taken.eq(
                request & Mux(job.src_wide, self.wide_read.req.ready, self.act_read.req.ready)
            ),
            data_taken.eq(taken & ~asks_mask),
            responses.take.eq(data_taken),
            self.stall.eq(request & ~taken),
            counter.load.eq(self.start),
            counter.rows.eq(job.rows),
            counter.n.eq(job.n),
            counter.length.eq(job.length),
            counter.length_step.eq(job.length_step),
            counter.step.eq(data_taken),
        ]
        # The mask of a group is read before its data.
        with m.If(self.start):
            m.d.sync += asks_mask.eq(job.mask_en)
        with m.Elif(taken & job.mask_en):
            m.d.sync += asks_mask.eq(~asks_mask)
        self._requests(m, counter, request, asks_mask, data_taken)
        mask_arrives = delay(m, taken & asks_mask, READ_LATENCY, name="mask_taken")
        m.d.comb += responses.push.eq(delay(m, data_taken, READ_LATENCY, name="data_taken"))
        self._beats(m, counter, mask_arrives, responses.i)
        return m

    def _requests(
        self, m: Module, counter: RowCounter, request: Signal, asks_mask: Signal, step: Signal
    ) -> None:
        """Present the address of the source, or of the mask, at the right port."""
        job = self.job
        m.submodules.source = source = RowAddress(self._config)
        m.submodules.mask = mask = RowAddress(self._config)
        for address in (source, mask):
            m.d.comb += [
                address.load.eq(self.start),
                address.step.eq(step),
                address.last.eq(counter.last),
            ]
        m.d.comb += [
            source.base.eq(job.src),
            source.stride.eq(job.src_stride),
            source.by_word.eq(job.src_wide),
            mask.base.eq(job.mask),
            mask.stride.eq(job.mask_stride),
            self.act_read.req.valid.eq(request & ~job.src_wide),
            self.act_read.req.payload.word.eq(Mux(asks_mask, mask.word, source.word)),
            self.act_read.req.payload.sub.eq(source.sub),
            self.wide_read.req.valid.eq(request & job.src_wide),
            self.wide_read.req.payload.word.eq(source.word),
            self.wide_read.req.payload.sub.eq(0),
        ]

    def _beats(self, m: Module, counter: RowCounter, mask_arrives: Signal, beat: data.View) -> None:
        """Join data, mask and what is known of the group into ``beat``."""
        lanes = self._config.lanes
        allowed = Signal(lanes)
        act = self.act_read.data
        with m.If(mask_arrives):
            m.d.sync += allowed.eq(Cat(act[8 * k : 8 * k + 8].any() for k in range(lanes)))
        with m.Elif(~self.job.mask_en):
            m.d.sync += allowed.eq(-1)
        valid = delay(m, counter.valid, READ_LATENCY, name="valid")
        keep = delay(m, counter.keep, READ_LATENCY, name="keep")
        m.d.comb += [
            beat.data.eq(Mux(self.job.src_wide, self.wide_read.data, act)),
            beat.valid.eq(valid),
            beat.keep.eq(valid & keep & allowed),
            beat.last.eq(delay(m, counter.last, READ_LATENCY, name="last")),
        ]


class RowWriter(wiring.Component):
    """Writes beats to rows, with a mask for the row's tail.

    Members
    -------
    start, job: as for :class:`RowReader`.
    i: ``In(stream)`` of ``16*lanes`` bits; for the activation scratchpad the low byte of each
        16-bit lane counts.
    act_write, wide_write: to the scratchpads.
    active: ``Out(1)``; from the cycle after ``start`` until the last write has been taken.
    stall: ``Out(1)``; a write waits for its port.
    """

    def __init__(self, config: CoreConfig) -> None:
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "job": In(row_job_layout()),
                "i": In(stream.Signature(16 * config.lanes)),
                "act_write": Out(WritePort(config, bits=8)),
                "wide_write": Out(WritePort(config, bits=16)),
                "active": Out(1),
                "stall": Out(1),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.counter = counter = RowCounter(self._config)
        m.submodules.target = target = RowAddress(self._config)
        job, act, wide = self.job, self.act_write.req, self.wide_write.req
        taken = Signal()
        m.d.comb += [
            counter.load.eq(self.start),
            counter.rows.eq(job.rows),
            counter.n.eq(job.n),
            counter.step.eq(taken),
            target.load.eq(self.start),
            target.base.eq(job.dst),
            target.stride.eq(job.dst_stride),
            target.by_word.eq(job.dst_wide),
            target.step.eq(taken),
            target.last.eq(counter.last),
            self.active.eq(counter.active),
        ]
        for req, chosen in ((act, ~job.dst_wide), (wide, job.dst_wide)):
            m.d.comb += [
                req.valid.eq(self.i.valid & counter.active & chosen),
                req.payload.word.eq(target.word),
                req.payload.sub.eq(target.sub),
                req.payload.mask.eq(counter.valid),
            ]
        lanes = [self.i.payload.word_select(k, 16) for k in range(self._config.lanes)]
        m.d.comb += [
            act.payload.data.eq(Cat(lane[:8] for lane in lanes)),
            wide.payload.data.eq(self.i.payload),
            self.i.ready.eq(counter.active & Mux(job.dst_wide, wide.ready, act.ready)),
            taken.eq(self.i.valid & self.i.ready),
            self.stall.eq(self.i.valid & counter.active & ~taken),
        ]
        return m
