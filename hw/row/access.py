"""The row unit's access to the scratchpads: rows as streams of beats."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intformer.config import CoreConfig
from intformer.hw.parts.access import RESPONSES, GroupReader
from intformer.hw.parts.streams import CreditFifo, delay
from intformer.hw.parts.walk import KeepCounter, RowAddress, place_layout
from intformer.hw.ports import READ_LATENCY, NarrowReadPort

__all__ = ["RowReader", "row_job_layout"]


def row_job_layout() -> data.StructLayout:
    """What the reader and the writer know of an instruction; ``more``: beyond the first."""
    return data.StructLayout(
        {
            "more_rows": 12,
            "more_groups": 10,
            "tail": 16,
            "src": place_layout(),
            "dst": place_layout(),
            "mask_en": 1,
            "mask": place_layout(),
            "length": 12,
            "length_step": 1,
        }
    )


class RowReader(wiring.Component):
    """Reads rows, and their masks, as beats. One beat per cycle, or per two with a mask.

    Members
    -------
    load: ``In(1)``; begin with ``job``, which is constant until the last beat has left.
    job: ``In`` of :func:`row_job_layout`.
    o: ``Out(stream)`` of ``{data: 16*lanes, valid: lanes, keep: lanes, last: 1}``: the codes of a
        lane group, bytes sign-extended; its lanes that are part of the row; those of them that
        are kept; last of the row.
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
                "load": In(1),
                "job": In(row_job_layout()),
                "o": Out(stream.Signature(self._beat)),
                "act_read": Out(NarrowReadPort(8 * lanes)),
                "wide_read": Out(NarrowReadPort(16 * lanes)),
                "stall": Out(1),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.source = source = GroupReader(self._config)
        m.submodules.responses = responses = CreditFifo(self._beat, depth=RESPONSES)
        wiring.connect(m, wiring.flipped(self.o), responses.o)
        wiring.connect(m, wiring.flipped(self.wide_read), source.wide)
        job = self.job
        m.d.comb += [
            source.load.eq(self.load),
            source.more_rows.eq(job.more_rows),
            source.more_groups.eq(job.more_groups),
            source.place.eq(job.src),
            responses.take.eq(source.taken),
            responses.push.eq(source.arrives),
        ]
        mask_arrives = self._requests(m, source, responses.room)
        self._beats(m, source, mask_arrives, responses.i)
        return m

    def _requests(self, m: Module, source: GroupReader, room: Signal) -> Signal:
        """Ask for the mask of a group before its data; returns whether a mask arrives."""
        m.submodules.mask = mask = RowAddress(self._config)
        asks_mask, wants_mask, mask_taken = Signal(), Signal(), Signal()
        act, port = self.act_read, source.act
        m.d.comb += [
            mask.load.eq(self.load),
            mask.place.eq(self.job.mask),
            mask.step.eq(source.taken),
            mask.last.eq(source.last),
            source.room.eq(room & ~asks_mask),
            port.data.eq(act.data),
            port.req.ready.eq(act.req.ready),
            act.req.valid.eq(port.req.valid | wants_mask),
            act.req.payload.word.eq(Mux(asks_mask, mask.word, port.req.payload.word)),
            act.req.payload.sub.eq(Mux(asks_mask, mask.sub, port.req.payload.sub)),
            wants_mask.eq(asks_mask & source.active),
            mask_taken.eq(wants_mask & act.req.ready),
            self.stall.eq(source.stall | (wants_mask & ~act.req.ready)),
        ]
        with m.If(self.load | source.taken):
            m.d.sync += asks_mask.eq(self.job.mask_en)
        with m.Elif(mask_taken):
            m.d.sync += asks_mask.eq(0)
        return delay(m, mask_taken, READ_LATENCY, name="mask_taken")

    def _beats(self, m: Module, source: GroupReader, mask_arrives: Signal, beat: data.View) -> None:
        """Join data, mask and what is known of the group into ``beat``."""
        lanes, job = self._config.lanes, self.job
        m.submodules.keep = keep = KeepCounter(self._config)
        m.d.comb += [
            keep.load.eq(self.load),
            keep.length.eq(job.length),
            keep.length_step.eq(job.length_step),
            keep.step.eq(source.taken),
            keep.last.eq(source.last),
        ]
        allowed = Signal(lanes)
        codes = self.act_read.data
        with m.If(mask_arrives):
            m.d.sync += allowed.eq(Cat(codes[8 * k : 8 * k + 8].any() for k in range(lanes)))
        with m.Elif(~job.mask_en):
            m.d.sync += allowed.eq(-1)
        valid = job.tail[:lanes] | (~source.last).replicate(lanes)
        valid = delay(m, valid, READ_LATENCY, name="valid", reset_less=True)
        kept = delay(m, keep.keep, READ_LATENCY - 1, name="keep", reset_less=True)
        m.d.comb += [
            beat.data.eq(source.data),
            beat.valid.eq(valid),
            beat.keep.eq(valid & kept & allowed),
            beat.last.eq(delay(m, source.last, READ_LATENCY, name="last", reset_less=True)),
        ]
