"""Dynamic scale of rows: codes relative to the row's largest magnitude."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from intformer.hw.parts.arithmetic import reduce_tree, tree_latency
from intformer.hw.parts.streams import CreditFifo, RowJoin, row_beats
from intformer.hw.units.pipeline import (
    FIFO_LATENCY,
    check_range,
    code_shape,
    delay,
    fifo_depth,
    register,
)
from intformer.hw.units.product import ExactProduct, times
from intformer.hw.units.reduction import row_layout

__all__ = ["RowScale"]

_LIMITS = {"int8": 127, "int4": 7}
_INDEX_BITS = 8
_FRACTION = 2
"""Fraction bits of ``limit / top`` in the table, ``top`` normalized to 0.5 to 1."""
_ROW_CYCLES = 6  # normalize in four steps, table, register
_ROWS_WAITING = 31
_SLACK = 32  # beats that come between a row's last and its first being read


class RowScale(wiring.Component):
    """Rows at a scale of their own: ``y = round(x * limit / top)``, ``top = max(abs(x))``.

    Over the kept elements of a row; ``y`` is exact, rounded half toward +infinity, and 0 where
    ``top`` is 0 or the element is not kept. ``limit`` is 127 for ``int8``, 7 for ``int4``. The
    scale of ``y`` is the scale of ``x`` times ``top / limit``: ``top`` is the row's integer
    multiplier. :func:`intformer.reference.row_scale`.

    ::

        i ─┬► FIFO of rows ──────────────────────────────┬► estimate, remainder, correct ─► o
           └► top ─► normalize ─► table of reciprocals ──┴────────────────────────────────► top

    The table gives an estimate that is off by at most one, and the remainder tells by how much:
    no divider, so rows of one beat follow each other without a gap.

    Parameters
    ----------
    x_type: ``int8`` or ``int16``.
    o_type: ``int8`` or ``int4``.
    lanes: elements per beat.
    row_max: longest row, in elements.
    target: family whose multiplier blocks to use: ``ecp5``, ``gowin``, or ``None`` for any.

    Members
    -------
    i: ``In(stream)`` of ``{x: lanes codes, keep: lanes, last: 1}``. ``keep`` is 0 for elements
        that are masked or past the row's end; ``last`` marks the last beat of a row.
    o: ``Out(stream)`` of ``{y: lanes codes, last: 1}``; a row's first beat comes
        :attr:`latency` cycles after its last beat at ``i``.
    top: ``Out(stream)``, unsigned: one for each row, before its first beat. Not taking it
        stops the unit after some rows.

    Example
    -------
    >>> unit = RowScale(x_type="int16", lanes=4, row_max=256)
    >>> unit.latency, unit.throughput, unit.row_cycles(64)
    (30, 4, 16)
    """

    def __init__(
        self,
        *,
        x_type: str = "int16",
        o_type: str = "int8",
        lanes: int = 1,
        row_max: int = 1024,
        target: str | None = None,
    ) -> None:
        self._shape = code_shape("x_type", x_type, ("int8", "int16"))
        o_shape = code_shape("o_type", o_type, tuple(_LIMITS))
        check_range("lanes", lanes, 1, 64)
        check_range("row_max", row_max, 1, 65536)
        self._lanes, self._beats = lanes, row_beats(row_max, lanes)
        self._limit = _LIMITS[o_type]
        bits = self._shape.width
        reciprocal_bits = self._limit.bit_length() + 1 + _FRACTION
        self._row = data.StructLayout(
            {
                "top": bits,
                "count": range(bits),
                "reciprocal": reciprocal_bits,
            }
        )
        self._estimates, self._parts = (
            [ExactProduct(a_bits=a, b_bits=b, target=target) for _ in range(lanes)]
            for a, b in (
                (bits + 1, reciprocal_bits + 1),
                (self._limit.bit_length() + 2, bits + 1),
            )
        )
        super().__init__(
            {
                "i": In(stream.Signature(row_layout(self._shape, lanes))),
                "o": Out(
                    stream.Signature(
                        data.StructLayout({"y": data.ArrayLayout(o_shape, lanes), "last": 1})
                    )
                ),
                "top": Out(stream.Signature(unsigned(bits))),
            }
        )

    @property
    def lanes(self) -> int:
        """Elements per beat."""
        return self._lanes

    @property
    def limit(self) -> int:
        """The largest code."""
        return self._limit

    @property
    def latency(self) -> int:
        """Cycles from the transfer of a row's last beat at ``i`` to its first beat at ``o``."""
        join = 2
        return (
            self._top_cycles + _ROW_CYCLES + FIFO_LATENCY + join + self._lane_cycles + FIFO_LATENCY
        )

    @property
    def throughput(self) -> int:
        """Elements per cycle, sustained."""
        return self._lanes

    def row_cycles(self, n: int) -> int:
        """Cycles from one row of ``n`` elements to the next."""
        return row_beats(n, self._lanes)

    @property
    def _top_cycles(self) -> int:
        return 2 + tree_latency(self._lanes)

    @property
    def _lane_cycles(self) -> int:
        """Shifts, estimate, its rounding, its product, remainder, comparison, correction."""
        return 2 + self._estimates[0].latency + 1 + self._parts[0].latency + 3

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        beat = self.i.payload
        m.submodules.beats = beats = CreditFifo(
            beat.shape(), depth=self._beats + _SLACK, registered=True
        )
        m.submodules.rows = rows = CreditFifo(self._row, depth=_ROWS_WAITING)
        m.submodules.tops = tops = CreditFifo(self.top.payload.shape(), depth=_ROWS_WAITING)
        taken = Signal()
        room = beats.room & rows.room & tops.room
        m.d.comb += [
            self.i.ready.eq(room),
            taken.eq(self.i.valid & room),
            beats.i.eq(beat),
            beats.take.eq(taken),
            beats.push.eq(taken),
            rows.take.eq(taken & beat.last),
            tops.take.eq(taken & beat.last),
        ]
        wiring.connect(m, wiring.flipped(self.top), tops.o)
        complete, top = self._top(m, beat, taken)
        m.d.comb += [
            tops.i.eq(top),
            tops.push.eq(complete),
            rows.push.eq(delay(m, complete, _ROW_CYCLES, name="row", reset=True)),
            rows.i.eq(self._normalize(m, top)),
        ]
        self._scale(m, beats, rows)
        return m

    def _top(self, m: Module, beat: Any, taken: Value) -> tuple[Value, Value]:
        """Whether a row ends, and its largest magnitude."""
        bits = self._shape.width
        sizes = []
        for k in range(self._lanes):
            x = beat.x[k]
            size = Mux(beat.keep[k], Mux(x < 0, -x, x), 0)
            sizes.append(register(m, size[:bits], name=f"size_{k}"))
        best = reduce_tree(m, sizes, lambda a, b: Mux(a > b, a, b), name="size")
        cycles = self._top_cycles - 1
        valid = delay(m, taken, cycles, name="taken", reset=True)
        last = delay(m, beat.last, cycles, name="last")
        so_far = Signal(bits)
        now = Signal(bits)
        m.d.comb += now.eq(Mux(best > so_far, best, so_far))
        with m.If(valid):
            m.d.sync += so_far.eq(Mux(last, 0, now))
        complete = register(m, valid & last, name="complete", reset=True)
        return complete, register(m, now, name="top_of_row")

    def _normalize(self, m: Module, top: Value) -> Any:
        """``top`` moved up to its highest bit, by how much, and the table's ``limit / top``."""
        bits = self._shape.width
        # In two steps: by groups of four bits, then within the first.
        groups = bits // 4
        group, place = Signal(range(groups)), Signal(2)
        for k in range(groups):
            with m.If(top[4 * k : 4 * k + 4].any()):
                m.d.comb += group.eq(groups - 1 - k)
        coarse = register(m, group, name="coarse_count")
        top = delay(m, top, 1, name="top")
        top = register(m, top << (coarse << 2), name="grouped", shape=unsigned(bits))
        for k in range(4):
            with m.If(top[bits - 4 + k]):
                m.d.comb += place.eq(3 - k)
        fine = register(m, place, name="fine_count")
        top = delay(m, top, 1, name="grouped")
        high = register(m, top << fine, name="high", shape=unsigned(bits))
        count = Cat(delay(m, fine, 3, name="fine_count"), delay(m, coarse, 5, name="coarse_count"))
        index_bits = min(_INDEX_BITS, bits - 1)
        # The middle of an interval stands for it.
        init = [
            round((self._limit << (_FRACTION + index_bits + 2)) / ((2 << index_bits) + 2 * k + 1))
            for k in range(1 << index_bits)
        ]
        rom = memory.Memory(shape=self._row["reciprocal"].shape, depth=len(init), init=init)
        m.submodules.reciprocals = rom
        port = rom.read_port()
        m.d.comb += port.addr.eq(high[-1 - index_bits : -1])
        row = Signal(self._row)
        m.d.comb += [
            row.top.eq(delay(m, high, 2, name="high")),
            row.count.eq(count),
            row.reciprocal.eq(register(m, port.data, name="reciprocal")),
        ]
        return row

    def _scale(self, m: Module, beats: CreditFifo, rows: CreditFifo) -> None:
        """Every beat with its row's parameters, through the lanes, to ``o``."""
        m.submodules.join = join = RowJoin(beats.i.shape(), self._row)
        m.submodules.fifo = fifo = CreditFifo(
            self.o.payload.shape(), depth=fifo_depth(self._lane_cycles + 1)
        )
        wiring.connect(m, join.beats, beats.o)
        wiring.connect(m, join.rows, rows.o)
        wiring.connect(m, wiring.flipped(self.o), fifo.o)
        m.d.comb += [
            join.room.eq(fifo.room),
            fifo.take.eq(join.fire),
            fifo.push.eq(delay(m, join.valid, self._lane_cycles, name="joined", reset=True)),
            fifo.i.last.eq(delay(m, join.beat.last, self._lane_cycles, name="last_out")),
        ]
        # The row two cycles later, when the elements are normalized, and so on.
        row = delay(m, join.row, 2, name="row_normal")
        tops = [row.top]
        for cycle in range(self._lane_cycles - 4):
            tops.append(register(m, tops[-1], name=f"top_{cycle}"))
        for lane in range(self._lanes):
            y = self._lane(m, join.beat.x[lane], join.row.count, row.reciprocal, tops, lane)
            kept = delay(m, join.beat.keep[lane], self._lane_cycles - 2, name=f"keep_{lane}")
            kept = register(m, kept & tops[-1][-1], name=f"some_{lane}")
            m.d.comb += fifo.i.y[lane].eq(register(m, Mux(kept, y, 0), name=f"y_{lane}"))

    def _lane(
        self, m: Module, x: Value, count: Value, reciprocal: Value, tops: list[Value], lane: int
    ) -> Value:
        """The code, before its last register. ``tops[k]`` comes ``k + 2`` cycles after ``x``."""
        bits, limit_bits = self._shape.width, self._limit.bit_length()

        def hold(name: str, value: Value, shape: Any = None) -> Any:
            return register(m, value, name=f"{name}_{lane}", shape=shape)

        # No more than `top` in magnitude, so the shifted element fits one bit more.
        normal = signed(bits + 1)
        x = hold("coarse", (x << (count[2:] << 2))[: bits + 1].as_signed(), normal)
        x = hold("normal", (x << hold("fine", count[:2]))[: bits + 1].as_signed(), normal)
        estimate, part = self._estimates[lane], self._parts[lane]
        product = times(m, estimate, x, Cat(reciprocal, 0).as_signed(), name=f"estimate_{lane}")
        dividend = hold("dividend", (x << limit_bits) - x)
        dividend = delay(m, dividend, estimate.latency - 1, name=f"dividend_{lane}")
        point = bits + _FRACTION
        q = hold("q", (product + (1 << (point - 1))) >> point, signed(limit_bits + 2))
        dividend = hold("rounded", (dividend << 1) + tops[estimate.latency])
        now = estimate.latency + 1
        top = Cat(tops[now], 0).as_signed()
        taken_off = times(m, part, q, top, name=f"part_{lane}")
        now += part.latency
        dividend = delay(m, dividend, part.latency, name=f"rounded_{lane}")
        # The estimate is off by one at most: the remainder is from -2 top to below 4 top.
        rest = (dividend - (taken_off << 1))[: bits + 4].as_signed()
        rest = hold("rest", rest, signed(bits + 4))
        up = hold("up", rest >= (tops[now + 1] << 1))
        down = hold("down", rest < 0)
        return delay(m, q, part.latency + 2, name=f"q_{lane}") + up - down
