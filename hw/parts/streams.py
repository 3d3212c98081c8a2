"""Stream parts of the row units: reserved FIFOs, row by beat joining, delays.

The pipelines of the row units never stall. A beat enters one only when a place for its result
is reserved in the FIFO at the pipeline's end.
"""

from __future__ import annotations

from amaranth.hdl import Module, Shape, ShapeLike, Signal, ValueLike
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["CreditFifo", "RowJoin", "delay", "row_beats"]


def row_beats(row_max: int, lanes: int) -> int:
    """Beats of the longest row."""
    return -(-row_max // lanes)


def delay(m: Module, value: ValueLike, cycles: int, *, name: str) -> ValueLike:
    """Return ``value`` as it was ``cycles`` cycles ago, through that many registers."""
    for index in range(cycles):
        register = Signal.like(value, name=f"{name}_d{index + 1}")
        m.d.sync += register.eq(value)
        value = register
    return value


class CreditFifo(wiring.Component):
    """A FIFO whose places are reserved before they are written.

    Parameters
    ----------
    shape: shape of an entry.
    depth: entries that can be reserved or stored at once.
    registered: put a register between the memory and ``o``: for deep FIFOs, whose block RAM is
        slow to answer.

    Members
    -------
    room: ``Out(1)``; a place is free. From a register.
    take: ``In(1)``; reserve a place; only while ``room``.
    push, i: ``In``; store ``i`` in a place that was reserved in this cycle or before.
    o: ``Out(stream)`` of entries. Two cycles after ``push`` at the earliest, three if
        ``registered``; its transfer frees the place.
    """

    def __init__(self, shape: ShapeLike, *, depth: int, registered: bool = False) -> None:
        if depth < 1:
            raise ValueError(f"depth must be at least 1, not {depth!r}")
        self._shape = shape
        self._depth = depth
        self._registered = registered
        super().__init__(
            {
                "room": Out(1),
                "take": In(1),
                "push": In(1),
                "i": In(shape),
                "o": Out(stream.Signature(shape)),
            }
        )

    @property
    def depth(self) -> int:
        """Entries that can be reserved or stored at once."""
        return self._depth

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        width = Shape.cast(self._shape).width
        # One more than can be reserved: an entry on its way to the output register still
        # counts in the memory behind it.
        m.submodules.store = store = fifo.SyncFIFOBuffered(width=width, depth=self._depth + 1)
        o = self.o
        m.d.comb += [
            store.w_data.eq(self.i),
            store.w_en.eq(self.push),
        ]
        if self._registered:
            m.d.comb += store.r_en.eq(~o.valid | o.ready)
            with m.If(store.r_en):
                m.d.sync += [o.payload.eq(store.r_data), o.valid.eq(store.r_rdy)]
        else:
            m.d.comb += [
                o.payload.eq(store.r_data),
                o.valid.eq(store.r_rdy),
                store.r_en.eq(o.ready),
            ]
        free = Signal(range(self._depth + 1), init=self._depth)
        freed = o.valid & o.ready
        with m.If(self.take & ~freed):
            m.d.sync += free.eq(free - 1)
        with m.Elif(~self.take & freed):
            m.d.sync += free.eq(free + 1)
        m.d.comb += self.room.eq(free != 0)
        return m


class RowJoin(wiring.Component):
    """Give every beat of a row the parameters of its row.

    The first entry of ``rows`` belongs to the beats up to and including the first with ``last``,
    and so on; no cycle is lost between rows.

    Parameters
    ----------
    beat_shape: layout of a beat, with a member ``last``.
    row_shape: shape of the parameters of a row.

    Members
    -------
    beats, rows: ``In(stream)``.
    room: ``In(1)``; a beat may leave.
    fire: ``Out(1)``; a beat leaves: take the place that ``room`` promised.
    valid, beat, row: ``Out``; the beat and its row, one cycle after ``fire``. Cannot be held
        back.
    """

    def __init__(self, beat_shape: ShapeLike, row_shape: ShapeLike) -> None:
        super().__init__(
            {
                "beats": In(stream.Signature(beat_shape)),
                "rows": In(stream.Signature(row_shape)),
                "room": In(1),
                "fire": Out(1),
                "valid": Out(1),
                "beat": Out(beat_shape),
                "row": Out(row_shape),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        active = Signal()
        row = Signal.like(self.row)
        beats, rows = self.beats, self.rows
        m.d.comb += [
            self.fire.eq(active & beats.valid & self.room),
            beats.ready.eq(active & self.room),
            rows.ready.eq(~active | (self.fire & beats.payload.last)),
        ]
        with m.If(rows.ready):
            m.d.sync += [active.eq(rows.valid), row.eq(rows.payload)]
        m.d.sync += [
            self.valid.eq(self.fire),
            self.beat.eq(beats.payload),
            self.row.eq(row),
        ]
        return m
