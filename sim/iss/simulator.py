"""The instruction-level simulator: a program on the core's memory map, exact, with cycles.

Every unit is a process of a discrete-event simulation and runs the instructions that the
sequencer decodes from the memory image. As in hardware, only tokens order the units: an
instruction reads its operands when it starts and its results appear when it completes, so a
missing token shows up as stale data, or as a deadlock. Programs for serial cores run in
:mod:`intformer.sim.iss.serial`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from intformer.isa import (
    COUNTERS,
    INSTRUCTION_BYTES,
    TOKEN_MAX,
    Instruction,
    Op,
    Unit,
)
from intformer.program import Program, RunResult
from intformer.sim.iss import array as array_unit
from intformer.sim.iss import dma as dma_unit
from intformer.sim.iss import move as move_unit
from intformer.sim.iss import post as post_unit
from intformer.sim.iss import row as row_unit
from intformer.sim.iss.columns import ArrayTiming, ColumnFifo
from intformer.sim.iss.events import Condition, Process, Scheduler
from intformer.sim.iss.fetch import FetchTiming
from intformer.sim.iss.machine import Array, Machine, SimulationError, Write
from intformer.sim.iss.memory_port import SEQUENCER, MemoryPort, stream_bursts
from intformer.sim.iss.serial import SerialRun
from intformer.sim.iss.steps import decode_step, write_input
from intformer.sim.iss.timing import StepTiming, TimingParameters, duration

__all__ = ["Iss", "IssResult", "SimulationError"]

_EXECUTE: dict[Op, Callable[[Machine, Instruction], list[Write]]] = {
    Op.LOAD: dma_unit.load,
    Op.STORE: dma_unit.store,
    Op.GATHER: dma_unit.gather,
    Op.POST_ACC: post_unit.post,
    Op.POST_MEM: post_unit.post,
    Op.SOFTMAX: row_unit.softmax,
    Op.LAYERNORM: row_unit.layernorm,
    Op.ROWSCALE: row_unit.rowscale,
    Op.MOVE: move_unit.move,
}


@dataclass
class IssResult(RunResult):
    """A :class:`RunResult` with ``timeline``: when each instruction ran, in program order."""

    timeline: list[StepTiming] = field(default_factory=list)


class Iss:
    """Instruction-level simulator of one program.

    Parameters
    ----------
    program:
        What to run. Instructions come from its image; ``program.steps`` must agree.
    timing:
        Constants of the cycle model.
    seed:
        Of the garbage that fills every memory before the run.
    cycle_limit:
        A run that lasts longer raises :class:`SimulationError`.
    """

    def __init__(
        self,
        program: Program,
        *,
        timing: TimingParameters | None = None,
        seed: int = 0,
        cycle_limit: int = 1 << 40,
    ) -> None:
        self.program = program
        self.timing = timing or TimingParameters()
        self.seed = seed
        self.cycle_limit = cycle_limit

    def run(self, inputs: dict[str, Array]) -> IssResult:
        """Run once on input codes.

        Raises
        ------
        ValueError
            If an input is missing or has the wrong shape.
        SimulationError
            If the program reaches outside a memory, deadlocks, overflows a token counter or a
            sum, or leaves weight columns behind. The message names the step.
        """
        if self.program.config.structure == "serial":
            run = SerialRun(
                self.program, inputs, timing=self.timing, seed=self.seed, execute=_EXECUTE
            )
            return _result(run.machine, self.program, run.cycles, run.counters(), run.timeline)
        return _Run(self, inputs).result()


def _result(
    machine: Machine,
    program: Program,
    cycles: int,
    counters: dict[str, int],
    timeline: list[StepTiming],
) -> IssResult:
    """Outputs and log of a run that has ended."""
    outputs = {
        t.name: t.unpack(machine.read("ext", t.address + np.arange(t.size)))
        for t in program.outputs
    }
    return IssResult(
        outputs=outputs, log=machine.log(), cycles=cycles, counters=counters, timeline=timeline
    )


class _Gate:
    """A unit's queue, and the tokens in front of it."""

    def __init__(self, scheduler: Scheduler, unit: Unit, *, depth: int) -> None:
        self.unit = unit
        self.depth = depth
        self.queue: deque[tuple[Instruction, StepTiming]] = deque()
        self.changed = Condition(scheduler)
        self.tokens = {source: 0 for source in Unit}
        self.in_flight = 0

    def missing(self) -> list[Unit]:
        """The units whose token the next instruction waits for."""
        ins, _ = self.queue[0]
        return [u for u in Unit if ins.pop >> u & 1 and not self.tokens[u]]


