"""FETCH_ACT: words of the activation scratchpad to columns of weights."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, ShapeLike, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intformer.config import CoreConfig
from intformer.hw.ports import READ_LATENCY, WidePort

__all__ = ["ActColumns", "ActJob"]


class ActJob(data.StructLayout):
    """The fields of FETCH_ACT and ``tile_stride``: ``cols`` times ``stride``."""

    def __init__(self) -> None:
        super().__init__(
            {
                "base": 18,
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
    column, valid, last: ``Out``; a column, for one cycle, :data:`READ_LATENCY` cycles after
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
        job = Signal(ActJob())  # n, n_tiles: what is left; base: of the tile's column cols - 1
        depth = Signal.like(job.k_tiles)  # contraction tiles left
        addr = Signal(18)
        column = Signal(range(self._cols))
        top = self._cols - 1
        ends_k = depth == 1
        ends_tile = (column == 0) & ends_k
        ends_job = ends_tile & (job.n_tiles == 1)
        tile = Signal(18)  # address of the column cols - 1, this contraction tile
        m.d.comb += [
            self.act.req.valid.eq(self.active & self.room),
            self.act.req.payload.eq(addr),
            self.begin.eq(self.act.req.valid & self.act.req.ready),
            self.job.ready.eq(~self.active | (self.begin & ends_job)),
        ]
        with m.If(self.begin):
            m.d.sync += [addr.eq(addr - job.stride), column.eq(column - 1)]
            with m.If(column == 0):
                m.d.sync += [
                    column.eq(top),
                    addr.eq(tile + 1),
                    tile.eq(tile + 1),
                    depth.eq(depth - 1),
                ]
            with m.If(ends_tile):
                following = (job.base + job.tile_stride)[:18]
                m.d.sync += [
                    addr.eq(following),
                    tile.eq(following),
                    job.base.eq(following),
                    depth.eq(job.k_tiles),
                    job.n.eq(Mux(job.n > self._cols, job.n - self._cols, 0)),
                    job.n_tiles.eq(job.n_tiles - 1),
                ]
        with m.If(self.job.ready):
            first = (start.base + start.tile_stride - start.stride)[:18]
            m.d.sync += [
                job.eq(start),
                job.base.eq(first),
                addr.eq(first),
                tile.eq(first),
                depth.eq(start.k_tiles),
                column.eq(top),
                self.active.eq(self.job.valid),
            ]
        keep = Mux(column >= job.n, 0, Mux(ends_k, job.k_last, self._rows))
        self._receive(m, keep=keep, last=ends_job)
        return m

    def _receive(self, m: Module, *, keep: Value, last: Value) -> None:
        """Mask the data of the read that begins in this cycle, when it arrives."""
        layout = data.StructLayout({"valid": 1, "last": 1, "keep": range(self._rows + 1)})
        arriving = data.View(layout, Cat(self.begin, last, _fit(m, keep, layout["keep"].shape)))
        waiting = self.active
        for stage in range(READ_LATENCY):
            previous, arriving = arriving, Signal(layout, name=f"arriving_{stage}")
            m.d.sync += arriving.eq(previous)
            waiting = waiting | arriving.valid
        m.d.comb += [
            self.valid.eq(arriving.valid),
            self.last.eq(arriving.last),
            self.idle.eq(~waiting),
        ]
        for row in range(self._rows):
            lane = self.act.data.word_select(row, 8)
            m.d.comb += self.column.word_select(row, 8).eq(Mux(row < arriving.keep, lane, 0))


def _fit(m: Module, value: Value, shape: ShapeLike) -> Signal:
    """``value`` in a signal of ``shape``."""
    fitted = Signal(shape, name="keep")
    m.d.comb += fitted.eq(value)
    return fitted
