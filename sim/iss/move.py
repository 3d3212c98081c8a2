"""What MOVE does."""

from __future__ import annotations

import numpy as np

from intformer.isa import Instruction, Mem
from intformer.sim.iss.machine import Array, Machine, SimulationError, Write

__all__ = ["move"]


def move(machine: Machine, ins: Instruction) -> list[Write]:
    """Copy elements along three nested loops inside one memory."""
    memory = Mem(ins["mem"]).name.lower()
    codes = machine.read(memory, _loop_index(machine, ins, "src", "s").ravel())
    return [Write(memory, _loop_index(machine, ins, "dst", "d").ravel(), codes)]


def _loop_index(machine: Machine, ins: Instruction, operand: str, stride: str) -> Array:
    width = machine.width(ins["mem"])
    lanes = [ins[f"{operand}_lane"], *(ins[f"{stride}{i}_lane"] for i in range(3))]
    if max(lanes) >= width:
        raise SimulationError(f"lane {max(lanes)} is outside a word of {width} elements")
    index = np.asarray(ins[operand] * width + lanes[0])
    for axis in range(3):
        step = ins[f"{stride}{axis}"] * width + lanes[1 + axis]
        index = index[..., None] + np.arange(ins[f"n{axis}"]) * step
    return index
