"""The MOVE unit: copies elements along three nested loops."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from intformer.config import CoreConfig
from intformer.hw.move.loops import LOOPS, POSITION, LoopCounter, PositionCounter
from intformer.hw.parts.streams import CreditFifo, delay
from intformer.hw.ports import READ_LATENCY, NarrowReadPort, UnitPort, WritePort, operation_layout
from intformer.isa import Op

__all__ = ["MoveUnit"]

FIFO_DEPTH = 8
"""Elements between read and write: enough for one per cycle."""
FIELDS = operation_layout(Op.MOVE)


class MoveUnit(wiring.Component):
    """Runs MOVE: one element per cycle, one instruction after the other.

    No iteration may read what an earlier one of the same instruction wrote.

    ::

        loops ─► source position ─► read ─► lane ─┬─► FIFO ─► write
              └► target position ─────────────────┘

    Members
    -------
    unit: ``In(UnitPort)``.
    act_read, wide_read: ``Out(NarrowReadPort)``.
    act_write, wide_write: ``Out(WritePort)``.
    """

    def __init__(self, config: CoreConfig) -> None:
        self._config = config
        self._lane_bits = config.lanes.bit_length() - 1
        super().__init__(
            {
                "unit": In(UnitPort()),
                "act_read": Out(NarrowReadPort(8 * config.lanes)),
                "wide_read": Out(NarrowReadPort(16 * config.lanes)),
                "act_write": Out(WritePort(config, bits=8)),
                "wide_write": Out(WritePort(config, bits=16)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        unit = self.unit
        fields = Signal(FIELDS)
        start = Signal()  # the fields have arrived
        m.d.comb += unit.cmd.ready.eq(~unit.busy)
        m.d.sync += start.eq(unit.cmd.valid & unit.cmd.ready)
        with m.If(unit.cmd.valid & unit.cmd.ready):
            m.d.sync += [unit.busy.eq(1), fields.eq(unit.cmd.payload.body[: FIELDS.size])]
        with m.Elif(unit.done):
            m.d.sync += unit.busy.eq(0)

        m.submodules.loops = loops = LoopCounter()
        m.d.comb += loops.start.eq(start)
        m.d.comb += [loops.n[axis].eq(fields[f"n{axis}"]) for axis in range(LOOPS)]
        places = []
        for name in ("src", "dst"):
            counter = PositionCounter(self._config)
            m.submodules[name] = counter
            m.d.comb += [
                counter.start.eq(start),
                counter.step.eq(loops.step),
                counter.axis.eq(loops.axis),
                counter.is_wide.eq(fields.mem),
            ]
            self._connect_fields(m, fields, counter, name)
            places.append(counter.o)

        item = data.StructLayout({"place": POSITION, "value": 16, "last": 1})
        m.submodules.elements = elements = CreditFifo(item, depth=FIFO_DEPTH)
        reading = self._read(m, fields.mem, places, loops=loops, elements=elements)
        writing = self._write(m, fields.mem, elements.o)
        m.d.comb += unit.stall.eq(unit.busy & ~reading & ~writing)
        return m

    def _connect_fields(self, m, fields, counter, name: str) -> None:
        """Give ``counter`` the fields of operand ``name``."""
        m.d.comb += [
            counter.first.word.eq(fields[name]),
            counter.first.lane.eq(fields[f"{name}_lane"]),
        ]
        for axis, stride in enumerate(counter.strides):
            m.d.comb += [
                stride.word.eq(fields[f"{name[0]}{axis}"]),
                stride.lane.eq(fields[f"{name[0]}{axis}_lane"]),
            ]

    def _read(self, m, is_wide, places, *, loops, elements) -> Signal:
        """Ask for the source elements and keep them, with their places, in the FIFO.

        Returns whether an element is asked for in this cycle.
        """
        source, target = places
        ask = Signal()
        taken = Signal()
        act, wide = self.act_read, self.wide_read
        m.d.comb += [
            ask.eq(loops.running & elements.room),
            taken.eq(ask & Mux(is_wide, wide.req.ready, act.req.ready)),
            act.req.valid.eq(ask & ~is_wide),
            wide.req.valid.eq(ask & is_wide),
            act.req.payload.word.eq(source.word),
            act.req.payload.sub.eq(source.lane[self._lane_bits :]),
            wide.req.payload.word.eq(source.word),
            loops.step.eq(taken),
            elements.take.eq(taken),
        ]
        # One more register between the choice of the lane and the FIFO.
        lane = delay(m, source.lane[: self._lane_bits], READ_LATENCY, name="lane")
        value = Mux(is_wide, wide.data.word_select(lane, 16), act.data.word_select(lane, 8))
        m.d.sync += elements.i.value.eq(value)
        m.d.comb += [
            elements.i.place.eq(delay(m, target, READ_LATENCY + 1, name="place")),
            elements.i.last.eq(delay(m, loops.last, READ_LATENCY + 1, name="last")),
            elements.push.eq(delay(m, taken, READ_LATENCY + 1, name="taken")),
        ]
        return taken

    def _write(self, m, is_wide, element) -> Signal:
        """Write the elements, each with a mask of its lane.

        Returns whether an element is written in this cycle.
        """
        lanes = self._config.lanes
        place = element.payload.place
        written = element.valid & element.ready
        for port, bits in ((self.act_write.req, 8), (self.wide_write.req, 16)):
            m.d.comb += [
                port.payload.word.eq(place.word),
                port.payload.mask.eq(1 << place.lane[: self._lane_bits]),
                port.payload.data.eq(element.payload.value[:bits].replicate(lanes)),
            ]
        m.d.comb += [
            self.act_write.req.payload.sub.eq(place.lane[self._lane_bits :]),
            self.act_write.req.valid.eq(element.valid & ~is_wide),
            self.wide_write.req.valid.eq(element.valid & is_wide),
            element.ready.eq(Mux(is_wide, self.wide_write.req.ready, self.act_write.req.ready)),
        ]
        m.d.sync += self.unit.done.eq(written & element.payload.last)
        return written
