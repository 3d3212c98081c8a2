"""The epilogue's operands and results: lane groups read and written row by row."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intformer.config import CoreConfig
from intformer.hw.parts.streams import CreditFifo, delay
from intformer.hw.parts.walk import RowAddress
from intformer.hw.ports import READ_LATENCY, NarrowReadPort, WritePort

__all__ = ["AccumulatorReader", "GroupCounter", "GroupReader", "GroupWriter", "place_layout"]

_RESPONSES = 8  # more than the cycles from a request to the release of its place


def place_layout() -> data.StructLayout:
    """Where the rows of an operand lie: memory, first lane group, words between rows."""
    return data.StructLayout({"mem": 1, "word": 18, "sub": 4, "stride": 12})


class GroupCounter(wiring.Component):
    """Counts ``rows`` rows of ``groups`` lane groups.

    Members
    -------
    load: ``In(1)``; begin with ``rows``: ``In(12)`` and ``groups``: ``In(10)``, at least 1 each
        and constant until the end.
    step: ``In(1)``; the present group has been dealt with.
    active: ``Out(1)``; there is a present group.
    index: ``Out(10)``; its number in the row; last: ``Out(1)``; it is the row's last.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "load": In(1),
                "rows": In(12),
                "groups": In(10),
                "step": In(1),
                "active": Out(1),
                "index": Out(10),
                "last": Out(1),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        rows_left = Signal(12)
        m.d.comb += [self.active.eq(rows_left != 0), self.last.eq(self.index == self.groups - 1)]
        with m.If(self.load):
            m.d.sync += [rows_left.eq(self.rows), self.index.eq(0)]
        with m.Elif(self.step & self.last):
            m.d.sync += [rows_left.eq(rows_left - 1), self.index.eq(0)]
        with m.Elif(self.step):
            m.d.sync += self.index.eq(self.index + 1)
        return m


def _walk(m: Module, name: str, config: CoreConfig, start, rows, groups, place, step):
    """A counter and an address that go through the groups of ``place``."""
    counter, address = GroupCounter(), RowAddress(config)
    m.submodules[f"{name}_counter"], m.submodules[f"{name}_address"] = counter, address
    m.d.comb += [
        counter.load.eq(start),
        counter.rows.eq(rows),
        counter.groups.eq(groups),
        counter.step.eq(step),
        address.load.eq(start),
        address.base.eq(place.word),
        address.base_sub.eq(place.sub),
        address.stride.eq(place.stride),
        address.by_word.eq(place.mem),
        address.step.eq(step),
        address.last.eq(counter.last),
    ]
    return counter, address


class GroupReader(wiring.Component):
    """Reads an operand from either scratchpad, one lane group per cycle.

    Members
    -------
    start: ``In(1)``; begin; ``rows``, ``groups`` and ``place`` stay constant until the end.
    rows: ``In(12)``, groups: ``In(10)``, place: ``In`` of :func:`place_layout`.
    act, wide: ``Out(NarrowReadPort)``.
    o: ``Out(stream)`` of ``lanes`` values of 16 bits, bytes sign-extended.
    stall: ``Out(1)``; a request waits for its port.
    """

    def __init__(self, config: CoreConfig) -> None:
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "rows": In(12),
                "groups": In(10),
                "place": In(place_layout()),
                "act": Out(NarrowReadPort(8 * config.lanes)),
                "wide": Out(NarrowReadPort(16 * config.lanes)),
                "o": Out(stream.Signature(16 * config.lanes)),
                "stall": Out(1),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        lanes = self._config.lanes
        m.submodules.responses = responses = CreditFifo(16 * lanes, depth=_RESPONSES)
        wiring.connect(m, wiring.flipped(self.o), responses.o)
        taken = Signal()
        counter, address = _walk(
            m, "source", self._config, self.start, self.rows, self.groups, self.place, taken
        )
        request = counter.active & responses.room
        in_wide = self.place.mem
        for port, chosen in ((self.act, ~in_wide), (self.wide, in_wide)):
            m.d.comb += [
                port.req.valid.eq(request & chosen),
                port.req.payload.word.eq(address.word),
                port.req.payload.sub.eq(address.sub),
            ]
        codes = [self.act.data.word_select(k, 8).as_signed() for k in range(lanes)]
        extended = Cat(Cat(code, code[-1].replicate(8)) for code in codes)
        m.d.comb += [
            taken.eq(request & Mux(in_wide, self.wide.req.ready, self.act.req.ready)),
            self.stall.eq(request & ~taken),
            responses.take.eq(taken),
            responses.push.eq(delay(m, taken, READ_LATENCY, name="taken")),
            responses.i.eq(Mux(in_wide, self.wide.data, extended)),
        ]
        return m


