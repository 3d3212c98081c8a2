"""LayerNorm over rows of int16 codes, as a stream."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intformer.hw.parts.arithmetic import RECIPROCAL_FIELD, reduce_tree, tree_latency
from intformer.hw.parts.streams import CreditFifo, RowJoin, delay, row_beats
from intformer.hw.ports import READ_LATENCY
from intformer.hw.row.divide import Reciprocal
from intformer.hw.row.isqrt import SquareRoot
from intformer.hw.row.layernorm_lane import PARAMETERS, Z_AMOUNT, LayerNormLane
from intformer.hw.row.normalize import Normalizer
from intformer.hw.row.timing import RowTiming
from intformer.hw.row.variance import EPS_BITS, Variance
from intformer.reference import NORM_BITS, RECIPROCAL_BITS

__all__ = ["LayerNorm"]

_ROWS_WAITING = 4  # row sums stored in front of the serial units
_OUTPUT_DEPTH = 32  # more than the cycles from a reserved place to its release


class LayerNorm(wiring.Component):
    """LayerNorm of int16 codes; :func:`intformer.reference.layernorm`.

    ::

        i ─► sums of x and x*x ─► variance ─► normalize ─► square root ─► reciprocal ─► scale ─► o
         └──► FIFO of x ─────────────────────────────────────────────────────────────────┘

    One beat per cycle; consecutive rows overlap, also inside the chain of serial units. See
    :attr:`timing`.

    Parameters
    ----------
    lanes: elements per beat.
    row_max: longest row, in elements.

    Members
    -------
    i: ``In(stream)`` of ``{x: lanes x signed(16), valid: lanes, last: 1}``. ``valid`` is 0 past
        the row's end; ``last`` marks the last beat of a row.
    o: ``Out(stream)`` of ``{y: lanes x signed(16), last: 1}``; undefined in lanes that were not
        valid.
    n: ``In``; number of elements of each row, ``1..row_max``. Constant while rows are inside,
        like the other parameters here:
    eps: ``In(40)``.
    zero_point, lo, hi: ``In(signed(16))``.
    param_index: ``Out``; the beat of the row whose parameters are wanted.
    param_data: ``In``, ``lanes`` entries ``{bias: signed(32), mult: signed(16), shift: 8,
        zero: 8}`` (beta, gamma, shift), ``READ_LATENCY`` cycles after their index.
    """

    def __init__(self, *, lanes: int, row_max: int) -> None:
        if lanes < 1:
            raise ValueError(f"lanes must be at least 1, not {lanes!r}")
        self._lanes = lanes
        self._row_max = row_max
        self._beats = row_beats(row_max, lanes)
        self._x_layout = data.StructLayout(
            {"x": data.ArrayLayout(signed(16), lanes), "valid": lanes, "last": 1}
        )
        self._y_layout = data.StructLayout({"y": data.ArrayLayout(signed(16), lanes), "last": 1})
        self._variance = Variance(row_max=row_max)
        sum_shape = self._variance.i_layout["sum"].shape
        self._normalizer = Normalizer(NORM_BITS, step=2, tag=sum_shape)
        tag = data.StructLayout(
            {"sum": sum_shape, "count": self._normalizer.o_layout["count"].shape}
        )
        self._root = SquareRoot(NORM_BITS, tag=tag)
        self._reciprocal = Reciprocal(NORM_BITS // 2, bits=RECIPROCAL_BITS, tag=tag)
        super().__init__(
            {
                "i": In(stream.Signature(self._x_layout)),
                "o": Out(stream.Signature(self._y_layout)),
                "n": In(range(row_max + 1)),
                "eps": In(EPS_BITS),
                "zero_point": In(signed(16)),
                "lo": In(signed(16)),
                "hi": In(signed(16)),
                "param_index": Out(range(self._beats)),
                "param_data": In(data.ArrayLayout(PARAMETERS, lanes)),
            }
        )

    @staticmethod
    def timing_of(*, lanes: int, row_max: int) -> RowTiming:
        """:attr:`timing` of a unit with these parameters."""
        serial = _serial_latencies(row_max)
        return RowTiming(
            lanes=lanes,
            latency_of_beat=29 + tree_latency(lanes) + sum(serial),
            passes=2,
            serial_cycles=max(serial) + 1,
        )

    @property
    def timing(self) -> RowTiming:
        """Latency and throughput."""
        return self.timing_of(lanes=self._lanes, row_max=self._row_max)

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        # The rows inside the serial chain wait here: at full rate, its latency in beats.
        depth = 2 * self._beats + sum(_serial_latencies(self._row_max)) + 24
        m.submodules.x_fifo = x_fifo = CreditFifo(self._x_layout, depth=depth, registered=True)
        sums = CreditFifo(self._variance.i_layout, depth=_ROWS_WAITING)
        m.submodules.sum_fifo = sums
        self._sums(m, x_fifo, sums)
        self._normalize(m, x_fifo, self._reciprocals(m, sums))
        return m

    def _sums(self, m: Module, x_fifo: CreditFifo, sums: CreditFifo) -> None:
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
        codes, squares = [], []
        for k in range(self._lanes):
            x = Signal(signed(16), name=f"x_{k}")
            code = Signal(signed(16), name=f"code_{k}")
            square = Signal(signed(32), name=f"square_{k}")
            m.d.sync += [x.eq(Mux(beat.valid[k], beat.x[k], 0)), code.eq(x), square.eq(x * x)]
            codes.append(code)
            squares.append(square[:31])
        total = reduce_tree(m, codes, _sum_of, name="sum")
        total_squares = reduce_tree(m, squares, _sum_of, name="squares")
        cycles = 2 + tree_latency(self._lanes)
        valid = delay(m, accept, cycles, name="sum_valid")
        last = delay(m, beat.last, cycles, name="sum_last")
        running = Signal(self._variance.i_layout)
        grown = Signal(self._variance.i_layout)
        m.d.comb += [
            grown.sum.eq(running.sum + total),
            grown.squares.eq(running.squares + total_squares),
        ]
        m.d.sync += [sums.push.eq(valid & last), sums.i.eq(grown)]
        with m.If(valid):
            m.d.sync += running.eq(Mux(last, 0, grown.as_value()))

    def _reciprocals(self, m: Module, sums: CreditFifo) -> stream.Interface:
        """Stage 2: the stream of reciprocals, tagged with the row's sum and shift count."""
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
            root.i.payload.x.eq(normal.x),
            root.i.payload.tag.sum.eq(normal.tag),
            root.i.payload.tag.count.eq(normal.count),
            reciprocal.i.payload.x.eq(root.o.payload.root),
            reciprocal.i.payload.tag.eq(root.o.payload.tag),
        ]
        for source, sink in ((variance, normalizer), (normalizer, root), (root, reciprocal)):
            m.d.comb += [sink.i.valid.eq(source.o.valid), source.o.ready.eq(sink.i.ready)]
        return reciprocal.o

    def _normalize(self, m: Module, x_fifo: CreditFifo, recips: stream.Interface) -> None:
        """Stage 3: normalize, scale and shift every element.

        If the variance and ``eps`` are 0, every ``n*x - sum`` is 0: the reciprocal does not matter.
        """
        m.submodules.join = join = RowJoin(self._x_layout, recips.payload.shape())
        m.submodules.y_fifo = y_fifo = CreditFifo(self._y_layout, depth=_OUTPUT_DEPTH)
        wiring.connect(m, join.beats, x_fifo.o)
        wiring.connect(m, join.rows, recips)
        wiring.connect(m, wiring.flipped(self.o), y_fifo.o)
        m.d.comb += [join.room.eq(y_fifo.room), y_fifo.take.eq(join.fire)]
        lanes = [LayerNormLane(row_max=self._row_max) for _ in range(self._lanes)]
        lane = lanes[0]
        total = delay(m, join.row.tag.sum, lane.sum_latency, name="row_sum")
        recip = delay(m, join.row.q[:RECIPROCAL_FIELD], lane.recip_latency, name="row_recip")
        count = delay(m, join.row.tag.count, lane.amount_latency, name="row_count")
        for k, lane in enumerate(lanes):
            m.submodules[f"lane_{k}"] = lane
            m.d.comb += [
                lane.x.eq(join.beat.x[k]),
                lane.n.eq(self.n),
                lane.sum.eq(total),
                lane.r.eq(recip),
                lane.amount.eq(Z_AMOUNT - count),
                lane.parameters.eq(self.param_data[k]),
                lane.zero_point.eq(self.zero_point),
                lane.lo.eq(self.lo),
                lane.hi.eq(self.hi),
                y_fifo.i.y[k].eq(lane.y),
            ]
        m.d.comb += [
            y_fifo.push.eq(delay(m, join.valid, lane.latency, name="y_valid")),
            y_fifo.i.last.eq(delay(m, join.beat.last, lane.latency, name="y_last")),
        ]
        # Ask for the parameters so that they arrive together with the normalized values.
        cycles = lane.param_latency - READ_LATENCY
        step = delay(m, join.valid, cycles, name="param_step")
        wrap = delay(m, join.beat.last, cycles, name="param_wrap")
        with m.If(step):
            m.d.sync += self.param_index.eq(Mux(wrap, 0, self.param_index + 1))


def _sum_of(a: Value, b: Value) -> Value:
    return a + b


def _serial_latencies(row_max: int) -> list[int]:
    """Cycles of each unit of the serial chain for one row."""
    return [
        Variance.latency_of(row_max=row_max),
        Normalizer.latency_of(NORM_BITS, step=2),
        SquareRoot.latency_of(NORM_BITS),
        Reciprocal.latency_of(bits=RECIPROCAL_BITS),
    ]
