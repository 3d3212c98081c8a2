"""Walking rows in lane groups: addresses, and which lanes are part of the row."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from intformer.config import CoreConfig

__all__ = ["RowAddress", "RowCounter"]


class RowAddress(wiring.Component):
    """The address of each lane group of rows that begin ``stride`` words apart.

    Members
    -------
    load: ``In(1)``; go to the first group of the row: lane group ``base_sub`` of word ``base``.
    base: ``In(18)``, base_sub: ``In(4)``.
    stride: ``In(12)``; constant between two loads, like ``base_sub`` and ``by_word``.
    by_word: ``In(1)``; a lane group fills its word (the wide scratchpad).
    step: ``In(1)``; go to the next group; with ``last``, to the first group of the next row.
    last: ``In(1)``.
    word, sub: ``Out``; the address, from registers.
    """

    def __init__(self, config: CoreConfig) -> None:
        self._groups = config.groups_per_word
        super().__init__(
            {
                "load": In(1),
                "base": In(18),
                "base_sub": In(4),
                "stride": In(12),
                "by_word": In(1),
                "step": In(1),
                "last": In(1),
                "word": Out(18),
                "sub": Out(4),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        row = Signal(18)
        with m.If(self.load):
            m.d.sync += [row.eq(self.base), self.word.eq(self.base), self.sub.eq(self.base_sub)]
        with m.Elif(self.step & self.last):
            following = (row + self.stride)[:18]
            m.d.sync += [row.eq(following), self.word.eq(following), self.sub.eq(self.base_sub)]
        with m.Elif(self.step):
            with m.If(self.by_word | (self.sub == self._groups - 1)):
                m.d.sync += [self.word.eq(self.word + 1), self.sub.eq(0)]
            with m.Else():
                m.d.sync += self.sub.eq(self.sub + 1)
        return m


class RowCounter(wiring.Component):
    """Counts the lane groups of ``rows`` rows of ``n`` elements.

    Members
    -------
    load: ``In(1)``; begin.
    rows: ``In(12)``, n: ``In(11)``; at least 1; constant between two loads, like:
    length: ``In(12)``; how many elements of the first row are kept.
    length_step: ``In(1)``; how many more in each further row.
    step: ``In(1)``; the present group has been dealt with.
    active: ``Out(1)``; there is a present group.
    last: ``Out(1)``; it is the last of its row.
    valid: ``Out(lanes)``; its lanes that are part of the row.
    keep: ``Out(lanes)``; its lanes below the row's length, valid or not.
    """

    def __init__(self, config: CoreConfig) -> None:
        self._lanes = config.lanes
        super().__init__(
            {
                "load": In(1),
                "rows": In(12),
                "n": In(11),
                "length": In(12),
                "length_step": In(1),
                "step": In(1),
                "active": Out(1),
                "last": Out(1),
                "valid": Out(config.lanes),
                "keep": Out(config.lanes),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        lanes = self._lanes
        rows_left = Signal(12)
        elements_left = Signal(11)
        row_length = Signal(13)
        kept_left = Signal(signed(14))
        m.d.comb += [
            self.active.eq(rows_left != 0),
            self.last.eq(elements_left <= lanes),
            self.valid.eq(Cat(elements_left > k for k in range(lanes))),
            self.keep.eq(Cat(kept_left > k for k in range(lanes))),
        ]
        longer = (row_length + self.length_step)[:13]
        with m.If(self.load):
            m.d.sync += [
                rows_left.eq(self.rows),
                elements_left.eq(self.n),
                row_length.eq(self.length),
                kept_left.eq(self.length),
            ]
        with m.Elif(self.step & self.last):
            m.d.sync += [
                rows_left.eq(rows_left - 1),
                elements_left.eq(self.n),
                row_length.eq(longer),
                kept_left.eq(longer),
            ]
        with m.Elif(self.step):
            # Below 0 it stays below: a row has fewer than 2**12 elements.
            m.d.sync += [
                elements_left.eq(elements_left - lanes),
                kept_left.eq(Mux(kept_left < 0, -1, kept_left - lanes)),
            ]
        return m
