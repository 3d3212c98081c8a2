"""Softmax over rows of integer codes, correctly rounded but for the last hundredth of a step."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In
from numpy.typing import NDArray

from intformer import reference
from intformer.hw.row.softmax import RowSoftmax
from intformer.hw.row.timing import RowTiming
from intformer.hw.units.exponential import Exponential, exp_tables
from intformer.hw.units.pipeline import check_range, code_shape
from intformer.hw.units.predicates import RowPredicates
from intformer.reference.integers import IntArray
from intformer.reference.softmax import ExpTables

__all__ = ["Softmax"]


class Softmax(wiring.Component):
    """``p[j] = exp(scale * x[j]) / sum(exp(scale * x))`` in units of 1/256, row by row.

    ::

        i ─► running maximum ─► exponentials, sum ─► divide ─► o
         └──► FIFO of x ────────┘   └──► FIFO of e ───┘

    ``p = min(floor(256 * e / sum(e) + 1/2), 255)``, where ``e`` is the exponential of ``x`` minus
    the row's maximum, to 24 bits; :func:`intformer.reference.softmax`. The quotient is rounded
    exactly, half up. For rows of up to 1024 elements ``p`` is within 0.51 of a step of the exact
    value (255 stands for all from 255 up).

    The exponentials come from block RAM: one table where no more than 2,048 distances from
    the maximum count (always for int8), else the product of two; if more than 18 bits of the
    distance count, also a linear correction. The division is a pipeline of restoring stages, one
    bit each, without multipliers.

    Parameters
    ----------
    lanes: elements per beat, 1 to 64.
    row_max: longest row, in elements, 2 to 65,536.
    scale: real value of a step of ``x``. Positive.
    input: ``int8``, ``int16`` or ``int32``: the codes ``x``. A zero point cancels.
    predicates: whether there is a stream ``rows``.
    target: family whose multiplier blocks to use (``ecp5``, ``ice40``, ``gowin``); by default any
        tool finds them.

    Members
    -------
    i: ``In(stream)`` of ``{x: lanes codes, keep: lanes, last: 1}``. ``keep`` is 0 for elements that
        are masked or past the row's end; ``last`` marks the last beat of a row.
    o: ``Out(stream)`` of ``{p: lanes x unsigned(8), last: 1}``; 0 for elements not kept.
    rows: ``In(stream)`` of ``{length, causal: 1, position: signed}``, one for each row: element
        ``j`` counts as kept only if ``j < length`` and, if ``causal``, ``j <= position`` (number of
        the row, plus an offset). Only with ``predicates``.

    Example
    -------
    >>> unit = Softmax(lanes=4, row_max=256, scale=1 / 16)
    >>> unit.latency, unit.throughput, unit.row_cycles(64)
    (32, 4, 16)
    >>> unit.reference([[16, 0, 16, 127]])
    array([[  0,   0,   0, 255]])
    """

    def __init__(
        self,
        *,
        lanes: int,
        row_max: int,
        scale: float,
        input: str = "int8",
        predicates: bool = False,
        target: str | None = None,
    ) -> None:
        check_range("lanes", lanes, 1, 64)
        check_range("row_max", row_max, 2, 1 << 16)
        if not 0 < scale < float("inf"):
            raise ValueError(f"scale must be positive and finite, not {scale!r}")
        bits = code_shape("input", input, ["int8", "int16", "int32"]).width
        self._lanes = lanes
        self._tables = exp_tables(scale, d_bits=bits)
        self._exponential = Exponential(self._tables, d_bits=bits, lanes=lanes, target=target)
        self._rows = RowSoftmax(
            lanes=lanes, row_max=row_max, x_bits=bits, exp_latency=self._exponential.latency
        )
        self._predicates = RowPredicates(lanes=lanes, row_max=row_max) if predicates else None
        inner = self._rows.signature.members
        ports: dict[str, Any] = {"i": inner["i"], "o": inner["o"]}
        if self._predicates is not None:
            rows = self._predicates.rows.payload.shape()
            ports["rows"] = In(stream.Signature(rows))
        super().__init__(ports)

    @property
    def tables(self) -> ExpTables:
        """The exponentials, as :func:`intformer.reference.softmax` takes them."""
        return self._tables

    @property
    def latency(self) -> int:
        """:meth:`row_latency` of a row of one beat."""
        return self.row_latency(self._lanes)

    def row_latency(self, n: int) -> int:
        """Cycles from the transfer of the last beat of a row of ``n`` to its first result.

        A row alone, without stalls: its exponentials are looked up once its maximum is known, and
        divided once their sum is.
        """
        beats = -(-n // self._lanes)
        return self._timing.latency(n) - 2 * (beats - 1)

    @property
    def throughput(self) -> int:
        """Elements per cycle, sustained."""
        return self._lanes

    def row_cycles(self, n: int) -> int:
        """Cycles from one row of ``n`` elements to the next."""
        return self._timing.row_cycles(n)

    @property
    def _timing(self) -> RowTiming:
        return self._rows.timing

    def reference(self, x: IntArray, *, keep: NDArray[Any] | None = None) -> IntArray:
        """What the unit answers to rows of codes ``x``, of which ``keep`` counts."""
        return reference.softmax(x, exp_table=self._tables, keep=keep)

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.exponential = exponential = self._exponential
        m.submodules.rows = rows = self._rows
        wiring.connect(m, wiring.flipped(self.o), rows.o)
        m.d.comb += [exponential.d.eq(rows.index), rows.exp.eq(exponential.e)]
        predicates = self._predicates
        if predicates is None:
            wiring.connect(m, wiring.flipped(self.i), rows.i)
            return m
        m.submodules.predicates = predicates
        wiring.connect(m, wiring.flipped(self.rows), predicates.rows)
        m.d.comb += [
            self.i.ready.eq(rows.i.ready & predicates.active),
            rows.i.valid.eq(self.i.valid & predicates.active),
            rows.i.payload.eq(self.i.payload),
            rows.i.payload.keep.eq(self.i.payload.keep & predicates.mask),
            predicates.take.eq(self.i.valid & self.i.ready),
            predicates.last.eq(self.i.payload.last),
        ]
        return m
