"""The sequencer: dispatches a program's instructions to the queues of the units."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from intformer.config import CoreConfig
from intformer.hw.instruction_fetch import InstructionFetch
from intformer.hw.ports import ReadBurstPort, UnitPort
from intformer.hw.unit_gate import UnitGate
from intformer.isa import Op, Unit

__all__ = ["Sequencer"]

UNITS = len(Unit)
HEADER = data.StructLayout({"op": 4, "reserved": 4, "pop": 8, "push": 8})


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
        target = Signal(UNITS)  # one bit
        known = Signal()
        is_end = Signal()
        all_idle = Signal()
        ops = self._config.operations
        m.d.sync += [
            target.eq(Cat(self._is_one_of(ops, unit, header.op) for unit in Unit)),
            is_end.eq(header.op == Op.END),
            known.eq(header.op <= max(ops)),
            all_idle.eq(Cat(gate.idle for gate in gates).all()),
            self.done.eq(0),
        ]
        with m.FSM():
            with m.State("IDLE"), m.If(self.start & fetch.idle):
                m.d.comb += fetch.start.eq(1)
                m.d.sync += [self.busy.eq(1), self.error.eq(0)]
                m.next = "WAIT"
            with m.State("WAIT"), m.If(fetch.o.valid):
                m.next = "DISPATCH"  # the header has been decoded
            with m.State("DISPATCH"):
                with m.If(~known):
                    m.d.sync += self.error.eq(1)
                    m.next = "STOP"
                with m.Elif(is_end):
                    m.next = "STOP"
                with m.Elif((target & Cat(gate.i.ready for gate in gates)).any()):
                    m.d.comb += fetch.o.ready.eq(1)
                    m.next = "WAIT"
                m.d.comb += [gates[unit].i.valid.eq(target[unit] & known) for unit in Unit]
            with m.State("STOP"):
                m.d.comb += fetch.stop.eq(1)
                m.next = "DRAIN"
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

    @staticmethod
    def _is_one_of(ops: tuple[Op, ...], unit: Unit, code: Value) -> Value:
        """Whether operation ``code`` is one of ``ops`` for ``unit``."""
        return Cat(code == op for op in ops if op.unit == unit).any()
