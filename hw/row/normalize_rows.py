"""Rows of int16 codes to normalized values: what LayerNorm and RMSNorm have in common."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from intformer.config import CHOICES
from intformer.hw.parts.arithmetic import reduce_tree, tree_latency
from intformer.hw.parts.product import Product
from intformer.hw.parts.streams import ClaimFifo, CreditFifo, Skid, delay, row_beats
from intformer.hw.row.divide import Reciprocal
from intformer.hw.row.isqrt import SquareRoot
from intformer.hw.row.layernorm_lane import NormalizeLane, ScaleLane
from intformer.hw.row.normalize import Normalizer
from intformer.hw.row.timing import RowTiming
from intformer.hw.row.variance import EPS_BITS, Variance
from intformer.reference import NORM_BITS
from intformer.reference.norm import NORM_RECIPROCAL_BITS, NORM_ROOT_BITS

__all__ = ["NormalizeRows", "norm_timing"]

_ROWS_WAITING = 4  # row sums stored in front of the serial units
_CLAIM = 2  # cycles from the turn of a beat to its codes: block RAM, register


class NormalizeRows(wiring.Component):
    """``a`` and ``z`` of :class:`NormalizeLane` for every element of a row.

    ::

        i ─► sums of x and x*x ─► variance ─► shift ─► square root ─► reciprocal ─► normalize ─► z
         └──► FIFO of x ──────────────────────────────────────────────────────────────┘

    One beat per cycle; consecutive rows overlap, also inside the chain of serial units.

    Parameters
    ----------
    lanes: elements per beat, a power of two.
    row_max: longest row, in elements.
    centered: subtract the mean (LayerNorm), or not (RMSNorm).
    multipliers: ``"dsp"`` or ``"luts"``: what computes squares and ``n*x``. In both cases the
        product with the reciprocal takes four multiplier blocks per lane, and LUTs for low bits.
    target: family whose multiplier blocks to use; see :class:`intformer.hw.parts.mul18.Mul18`.
    param_latency: cycles from ``param_index`` to the parameters.

    Members
    -------
    i: ``In(stream)`` of ``{x: lanes x signed(16), valid: lanes, last: 1}``. ``valid`` is 0 past
        the row's end; ``last`` marks the last beat of a row.
    n: ``In``; number of elements of each row, ``1..row_max``. Constant while rows are inside.
    eps: ``In(40)``; likewise.
    room: ``In(1)``; there is a place for the results of a beat.
    fire: ``Out(1)``; take that place; the results come :attr:`latency` cycles later.
    param_index: ``Out``; the beat of the row whose parameters are wanted, ``param_latency`` cycles
        before its results.
    o_valid: ``Out(1)``; there are results:
    a, z: ``Out``, by lane, signed.
    lanes_valid, last: ``Out``; of the beat.
    """

    def __init__(
        self,
        *,
        lanes: int,
        row_max: int,
        param_latency: int,
        centered: bool = True,
        multipliers: str = "dsp",
        target: str | None = None,
    ) -> None:
        if lanes < 1 or lanes & (lanes - 1):
            raise ValueError(f"lanes must be a power of two, not {lanes!r}")
        if multipliers not in CHOICES["multipliers"]:
            raise ValueError(f"multipliers must be dsp or luts, not {multipliers!r}")
        self._centered = centered
        self._param_latency = param_latency
        self._row_max = row_max
        self._beats = row_beats(row_max, lanes)
        self._squares = [
            Product(a_bits=16, b_bits=16, multipliers=multipliers, target=target)
            for _ in range(lanes)
        ]
        self._variance = Variance(row_max=row_max)
        self._lanes = [
            NormalizeLane(row_max=row_max, multipliers=multipliers, target=target)
            for _ in range(lanes)
        ]
        sum_shape = self._variance.i_layout["sum"].shape
        self._normalizer = Normalizer(NORM_BITS, step=2, tag=sum_shape)
        tag = data.StructLayout(
            {"sum": sum_shape, "count": self._normalizer.o_layout["count"].shape}
        )
        self._root = SquareRoot(2 * NORM_ROOT_BITS, tag=tag)
        self._reciprocal = Reciprocal(NORM_ROOT_BITS, bits=NORM_RECIPROCAL_BITS, tag=tag)
        self._x_layout = data.StructLayout(
            {"x": data.ArrayLayout(signed(16), lanes), "valid": lanes, "last": 1}
        )
        lane = self._lanes[0]
        super().__init__(
            {
                "i": In(stream.Signature(self._x_layout)),
                "n": In(range(row_max + 1)),
                "eps": In(EPS_BITS),
                "room": In(1),
                "fire": Out(1),
                "param_index": Out(range(self._beats)),
                "o_valid": Out(1),
                "a": Out(data.ArrayLayout(lane.a.shape(), lanes)),
                "z": Out(data.ArrayLayout(lane.z.shape(), lanes)),
                "lanes_valid": Out(lanes),
                "last": Out(1),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from ``fire`` to ``o_valid``."""
        return _CLAIM + self._lanes[0].latency

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        # The rows inside the serial chain wait here: at full rate, its latency in beats.
        depth = 2 * self._beats + sum(_serial_latencies(self._row_max)) + 32
        m.submodules.x_fifo = x_fifo = ClaimFifo(self._x_layout, depth=depth, latency=_CLAIM - 1)
        m.submodules.sum_fifo = sums = CreditFifo(self._variance.i_layout, depth=_ROWS_WAITING)
        self._sums(m, x_fifo, sums)
        row = self._turns(m, x_fifo, self._reciprocals(m, sums))
        self._normalize(m, x_fifo, row)
        return m

    def _sums(self, m: Module, x_fifo: ClaimFifo, sums: CreditFifo) -> None:
        """Stage 1: store the row; the sums of its elements and squares go to ``sums``."""
        beat = self.i.payload
        accept = Signal()
        m.d.comb += [
            self.i.ready.eq(x_fifo.room & sums.room),
            accept.eq(self.i.valid & self.i.ready),
            x_fifo.i.eq(beat),
            x_fifo.take.eq(accept),
            x_fifo.push.eq(accept),
            sums.take.eq(accept & beat.last),
        ]
        latency = self._squares[0].latency
        codes, squares = [], []
        for k, square in enumerate(self._squares):
            m.submodules[f"square_{k}"] = square
            code = Signal(signed(16), name=f"code_{k}")
            m.d.comb += [
                code.eq(Mux(beat.valid[k], beat.x[k], 0)),
                square.a.eq(code),
                square.b.eq(code),
            ]
            codes.append(delay(m, code, latency, name=f"code_{k}", reset_less=True))
            squares.append(square.o[:31])
        total_squares = reduce_tree(m, squares, _sum_of, name="squares")
        cycles = latency + tree_latency(len(codes))
        valid = delay(m, accept, cycles, name="sum_valid")
        last = delay(m, beat.last, cycles, name="sum_last")
        running, grown = Signal(self._variance.i_layout), Signal(self._variance.i_layout)
        if self._centered:
            total = reduce_tree(m, codes, _sum_of, name="sum")
            m.d.comb += grown.sum.eq(running.sum + total)
        m.d.comb += grown.squares.eq(running.squares + total_squares)
        m.d.sync += [sums.push.eq(valid & last), sums.i.eq(grown)]
        with m.If(valid):
            m.d.sync += running.eq(Mux(last, 0, grown.as_value()))

    def _reciprocals(self, m: Module, sums: CreditFifo) -> stream.Interface:
        """Stage 2: the stream of reciprocals, tagged with the row's sum and shift count.

        If the variance and ``eps`` are 0, every ``n*x - sum`` is 0: the reciprocal does not matter.
        """
        m.submodules.variance = variance = self._variance
        m.submodules.normalizer = normalizer = self._normalizer
        m.submodules.root = root = self._root
        m.submodules.reciprocal = reciprocal = self._reciprocal
        wiring.connect(m, variance.i, sums.o)
        m.d.comb += [variance.n.eq(self.n), variance.eps.eq(self.eps)]
        spread, normal = variance.o.payload, normalizer.o.payload
        m.d.comb += [
            normalizer.i.payload.x.eq(spread.d),
            normalizer.i.payload.tag.eq(spread.sum),
            root.i.payload.x.eq(Cat(Const(0, 2 * NORM_ROOT_BITS - NORM_BITS), normal.x)),
            root.i.payload.tag.sum.eq(normal.tag),
            root.i.payload.tag.count.eq(normal.count),
            reciprocal.i.payload.x.eq(root.o.payload.root),
            reciprocal.i.payload.tag.eq(root.o.payload.tag),
        ]
        for source, sink in ((variance, normalizer), (normalizer, root), (root, reciprocal)):
            m.d.comb += [sink.i.valid.eq(source.o.valid), source.o.ready.eq(sink.i.ready)]
        # The serial units may be far from the lanes.
        m.submodules.skid = skid = Skid(reciprocal.o.payload.shape())
        wiring.connect(m, reciprocal.o, skid.i)
        return skid.o

    def _turns(self, m: Module, x_fifo: ClaimFifo, recips: stream.Interface) -> Any:
        """Let the beats of a row go when its reciprocal is there.

        Returns the row that was present in the cycle before.
        """
        active, last, place = Signal(), Signal(), Signal(range(self._beats + 1))
        final = Signal.like(place)  # place of a row's last beat
        ends = self.fire & last
        m.d.comb += [
            self.fire.eq(active & x_fifo.some & self.room),
            x_fifo.claim.eq(self.fire),
            recips.ready.eq(~active | ends),
        ]
        m.d.sync += final.eq((self.n - 1) >> ceil_log2(len(self._lanes)))
        with m.If(recips.ready):
            m.d.sync += [active.eq(recips.valid), place.eq(0), last.eq(final == 0)]
        with m.Elif(self.fire):
            m.d.sync += [place.eq(place + 1), last.eq(place + 1 == final)]
        # Wide, and in no hurry: what it waits for is a register.
        row = Signal(recips.payload.shape(), reset_less=True)
        come = delay(m, recips.payload, 1, name="come", reset_less=True)
        with m.If(delay(m, recips.ready, 1, name="takes", keep=True)):
            m.d.sync += row.eq(come)
        return row

    def _normalize(self, m: Module, x_fifo: ClaimFifo, before: Any) -> None:
        """Stage 3: centre and normalize every element."""
        valid = delay(m, self.fire, _CLAIM, name="claimed")
        beat = delay(m, x_fifo.o, 1, name="beat", reset_less=True)
        row = delay(m, before, _CLAIM - 1, name="row", reset_less=True)
        lane = self._lanes[0]
        total = delay(m, row.tag.sum, lane.sum_latency, name="row_sum", reset_less=True)
        count = delay(m, row.tag.count, lane.count_latency, name="row_count", reset_less=True)
        recip = delay(m, row.q, lane.recip_latency, name="row_recip", reset_less=True)
        for k, lane in enumerate(self._lanes):
            m.submodules[f"lane_{k}"] = lane
            m.d.comb += [
                lane.x.eq(beat.x[k]),
                lane.n.eq(self.n),
                lane.sum.eq(total),
                lane.r.eq(recip),
                lane.count.eq(count),
                self.a[k].eq(lane.a),
                self.z[k].eq(lane.z),
            ]
        early = lane.latency - self._param_latency
        valid = delay(m, valid, early, name="early_valid")
        last = delay(m, beat.last, early, name="early_last")
        with m.If(valid):
            m.d.sync += self.param_index.eq(Mux(last, 0, self.param_index + 1))
        mask = delay(m, beat.valid, lane.latency, name="lanes_valid", reset_less=True)
        m.d.comb += [
            self.o_valid.eq(delay(m, valid, self._param_latency, name="o_valid")),
            self.last.eq(delay(m, last, self._param_latency, name="last")),
            self.lanes_valid.eq(mask),
        ]


def norm_timing(*, lanes: int, row_max: int, multipliers: str = "dsp") -> RowTiming:
    """Timing from ``i`` to a FIFO behind :class:`ScaleLane`."""
    serial = _serial_latencies(row_max)
    stages = (
        Product.latency_of(16, 16, multipliers=multipliers),
        NormalizeLane.latency_of(row_max=row_max, multipliers=multipliers),
        ScaleLane.latency_of(row_max=row_max),
    )
    return RowTiming(
        lanes=lanes,
        latency_of_beat=9 + tree_latency(lanes) + sum(serial) + sum(stages),
        passes=2,
        serial_cycles=max(serial) + 1,
    )


def _sum_of(a: Value, b: Value) -> Value:
    return a + b


def _serial_latencies(row_max: int) -> list[int]:
    """Cycles of each unit of the serial chain for one row."""
    return [
        Variance.latency_of(row_max=row_max),
        Normalizer.latency_of(NORM_BITS, step=2),
        SquareRoot.latency_of(2 * NORM_ROOT_BITS),
        Reciprocal.latency_of(bits=NORM_RECIPROCAL_BITS),
    ]
