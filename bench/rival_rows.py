"""The frame in which the rivals' softmax units are built, as ours: a row passes three times."""

from __future__ import annotations

from abc import abstractmethod

from amaranth.hdl import Cat, Module, Mux, ShapeLike, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from intformer.hw.parts.arithmetic import SplitProduct, reduce_tree, tree_latency
from intformer.hw.parts.streams import CreditFifo, RowJoin, delay, row_beats

__all__ = ["ReciprocalSoftmax", "RivalSoftmax", "SerialDivider", "stage"]

_ROWS_WAITING = 8
_OUTPUT_DEPTH = 32


def stage(m: Module, value: Value, *, name: str, shape: ShapeLike | None = None) -> Signal:
    """``value`` one cycle later."""
    register = Signal(value.shape() if shape is None else shape, name=name, reset_less=True)
    m.d.sync += register.eq(value)
    return register


class SerialDivider(wiring.Component):
    """``numerator // x`` for a constant numerator, one quotient bit per cycle.

    Members
    -------
    i: ``In(stream)`` of ``x``, at least 1, ``width`` bits.
    o: ``Out(stream)`` of the quotient's low ``bits`` bits.
    """

    def __init__(self, width: int, *, numerator: int, bits: int) -> None:
        self._width, self._numerator = width, numerator
        super().__init__({"i": In(stream.Signature(width)), "o": Out(stream.Signature(bits))})

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        steps = self._numerator.bit_length()
        left = Signal(range(steps + 1))
        digits = Signal(steps, reset_less=True)
        divisor = Signal(self._width, reset_less=True)
        rest = Signal(self._width, reset_less=True)
        grown = Signal(self._width + 1)
        difference = Signal(self._width + 2)
        m.d.comb += [
            self.i.ready.eq((left == 0) & ~self.o.valid),
            grown.eq(Cat(digits[-1], rest)),
            difference.eq(grown - divisor),
        ]
        fits = ~difference[-1]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                divisor.eq(self.i.payload),
                rest.eq(0),
                digits.eq(self._numerator),
                left.eq(steps),
            ]
        with m.If(left != 0):
            m.d.sync += [
                left.eq(left - 1),
                digits.eq(digits << 1),
                rest.eq(Mux(fits, difference, grown)),
                self.o.payload.eq(Cat(fits, self.o.payload)),
                self.o.valid.eq(left == 1),
            ]
        with m.Elif(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        return m


class RivalSoftmax(wiring.Component):
    """Softmax of int8 rows to uint8 at 1/256, with a rival's arithmetic.

    ::

        i ─► running maximum ─► exponentials, sum ─► row's factor ─► multiply ─► o
         └──► FIFO of x ────────┘   └──► FIFO of e ──────────────────┘

    One beat per cycle; no masks: rows are whole beats, which favours the rival.

    Members
    -------
    i: ``In(stream)`` of ``{x: lanes x signed(8), last: 1}``.
    o: ``Out(stream)`` of ``{p: lanes x unsigned(8), last: 1}``.
    """

    E_BITS: int
    """Width of an exponential."""
    EXP_LATENCY: int
    """Cycles of :meth:`exponential`."""
    SCALE_LATENCY: int
    """Cycles of :meth:`probability`."""

    def __init__(self, *, lanes: int, row_max: int) -> None:
        self._lanes, self._beats = lanes, row_beats(row_max, lanes)
        self._sum_bits = self.E_BITS + ceil_log2(row_max)
        self._x_layout = data.StructLayout({"x": data.ArrayLayout(signed(8), lanes), "last": 1})
        self._e_layout = data.StructLayout({"e": data.ArrayLayout(self.E_BITS, lanes), "last": 1})
        self._p_layout = data.StructLayout({"p": data.ArrayLayout(8, lanes), "last": 1})
        super().__init__(
            {"i": In(stream.Signature(self._x_layout)), "o": Out(stream.Signature(self._p_layout))}
        )

    @property
    def throughput(self) -> int:
        """Elements per cycle, in rows long enough for the row's factor."""
        return self._lanes

    @abstractmethod
    def exponential(self, m: Module, distance: Value, *, name: str) -> Value:
        """The exponential of minus ``distance`` (0 to 255)."""

    @abstractmethod
    def factors(self, m: Module, sums: stream.Interface) -> stream.Interface:
        """What a row's elements are multiplied with, from the stream of sums."""

    @abstractmethod
    def probability(self, m: Module, e: Value, factor: Value, *, name: str) -> Value:
        """The result for one exponential."""

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        depth = 2 * self._beats + 48
        m.submodules.x_fifo = x_fifo = CreditFifo(self._x_layout, depth=depth, registered=True)
        m.submodules.e_fifo = e_fifo = CreditFifo(self._e_layout, depth=depth, registered=True)
        m.submodules.tops = tops = CreditFifo(signed(8), depth=_ROWS_WAITING)
        m.submodules.sums = sums = CreditFifo(self._sum_bits, depth=_ROWS_WAITING)
        self._maximum(m, x_fifo, tops)
        self._exponentials(m, x_fifo, tops, e_fifo, sums)
        self._probabilities(m, e_fifo, self.factors(m, sums.o))
        return m

    def _maximum(self, m: Module, x_fifo: CreditFifo, tops: CreditFifo) -> None:
        beat, accept = self.i.payload, Signal()
        m.d.comb += [
            self.i.ready.eq(x_fifo.room & tops.room),
            accept.eq(self.i.valid & self.i.ready),
            x_fifo.i.eq(beat),
            x_fifo.take.eq(accept),
            x_fifo.push.eq(accept),
            tops.take.eq(accept & beat.last),
        ]
        top = reduce_tree(m, list(beat.x), lambda a, b: Mux(a > b, a, b), name="top")
        cycles = tree_latency(self._lanes)
        valid = delay(m, accept, cycles, name="top_valid")
        last = delay(m, beat.last, cycles, name="top_last")
        running, best = Signal(signed(8), init=-128), Signal(signed(8))
        m.d.comb += best.eq(Mux(top > running, top, running))
        m.d.sync += [tops.push.eq(valid & last), tops.i.eq(best)]
        with m.If(valid):
            m.d.sync += running.eq(Mux(last, -128, best))

    def _exponentials(
        self, m: Module, x_fifo: CreditFifo, tops: CreditFifo, e_fifo: CreditFifo, sums: CreditFifo
    ) -> None:
        m.submodules.top_join = join = RowJoin(self._x_layout, signed(8))
        wiring.connect(m, join.beats, x_fifo.o)
        wiring.connect(m, join.rows, tops.o)
        m.d.comb += [
            join.room.eq(e_fifo.room & sums.room),
            e_fifo.take.eq(join.fire),
            sums.take.eq(join.fire & join.beats.payload.last),
        ]
        e = []
        for k in range(self._lanes):
            name = f"lane{k}"
            difference = (join.row - join.beat.x[k])[:8]
            distance = stage(m, difference, name=f"{name}_distance")
            e.append(self.exponential(m, distance, name=name))
            m.d.comb += e_fifo.i.e[k].eq(e[k])
        cycles = 1 + self.EXP_LATENCY
        valid = delay(m, join.valid, cycles, name="e_valid")
        last = delay(m, join.beat.last, cycles, name="e_last")
        m.d.comb += [e_fifo.i.last.eq(last), e_fifo.push.eq(valid)]
        total = reduce_tree(m, e, lambda a, b: a + b, name="e_sum")
        cycles = tree_latency(self._lanes)
        valid = delay(m, valid, cycles, name="sum_valid")
        last = delay(m, last, cycles, name="sum_last")
        running, grown = Signal(self._sum_bits), Signal(self._sum_bits)
        m.d.comb += grown.eq(running + total)
        m.d.sync += [sums.push.eq(valid & last), sums.i.eq(grown)]
        with m.If(valid):
            m.d.sync += running.eq(Mux(last, 0, grown))

    def _probabilities(self, m: Module, e_fifo: CreditFifo, factors: stream.Interface) -> None:
        m.submodules.e_join = join = RowJoin(self._e_layout, factors.payload.shape())
        m.submodules.p_fifo = p_fifo = CreditFifo(self._p_layout, depth=_OUTPUT_DEPTH)
        wiring.connect(m, join.beats, e_fifo.o)
        wiring.connect(m, join.rows, factors)
        wiring.connect(m, wiring.flipped(self.o), p_fifo.o)
        m.d.comb += [join.room.eq(p_fifo.room), p_fifo.take.eq(join.fire)]
        for k in range(self._lanes):
            p = self.probability(m, join.beat.e[k], join.row, name=f"lane{k}_p")
            m.d.comb += p_fifo.i.p[k].eq(p)
        m.d.comb += [
            p_fifo.push.eq(delay(m, join.valid, self.SCALE_LATENCY, name="p_valid")),
            p_fifo.i.last.eq(delay(m, join.beat.last, self.SCALE_LATENCY, name="p_last")),
        ]


class ReciprocalSoftmax(RivalSoftmax):
    """With ``p = (e * floor(2**POWER / sum)) >> (POWER - 8)``."""

    POWER: int
    FACTOR_BITS: int
    SCALE_LATENCY = 4

    def factors(self, m: Module, sums: stream.Interface) -> stream.Interface:
        m.submodules.divider = divider = SerialDivider(
            self._sum_bits, numerator=1 << self.POWER, bits=self.FACTOR_BITS
        )
        wiring.connect(m, divider.i, sums)
        return divider.o

    def probability(self, m: Module, e: Value, factor: Value, *, name: str) -> Value:
        narrow, wide = sorted((e, factor), key=len)
        product = SplitProduct(a_bits=len(wide) + 1, b_bits=len(narrow) + 1)
        m.submodules[f"{name}_product"] = product
        m.d.comb += [product.a.eq(wide), product.b.eq(narrow)]
        p = product.o[self.POWER - 8 :]
        # At most 256, which is not a code.
        return stage(m, p[:8] | p[8].replicate(8), name=name)