class _Run:
    """One run: memories, units and the sequencer."""

    def __init__(self, iss: Iss, inputs: dict[str, Array]) -> None:
        self.program, self.timing = iss.program, iss.timing
        self.config = self.program.config
        self.machine = Machine(self.program, seed=iss.seed)
        for tensor in self.program.inputs:
            write_input(self.machine, tensor, inputs)
        self.scheduler = Scheduler()
        self.port = MemoryPort(self.scheduler, self.timing)
        self.fifo = ColumnFifo(self.scheduler, capacity=self.timing.fifo_tiles * self.config.cols)
        self.array = ArrayTiming(self.scheduler, self.config, self.timing, self.fifo)
        self.fetch = FetchTiming(
            self.scheduler,
            self.config,
            self.timing,
            fifo=self.fifo,
            port=self.port,
            array=self.array,
        )
        self.gates = {
            unit: _Gate(self.scheduler, unit, depth=self.config.queue_depth) for unit in Unit
        }
        self.timeline: list[StepTiming] = []
        self.completed = Condition(self.scheduler)
        self.cycles: int | None = None
        own = (self.port.run(), self.array.load(), self.fetch.read(), self.fetch.make())
        for process in (*own, self._sequencer()):
            self.scheduler.resume(process)
        for unit in Unit:
            self.scheduler.resume(self._unit(self.gates[unit]))
        self.scheduler.run(limit=iss.cycle_limit)
        if self.cycles is None:
            self._raise_deadlock(iss.cycle_limit)
        self._check_end()

    def result(self) -> IssResult:
        """Outputs, log, cycles and counters."""
        assert self.cycles is not None
        return _result(self.machine, self.program, self.cycles, self._counters(), self.timeline)

    # Sequencer

    def _prefetch(self, ready: deque[int], changed: Condition) -> Process:
        """Keep ``fetch_depth`` instructions asked for; ``ready`` counts those that arrived."""
        beats = INSTRUCTION_BYTES // self.config.bus_bytes
        burst = min(beats, 16)
        asked = 0
        while self.cycles is None:
            while asked - self.dispatched >= self.timing.fetch_depth:
                yield changed
            for part in range(0, beats, burst):

                def granted(last: bool = part + burst == beats) -> None:
                    if last:
                        delay = self.timing.read_latency + burst
                        self.scheduler.after(delay, arrive)

                def arrive() -> None:
                    ready.append(0)
                    changed.notify()

                self.port.request(SEQUENCER, burst, granted)
                yield 2
            asked += 1

    def _sequencer(self) -> Process:
        ready: deque[int] = deque()
        changed = Condition(self.scheduler)
        self.dispatched = 0
        yield self.timing.start_latency
        self.scheduler.resume(self._prefetch(ready, changed))
        while True:
            while not ready:
                yield changed
            ins = decode_step(self.machine, self.program, self.dispatched)
            unit = ins.op.unit
            if unit is None:  # END
                break
            gate = self.gates[unit]
            while len(gate.queue) >= gate.depth:
                yield gate.changed
            ready.popleft()
            yield from self._dispatch(ins, gate)
            changed.notify()
        while any(gate.queue or gate.in_flight for gate in self.gates.values()):
            yield self.completed
        yield self.timing.end_latency
        self.cycles = self.scheduler.now
        self.scheduler.stop()

    def _dispatch(self, ins: Instruction, gate: _Gate) -> Process:
        node = self.program.steps[self.dispatched].node
        step = StepTiming(self.dispatched, ins.op, node, queued=self.scheduler.now)
        self.timeline.append(step)
        self.dispatched += 1
        gate.queue.append((ins, step))
        gate.changed.notify()
        yield 1

    # Units

    def _unit(self, gate: _Gate) -> Process:
        """Take instructions from the gate and run them in order, for ever."""
        while True:
            while not gate.queue:
                yield gate.changed
            ins, step = gate.queue[0]
            yield max(0, step.queued + self.timing.queue_latency - self.scheduler.now)
            begin = self.scheduler.now
            while gate.missing():
                yield gate.changed
            step.wait = self.scheduler.now - begin
            limit = self.timing.in_flight
            if gate.unit == Unit.FETCH:
                limit = self.timing.fetch_in_flight
            while gate.in_flight >= limit:
                yield gate.changed
            for unit in Unit:
                gate.tokens[unit] -= ins.pop >> unit & 1
            gate.queue.popleft()
            gate.in_flight += 1
            gate.changed.notify()
            step.start = self.scheduler.now
            yield from self._execute(gate, ins, step)

    def _execute(self, gate: _Gate, ins: Instruction, step: StepTiming) -> Process:
        if gate.unit == Unit.FETCH:
            yield from self._fetch(gate, ins, step)
        elif gate.unit == Unit.MATMUL:
            yield from self._matmul(gate, ins, step)
        else:
            writes = self._guard(step, lambda: _EXECUTE[ins.op](self.machine, ins))
            self._guard(step, lambda: self.machine.check_writes(writes))
            if gate.unit == Unit.DMA:
                yield from self._dma(ins, step)
            else:
                yield duration(self.config, self.timing, ins)
            self._complete(gate, ins, step, writes)

    def _fetch(self, gate: _Gate, ins: Instruction, step: StepTiming) -> Process:
        def begin() -> None:
            columns = self._guard(step, lambda: array_unit.fetch_columns(self.machine, ins))
            self.fifo.supply(step.index, columns)

        self.fetch.accept(ins, step, begin=begin, done=lambda: self._complete(gate, ins, step, []))
        yield 1

    def _matmul(self, gate: _Gate, ins: Instruction, step: StepTiming) -> Process:
        words = self._guard(step, lambda: array_unit.activations(self.machine, ins))
        yield from self.array.feed(ins, step)

        def product() -> list[Write]:
            columns = self.fifo.take(ins["k_tiles"] * self.config.cols)
            writes = array_unit.products(self.machine, ins, words, columns)
            self.machine.check_writes(writes)
            return writes

        writes = self._guard(step, product)
        latency = self.array.latency - 1
        self.scheduler.after(latency, lambda: self._complete(gate, ins, step, writes))

    def _dma(self, ins: Instruction, step: StepTiming) -> Process:
        storing = ins.op == Op.STORE
        yield self.timing.store_latency if storing else self.timing.load_latency
        lanes = self.config.lanes
        if ins.op == Op.GATHER:
            size = ins["row_groups"] * lanes * (1 + ins["mem"])
            for _ in range(ins["n"]):
                yield self.timing.gather_latency
                yield from self._bursts(size, ins, step)
            return
        _, index, size = self.machine.transfer_index(ins["mem"], ins["addr"], ins["count"])
        yield from self._bursts(index.size * size, ins, step)

    def _bursts(self, size: int, ins: Instruction, step: StepTiming) -> Process:
        group = dma_unit.entry_bytes(self.config, ins["mem"])
        yield from stream_bursts(
            self.scheduler,
            self.port,
            self.timing,
            step,
            beats=-(-size // self.config.bus_bytes),
            beat_cycles=max(1, self.config.bus_bytes // group),
            write=ins.op == Op.STORE,
        )

    def _complete(
        self, gate: _Gate, ins: Instruction, step: StepTiming, writes: list[Write]
    ) -> None:
        """Results appear now; the tokens a little later."""
        step.end = self.scheduler.now
        self.machine.commit(writes, step=step.index, cycle=step.end)

        def give() -> None:
            for unit in Unit:
                if ins.push >> unit & 1:
                    self._give(step, gate.unit, unit)
            gate.in_flight -= 1
            gate.changed.notify()
            self.completed.notify()

        self.scheduler.after(self.timing.token_latency, give)

    def _give(self, step: StepTiming, source: Unit, target: Unit) -> None:
        gate = self.gates[target]
        if gate.tokens[source] == TOKEN_MAX:
            raise SimulationError(
                f"{_name(step)}: more than {TOKEN_MAX} tokens from {source.name} to {target.name}"
            )
        gate.tokens[source] += 1
        gate.changed.notify()

    # Errors and figures

    def _guard(self, step: StepTiming, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except (SimulationError, OverflowError, ValueError, IndexError) as error:
            raise SimulationError(f"{_name(step)}, cycle {self.scheduler.now}: {error}") from error

    def _raise_deadlock(self, limit: int) -> None:
        if self.scheduler.now > limit:
            raise SimulationError(f"not finished after {limit} cycles")
        lines = [f"deadlock in cycle {self.scheduler.now}, step {self.dispatched} next:"]
        for unit, gate in self.gates.items():
            running = [s for s in self.timeline if s.op.unit == unit and s.start and not s.end]
            if running:
                lines.append(f"  {unit.name} cannot finish {_name(running[0])}")
            if gate.queue:
                missing = ", ".join(u.name for u in gate.missing()) or "nothing"
                lines.append(
                    f"  {unit.name} holds back {_name(gate.queue[0][1])}, which lacks tokens "
                    f"from: {missing}"
                )
        raise SimulationError("\n".join(lines))

    def _check_end(self) -> None:
        left = self.fifo.leftover()
        if left is not None:
            step, count = left
            raise SimulationError(
                f"{_name(self.timeline[step])} put {count} weight columns into the FIFO that no "
                "MATMUL took"
            )
        for target, gate in self.gates.items():
            for source, count in gate.tokens.items():
                if count:
                    raise SimulationError(
                        f"{count} tokens from {source.name} to {target.name} were never taken"
                    )

    def _counters(self) -> dict[str, int]:
        assert self.cycles is not None
        values = dict.fromkeys(COUNTERS, 0)
        values["cycles"] = self.cycles
        for unit in Unit:
            steps = [s for s in self.timeline if s.op.unit == unit]
            busy, until = 0, 0
            for step in steps:
                busy += max(0, step.end - max(step.start, until))
                until = max(until, step.end)
            name = unit.name.lower()
            values[f"{name}_busy"] = busy
            values[f"{name}_wait"] = sum(s.wait for s in steps)
            values[f"{name}_stall"] = sum(s.stall for s in steps)
        values["array_rows"] = self.array.rows_fed
        values["read_beats"] = self.port.read_beats
        values["write_beats"] = self.port.write_beats
        return values


def _name(step: StepTiming) -> str:
    return f"step {step.index} ({step.op.name}, {step.node})"
