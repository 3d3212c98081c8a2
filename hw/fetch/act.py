"""FETCH_ACT: words of the activation scratchpad to columns of weights."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intformer.config import CoreConfig
from intformer.hw.parts.streams import delay
from intformer.hw.ports import READ_LATENCY, WidePort

__all__ = ["ActColumns", "ActJob"]


class ActJob(data.StructLayout):
    """The fields of FETCH_ACT, ``tile_stride``: ``cols`` times ``stride``, and ``first``: the
    address of the first column to read, ``cols - 1`` columns from ``base``.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "base": 18,
                "first": 18,
                "stride": 12,
                "n": 16,
                "n_tiles": 12,
                "k_tiles": 12,
                "k_last": 7,
                "tile_stride": 18,
            }
        )


class ActColumns(wiring.Component):
    """Reads columns of a stationary operand, in the order of :attr:`intformer.isa.Op.FETCH_ACT`.

    One column per cycle while ``room`` holds and the scratchpad is ready, also from one job to
    the next. Columns past ``n`` read as 0, and so do the lanes past the contraction's end.

    Members
    -------
    job: ``In(stream)`` of :class:`ActJob`; ``n_tiles`` and ``k_tiles`` at least 1.
    act: ``Out(WidePort)``.
    room: ``In(1)``; there is a place for one more column. Holds until it is taken.
    begin: ``Out(1)``; a column has been asked for: it takes a place.
    column, valid, last: ``Out``; a column, for one cycle, ``READ_LATENCY + 1`` cycles after
        ``begin``; ``last`` of its job.
    idle: ``Out(1)``; no job, and no column under way.
    active: ``Out(1)``; a job has columns to ask for.
    """

    def __init__(self, config: CoreConfig) -> None:
        self._rows, self._cols = config.rows, config.cols
        super().__init__(
            {
                "job": In(stream.Signature(ActJob())),
                "act": Out(WidePort(config)),
                "room": In(1),
                "begin": Out(1),
                "column": Out(8 * config.rows),
                "valid": Out(1),
                "last": Out(1),
                "idle": Out(1),
                "active": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        start = self.job.payload
        job = Signal(ActJob(), reset_less=True)  # n: what is left
        # One less than are left after this one, so that the sign tells the last.
        tiles, depth = Signal(signed(13)), Signal(signed(13))
        whole_depth = Signal(signed(13), reset_less=True)
        addr = Signal(18, reset_less=True)
        next_depth = Signal(18, reset_less=True)  # first column of the next contraction tile
        next_tile = Signal(18, reset_less=True)  # and of the next tile of columns
        column = Signal(range(self._cols))
        first = Signal()  # `column` is 0, the last to be read
        top = self._cols - 1
        ends_k = depth[-1]
        ends_tile = first & ends_k
        ends_job = ends_tile & tiles[-1]
        new_job = ~self.active | ends_job
        m.d.comb += [
            self.act.req.valid.eq(self.active & self.room),
            self.act.req.payload.eq(addr),
            self.begin.eq(self.act.req.valid & self.act.req.ready),
            self.job.ready.eq(~self.active | (self.begin & ends_job)),
        ]
        # The scratchpad's answer comes late. It decides only whether these registers load; what
        # they load is known before.
        with m.If(~self.active | self.begin):
            m.d.sync += [addr.eq(addr - job.stride), column.eq(column - 1), first.eq(column == 1)]
            with m.If(first):
                m.d.sync += [
                    column.eq(top),
                    first.eq(top == 0),
                    addr.eq(next_depth),
                    next_depth.eq(next_depth + 1),
                    depth.eq(depth - 1),
                ]
            with m.If(ends_tile):
                m.d.sync += [
                    addr.eq(next_tile),
                    next_depth.eq(next_tile + 1),
                    next_tile.eq(next_tile + job.tile_stride),
                    depth.eq(whole_depth),
                    job.n.eq(Mux(job.n > self._cols, job.n - self._cols, 0)),
                    tiles.eq(tiles - 1),
                ]
            with m.If(new_job):
                m.d.sync += [
                    job.eq(start),
                    addr.eq(start.first),
                    next_depth.eq(start.first + 1),
                    next_tile.eq(start.first + start.tile_stride),
                    depth.eq(start.k_tiles - 2),
                    whole_depth.eq(start.k_tiles - 2),
                    tiles.eq(start.n_tiles - 2),
                    column.eq(top),
                    first.eq(top == 0),
                    self.active.eq(self.job.valid),
                ]
        self._receive(m, some=column < job.n, ends_k=ends_k, k_last=job.k_last, last=ends_job)
        return m

    def _receive(
        self, m: Module, *, some: Value, ends_k: Value, k_last: Value, last: Value
    ) -> None:
        """Mask the data of the read that begins in this cycle, when it arrives."""
        rows = self._rows
        begun = Signal()
        keep = Signal(range(rows + 1), reset_less=True)
        mask = Signal(rows, reset_less=True)
        m.d.sync += [
            begun.eq(self.begin),
            keep.eq(Mux(some, Mux(ends_k, k_last, rows), 0)),
            mask.eq(Cat(row < keep for row in range(rows))),
        ]
        kept = delay(m, mask, READ_LATENCY - 2, name="mask")
        valid, waiting = begun, self.active | begun
        for _ in range(READ_LATENCY - 1):
            valid = delay(m, valid, 1, name="valid")
            waiting = waiting | valid
        m.d.sync += [
            self.valid.eq(valid),
            self.last.eq(delay(m, last, READ_LATENCY, name="last")),
            self.column.eq(
                Cat(
                    self.act.data.word_select(row, 8) & kept[row].replicate(8)
                    for row in range(rows)
                )
            ),
        ]
        m.d.comb += self.idle.eq(~(waiting | self.valid))
