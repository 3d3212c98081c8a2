"""Unit gates: a queue of instructions, and the dependency tokens on which they wait."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from intformer.config import CoreConfig
from intformer.hw.parts.streams import delay
from intformer.hw.ports import BODY_BITS, UnitPort
from intformer.isa import TOKEN_MAX, Unit

__all__ = ["ISSUE", "UnitGate"]

UNITS = len(Unit)
IN_FLIGHT = 8
"""Instructions that a unit may have taken and not completed."""
ISSUE = data.StructLayout({"op": 4, "pop": UNITS, "push": UNITS, "body": BODY_BITS})
"""An instruction on its way to a unit: the two token masks have a bit per unit."""


class UnitGate(wiring.Component):
    """The queue of one unit and the tokens on which its instructions wait.

    Members
    -------
    i: ``In(stream)`` of ``{op, pop, push, body}`` from the dispatcher. The payload must stay for
        one more cycle after its transfer: it is stored then.
    unit: ``Out(UnitPort)``.
    give: ``In(6)``; bit ``v``: one token ``v -> this unit`` is added.
    push: ``Out(6)``; bit ``v``, two cycles after ``done``: one token ``this unit -> v``.
    waiting: ``Out(1)``; in the cycle before, the next instruction lacked a token.
    idle: ``Out(1)``; in the cycle before, the queue was empty and every instruction had completed.

    Notes
    -----
    Bodies stay in distributed RAM until the unit takes them from there. Their headers pass a
    register in which they wait for tokens; an instruction whose tokens have been taken is
    *released*. One in three cycles at most.
    """

    def __init__(self, unit: Unit, config: CoreConfig) -> None:
        self._unit = unit
        self._depth = config.queue_depth
        super().__init__(
            {
                "i": In(stream.Signature(ISSUE)),
                "unit": Out(UnitPort()),
                "give": In(UNITS),
                "push": Out(UNITS),
                "waiting": Out(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        take = Signal()  # the head's tokens
        done = Signal()
        m.d.sync += done.eq(self.unit.done)
        head_valid, head, held = self._queue(m, take=take)
        m.submodules.masks = masks = SyncFIFOBuffered(width=UNITS, depth=IN_FLIGHT)

        missing = Signal()
        lacks = []
        for v in Unit:
            if v == self._unit:
                continue
            count = Signal(range(TOKEN_MAX + 1), name=f"tokens_from_{v.name.lower()}")
            lacks.append(head.pop[v] & (count == 0))
            m.d.sync += count.eq(count + self.give[v] - (take & head.pop[v]))
        m.d.comb += missing.eq(Cat(*lacks).any())
        m.d.sync += [
            take.eq(head_valid & ~take & ~missing & masks.w_rdy),
            self.waiting.eq(head_valid & missing),
        ]
        # `in_flight` also covers the cycles between the two ends of the mask FIFO.
        in_flight = Signal(range(2 * IN_FLIGHT))
        m.d.sync += [
            in_flight.eq(in_flight + take - done),
            self.push.eq(masks.r_data & done.replicate(UNITS)),
            self.idle.eq((held == 0) & (in_flight == 0)),
        ]
        m.d.comb += [
            masks.w_en.eq(take),
            masks.w_data.eq(head.push),
            masks.r_en.eq(done),
        ]
        return m

    def _queue(self, m: Module, *, take: Signal) -> tuple[Signal, data.View, Signal]:
        """Keep the instructions, and present those that have been released.

        Returns whether an instruction waits for tokens, its header, and how many instructions the
        unit has not taken.
        """
        depth, cmd = self._depth, self.unit.cmd
        headers = data.StructLayout({"pop": UNITS, "push": UNITS})
        commands = cmd.payload.shape()
        places = {}
        for name, layout in (("headers", headers), ("commands", commands)):
            memory = Memory(shape=layout.size, depth=depth, init=[])
            m.submodules[name] = memory
            places[name] = memory.write_port(), memory.read_port(domain="comb")
        enter = self.i.valid & self.i.ready
        # The queue is wide: what lets it store is a register that does nothing else.
        stores = delay(m, enter, 1, name="stores", keep=True)
        leave = cmd.valid & cmd.ready
        payload = self.i.payload
        contents = {
            "headers": Cat(payload.pop, payload.push),
            "commands": Cat(payload.op, payload.body),
        }
        ends = {"headers": Signal(), "commands": leave}
        for name, (write, read) in places.items():
            m.d.comb += [write.en.eq(stores), write.data.eq(contents[name])]
            for port, step in ((write, stores), (read, ends[name])):
                address = Signal(range(depth), name=f"{name}_{'read' if port is read else 'write'}")
                m.d.comb += port.addr.eq(address)
                with m.If(step):
                    m.d.sync += address.eq(Mux(address == depth - 1, 0, address + 1))

        held = Signal(range(depth + 1))  # instructions that the unit has not taken
        unseen = Signal(range(depth + 1))  # headers that have not been read
        released = Signal(range(depth + 1))
        valid = Signal()
        head = Signal(headers)
        load = ends["headers"]
        m.d.comb += [
            self.i.ready.eq(held != depth),
            load.eq(~valid & (unseen != 0)),
            cmd.valid.eq(released != 0),
            cmd.payload.as_value().eq(places["commands"][1].data),
        ]
        m.d.sync += [
            held.eq(held + enter - leave),
            unseen.eq(unseen + stores - load),
            released.eq(released + take - leave),
        ]
        with m.If(load):
            m.d.sync += [valid.eq(1), head.eq(places["headers"][1].data)]
        with m.Elif(take):
            m.d.sync += valid.eq(0)
        return valid, head, held
