"""The sequencer: instruction fetch, unit queues, dependency tokens."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Const, Module, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out, connect, flipped

from intformer.config import CoreConfig
from intformer.hw.ports import BODY_BITS, BURST_MAX, ReadBurstPort, UnitPort
from intformer.isa import INSTRUCTION_BYTES, PREFETCH, TOKEN_MAX, Op, Unit

__all__ = ["InstructionFetch", "Sequencer", "UnitGate"]

UNITS = len(Unit)
IN_FLIGHT = 8
"""Instructions that a unit may have taken and not completed."""

HEADER = data.StructLayout({"op": 4, "reserved": 4, "pop": 8, "push": 8})
ISSUE = data.StructLayout({"op": 4, "pop": UNITS, "push": UNITS, "body": BODY_BITS})


class InstructionFetch(wiring.Component):
    """Reads instructions one after the other and keeps a few ready.

    Parameters
    ----------
    depth: instructions fetched ahead, a power of two.

    Members
    -------
    mem: ``Out(ReadBurstPort)``.
    start: ``In(1)``; begin at byte address ``entry``.
    stop: ``In(1)``; ask for no more; what is under way still arrives and is dropped.
    o: ``Out(stream)`` of 256-bit instructions.
    idle: ``Out(1)``; nothing is under way and nothing is kept.
    """

    def __init__(self, config: CoreConfig, *, depth: int = PREFETCH) -> None:
        self._beat_bits = 8 * config.bus_bytes
        self._beats = INSTRUCTION_BYTES // config.bus_bytes
        self._depth = depth
        super().__init__(
            {
                "mem": Out(ReadBurstPort(config)),
                "start": In(1),
                "stop": In(1),
                "entry": In(32),
                "o": Out(stream.Signature(unsigned(8 * INSTRUCTION_BYTES))),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        burst = min(self._beats, BURST_MAX)
        m.submodules.fifo = fifo = SyncFIFOBuffered(width=8 * INSTRUCTION_BYTES, depth=self._depth)

        running = Signal()
        pc = Signal(32)
        kept = Signal(range(self._depth + 1))  # asked for and not handed out yet
        asked_beats = Signal(range(self._beats + 1))  # of the instruction being asked for
        arrived = Signal(range(self._beats + 1))

        # One burst is pending at a time; `asking` holds until memory takes it.
        asking = Signal()
        asked = asking & self.mem.cmd.ready
        first = asked_beats == 0
        want = running & (~first | (~self.stop & (kept != self._depth)))
        begin = want & ~asking & first
        m.d.comb += [
            self.mem.cmd.valid.eq(asking),
            self.mem.cmd.payload.addr.eq(pc),
            self.mem.cmd.payload.len.eq(burst - 1),
        ]
        with m.If(asked):
            m.d.sync += [asking.eq(0), pc.eq(pc + burst * (self._beat_bits // 8))]
            with m.If(asked_beats == self._beats - burst):
                m.d.sync += asked_beats.eq(0)
            with m.Else():
                m.d.sync += asked_beats.eq(asked_beats + burst)
        with m.Elif(want & ~asking):
            m.d.sync += asking.eq(1)

        word = Signal(8 * INSTRUCTION_BYTES)
        full_word = Cat(word[self._beat_bits :], self.mem.data)
        complete = self.mem.valid & (arrived == self._beats - 1)
        with m.If(self.mem.valid):
            m.d.sync += [word.eq(full_word), arrived.eq(arrived + 1)]
            with m.If(complete):
                m.d.sync += arrived.eq(0)

        # After stop the rest is drained: what arrives is dropped at the FIFO's other end.
        m.d.comb += [
            fifo.w_data.eq(full_word),
            fifo.w_en.eq(complete),
            self.o.payload.eq(fifo.r_data),
            self.o.valid.eq(fifo.r_rdy & running & ~self.stop),
            fifo.r_en.eq(fifo.r_rdy & (self.o.ready | self.stop | ~running)),
            self.idle.eq(~running & (kept == 0)),
        ]
        taken = fifo.r_en & fifo.r_rdy
        m.d.sync += kept.eq(kept + begin - taken)

        with m.If(self.start):
            m.d.sync += [running.eq(1), pc.eq(self.entry)]
        with m.If(self.stop & first & ~asking):
            m.d.sync += running.eq(0)
        return m


class UnitGate(wiring.Component):
    """The queue of one unit and the tokens on which its instructions wait.

    Members
    -------
    i: ``In(stream)`` of ``{op, pop, push, body}`` from the dispatcher.
    unit: ``Out(UnitPort)``.
    give: ``In(6)``; bit ``v``: one token ``v -> this unit`` is added.
    push: ``Out(6)``; bit ``v``, one cycle after ``done``: one token ``this unit -> v``.
    waiting: ``Out(1)``; the next instruction lacks a token.
    idle: ``Out(1)``; the queue is empty and every instruction has completed.
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
        m.submodules.queue = queue = SyncFIFOBuffered(width=ISSUE.size, depth=self._depth)
        m.submodules.masks = masks = SyncFIFOBuffered(width=UNITS, depth=IN_FLIGHT)
        m.d.comb += [
            queue.w_data.eq(self.i.payload.as_value()),
            queue.w_en.eq(self.i.valid),
            self.i.ready.eq(queue.w_rdy),
        ]
        head = data.View(ISSUE, queue.r_data)

        # Take the tokens of the head, then present it from a register.
        take = Signal()
        missing = Signal()
        lacks = []
        for v in Unit:
            if v == self._unit:
                continue
            count = Signal(range(TOKEN_MAX + 1), name=f"tokens_from_{v.name.lower()}")
            lacks.append(head.pop[v] & (count == 0))
            m.d.sync += count.eq(count + self.give[v] - (take & head.pop[v]))
        m.d.comb += missing.eq(Cat(*lacks).any())

        cmd = self.unit.cmd
        free = ~cmd.valid | cmd.ready
        m.d.comb += [
            self.waiting.eq(queue.r_rdy & missing),
            take.eq(queue.r_rdy & ~missing & free & masks.w_rdy),
            queue.r_en.eq(take),
            masks.w_en.eq(take),
            masks.w_data.eq(head.push),
        ]
        with m.If(take):
            m.d.sync += [
                cmd.valid.eq(1),
                cmd.payload.op.eq(head.op),
                cmd.payload.body.eq(head.body),
            ]
        with m.Elif(cmd.ready):
            m.d.sync += cmd.valid.eq(0)

        # `in_flight` also covers the cycles between the two ends of the mask FIFO.
        in_flight = Signal(range(2 * IN_FLIGHT))
        m.d.sync += in_flight.eq(in_flight + take - self.unit.done)
        m.d.comb += masks.r_en.eq(self.unit.done)
        m.d.sync += self.push.eq(Cat(bit & self.unit.done for bit in masks.r_data))
        m.d.comb += self.idle.eq(~queue.r_rdy & (queue.level == 0) & (in_flight == 0))
        return m


