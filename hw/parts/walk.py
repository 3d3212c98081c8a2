"""Walking rows of a scratchpad in lane groups: counters and addresses."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from intformer.config import CoreConfig

__all__ = ["GroupCounter", "KeepCounter", "RowAddress", "RowWalk", "place_layout"]


def place_layout() -> data.StructLayout:
    """Where the rows of an operand lie: memory, first lane group, words between rows."""
    return data.StructLayout({"mem": 1, "word": 18, "sub": 4, "stride": 12})


class GroupCounter(wiring.Component):
    """Counts rows of lane groups.

    Members
    -------
    load: ``In(1)``; begin.
    more_rows: ``In(12)``; rows after the first.
    more_groups: ``In(10)``; groups of a row after its first; constant between two loads.
    step: ``In(1)``; the present group has been dealt with; only while ``active``.
    active: ``Out(1)``; there is a present group. Like ``last``, from a register.
    last: ``Out(1)``; it is the last of its row.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "load": In(1),
                "more_rows": In(12),
                "more_groups": In(10),
                "step": In(1),
                "active": Out(1),
                "last": Out(1),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        # One less than are left after this one, so that the sign tells the last.
        rows, groups = Signal(signed(13)), Signal(signed(11))
        last, active = groups[-1], self.active
        m.d.comb += self.last.eq(last)
        with m.If(self.load | self.step):
            m.d.sync += groups.eq(Mux(self.load | last, self.more_groups, groups) - 1)
        with m.If(self.load | (self.step & last)):
            m.d.sync += [
                rows.eq(Mux(self.load, self.more_rows, rows) - 1),
                active.eq(self.load | ~rows[-1]),
            ]
        return m


class RowAddress(wiring.Component):
    """The address of each lane group of rows that begin ``stride`` words apart.

    Members
    -------
    load: ``In(1)``; go to the first group of the first row.
    place: ``In`` of :func:`place_layout`; constant between two loads. In memory 1, the wide
        scratchpad, a lane group fills its word.
    step: ``In(1)``; go to the next group; with ``last``, to the first group of the next row.
    last: ``In(1)``.
    word, sub: ``Out``; the address, from registers.
    """

    def __init__(self, config: CoreConfig) -> None:
        self._groups = config.groups_per_word
        super().__init__(
            {
                "load": In(1),
                "place": In(place_layout()),
                "step": In(1),
                "last": In(1),
                "word": Out(18),
                "sub": Out(4),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        place, full = self.place, self._groups - 1
        following = Signal(18)  # where the next row begins
        carries = Signal()  # the present group is its word's last
        new_row = Signal()
        begin = Mux(self.load, place.word, following)
        m.d.comb += new_row.eq(self.load | self.last)
        with m.If(self.load | (self.step & self.last)):
            m.d.sync += following.eq(begin + place.stride)
        with m.If(self.load | self.step):
            m.d.sync += [
                self.word.eq(Mux(new_row, begin, self.word + carries)),
                self.sub.eq(Mux(new_row, place.sub, Mux(carries, 0, self.sub + 1))),
            ]
            with m.If(place.mem | Const(full == 0)):
                m.d.sync += carries.eq(1)
            with m.Elif(new_row):
                m.d.sync += carries.eq(place.sub == full)
            with m.Else():
                m.d.sync += carries.eq(Mux(carries, 0, self.sub == full - 1))
        return m


class RowWalk(wiring.Component):
    """Goes through the lane groups of rows: :class:`GroupCounter` and :class:`RowAddress`.

    Members
    -------
    load, more_rows, more_groups, place, step, active, last, word, sub: as there.
    """

    def __init__(self, config: CoreConfig) -> None:
        self._config = config
        super().__init__(
            {
                "load": In(1),
                "more_rows": In(12),
                "more_groups": In(10),
                "place": In(place_layout()),
                "step": In(1),
                "active": Out(1),
                "last": Out(1),
                "word": Out(18),
                "sub": Out(4),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.counter = counter = GroupCounter()
        m.submodules.address = address = RowAddress(self._config)
        m.d.comb += [
            counter.load.eq(self.load),
            counter.more_rows.eq(self.more_rows),
            counter.more_groups.eq(self.more_groups),
            counter.step.eq(self.step),
            self.active.eq(counter.active),
            self.last.eq(counter.last),
            address.load.eq(self.load),
            address.place.eq(self.place),
            address.step.eq(self.step),
            address.last.eq(counter.last),
            self.word.eq(address.word),
            self.sub.eq(address.sub),
        ]
        return m


class KeepCounter(wiring.Component):
    """Which lanes of each group lie below the length of their row.

    Members
    -------
    load: ``In(1)``; go to the first group of the first row.
    length: ``In(12)``; how many elements of the first row are kept.
    length_step: ``In(1)``; how many more in each further row; constant between two loads.
    step: ``In(1)``; go to the next group; with ``last``, to the first group of the next row.
    last: ``In(1)``.
    keep: ``Out(lanes)``; the lanes of the present group, one cycle late.
    """

    def __init__(self, config: CoreConfig) -> None:
        self._lanes = config.lanes
        super().__init__(
            {
                "load": In(1),
                "length": In(12),
                "length_step": In(1),
                "step": In(1),
                "last": In(1),
                "keep": Out(config.lanes),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        bits = self._lanes.bit_length() - 1
        following = Signal(13)  # the length of the next row
        present = Signal(13 - bits)  # kept groups from here on, without the last, partial one
        tail = Signal(range(self._lanes))  # lanes of that one
        below = Signal()  # the row's length has been passed
        begin = Mux(self.load, self.length, following)
        with m.If(self.load | (self.step & self.last)):
            m.d.sync += [
                following.eq(begin + self.length_step),
                Cat(tail, present).eq(begin) if bits else present.eq(begin),
                below.eq(0),
            ]
        with m.Elif(self.step):
            m.d.sync += [present.eq(present - 1), below.eq(below | (present == 0))]
        whole = present.any()
        partial = Cat(tail > k for k in range(self._lanes))
        m.d.sync += self.keep.eq(Mux(below, 0, partial | whole.replicate(self._lanes)))
        return m
