"""FETCH_STREAM: beats of external memory to columns of weights."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intformer.config import CoreConfig

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
    """Columns to make of the next beats, at least 1."""

    def __init__(self) -> None:
        super().__init__({"columns": 24, "int4": 1})


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
    column, valid, last: ``Out``; a column, for one cycle; ``last`` of its job.
    idle: ``Out(1)``; no job, and no column under way.
    """

    def __init__(self, config: CoreConfig) -> None:
        self._config = config
        super().__init__(
            {
                "job": In(stream.Signature(StreamJob())),
                "beats": In(stream.Signature(8 * config.bus_bytes)),
                "room": In(1),
                "begin": Out(1),
                "column": Out(8 * config.rows),
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
        ends_column = beat == Mux(int4, count4 - 1, count8 - 1)
        ends_job = ends_column & columns[-1]
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
                m.d.sync += [beat.eq(0), columns.eq(columns - 1)]
            self._place(m, beat=beat, int4=int4)
        with m.If(self.job.ready):
            m.d.sync += [
                int4.eq(self.job.payload.int4),
                columns.eq(self.job.payload.columns - 2),
                active.eq(self.job.valid),
            ]
        return m

    def _place(self, m: Module, *, beat: Value, int4: Value) -> None:
        """Write the weights of a beat to their rows of the column."""
        payload, bus = self.beats.payload, self._config.bus_bytes
        for row in range(self._config.rows):
            weight = self.column.word_select(row, 8)
            nibble = payload.word_select(row % (2 * bus), 4)
            with m.If(int4 & (beat == row // (2 * bus))):
                m.d.sync += weight.eq(Cat(nibble, nibble[3].replicate(4)))
            with m.Elif(~int4 & (beat == row // bus)):
                m.d.sync += weight.eq(payload.word_select(row % bus, 8))
