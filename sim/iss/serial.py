"""The serial structure: one instruction after the other, and about how long each takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from intformer.isa import COUNTERS, Instruction, Mem, Op
from intformer.program import Program
from intformer.sim.iss import array as array_unit
from intformer.sim.iss.columns import ColumnFifo
from intformer.sim.iss.events import Scheduler
from intformer.sim.iss.machine import Array, Machine, SimulationError, Write
from intformer.sim.iss.steps import decode_step, write_input
from intformer.sim.iss.timing import StepTiming, TimingParameters

__all__ = ["SerialRun", "serial_duration"]

START_CYCLES, END_CYCLES = 0, 18
READS = 2
"""Reads of external memory for each instruction: its first byte, the others."""

# Fitted to the RTL: cycles beside those of external memory; see docs/serial-core.md.
_INSTRUCTION = {
    Op.LOAD: 148,
    Op.STORE: 142,
    Op.GATHER: 209,
    Op.FETCH_STREAM: 104,
    Op.FETCH_ACT: 178,
    Op.MATMUL: 149,
    Op.POST_ACC: 495,
    Op.POST_MEM: 495,
    Op.SOFTMAX: 305,
    Op.LAYERNORM: 290,
    Op.MOVE: 463,
}
_LOAD_ENTRY = {Mem.ACT: 14, Mem.WIDE: 20, Mem.PARAM: 68, Mem.EXP: 35, Mem.TABLE: 14}
_STREAM_TILE, _ACT_TILE = 34, 203


def serial_duration(ins: Instruction, timing: TimingParameters, *, from_act: bool) -> int:
    """Cycles that ``ins`` takes, within some percent: shifts depend on the data.

    ``from_act``: a MATMUL's weights come from ``act``.
    """
    latency = timing.memory_latency
    return round(_INSTRUCTION[ins.op] + READS * latency + _work(ins, latency, from_act=from_act))


def _work(ins: Instruction, latency: int, *, from_act: bool) -> float:
    if ins.op is Op.LOAD:
        return latency + _LOAD_ENTRY[Mem(ins["mem"])] * ins["count"]
    if ins.op is Op.STORE:
        return (12 if ins["mem"] == Mem.WIDE else 9) * ins["count"]
    if ins.op is Op.GATHER:
        element = 20 if ins["mem"] == Mem.WIDE else 10
        return ins["n"] * (24 + latency + element * ins["row_groups"])
    if ins.op is Op.MATMUL:
        tile = _ACT_TILE if from_act else _STREAM_TILE
        return latency + ins["k_tiles"] * (tile + ins["rows"])
    if ins.op in (Op.POST_ACC, Op.POST_MEM):
        cycles = 35 + 27 * ins["res_en"] + 5 * ins["table_en"] + 4.5 * (1 - ins["param_step"])
        return ins["rows"] * (15 + cycles * ins["groups"])
    if ins.op is Op.SOFTMAX:
        lengths = (ins["len0"] + row * ins["len_step"] for row in range(ins["rows"]))
        kept = sum(min(ins["n"], length) for length in lengths)
        dropped = ins["rows"] * ins["n"] - kept
        return 59 * ins["rows"] + (59 + 10.6 * ins["mask_en"]) * kept + 2.6 * dropped
    if ins.op is Op.LAYERNORM:
        return ins["rows"] * (3309 + 206 * ins["n"])
    if ins.op is Op.MOVE:
        return ins["n0"] * (11 + ins["n1"] * (13 + 12 * ins["n2"]))
    return 0


class SerialRun:
    """One run, in the order of the program.

    ``execute`` maps the operations of DMA, POST, ROW and MOVE to what they do. Only the counters
    that the serial core has are kept.
    """

    def __init__(
        self,
        program: Program,
        inputs: Mapping[str, Array],
        *,
        timing: TimingParameters,
        seed: int,
        execute: Mapping[Op, Callable[[Machine, Instruction], list[Write]]],
    ) -> None:
        self.program, self.timing, self._execute = program, timing, execute
        self.machine = Machine(program, seed=seed)
        for tensor in program.inputs:
            write_input(self.machine, tensor, inputs)
        self.timeline: list[StepTiming] = []
        self.cycles = START_CYCLES
        self._rows = 0
        self._fifo = ColumnFifo(Scheduler(), capacity=0)
        self._from_act = False
        while (ins := decode_step(self.machine, program, len(self.timeline))).op is not Op.END:
            self._step(ins)
        self._require_empty()
        self.cycles += END_CYCLES + timing.memory_latency

    def counters(self) -> dict[str, int]:
        """All counters; 0 for those that the serial core does not have."""
        return {**dict.fromkeys(COUNTERS, 0), "cycles": self.cycles, "array_rows": self._rows}

    def _step(self, ins: Instruction) -> None:
        index = len(self.timeline)
        node = self.program.steps[index].node
        step = StepTiming(index, ins.op, node, queued=self.cycles, start=self.cycles)
        self.timeline.append(step)
        try:
            writes = self._writes(ins, index)
            self.machine.check_writes(writes)
        except (SimulationError, OverflowError, ValueError, IndexError) as error:
            raise SimulationError(f"step {index} ({ins.op.name}, {node}): {error}") from error
        self.cycles += serial_duration(ins, self.timing, from_act=self._from_act)
        step.end = self.cycles
        self.machine.commit(writes, step=index, cycle=step.end)

    def _writes(self, ins: Instruction, index: int) -> list[Write]:
        if ins.op in (Op.FETCH_STREAM, Op.FETCH_ACT):
            self._require_empty()
            self._from_act = ins.op is Op.FETCH_ACT
            self._fifo.supply(index, array_unit.fetch_columns(self.machine, ins))
            return []
        if ins.op is Op.MATMUL:
            self._rows += ins["rows"] * ins["k_tiles"]
            words = array_unit.activations(self.machine, ins)
            columns = self._fifo.take(ins["k_tiles"] * self.program.config.cols)
            return array_unit.products(self.machine, ins, words, columns)
        return self._execute[ins.op](self.machine, ins)

    def _require_empty(self) -> None:
        left = self._fifo.leftover()
        if left is not None:
            step, count = left
            raise SimulationError(f"no MATMUL took {count} weight columns of step {step}")
