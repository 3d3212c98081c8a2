"""Access to the scratchpads by rows: requests for lane groups, and writes of them."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from intformer.config import CoreConfig
from intformer.hw.parts.streams import Skid, delay
from intformer.hw.parts.walk import RowWalk, place_layout
from intformer.hw.ports import READ_LATENCY, NarrowReadPort, WritePort

__all__ = ["RESPONSES", "GroupReader", "GroupWriter"]

RESPONSES = 16
"""Places for responses: more than the cycles from a request to the release of its place."""


class GroupReader(wiring.Component):
    """Reads rows from either scratchpad, one lane group per cycle.

    Members
    -------
    load: ``In(1)``; begin; the following stay constant until the last group has arrived:
    more_rows, more_groups, place: ``In``; as in :class:`intformer.hw.parts.walk.RowWalk`.
    room: ``In(1)``; a group may be asked for: there is a place for it.
    act, wide: ``Out(NarrowReadPort)``.
    active: ``Out(1)``; there is a group to ask for; last: ``Out(1)``; it is its row's last.
    taken: ``Out(1)``; it is asked for now.
    arrives: ``Out(1)``, data: ``Out(16*lanes)``; its codes, bytes sign-extended,
        ``READ_LATENCY`` cycles later.
    stall: ``Out(1)``; a request waits for its port.
    """

    def __init__(self, config: CoreConfig) -> None:
        self._config = config
        super().__init__(
            {
                "load": In(1),
                "more_rows": In(12),
                "more_groups": In(10),
                "place": In(place_layout()),
                "room": In(1),
                "act": Out(NarrowReadPort(8 * config.lanes)),
                "wide": Out(NarrowReadPort(16 * config.lanes)),
                "active": Out(1),
                "last": Out(1),
                "taken": Out(1),
                "arrives": Out(1),
                "data": Out(16 * config.lanes),
                "stall": Out(1),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.walk = walk = RowWalk(self._config)
        request, in_wide = Signal(), _kept(m, self.place.mem)
        m.d.comb += [
            walk.load.eq(self.load),
            walk.more_rows.eq(self.more_rows),
            walk.more_groups.eq(self.more_groups),
            walk.place.eq(self.place),
            walk.step.eq(self.taken),
            request.eq(walk.active & self.room),
            self.taken.eq(request & Mux(in_wide, self.wide.req.ready, self.act.req.ready)),
            self.active.eq(walk.active),
            self.last.eq(walk.last),
            self.stall.eq(request & ~self.taken),
            self.arrives.eq(delay(m, self.taken, READ_LATENCY, name="taken")),
        ]
        for port, chosen in ((self.act, ~in_wide), (self.wide, in_wide)):
            m.d.comb += [
                port.req.valid.eq(request & chosen),
                port.req.payload.word.eq(walk.word),
                port.req.payload.sub.eq(walk.sub),
            ]
        codes = [self.act.data.word_select(k, 8).as_signed() for k in range(self._config.lanes)]
        extended = Cat(Cat(code, code[-1].replicate(8)) for code in codes)
        m.d.comb += self.data.eq(Mux(self.place.mem, self.wide.data, extended))
        return m


def _kept(m: Module, mem: Value) -> Value:
    """``mem``, from one cycle after ``load`` on: apart from the register that selects the data."""
    in_wide = Signal(attrs={"keep": 1})
    m.d.sync += in_wide.eq(mem)
    return in_wide


class GroupWriter(wiring.Component):
    """Writes rows to either scratchpad, one lane group per cycle.

    Members
    -------
    load: ``In(1)``; begin; the following stay constant until the last write has been taken:
    more_rows, more_groups, place: ``In``; as in :class:`intformer.hw.parts.walk.RowWalk`.
    tail: ``In(lanes)``; the lanes of a row's last group that are written.
    i: ``In(stream)`` of ``lanes`` values of 16 bits; ``act`` takes the low bytes. Nothing is
        ``valid`` after the last group until the next ``load``.
    act, wide: ``Out(WritePort)``.
    active: ``Out(1)``; from the cycle after ``load`` until the last write has been taken.
    stall: ``Out(1)``; a write waits for its port.
    """

    def __init__(self, config: CoreConfig) -> None:
        self._config = config
        super().__init__(
            {
                "load": In(1),
                "more_rows": In(12),
                "more_groups": In(10),
                "place": In(place_layout()),
                "tail": In(config.lanes),
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
        m.submodules.walk = walk = RowWalk(self._config)
        m.submodules.skid = skid = Skid(self.i.payload.shape())
        wiring.connect(m, wiring.flipped(self.i), skid.i)
        in_wide, i = _kept(m, self.place.mem), skid.o
        m.d.comb += [
            walk.load.eq(self.load),
            walk.more_rows.eq(self.more_rows),
            walk.more_groups.eq(self.more_groups),
            walk.place.eq(self.place),
            i.ready.eq(Mux(in_wide, self.wide.req.ready, self.act.req.ready)),
            walk.step.eq(i.valid & i.ready),
            self.active.eq(walk.active),
            self.stall.eq(i.valid & ~i.ready),
        ]
        for port, chosen in ((self.act, ~in_wide), (self.wide, in_wide)):
            m.d.comb += [
                port.req.valid.eq(i.valid & chosen),
                port.req.payload.word.eq(walk.word),
                port.req.payload.sub.eq(walk.sub),
                port.req.payload.mask.eq(self.tail | (~walk.last).replicate(lanes)),
            ]
        low_bytes = Cat(i.payload.word_select(k, 16)[:8] for k in range(lanes))
        m.d.comb += [
            self.act.req.payload.data.eq(low_bytes),
            self.wide.req.payload.data.eq(i.payload),
        ]
        return m