class AccumulatorReader(wiring.Component):
    """Reads accumulators, one group of ``lanes`` columns per cycle.

    Members
    -------
    start: ``In(1)``; begin; ``rows``: ``In(12)``, ``groups``: ``In(10)`` (at most ``cols / lanes``)
        stay constant until the end; first: ``In(12)``; the first accumulator row.
    acc_addr: ``Out(12)``, acc_data: ``In(32*cols)``, ``READ_LATENCY`` cycles later.
    o: ``Out(stream)`` of ``lanes`` values of 32 bits.
    """

    def __init__(self, config: CoreConfig) -> None:
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "rows": In(12),
                "groups": In(10),
                "first": In(12),
                "acc_addr": Out(12),
                "acc_data": In(32 * config.cols),
                "o": Out(stream.Signature(32 * config.lanes)),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        bits = 32 * self._config.lanes
        m.submodules.responses = responses = CreditFifo(bits, depth=_RESPONSES)
        wiring.connect(m, wiring.flipped(self.o), responses.o)
        m.submodules.counter = counter = GroupCounter()
        taken = Signal()
        m.d.comb += [
            counter.load.eq(self.start),
            counter.rows.eq(self.rows),
            counter.groups.eq(self.groups),
            counter.step.eq(taken),
            taken.eq(counter.active & responses.room),
            responses.take.eq(taken),
        ]
        with m.If(self.start):
            m.d.sync += self.acc_addr.eq(self.first)
        with m.Elif(taken & counter.last):
            m.d.sync += self.acc_addr.eq(self.acc_addr + 1)
        groups = Array(
            self.acc_data.word_select(g, bits)
            for g in range(self._config.cols // self._config.lanes)
        )
        index = delay(m, counter.index, READ_LATENCY, name="index")
        chosen = Signal(bits)
        m.d.sync += chosen.eq(groups[index])
        m.d.comb += [
            responses.push.eq(delay(m, taken, READ_LATENCY + 1, name="taken")),
            responses.i.eq(chosen),
        ]
        return m


class GroupWriter(wiring.Component):
    """Writes lane groups to either scratchpad.

    Members
    -------
    start, rows, groups, place: as for :class:`GroupReader`.
    tail: ``In(5)``; valid lanes of the last group of a row.
    i: ``In(stream)`` of ``lanes`` values of 16 bits; ``act`` takes the low bytes.
    act, wide: ``Out(WritePort)``.
    active: ``Out(1)``; from the cycle after ``start`` until the last write has been taken.
    stall: ``Out(1)``; a write waits for its port.
    """

    def __init__(self, config: CoreConfig) -> None:
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "rows": In(12),
                "groups": In(10),
                "place": In(place_layout()),
                "tail": In(5),
                "i": In(stream.Signature(16 * config.lanes)),
                "act": Out(WritePort(config, bits=8)),
                "wide": Out(WritePort(config, bits=16)),
                "active": Out(1),
                "stall": Out(1),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        lanes = self._config.lanes
        taken = Signal()
        counter, address = _walk(
            m, "target", self._config, self.start, self.rows, self.groups, self.place, taken
        )
        in_wide = self.place.mem
        mask = Cat(~counter.last | (self.tail > k) for k in range(lanes))
        for port, chosen in ((self.act, ~in_wide), (self.wide, in_wide)):
            m.d.comb += [
                port.req.valid.eq(self.i.valid & counter.active & chosen),
                port.req.payload.word.eq(address.word),
                port.req.payload.sub.eq(address.sub),
                port.req.payload.mask.eq(mask),
            ]
        values = self.i.payload
        m.d.comb += [
            self.act.req.payload.data.eq(Cat(values.word_select(k, 16)[:8] for k in range(lanes))),
            self.wide.req.payload.data.eq(values),
            taken.eq(
                self.i.valid
                & counter.active
                & Mux(in_wide, self.wide.req.ready, self.act.req.ready)
            ),
            self.i.ready.eq(taken),
            self.active.eq(counter.active),
            self.stall.eq(self.i.valid & counter.active & ~taken),
        ]
        return m
