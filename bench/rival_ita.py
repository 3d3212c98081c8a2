"""ITA's streaming softmax, ported from the paper's formulas.

G. Islamoglu, M. Scherer, G. Paulin, T. Fischer, V. J. B. Jung, A. Garofalo, L. Benini: ITA: An
Energy-Efficient Attention and Softmax Accelerator for Quantized Transformers, ISLPED 2023,
arXiv:2307.03493, section IV. Powers of two with whole exponents only; the running sum is shifted
when the running maximum moves; one inversion per row.
"""

from __future__ import annotations

import math

import numpy as np
from amaranth.hdl import Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2
from numpy.typing import NDArray

from intformer.bench.rival_rows import SerialDivider, stage
from intformer.hw.parts.arithmetic import reduce_tree, tree_latency
from intformer.hw.parts.streams import CreditFifo, RowJoin, delay, row_beats
from intformer.reference import IntArray

__all__ = ["ItaSoftmax", "octave_step", "softmax"]

STEP_BITS = 5
"""An octave has 32 codes: B - log2(B) for the paper's B = 8."""
SUM_ONE = 7
"""The largest element adds ``2**SUM_ONE`` to the sum."""
SCALE_BITS = 8
"""Fraction bits of the multiplier that brings codes to 32 per octave."""


def octave_step(scale: float) -> int:
    """Multiplier, ``SCALE_BITS`` fraction bits, from codes of ``scale`` to 32 per octave."""
    return round(scale / math.log(2) * (1 << STEP_BITS) * (1 << SCALE_BITS))


def _halvings(distance: NDArray[np.int64], step: int) -> NDArray[np.int64]:
    """Whole octaves in a distance between codes, rounded to the nearest."""
    shift = SCALE_BITS + STEP_BITS
    return (distance * step + (1 << (shift - 1))) >> shift


def softmax(x: IntArray, *, scale: float, group: int = 4) -> NDArray[np.int64]:
    """Softmax of int8 codes of ``scale`` to uint8 at 1/256, ``group`` elements per step.

    ITA wants codes of ln(2)/32; other scales are multiplied in here, with full range, so that
    what is measured is the unit and not a clipped input.
    """
    x = np.asarray(x, dtype=np.int64)
    step = octave_step(scale)
    rows = x.reshape(-1, x.shape[-1])
    top = np.full((len(rows), 1), -128, np.int64)
    total = np.zeros((len(rows), 1), np.int64)
    for first in range(0, rows.shape[1], group):
        part = rows[:, first : first + group]
        new = np.maximum(top, part.max(axis=1, keepdims=True))
        total >>= _halvings(new - top, step)
        total += (np.int64(1) << SUM_ONE >> _halvings(new - part, step)).sum(axis=1, keepdims=True)
        top = new
    inverse = (255 << (SUM_ONE + 1)) // total
    return np.minimum(inverse >> _halvings(top - rows, step) + 1, 255).reshape(x.shape)


