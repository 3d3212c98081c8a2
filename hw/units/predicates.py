"""Masks of rows: only the first elements of a row are kept."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intformer.hw.parts.streams import CreditFifo

__all__ = ["RowPredicates"]

_ROWS_WAITING = 8


class RowPredicates(wiring.Component):
    """Turns the predicates of each row into a mask for each of its beats.

    Element ``j`` is kept if ``j < length`` and, if ``causal``, ``j <= position``;
    :func:`intformer.reference.softmax_keep`.

    Parameters
    ----------
    lanes: elements per beat.
    row_max: longest row, in elements.

    Members
    -------
    rows: ``In(stream)`` of ``{length, causal: 1, position: signed}``, one per row.
        ``length`` is ``0..row_max``, ``position`` ``-row_max..row_max - 1``.
    active: ``Out(1)``; the predicates of the current row are known.
    mask: ``Out(lanes)``; which lanes of the next beat are kept.
    take: ``In(1)``; a beat is taken, only while ``active``; ``last``: ``In(1)``, it ends the row.
    """

    def __init__(self, *, lanes: int, row_max: int) -> None:
        self._lanes = lanes
        layout = data.StructLayout(
            {
                "length": range(row_max + 1),
                "causal": 1,
                "position": signed((row_max - 1).bit_length() + 1),
            }
        )
        super().__init__(
            {
                "rows": In(stream.Signature(layout)),
                "active": Out(1),
                "mask": Out(lanes),
                "take": In(1),
                "last": In(1),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        row = self.rows.payload
        m.submodules.limits = limits = CreditFifo(row.length.shape(), depth=_ROWS_WAITING)
        bound = Mux(row.position[-1], 0, row.position + 1)
        first = row.causal & (row.position < row.length)
        accept = Signal()
        m.d.comb += [
            self.rows.ready.eq(limits.room),
            accept.eq(self.rows.valid & limits.room),
            limits.take.eq(accept),
        ]
        m.d.sync += [limits.push.eq(accept), limits.i.eq(Mux(first, bound, row.length))]
        left = Signal.like(row.length)
        for lane in range(self._lanes):
            m.d.comb += self.mask[lane].eq(left > lane)
        m.d.comb += limits.o.ready.eq(~self.active | (self.take & self.last))
        with m.If(limits.o.ready):
            m.d.sync += [self.active.eq(limits.o.valid), left.eq(limits.o.payload)]
        with m.Elif(self.take):
            m.d.sync += left.eq(Mux(left > self._lanes, left - self._lanes, 0))
        return m
