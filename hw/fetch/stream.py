"""FETCH_STREAM: beats of external memory to columns of weights."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intformer.config import CoreConfig
from intformer.hw.columns import column_layout, scale_beats

__all__ = ["StreamColumns", "StreamJob", "column_beats", "times"]


def column_beats(config: CoreConfig, *, int4: bool) -> int:
    """Beats of one column of a weight stream."""
    return -(-config.rows // (config.bus_bytes * (2 if int4 else 1)))


def times(value: Value, factor: int) -> Value:
    """``value * factor`` by shifts and additions, so that no multiplier is inferred."""
    terms = [value << bit for bit in range(factor.bit_length()) if factor >> bit & 1]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total


class StreamJob(data.StructLayout):
    """Columns to make of the next beats, at least 1.

    With ``group_scales``: ``grouped``: scales come before every ``group_tiles`` tiles.
    """

    def __init__(self, config: CoreConfig) -> None:
        groups = {"group_tiles": 8, "grouped": 1} if config.group_scales else {}
        super().__init__({"columns": 24, "int4": 1, **groups})


class StreamColumns(wiring.Component):
    """Makes columns of ``rows`` int8 weights from beats of int8 or int4 weights.

    One beat per cycle, also from one job to the next.

    Members
    -------
    job: ``In(stream)`` of :class:`StreamJob`.
    beats: ``In(stream)``; each column starts with a new beat, and what is left of its last beat is
        dropped. int4: the low nibble first.
    room: ``In(1)``; there is a place for one more column; looked at for its first beat.
    begin: ``Out(1)``; a column has been begun: it takes a place.
    column, valid, last: ``Out``; a column, of :func:`~intformer.hw.columns.column_layout`, for one
        cycle; ``last`` of its job.
    idle: ``Out(1)``; no job, and no column under way.
    """

    def __init__(self, config: CoreConfig) -> None:
        self._config = config
        super().__init__(
            {
                "job": In(stream.Signature(StreamJob(config))),
                "beats": In(stream.Signature(8 * config.bus_bytes)),
                "room": In(1),
                "begin": Out(1),
                "column": Out(column_layout(config)),
                "valid": Out(1),
                "last": Out(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        count8, count4 = (column_beats(self._config, int4=int4) for int4 in (False, True))
        int4 = Signal()
        # Columns after this one, less one, so that the sign tells the last.
        columns = Signal(signed(25))
        active = Signal()
        beat = Signal(range(max(count8, 2)))  # number within the column
        take = Signal()
        group = _Group(self._config, self.job.payload) if self._config.group_scales else None
        ends_column = beat == Mux(int4, count4 - 1, count8 - 1)
        ends_job = ends_column & columns[-1]
        if group is not None:
            last = Mux(int4, count4 - 1, count8 - 1)
            ends_column = beat == Mux(group.is_scales, scale_beats(self._config) - 1, last)
            ends_job = ends_column & columns[-1] & ~group.is_scales
        m.d.comb += [
            self.beats.ready.eq(active & ((beat != 0) | self.room)),
            take.eq(self.beats.valid & self.beats.ready),
            self.begin.eq(take & (beat == 0)),
            self.job.ready.eq(~active | (take & ends_job)),
            self.idle.eq(~active & ~self.valid),
        ]
        m.d.sync += [self.valid.eq(take & ends_column), self.last.eq(ends_job)]
        with m.If(take):
            m.d.sync += beat.eq(beat + 1)
            with m.If(ends_column):
                m.d.sync += beat.eq(0)
                if group is None:
                    m.d.sync += columns.eq(columns - 1)
                else:
                    m.d.sync += columns.eq(columns - ~group.is_scales)
                    group.step(m)
            self._place(m, beat=beat, int4=int4 if group is None else int4 & ~group.is_scales)
        with m.If(self.job.ready):
            m.d.sync += [
                int4.eq(self.job.payload.int4),
                columns.eq(self.job.payload.columns - 2),
                active.eq(self.job.valid),
            ]
            if group is not None:
                group.begin(m)
        if group is not None:
            m.d.sync += [
                self.column.is_scales.eq(group.is_scales),
                self.column.scaled.eq(group.grouped),
            ]
        return m

    def _place(self, m: Module, *, beat: Value, int4: Value) -> None:
        """Write the weights of a beat to their rows of the column."""
        payload, bus = self.beats.payload, self._config.bus_bytes
        for row in range(self._config.rows):
            weight = self.column.weights.word_select(row, 8)
            nibble = payload.word_select(row % (2 * bus), 4)
            with m.If(int4 & (beat == row // (2 * bus))):
                m.d.sync += weight.eq(Cat(nibble, nibble[3].replicate(4)))
            with m.Elif(~int4 & (beat == row // bus)):
                m.d.sync += weight.eq(payload.word_select(row % bus, 8))


class _Group:
    """Where the next column stands: whether it is scales, and how much is left of the group."""

    def __init__(self, config: CoreConfig, job: data.View) -> None:
        self._job = job
        self.is_scales, self.grouped = Signal(), Signal()
        # Columns of the group after this one, less one, so that the sign tells the last.
        self._left = Signal(signed(8 + config.cols.bit_length() + 1), reset_less=True)
        self._whole = Signal.like(self._left, reset_less=True)
        self._cols = config.cols

    def begin(self, m: Module) -> None:
        """A job begins."""
        m.d.sync += [
            self.is_scales.eq(self._job.grouped),
            self.grouped.eq(self._job.grouped),
            self._whole.eq(times(self._job.group_tiles, self._cols) - 2),
        ]

    def step(self, m: Module) -> None:
        """A column ends."""
        m.d.sync += [
            self.is_scales.eq(~self.is_scales & self.grouped & self._left[-1]),
            self._left.eq(Mux(self.is_scales, self._whole, self._left - 1)),
        ]
