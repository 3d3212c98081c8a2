"""What SOFTMAX, LAYERNORM and ROWSCALE do."""

from __future__ import annotations

import numpy as np

from intformer import reference
from intformer.isa import Instruction, Mem
from intformer.sim.iss.machine import Array, Machine, SimulationError, Write

__all__ = ["layernorm", "rowscale", "softmax"]


def softmax(machine: Machine, ins: Instruction) -> list[Write]:
    """Row softmax of int8 codes in ``act``."""
    _check_row(ins, machine.config.row_max)
    x = machine.read_codes(Mem.ACT, _row_index(machine, ins, "src", Mem.ACT))
    length = ins["len0"] + np.arange(ins["rows"])[:, None] * ins["len_step"]
    keep = np.arange(ins["n"]) < length
    if ins["mask_en"]:
        keep = keep & (machine.read("act", _row_index(machine, ins, "mask", Mem.ACT)) != 0)
    table = machine.read("exp", ins["table"] * 256 + np.arange(256))
    codes = reference.softmax(x, exp_table=table, keep=keep)
    return [Write("act", _row_index(machine, ins, "dst", Mem.ACT).ravel(), codes.ravel())]


def layernorm(machine: Machine, ins: Instruction) -> list[Write]:
    """LayerNorm of int16 codes in ``wide``."""
    _check_row(ins, machine.config.row_max)
    x = machine.read_codes(Mem.WIDE, _row_index(machine, ins, "src", Mem.WIDE))
    beta, gamma, shift = machine.parameters(ins["param"], ins["n"])
    codes = reference.layernorm(
        x,
        gamma=gamma,
        beta=beta,
        shift=shift,
        eps=ins["eps"],
        zero_point=ins["zero_point"],
        lo=ins["lo"],
        hi=ins["hi"],
    )
    index = _row_index(machine, ins, "dst", ins["dst_mem"])
    return [Write(Mem(ins["dst_mem"]).name.lower(), index.ravel(), codes.ravel())]


def rowscale(machine: Machine, ins: Instruction) -> list[Write]:
    """int8 codes in ``act``, and factors in ``wide``, of rows of int16 codes in ``wide``."""
    _check_row(ins, machine.config.row_scales)
    x = machine.read_codes(Mem.WIDE, _row_index(machine, ins, "src", Mem.WIDE))
    codes, factors = reference.row_codes(x)
    words = ins["factor"] + np.arange(ins["rows"]) * ins["factor_stride"]
    return [
        Write("act", _row_index(machine, ins, "dst", Mem.ACT).ravel(), codes.ravel()),
        Write("wide", words * machine.width(Mem.WIDE), factors.ravel()),
    ]


def _check_row(ins: Instruction, most: int) -> None:
    if not 1 <= ins["n"] <= most:
        raise SimulationError(f"n must be from 1 to {most}, not {ins['n']}")


def _row_index(machine: Machine, ins: Instruction, operand: str, mem: int) -> Array:
    word = ins[operand] + np.arange(ins["rows"])[:, None] * ins[f"{operand}_stride"]
    return word * machine.width(mem) + np.arange(ins["n"])
