"""What POST_ACC and POST_MEM do."""

from __future__ import annotations

import numpy as np

from intformer import reference
from intformer.function_layout import ENTRIES, TABLE_STRIDE, unpack_function
from intformer.isa import Instruction, Mem, Op
from intformer.sim.iss.machine import Array, Machine, SimulationError, Write

__all__ = ["post"]


def post(machine: Machine, ins: Instruction) -> list[Write]:
    """The epilogue over rows of lane groups, from accumulators or from a stored tensor."""
    lanes = machine.config.lanes
    n = (ins["groups"] - 1) * lanes + ins["tail"]
    if not 1 <= ins["tail"] <= lanes:
        raise SimulationError(f"tail must be from 1 to {lanes}, not {ins['tail']}")
    bias, mult, shift = _parameters(machine, ins, n)
    residual = None
    if ins["res_en"]:
        residual = machine.read_codes(ins["res_mem"], _row_index(machine, ins, "res", n))
    table = None
    if ins["table_en"]:
        table = machine.read("table", ins["table"] * 256 + np.arange(256))
    function = None
    if ins["function_en"]:
        start = ins["table"] * TABLE_STRIDE
        function = unpack_function(machine.read("function", start + np.arange(ENTRIES)))
    codes = reference.post(
        _source(machine, ins, n),
        factor=_factors(machine, ins),
        bias=bias,
        mult=mult,
        shift=shift,
        residual=residual,
        res_mult=ins["res_mult"],
        res_shift=ins["res_shift"],
        zero_point=ins["zero_point"],
        lo=ins["lo"],
        hi=ins["hi"],
        table=table,
        function=function,
    )
    memory = Mem(ins["dst_mem"]).name.lower()
    return [Write(memory, _row_index(machine, ins, "dst", n).ravel(), codes.ravel())]


def _parameters(machine: Machine, ins: Instruction, n: int) -> tuple[Array, Array, Array]:
    lanes = machine.config.lanes
    if ins["param_step"]:
        bias, mult, shift = machine.parameters(ins["param"], ins["groups"] * lanes)
        return bias[:n], mult[:n], shift[:n]
    bias, mult, shift = machine.parameters(ins["param"], lanes)
    return tuple(np.resize(values, n) for values in (bias, mult, shift))  # type: ignore[return-value]


def _source(machine: Machine, ins: Instruction, n: int) -> Array:
    if ins.op == Op.POST_MEM:
        return machine.read_codes(ins["src_mem"], _row_index(machine, ins, "src", n))
    cols = machine.config.cols
    if ins["src_sub"] or n > cols:
        raise SimulationError(
            f"POST_ACC must read at most {cols} channels from group 0, not {n} from group "
            f"{ins['src_sub']}"
        )
    row = ins["acc" if ins["src_mem"] else "src"] + np.arange(ins["rows"])[:, None]
    return machine.read("acc", row * cols + np.arange(n)).astype(np.int64)


def _factors(machine: Machine, ins: Instruction) -> Array | None:
    """Factors ``[rows, 1]`` of the sums of a POST_ACC."""
    if ins.op != Op.POST_ACC or ins["src_mem"] != Mem.WIDE:
        return None
    if not machine.config.row_scales:
        raise SimulationError("POST_ACC with factors, but the core has no row_scales")
    return machine.read_codes(Mem.WIDE, _row_index(machine, ins, "src", 1))


def _row_index(machine: Machine, ins: Instruction, operand: str, n: int) -> Array:
    """Elements ``[rows, n]`` of operand ``src``, ``dst`` or ``res``."""
    width = machine.width(ins[f"{operand}_mem"])
    word = ins[operand] + np.arange(ins["rows"])[:, None] * ins[f"{operand}_stride"]
    return word * width + ins[f"{operand}_sub"] * machine.config.lanes + np.arange(n)
