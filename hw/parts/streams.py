"""Stream parts of the row units: reserved FIFOs, row by beat joining, delays.

The pipelines of the row units never stall. A beat enters one only when a place for its result
is reserved in the FIFO at the pipeline's end.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Shape, ShapeLike, Signal, ValueLike, signed
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, ceil_log2

__all__ = ["ClaimFifo", "CreditFifo", "RowJoin", "Skid", "Tally", "delay", "row_beats"]


def row_beats(row_max: int, lanes: int) -> int:
    """Beats of the longest row."""
    return -(-row_max // lanes)


def delay(
    m: Module,
    value: ValueLike,
    cycles: int,
    *,
    name: str,
    reset_less: bool = False,
    keep: bool = False,
) -> ValueLike:
    """Return ``value`` as it was ``cycles`` cycles ago, through that many registers.

    ``keep``: apart from other registers that hold the same.
    """
    attributes = {"keep": 1} if keep else {}
    for index in range(cycles):
        register = Signal.like(
            value, name=f"{name}_d{index + 1}", reset_less=reset_less, attrs=attributes
        )
        m.d.sync += register.eq(value)
        value = register
    return value


class Tally(wiring.Component):
    """Counts things that come and go.

    Parameters
    ----------
    maximum: most things at once; at least 1.
    init: things at the beginning.

    Members
    -------
    more, less: ``In(1)``; one more, one less; ``less`` only while ``some``.
    some: ``Out(1)``; there is at least one: straight from a register.
    """

    def __init__(self, maximum: int, *, init: int = 0) -> None:
        self._maximum = maximum
        self._init = init
        super().__init__({"more": In(1), "less": In(1), "some": Out(1)})

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        # One less than there are, so that the sign tells whether there are any.
        count = Signal(signed(bits_for(self._maximum) + 1), init=self._init - 1)
        # `less` often comes late: it only decides whether to count, not which way.
        with m.If(self.more ^ self.less):
            m.d.sync += count.eq(count + Cat(Const(1, 1), ~self.more).as_signed())
        m.d.comb += self.some.eq(~count[-1])
        return m


class _Store(wiring.Component):
    """The memory of a FIFO: ``depth`` entries, rounded up to a power of two.

    Members
    -------
    push, i: ``In``; store an entry.
    pop: ``In(1)``; read the oldest; at the earliest one cycle after its ``push``.
    o: ``Out``; the entry that the last ``pop`` read, from the cycle after it on.
    """

    def __init__(self, shape: ShapeLike, *, depth: int) -> None:
        self._bits = ceil_log2(max(depth, 2))
        super().__init__({"push": In(1), "i": In(shape), "pop": In(1), "o": Out(shape)})

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        width = Shape.cast(self.i.shape()).width
        # An entry is never read in the cycle in which it is written. With this attribute, and the
        # register apart from the read port, synthesis adds no logic for that case.
        memory = Memory(shape=width, depth=1 << self._bits, init=[], attrs={"no_rw_check": 1})
        m.submodules.memory = memory
        write, read = memory.write_port(), memory.read_port(domain="comb")
        entry = Signal(width, reset_less=True)
        with m.If(self.pop):
            m.d.sync += entry.eq(read.data)
        m.d.comb += [
            write.en.eq(self.push),
            write.data.eq(self.i),
            self.o.eq(entry),
        ]
        for port, step in ((write, self.push), (read, self.pop)):
            with m.If(step):
                m.d.sync += port.addr.eq(port.addr + 1)
        return m


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
        m.submodules.free = free = Tally(self._depth, init=self._depth)
        m.submodules.stored = stored = Tally(self._depth)
        m.submodules.store = store = _Store(self._shape, depth=self._depth)
        o = self.o
        advance = Signal()
        m.d.comb += [
            self.room.eq(free.some),
            free.less.eq(self.take),
            free.more.eq(o.valid & o.ready),
            store.push.eq(self.push),
            store.i.eq(self.i),
            stored.more.eq(self.push),
            store.pop.eq(stored.some & advance),
            stored.less.eq(store.pop),
        ]
        moves = ~o.valid | o.ready
        if self._registered:
            read = Signal()
            m.d.comb += advance.eq(~read | moves)
            with m.If(advance):
                m.d.sync += read.eq(stored.some)
            payload = Signal.like(store.o, reset_less=True)
            with m.If(moves):
                m.d.sync += [o.valid.eq(read), payload.eq(store.o)]
            m.d.comb += o.payload.eq(payload)
        else:
            m.d.comb += [advance.eq(moves), o.payload.eq(store.o)]
            with m.If(moves):
                m.d.sync += o.valid.eq(stored.some)
        return m


class ClaimFifo(wiring.Component):
    """A FIFO whose entries are claimed first, and come a fixed time later.

    So several operands meet in a pipeline without being delayed in registers.

    Parameters
    ----------
    shape: shape of an entry.
    depth: entries that can be reserved or stored at once.
    latency: cycles from ``claim`` to the entry; at least 1.

    Members
    -------
    room, take, push, i: as in :class:`CreditFifo`.
    some: ``Out(1)``; there is an entry that is not claimed: from a register, one cycle after
        its ``push``.
    claim: ``In(1)``; claim the next entry; only while ``some``.
    o: ``Out``; the claimed entry, ``latency`` cycles later; it stays until the next one that is
        claimed comes.
    """

    def __init__(self, shape: ShapeLike, *, depth: int, latency: int) -> None:
        if latency < 1:
            raise ValueError(f"latency must be at least 1, not {latency!r}")
        self._shape = shape
        self._depth = depth
        self._latency = latency
        super().__init__(
            {
                "room": Out(1),
                "take": In(1),
                "push": In(1),
                "i": In(shape),
                "some": Out(1),
                "claim": In(1),
                "o": Out(shape),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.free = free = Tally(self._depth, init=self._depth)
        m.submodules.unclaimed = unclaimed = Tally(self._depth)
        m.submodules.store = store = _Store(self._shape, depth=self._depth)
        pop = delay(m, self.claim, self._latency - 1, name="claimed")
        m.d.comb += [
            self.room.eq(free.some),
            free.less.eq(self.take),
            free.more.eq(pop),
            self.some.eq(unclaimed.some),
            unclaimed.more.eq(self.push),
            unclaimed.less.eq(self.claim),
            store.push.eq(self.push),
            store.i.eq(self.i),
            store.pop.eq(pop),
            self.o.eq(store.o),
        ]
        return m


class Skid(wiring.Component):
    """Cuts the way of ``ready``: that of ``i`` is a register, and ``o`` may still come at once.

    A payload that ``o`` does not take in its cycle waits in a register, and ``i`` with it.

    Members
    -------
    i: ``In(stream)``, o: ``Out(stream)``, of ``shape``; no cycle between them.
    """

    def __init__(self, shape: ShapeLike) -> None:
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        i, o = self.i, self.o
        held = Signal()
        ready = Signal(init=1, attrs={"keep": 1})  # ~held, apart from what `held` selects
        waiting = Signal.like(i.payload, reset_less=True)
        waits = o.valid & ~o.ready
        m.d.sync += [held.eq(waits), ready.eq(~waits)]
        with m.If(~held):
            m.d.sync += waiting.eq(i.payload)
        m.d.comb += [
            i.ready.eq(ready),
            o.valid.eq(i.valid | held),
            o.payload.eq(Mux(held, waiting, i.payload)),
        ]
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
