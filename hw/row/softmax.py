"""Softmax over rows of codes, as a stream."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from intformer.hw.parts.arithmetic import reduce_tree, tree_latency
from intformer.hw.parts.streams import CreditFifo, RowJoin, delay, row_beats
from intformer.hw.row.ratio import RatioDivider
from intformer.hw.row.timing import RowTiming
from intformer.reference import EXP_BITS

__all__ = ["RowSoftmax"]

_P_BITS = 8
_OUTPUT_DEPTH = 16  # at least the cycles from a reserved place to its release


class RowSoftmax(wiring.Component):
    """Row softmax of signed codes to uint8 probabilities; :func:`intformer.reference.softmax`.

    ::

        i ─► running maximum ─► exponentials, sum ─► divide ─► o
         └──► FIFO of x ────────┘   └──► FIFO of e ───┘

    One beat per cycle; consecutive rows overlap, without a cycle between them. The exponentials
    are looked up outside. See :attr:`timing`.

    Parameters
    ----------
    lanes: elements per beat.
    row_max: longest row, in elements.
    x_bits: width of a code.
    exp_latency: cycles from ``index`` to ``exp``.

    Members
    -------
    i: ``In(stream)`` of ``{x: lanes x signed(x_bits), keep: lanes, last: 1}``. ``keep`` is 0 for
        elements that are masked or past the row's end; ``last`` marks the last beat of a row.
        A row has at most ``row_max`` elements.
    o: ``Out(stream)`` of ``{p: lanes x unsigned(8), last: 1}``; 0 for elements not kept.
    index: ``Out``, ``lanes`` distances of codes from the maximum of their row, unsigned.
    exp: ``In``, ``lanes`` exponentials of ``EXP_BITS`` bits, ``exp_latency`` cycles after their
        ``index``.
    """

    def __init__(self, *, lanes: int, row_max: int, x_bits: int = 8, exp_latency: int) -> None:
        if lanes < 1:
            raise ValueError(f"lanes must be at least 1, not {lanes!r}")
        if row_max < 2:
            raise ValueError(f"row_max must be at least 2, not {row_max!r}")
        self._lanes = lanes
        self._beats = row_beats(row_max, lanes)
        self._exp_latency = exp_latency
        self._sum_bits = EXP_BITS + ceil_log2(row_max)
        self._x_shape = signed(x_bits)
        self._x_layout = data.StructLayout(
            {"x": data.ArrayLayout(self._x_shape, lanes), "keep": lanes, "last": 1}
        )
        self._e_layout = data.StructLayout({"e": data.ArrayLayout(EXP_BITS, lanes), "last": 1})
        self._p_layout = data.StructLayout({"p": data.ArrayLayout(_P_BITS, lanes), "last": 1})
        super().__init__(
            {
                "i": In(stream.Signature(self._x_layout)),
                "o": Out(stream.Signature(self._p_layout)),
                "index": Out(data.ArrayLayout(unsigned(x_bits), lanes)),
                "exp": In(data.ArrayLayout(EXP_BITS, lanes)),
            }
        )

    @staticmethod
    def timing_of(*, lanes: int, exp_latency: int) -> RowTiming:
        """:attr:`timing` of a unit with these parameters."""
        fixed = 15 + exp_latency + RatioDivider.latency_of(bits=_P_BITS)
        return RowTiming(
            lanes=lanes,
            latency_of_beat=fixed + 2 * tree_latency(lanes),
            passes=3,
            serial_cycles=1,
        )

    @property
    def timing(self) -> RowTiming:
        """Latency and throughput."""
        return self.timing_of(lanes=self._lanes, exp_latency=self._exp_latency)

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        tree = tree_latency(self._lanes)
        # A place is in use from its reservation until the row's maximum or sum is known and the
        # beat's turn has come; a row's place until the row's first beat goes on.
        top_cycles, sum_cycles = 8 + tree, 10 + self._exp_latency + tree
        m.submodules.x_fifo = x_fifo = CreditFifo(
            self._x_layout, depth=self._beats + top_cycles, registered=True
        )
        m.submodules.top_fifo = tops = CreditFifo(self._x_shape, depth=top_cycles)
        m.submodules.e_fifo = e_fifo = CreditFifo(
            self._e_layout, depth=self._beats + sum_cycles, registered=True
        )
        m.submodules.sum_fifo = sums = CreditFifo(self._sum_bits, depth=sum_cycles)
        self._maximum(m, x_fifo, tops)
        self._exponentials(m, x_fifo, tops, e_fifo, sums)
        self._probabilities(m, e_fifo, sums)
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
        least = -(1 << (self._x_shape.width - 1))
        kept = [
            Signal(self._x_shape, name=f"kept_{k}", reset_less=True) for k in range(self._lanes)
        ]
        for k, code in enumerate(kept):
            m.d.sync += code.eq(Mux(beat.keep[k], beat.x[k], least))
        top = reduce_tree(m, kept, _maximum_of, name="top")
        cycles = 1 + tree_latency(self._lanes)
        valid = delay(m, accept, cycles, name="top_valid")
        last = delay(m, beat.last, cycles, name="top_last")
        running = Signal(self._x_shape, init=least)
        best = Signal(self._x_shape)
        m.d.comb += best.eq(_maximum_of(top, running))
        m.d.sync += [tops.push.eq(valid & last), tops.i.eq(best)]
        with m.If(valid):
            m.d.sync += running.eq(Mux(last, least, best))

    def _exponentials(
        self, m: Module, x_fifo: CreditFifo, tops: CreditFifo, e_fifo: CreditFifo, sums: CreditFifo
    ) -> None:
        """Stage 2: look up the exponentials; store them, and send their sum to ``sums``."""
        m.submodules.top_join = join = RowJoin(self._x_layout, self._x_shape)
        wiring.connect(m, join.beats, x_fifo.o)
        wiring.connect(m, join.rows, tops.o)
        m.d.comb += [
            join.room.eq(e_fifo.room & sums.room),
            e_fifo.take.eq(join.fire),
            sums.take.eq(join.fire & join.beats.payload.last),
        ]
        for k in range(self._lanes):
            m.d.sync += self.index[k].eq(join.row - join.beat.x[k])
        keep = delay(m, join.beat.keep, 1 + self._exp_latency, name="keep")
        valid = delay(m, join.valid, 2 + self._exp_latency, name="e_valid")
        last = delay(m, join.beat.last, 2 + self._exp_latency, name="e_last")
        e = Signal(data.ArrayLayout(EXP_BITS, self._lanes))
        for k in range(self._lanes):
            m.d.sync += e[k].eq(Mux(keep[k], self.exp[k], 0))
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

    def _probabilities(self, m: Module, e_fifo: CreditFifo, sums: CreditFifo) -> None:
        """Stage 3: divide the exponentials by their sum."""
        m.submodules.e_join = join = RowJoin(self._e_layout, self._sum_bits)
        m.submodules.p_fifo = p_fifo = CreditFifo(self._p_layout, depth=_OUTPUT_DEPTH)
        m.submodules.divider = divider = RatioDivider(
            lanes=self._lanes, e_bits=EXP_BITS, s_bits=self._sum_bits, bits=_P_BITS
        )
        wiring.connect(m, join.beats, e_fifo.o)
        wiring.connect(m, join.rows, sums.o)
        wiring.connect(m, wiring.flipped(self.o), p_fifo.o)
        m.d.comb += [
            join.room.eq(p_fifo.room),
            p_fifo.take.eq(join.fire),
            divider.e.eq(join.beat.e),
            divider.s.eq(join.row),
            p_fifo.i.p.eq(divider.p),
            p_fifo.push.eq(delay(m, join.valid, divider.latency, name="p_valid")),
            p_fifo.i.last.eq(delay(m, join.beat.last, divider.latency, name="p_last")),
        ]


def _maximum_of(a: Value, b: Value) -> Value:
    return Mux(a > b, a, b)


def _sum_of(a: Value, b: Value) -> Value:
    return a + b
