"""What every run does first: inputs into memory; instructions out of it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from intformer.isa import INSTRUCTION_BYTES, Instruction, Op, decode
from intformer.program import ExternalTensor, Program
from intformer.sim.iss.machine import Array, Machine, SimulationError

__all__ = ["decode_step", "write_input"]


def write_input(machine: Machine, tensor: ExternalTensor, inputs: Mapping[str, Array]) -> None:
    """Put the codes of an input where the program expects them."""
    if tensor.name not in inputs:
        raise ValueError(f"input {tensor.name!r} is missing")
    codes = np.asarray(inputs[tensor.name])
    if codes.shape != tuple(tensor.shape):
        raise ValueError(f"input {tensor.name!r} must have shape {tensor.shape}, not {codes.shape}")
    data = np.frombuffer(tensor.pack(codes), np.uint8)
    machine.memories["ext"][tensor.address : tensor.address + data.size] = data


def decode_step(machine: Machine, program: Program, index: int) -> Instruction:
    """Instruction ``index`` as it stands in the memory image; it must be that of the step."""
    start = program.entry + INSTRUCTION_BYTES * index
    data = machine.read("ext", start + np.arange(INSTRUCTION_BYTES)).tobytes()
    try:
        ins = decode(data)
    except ValueError as error:
        raise SimulationError(f"step {index}: {error}") from None
    steps = program.steps
    if index < len(steps) and data != steps[index].instruction.encode():
        raise SimulationError(
            f"step {index}: the image holds {ins}, not {steps[index].instruction}"
        )
    if ins.op not in program.config.operations:
        raise SimulationError(
            f"step {index}: the core {program.config.name!r} has no {ins.op.name}"
        )
    if index >= len(steps) and ins.op != Op.END:
        raise SimulationError(f"step {index}: {ins.op.name} follows the last step")
    return ins
