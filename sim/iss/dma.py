"""What LOAD, STORE and GATHER do."""

from __future__ import annotations

import numpy as np

from intformer.config import CoreConfig
from intformer.function_layout import ENTRY_BYTES
from intformer.isa import Instruction, Mem
from intformer.sim.iss.machine import Array, Machine, Write

__all__ = ["entry_bytes", "gather", "load", "store"]


def load(machine: Machine, ins: Instruction) -> list[Write]:
    """Copy ``count`` packed entries from external memory."""
    memory, index, size = machine.transfer_index(ins["mem"], ins["addr"], ins["count"])
    return [Write(memory, index, _elements(machine, ins["ext"], index.size, size))]


def store(machine: Machine, ins: Instruction) -> list[Write]:
    """Copy ``count`` lane groups to external memory; zeros fill the last beat."""
    memory, index, _ = machine.transfer_index(ins["mem"], ins["addr"], ins["count"])
    data = machine.read(memory, index).view(np.uint8)
    beats = -(-data.size // machine.config.bus_bytes)
    padded = np.zeros(beats * machine.config.bus_bytes, np.uint8)
    padded[: data.size] = data
    return [Write("ext", ins["ext"] + np.arange(padded.size), padded)]


def gather(machine: Machine, ins: Instruction) -> list[Write]:
    """Copy the rows of an external table that int16 ids in ``wide`` name."""
    lanes = machine.config.lanes
    mem, elements = ins["mem"], ins["row_groups"] * lanes
    ids = machine.read_codes(Mem.WIDE, ins["idx"] * lanes + np.arange(ins["n"])) & 0xFFFF
    size = 1 if mem == Mem.ACT else 2
    writes = []
    for j, row in enumerate(ids):
        start = (ins["addr"] + j * ins["stride"]) * machine.width(mem)
        data = _elements(machine, ins["ext"] + int(row) * ins["ext_stride"], elements, size)
        writes.append(Write(Mem(mem).name.lower(), start + np.arange(elements), data))
    return writes


def _elements(machine: Machine, address: int, count: int, size: int) -> Array:
    """``count`` little-endian elements of ``size`` bytes from external memory."""
    data = machine.read("ext", address + np.arange(count * size))
    return np.ascontiguousarray(data).view(f"<u{size}")


def entry_bytes(config: CoreConfig, mem: int) -> int:
    """External bytes that DMA moves per cycle at most: one entry of memory ``mem``."""
    per_lane = {Mem.ACT: 1, Mem.WIDE: 2, Mem.PARAM: 8}
    if mem in per_lane:
        return per_lane[Mem(mem)] * config.lanes
    return {Mem.EXP: 4, Mem.FUNCTION: ENTRY_BYTES}.get(Mem(mem), 1)
