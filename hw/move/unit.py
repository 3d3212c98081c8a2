"""The MOVE unit: copies elements along three nested loops."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out, connect, flipped

from intformer.config import CoreConfig
from intformer.hw.move.loops import LOOPS, POSITION, LoopCounter, PositionCounter
from intformer.hw.parts.access import Requests
from intformer.hw.parts.streams import CreditFifo, Skid, delay
from intformer.hw.ports import READ_LATENCY, NarrowReadPort, UnitPort, WritePort, operation_layout
from intformer.isa import Op

__all__ = ["MoveUnit"]

FIFO_DEPTH = 16
"""Elements between read and write: enough for one per cycle."""
FIELDS = operation_layout(Op.MOVE)
PLACES = data.StructLayout({"src": POSITION, "dst": POSITION, "last": 1})
"""Where an element comes from and goes; ``last``: it is the instruction's last."""


class MoveUnit(wiring.Component):
    """Runs MOVE: one element per cycle, one instruction after the other.

    No iteration may read what an earlier one of the same instruction wrote.

    ::

        loops, positions ─► skid, register ─┬─► source ─► read ─► lane ─► FIFO ─┬─► write
                                            └─► target ───────────────────► FIFO ─┘

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
        fields = Signal(FIELDS, reset_less=True)
        m.submodules.loops = loops = LoopCounter()
        counters = {"src": PositionCounter(self._config), "dst": PositionCounter(self._config)}
        m.submodules.src, m.submodules.dst = counters["src"], counters["dst"]
        arrived = Signal()  # the fields
        start = Signal()  # the fields are in the form that the counters take
        take = unit.cmd.valid & unit.cmd.ready
        m.d.comb += unit.cmd.ready.eq(~unit.busy)
        m.d.sync += [arrived.eq(take), start.eq(arrived)]
        with m.If(take):
            m.d.sync += unit.busy.eq(1)
        with m.Elif(unit.done):
            m.d.sync += unit.busy.eq(0)
        with m.Elif(arrived & fields.mem):
            for name in FIELDS.members:
                if name.endswith("_lane"):
                    m.d.sync += fields[name].eq(fields[name] << counters["src"].shift)
        # What is offered is taken over and over until it counts: the registers are many.
        with m.If(~unit.busy):
            m.d.sync += fields.eq(unit.cmd.payload.body[: FIELDS.size])

        m.submodules.skid = skid = Skid(PLACES)
        m.d.comb += [
            loops.start.eq(start),
            # A register alone, whether or not there is anything to count: it steps a lot.
            loops.step.eq(skid.i.ready),
            skid.i.valid.eq(loops.running),
            skid.i.payload.last.eq(loops.last),
        ]
        m.d.comb += [loops.n[axis].eq(fields[f"n{axis}"]) for axis in range(LOOPS)]
        for name, counter in counters.items():
            m.d.comb += [
                counter.start.eq(start),
                counter.step.eq(loops.step),
                counter.axis.eq(loops.axis),
                counter.is_wide.eq(fields.mem),
            ]
            m.d.comb += skid.i.payload[name].eq(counter.o)
            self._connect_fields(m, fields, counter, name)

        m.submodules.elements = elements = CreditFifo(16, depth=FIFO_DEPTH)
        target = data.StructLayout({"place": POSITION, "last": 1})
        places = self._registered(m, skid.o)
        m.submodules.targets = targets = SyncFIFOBuffered(width=target.size, depth=FIFO_DEPTH + 1)
        shift = counters["src"].shift
        reading = self._read(m, fields.mem, places, elements, shift=shift)
        m.d.comb += [
            targets.w_data.eq(Cat(places.payload.dst, places.payload.last)),
            targets.w_en.eq(reading),
        ]
        writing = self._write(
            m,
            fields.mem,
            elements.o,
            data.View(target, targets.r_data),
            shift=shift,
        )
        m.d.comb += [
            targets.r_en.eq(writing),
            unit.stall.eq(unit.busy & ~reading & ~writing),
        ]
        return m

    def _registered(self, m, i):
        """Put a register behind ``i``, a stream of places."""
        o = stream.Signature(PLACES).create(path=("places",))
        moves = ~o.valid | o.ready
        m.d.comb += i.ready.eq(moves)
        with m.If(moves):
            m.d.sync += [o.valid.eq(i.valid), o.payload.eq(i.payload)]
        return o

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

    def _read(self, m, is_wide, places, elements, *, shift: int) -> Signal:
        """Ask for the source elements and keep them in the FIFO.

        Returns whether an element is asked for in this cycle.
        """
        place = places.payload.src
        m.submodules.requests = requests = Requests(self._config, more=len(place.lane))
        connect(m, requests.act, flipped(self.act_read))
        connect(m, requests.wide, flipped(self.wide_read))
        i, asked = requests.i, Signal()
        m.d.comb += [
            places.ready.eq(elements.room & i.ready),
            asked.eq(places.valid & places.ready),
            requests.in_wide.eq(is_wide),
            i.valid.eq(places.valid & elements.room),
            i.payload.word.eq(place.word),
            i.payload.sub.eq(Mux(is_wide, 0, place.lane[self._lane_bits :])),
            i.payload.more.eq(place.lane),
            elements.take.eq(asked),
        ]
        # One more register between the choice of the lane and the FIFO.
        lane = delay(m, requests.more, READ_LATENCY, name="lane")
        code, byte = Signal(16, reset_less=True), Signal(8, reset_less=True)
        act, wide = self.act_read.data, self.wide_read.data
        m.d.sync += [
            code.eq(wide.word_select((lane >> shift)[: self._lane_bits], 16)),
            byte.eq(act.word_select(lane[: self._lane_bits], 8)),
        ]
        m.d.comb += [
            elements.i.eq(Mux(is_wide, code, byte)),
            elements.push.eq(delay(m, requests.taken, READ_LATENCY + 1, name="taken")),
        ]
        return asked

    def _write(self, m, is_wide, element, target, *, shift: int) -> Signal:
        """Write the elements, each with a mask of its lane.

        Returns whether an element is written in this cycle.
        """
        lanes = self._config.lanes
        place = target.place
        written = Signal()
        places = (place.lane, place.lane >> shift)
        ports = (self.act_write.req, self.wide_write.req)
        for port, lane, bits in zip(ports, places, (8, 16), strict=True):
            m.d.comb += [
                port.payload.word.eq(place.word),
                port.payload.mask.eq(1 << lane[: self._lane_bits]),
                port.payload.data.eq(element.payload[:bits].replicate(lanes)),
            ]
        m.d.comb += [
            self.act_write.req.payload.sub.eq(place.lane[self._lane_bits :]),
            self.act_write.req.valid.eq(element.valid & ~is_wide),
            self.wide_write.req.valid.eq(element.valid & is_wide),
            element.ready.eq(Mux(is_wide, self.wide_write.req.ready, self.act_write.req.ready)),
            written.eq(element.valid & element.ready),
        ]
        m.d.sync += self.unit.done.eq(written & target.last)
        return written
