"""Softmax over rows of int8 codes, as a stream."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from intformer.hw.parts.arithmetic import (
    RECIPROCAL_FIELD,
    ReciprocalProduct,
    RoundShift,
    reduce_tree,
    tree_latency,
)
from intformer.hw.parts.streams import CreditFifo, RowJoin, delay, row_beats
from intformer.hw.ports import READ_LATENCY
from intformer.hw.row.divide import Reciprocal
from intformer.hw.row.normalize import Normalizer
from intformer.hw.row.timing import RowTiming
from intformer.reference import EXP_BITS, RECIPROCAL_BITS

__all__ = ["Softmax"]

_ROWS_WAITING = 4  # row parameters stored between two stages
_OUTPUT_DEPTH = 16  # more than the cycles from a reserved place to its release


class Softmax(wiring.Component):
    """Row softmax of int8 codes to uint8 probabilities; :func:`intformer.reference.softmax`.

    ::

        i ─► running maximum ─► exponentials, sum ─► normalize, reciprocal ─► multiply ─► o
         └──► FIFO of x ────────┘   └──► FIFO of e ─────────────────────────┘

    One beat per cycle; consecutive rows overlap. See :attr:`timing`.

    Parameters
    ----------
    lanes: elements per beat.
    row_max: longest row, in elements.

    Members
    -------
    i: ``In(stream)`` of ``{x: lanes x signed(8), keep: lanes, last: 1}``. ``keep`` is 0 for
        elements that are masked or past the row's end; ``last`` marks the last beat of a row.
        A row has at most ``row_max`` elements.
    o: ``Out(stream)`` of ``{p: lanes x unsigned(8), last: 1}``; 0 for elements not kept.
    table: ``In(2)``; the exponential table. Constant while rows are inside.
    exp_addr: ``Out``, ``lanes`` addresses ``{index: 8, table: 2}`` of table entries.
    exp_data: ``In``, ``lanes`` entries of 20 bits, ``READ_LATENCY`` cycles after their addresses.
    """

    def __init__(self, *, lanes: int, row_max: int) -> None:
        if lanes < 1:
            raise ValueError(f"lanes must be at least 1, not {lanes!r}")
        if row_max < 2:
            raise ValueError(f"row_max must be at least 2, not {row_max!r}")
        self._lanes = lanes
        self._beats = row_beats(row_max, lanes)
        self._row_max = row_max
        self._sum_bits = _sum_bits(row_max)
        self._x_layout = data.StructLayout(
            {"x": data.ArrayLayout(signed(8), lanes), "keep": lanes, "last": 1}
        )
        self._e_layout = data.StructLayout({"e": data.ArrayLayout(EXP_BITS, lanes), "last": 1})
        self._p_layout = data.StructLayout({"p": data.ArrayLayout(8, lanes), "last": 1})
        self._normalizer = Normalizer(self._sum_bits)
        self._reciprocal = Reciprocal(
            self._sum_bits,
            bits=RECIPROCAL_BITS,
            tag=unsigned(self._normalizer.o_layout["count"].shape.width),
        )
        super().__init__(
            {
                "i": In(stream.Signature(self._x_layout)),
                "o": Out(stream.Signature(self._p_layout)),
                "table": In(2),
                "exp_addr": Out(
                    data.ArrayLayout(data.StructLayout({"index": 8, "table": 2}), lanes)
                ),
                "exp_data": In(data.ArrayLayout(EXP_BITS, lanes)),
            }
        )

    @staticmethod
    def timing_of(*, lanes: int, row_max: int) -> RowTiming:
        """:attr:`timing` of a unit with these parameters."""
        divide = Reciprocal.latency_of(bits=RECIPROCAL_BITS)
        serial = Normalizer.latency_of(_sum_bits(row_max)) + divide
        return RowTiming(
            lanes=lanes,
            latency_of_beat=24 + 2 * tree_latency(lanes) + serial,
            passes=3,
            serial_cycles=divide + 1,
        )

    @property
    def timing(self) -> RowTiming:
        """Latency and throughput."""
        return self.timing_of(lanes=self._lanes, row_max=self._row_max)

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.x_fifo = x_fifo = CreditFifo(
            self._x_layout, depth=2 * self._beats + 16, registered=True
        )
        m.submodules.top_fifo = tops = CreditFifo(signed(8), depth=_ROWS_WAITING)
        m.submodules.e_fifo = e_fifo = CreditFifo(
            self._e_layout, depth=2 * self._beats + 48, registered=True
        )
        m.submodules.sum_fifo = sums = CreditFifo(self._sum_bits, depth=_ROWS_WAITING)
        self._maximum(m, x_fifo, tops)
        self._exponentials(m, x_fifo, tops, e_fifo, sums)
        self._probabilities(m, e_fifo, self._reciprocals(m, sums))
        return m

    def _maximum(self, m: Module, x_fifo: CreditFifo, tops: CreditFifo) -> None:
        """Stage 1: store the row; its maximum over kept elements goes to ``tops``."""
        beat = self.i.payload
        accept = Signal()
        m.d.comb += [
            self.i.ready.eq(x_fifo.room & tops.room),
            accept.eq(self.i.valid & self.i.ready),
            x_fifo.i.eq(beat),
            x_fifo.take.eq(accept),
            x_fifo.push.eq(accept),
            tops.take.eq(accept & beat.last),
        ]
        kept = [Mux(beat.keep[k], beat.x[k], -128) for k in range(self._lanes)]
        top = reduce_tree(m, kept, _maximum_of, name="top")
        cycles = tree_latency(self._lanes)
        valid = delay(m, accept, cycles, name="top_valid")
        last = delay(m, beat.last, cycles, name="top_last")
        running = Signal(signed(8), init=-128)
        best = Signal(signed(8))
        m.d.comb += best.eq(_maximum_of(top, running))
        m.d.sync += [tops.push.eq(valid & last), tops.i.eq(best)]
        with m.If(valid):
            m.d.sync += running.eq(Mux(last, -128, best))

    def _exponentials(
        self, m: Module, x_fifo: CreditFifo, tops: CreditFifo, e_fifo: CreditFifo, sums: CreditFifo
    ) -> None:
        """Stage 2: look up the exponentials; store them, and send their sum to ``sums``."""
        m.submodules.top_join = join = RowJoin(self._x_layout, signed(8))
        wiring.connect(m, join.beats, x_fifo.o)
        wiring.connect(m, join.rows, tops.o)
        m.d.comb += [
            join.room.eq(e_fifo.room & sums.room),
            e_fifo.take.eq(join.fire),
            sums.take.eq(join.fire & join.beats.payload.last),
        ]
        for k in range(self._lanes):
            m.d.sync += self.exp_addr[k].index.eq(join.row - join.beat.x[k])
            m.d.comb += self.exp_addr[k].table.eq(self.table)
        keep = delay(m, join.beat.keep, 1 + READ_LATENCY, name="keep")
        valid = delay(m, join.valid, 2 + READ_LATENCY, name="e_valid")
        last = delay(m, join.beat.last, 2 + READ_LATENCY, name="e_last")
        e = Signal(data.ArrayLayout(EXP_BITS, self._lanes))
        for k in range(self._lanes):
            m.d.sync += e[k].eq(Mux(keep[k], self.exp_data[k], 0))
        m.d.comb += [e_fifo.i.e.eq(e), e_fifo.i.last.eq(last), e_fifo.push.eq(valid)]
        total = reduce_tree(m, [e[k] for k in range(self._lanes)], _sum_of, name="e_sum")
        cycles = tree_latency(self._lanes)
        valid = delay(m, valid, cycles, name="sum_valid")
        last = delay(m, last, cycles, name="sum_last")
        running = Signal(self._sum_bits)
        grown = Signal(self._sum_bits)
        m.d.comb += grown.eq(running + total)
        m.d.sync += [sums.push.eq(valid & last), sums.i.eq(grown)]
        with m.If(valid):
            m.d.sync += running.eq(Mux(last, 0, grown))

    def _reciprocals(self, m: Module, sums: CreditFifo) -> stream.Interface:
        """Stage 3: the stream of reciprocals, tagged with the count of leading zeros."""
        m.submodules.normalizer = normalizer = self._normalizer
        m.submodules.reciprocal = reciprocal = self._reciprocal
        i, o = normalizer.i, normalizer.o
        m.d.comb += [
            i.payload.x.eq(sums.o.payload),
            i.valid.eq(sums.o.valid),
            sums.o.ready.eq(i.ready),
            reciprocal.i.payload.x.eq(o.payload.x),
            reciprocal.i.payload.tag.eq(o.payload.count),
            reciprocal.i.valid.eq(o.valid),
            o.ready.eq(reciprocal.i.ready),
        ]
        return reciprocal.o

    def _probabilities(self, m: Module, e_fifo: CreditFifo, recips: stream.Interface) -> None:
        """Stage 4: ``p = min((e*r + 2**(b + 8)) >> (b + 9), 255)``.

        A row without kept elements has ``e = 0`` everywhere, so its reciprocal does not matter.
        """
        m.submodules.e_join = join = RowJoin(self._e_layout, recips.payload.shape())
        m.submodules.p_fifo = p_fifo = CreditFifo(self._p_layout, depth=_OUTPUT_DEPTH)
        wiring.connect(m, join.beats, e_fifo.o)
        wiring.connect(m, join.rows, recips)
        wiring.connect(m, wiring.flipped(self.o), p_fifo.o)
        m.d.comb += [join.room.eq(p_fifo.room), p_fifo.take.eq(join.fire)]
        amount = Signal(range(self._sum_bits + EXP_BITS + 8))
        for k in range(self._lanes):
            product = ReciprocalProduct(a_bits=EXP_BITS + 1)
            rounding = RoundShift(bits=EXP_BITS + 20, amount_max=self._sum_bits + 8, o_bits=10)
            m.submodules[f"product_{k}"] = product
            m.submodules[f"round_{k}"] = rounding
            m.d.comb += [
                product.a.eq(join.beat.e[k]),
                product.r.eq(join.row.q[:RECIPROCAL_FIELD]),
                rounding.x.eq(product.o),
                rounding.amount.eq(amount),
            ]
            # At most 256, which is not a code.
            m.d.sync += p_fifo.i.p[k].eq(rounding.o[:8] | rounding.o[8].replicate(8))
        count = delay(m, join.row.tag, product.latency, name="count")
        m.d.comb += amount.eq(self._sum_bits + 8 - count)
        latency = product.latency + rounding.latency + 1
        m.d.comb += [
            p_fifo.push.eq(delay(m, join.valid, latency, name="p_valid")),
            p_fifo.i.last.eq(delay(m, join.beat.last, latency, name="p_last")),
        ]


def _maximum_of(a: Signal, b: Signal) -> Signal:
    return Mux(a > b, a, b)


def _sum_of(a: Signal, b: Signal) -> Signal:
    return a + b


def _sum_bits(row_max: int) -> int:
    """Bits of the sum of a row's exponentials."""
    return EXP_BITS + ceil_log2(row_max)