class Sequencer(wiring.Component):
    """Runs a program: fetches, dispatches to the unit queues, ends.

    Members
    -------
    start: ``In(1)``, ``entry``: ``In(32)``: begin a program (ignored while busy).
    busy, done: ``Out(1)``; ``done`` is high for one cycle after END, when everything has
        completed.
    error: ``Out(1)``; an unknown operation code stopped the program; cleared by ``start``.
    mem: ``Out(ReadBurstPort)``; instruction fetch.
    units: six ``Out(UnitPort)``, in the order of :class:`intformer.isa.Unit`.
    waiting: ``Out(6)``; units whose next instruction waits for tokens.
    """

    def __init__(self, config: CoreConfig) -> None:
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "entry": In(32),
                "busy": Out(1),
                "done": Out(1),
                "error": Out(1),
                "mem": Out(ReadBurstPort(config)),
                "units": Out(UnitPort()).array(UNITS),
                "waiting": Out(UNITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.fetch = fetch = InstructionFetch(self._config)
        connect(m, fetch.mem, flipped(self.mem))
        gates = []
        for unit in Unit:
            gate = UnitGate(unit, self._config)
            m.submodules[f"gate_{unit.name.lower()}"] = gate
            connect(m, gate.unit, flipped(self.units[unit]))
            m.d.comb += self.waiting[unit].eq(gate.waiting)
            gates.append(gate)
        for u in Unit:
            m.d.comb += gates[u].give.eq(Cat(gates[v].push[u] for v in Unit))

        instruction = fetch.o.payload
        header = data.View(HEADER, instruction[: HEADER.size])
        codes = {op.value: op.unit for op in Op if op.unit is not None}
        unit_of = Array(Const(codes.get(code, 7), 3) for code in range(16))
        target = Signal(3)
        known = Signal()
        is_end = Signal()
        m.d.comb += [
            target.eq(unit_of[header.op]),
            is_end.eq(header.op == Op.END),
            known.eq(header.op <= max(Op)),
        ]
        all_idle = Cat(gate.idle for gate in gates).all()

        m.d.sync += self.done.eq(0)
        with m.FSM():
            with m.State("IDLE"), m.If(self.start & fetch.idle):
                m.d.comb += fetch.start.eq(1)
                m.d.sync += [self.busy.eq(1), self.error.eq(0)]
                m.next = "RUN"
            with m.State("RUN"), m.If(fetch.o.valid):
                with m.If(~known):
                    m.d.sync += self.error.eq(1)
                    m.next = "DRAIN"
                with m.Elif(is_end):
                    m.next = "DRAIN"
                with m.Else():
                    for unit, gate in zip(Unit, gates, strict=True):
                        with m.If(target == unit):
                            m.d.comb += gate.i.valid.eq(1)
                            m.d.comb += fetch.o.ready.eq(gate.i.ready)
            with m.State("DRAIN"):
                m.d.comb += fetch.stop.eq(1)
                with m.If(all_idle & fetch.idle):
                    m.d.sync += [self.busy.eq(0), self.done.eq(1)]
                    m.next = "IDLE"
        m.d.comb += fetch.entry.eq(self.entry)
        for gate in gates:
            m.d.comb += [
                gate.i.payload.op.eq(header.op),
                gate.i.payload.pop.eq(header.pop),
                gate.i.payload.push.eq(header.push),
                gate.i.payload.body.eq(instruction[HEADER.size :]),
            ]
        return m
