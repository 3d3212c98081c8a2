"""Access to the scratchpads by rows: requests for lane groups, and writes of them."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intformer.config import CoreConfig
from intformer.hw.parts.streams import Skid, delay
from intformer.hw.parts.walk import RowWalk, place_layout
from intformer.hw.ports import READ_LATENCY, NarrowReadPort, WritePort

__all__ = ["RESPONSES", "GroupReader", "GroupWriter", "Requests"]

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


class Requests(wiring.Component):
    """Sends requests to one of the scratchpads; who makes them does not wait for the ports.

    Parameters
    ----------
    config: the core.
    more: bits that go along with a request.

    Members
    -------
    i: ``In(stream)`` of ``{word: 18, sub: 4, more}``; ``ready`` is a register.
    in_wide: ``In(1)``; which scratchpad; constant while there are requests.
    act, wide: ``Out(NarrowReadPort)``.
    taken: ``Out(1)``; a request is taken now: data come ``READ_LATENCY`` cycles later.
    more: ``Out``; of the request that is taken.
    """

    def __init__(self, config: CoreConfig, *, more: int = 0) -> None:
        self._request = data.StructLayout({"word": 18, "sub": 4, "more": more})
        super().__init__(
            {
                "i": In(stream.Signature(self._request)),
                "in_wide": In(1),
                "act": Out(NarrowReadPort(8 * config.lanes)),
                "wide": Out(NarrowReadPort(16 * config.lanes)),
                "taken": Out(1),
                "more": Out(more),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.skid = skid = Skid(self._request)
        wiring.connect(m, wiring.flipped(self.i), skid.i)
        o = skid.o
        for port, chosen in ((self.act, ~self.in_wide), (self.wide, self.in_wide)):
            m.d.comb += [
                port.req.valid.eq(o.valid & chosen),
                port.req.payload.word.eq(o.payload.word),
                port.req.payload.sub.eq(o.payload.sub),
            ]
        m.d.comb += [
            o.ready.eq(Mux(self.in_wide, self.wide.req.ready, self.act.req.ready)),
            self.taken.eq(o.valid & o.ready),
            self.more.eq(o.payload.more),
        ]
        return m


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
        item = data.StructLayout({"word": 18, "sub": 4, "mask": lanes, "data": 16 * lanes})
        m.submodules.skid = skid = Skid(item)
        # The address joins the data in front of the skid: the walk does not wait for the ports.
        in_wide, i, o = _kept(m, self.place.mem), self.i, skid.o
        m.d.comb += [
            walk.load.eq(self.load),
            walk.more_rows.eq(self.more_rows),
            walk.more_groups.eq(self.more_groups),
            walk.place.eq(self.place),
            walk.step.eq(i.valid & i.ready),
            i.ready.eq(skid.i.ready),
            skid.i.valid.eq(i.valid),
            skid.i.payload.word.eq(walk.word),
            skid.i.payload.sub.eq(walk.sub),
            skid.i.payload.mask.eq(self.tail | (~walk.last).replicate(lanes)),
            skid.i.payload.data.eq(i.payload),
            o.ready.eq(Mux(in_wide, self.wide.req.ready, self.act.req.ready)),
            self.active.eq(walk.active | ~skid.i.ready),
            self.stall.eq(o.valid & ~o.ready),
        ]
        for port, chosen in ((self.act, ~in_wide), (self.wide, in_wide)):
            m.d.comb += port.req.valid.eq(o.valid & chosen)
            m.d.comb += [port.req.payload[n].eq(o.payload[n]) for n in ("word", "sub", "mask")]
        low_bytes = Cat(o.payload.data.word_select(k, 16)[:8] for k in range(lanes))
        m.d.comb += [
            self.act.req.payload.data.eq(low_bytes),
            self.wide.req.payload.data.eq(o.payload.data),
        ]
        return m