class ItaSoftmax(wiring.Component):
    """:func:`softmax` of logits at 1/16, ``lanes`` elements per step.

    ::

        i ─► running maximum, running sum ─► invert ─► shift ─► o
         └──► FIFO of x ─────────────────────────────┘

    Members
    -------
    i: ``In(stream)`` of ``{x: lanes x signed(8), last: 1}``.
    o: ``Out(stream)`` of ``{p: lanes x unsigned(8), last: 1}``.
    """

    def __init__(self, *, lanes: int, row_max: int) -> None:
        self._lanes, self._beats = lanes, row_beats(row_max, lanes)
        self._sum_bits = SUM_ONE + ceil_log2(row_max) + 1
        self._x_layout = data.StructLayout({"x": data.ArrayLayout(signed(8), lanes), "last": 1})
        self._p_layout = data.StructLayout({"p": data.ArrayLayout(8, lanes), "last": 1})
        super().__init__(
            {"i": In(stream.Signature(self._x_layout)), "o": Out(stream.Signature(self._p_layout))}
        )

    @property
    def throughput(self) -> int:
        """Elements per cycle, in rows long enough for the inversion."""
        return self._lanes

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        depth = 2 * self._beats + 48
        row = data.StructLayout({"top": signed(8), "total": self._sum_bits})
        m.submodules.x_fifo = x_fifo = CreditFifo(self._x_layout, depth=depth, registered=True)
        m.submodules.rows = rows = CreditFifo(row, depth=8)
        self._accumulate(m, x_fifo, rows)
        self._normalize(m, x_fifo, self._invert(m, rows))
        return m

    def _accumulate(self, m: Module, x_fifo: CreditFifo, rows: CreditFifo) -> None:
        beat, accept = self.i.payload, Signal()
        m.d.comb += [
            self.i.ready.eq(x_fifo.room & rows.room),
            accept.eq(self.i.valid & self.i.ready),
            x_fifo.i.eq(beat),
            x_fifo.take.eq(accept),
            x_fifo.push.eq(accept),
            rows.take.eq(accept & beat.last),
        ]
        tree = tree_latency(self._lanes)
        best = reduce_tree(m, list(beat.x), lambda a, b: Mux(a > b, a, b), name="best")
        valid = delay(m, accept, tree, name="best_valid")
        last = delay(m, beat.last, tree, name="best_last")
        top, new = Signal(signed(8), init=-128), Signal(signed(8))
        m.d.comb += new.eq(Mux(best > top, best, top))
        with m.If(valid):
            m.d.sync += top.eq(Mux(last, -128, new))
        moved = stage(m, (new - top)[:8], name="moved")
        terms = []
        for k in range(self._lanes):
            x = delay(m, beat.x[k], tree, name=f"lane{k}_x")
            distance = stage(m, (new - x)[:8], name=f"lane{k}_distance")
            halvings = _halvings_unit(m, distance, name=f"lane{k}")
            one = Const(1 << SUM_ONE, SUM_ONE + 1)
            terms.append(stage(m, one >> halvings, name=f"lane{k}_term"))
        added = reduce_tree(m, terms, lambda a, b: a + b, name="added")
        shift = delay(m, _halvings_unit(m, moved, name="moved"), 1 + tree, name="moved_shift")
        cycles = 3 + tree
        valid = delay(m, valid, cycles, name="total_valid")
        last = delay(m, last, cycles, name="total_last")
        total, grown = Signal(self._sum_bits), Signal(self._sum_bits)
        m.d.comb += grown.eq((total >> shift) + added)
        with m.If(valid):
            m.d.sync += total.eq(Mux(last, 0, grown))
        m.d.sync += [
            rows.push.eq(valid & last),
            rows.i.total.eq(grown),
            rows.i.top.eq(delay(m, new, cycles, name="new")),
        ]

    def _invert(self, m: Module, rows: CreditFifo) -> stream.Interface:
        """The stream of ``{top, inverse}``."""
        layout = data.StructLayout({"top": signed(8), "inverse": 9})
        m.submodules.divider = divider = SerialDivider(
            self._sum_bits, numerator=255 << (SUM_ONE + 1), bits=9
        )
        result = stream.Signature(layout).create()
        top = Signal(signed(8), reset_less=True)
        m.d.comb += [
            divider.i.valid.eq(rows.o.valid),
            divider.i.payload.eq(rows.o.payload.total),
            rows.o.ready.eq(divider.i.ready),
            result.valid.eq(divider.o.valid),
            divider.o.ready.eq(result.ready),
            result.payload.top.eq(top),
            result.payload.inverse.eq(divider.o.payload),
        ]
        with m.If(rows.o.valid & rows.o.ready):
            m.d.sync += top.eq(rows.o.payload.top)
        return result

    def _normalize(self, m: Module, x_fifo: CreditFifo, rows: stream.Interface) -> None:
        m.submodules.join = join = RowJoin(self._x_layout, rows.payload.shape())
        m.submodules.p_fifo = p_fifo = CreditFifo(self._p_layout, depth=16)
        wiring.connect(m, join.beats, x_fifo.o)
        m.d.comb += [
            join.rows.valid.eq(rows.valid),
            join.rows.payload.eq(rows.payload),
            rows.ready.eq(join.rows.ready),
            join.room.eq(p_fifo.room),
            p_fifo.take.eq(join.fire),
        ]
        wiring.connect(m, wiring.flipped(self.o), p_fifo.o)
        inverse = delay(m, join.row.inverse >> 1, 2, name="inverse")
        for k in range(self._lanes):
            name = f"lane{k}_p"
            distance = stage(m, (join.row.top - join.beat.x[k])[:8], name=f"{name}_distance")
            halvings = _halvings_unit(m, distance, name=name)
            m.d.comb += p_fifo.i.p[k].eq(stage(m, inverse >> halvings, name=name))
        m.d.comb += [
            p_fifo.push.eq(delay(m, join.valid, 3, name="p_valid")),
            p_fifo.i.last.eq(delay(m, join.beat.last, 3, name="p_last")),
        ]


def _halvings_unit(m: Module, distance: Value, *, name: str) -> Value:
    """:func:`_halvings` of a distance below 256 at 1/16, one cycle later."""
    shift = SCALE_BITS + STEP_BITS
    whole = (distance * octave_step(1 / 16) + (1 << (shift - 1))) >> shift
    return stage(m, whole, name=f"{name}_halvings", shape=unsigned(5))
