"""State of the simulated core: its memories, external memory, and the log of writes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from intformer.config import CoreConfig
from intformer.errors import IntformerError
from intformer.function_layout import ENTRY_BYTES, TABLE_STRIDE
from intformer.isa import Mem
from intformer.program import Program, WriteLog
from intformer.reference import EXP_BITS

__all__ = ["Machine", "SimulationError", "Write"]

Array = NDArray[Any]

_ENTRY_BYTES = {Mem.EXP: 4, Mem.TABLE: 1, Mem.FUNCTION: ENTRY_BYTES}


class SimulationError(IntformerError):
    """A program did something that the core cannot do; the message names the step."""


class Write(NamedTuple):
    """Values for the elements ``places`` of the flat memory ``memory``."""

    memory: str
    places: Array
    values: Array


class Machine:
    """Memories as flat arrays of elements.

    ``act`` (bytes; element ``word * rows + lane``), ``wide`` (16-bit codes; ``word * lanes +
    lane``), ``param`` (bytes, 8 per channel), ``exp`` (256 per table), ``table`` (256 per
    table), ``function`` (64-bit words, ``TABLE_STRIDE`` per table), ``acc`` (``row * cols +
    column``) and ``ext`` (bytes). All start as random garbage except for the program's image, so
    that a read of something never written shows up.
    """

    def __init__(self, program: Program, *, seed: int = 0) -> None:
        config = program.config
        rng = np.random.default_rng(seed)
        self.config: CoreConfig = config
        self.memories: dict[str, Array] = {
            "act": _garbage(rng, config.act_words * config.rows, np.uint8),
            "wide": _garbage(rng, config.wide_words * config.lanes, np.uint16),
            "param": _garbage(rng, config.param_groups * config.lanes * 8, np.uint8),
            "exp": _garbage(rng, config.exp_tables * 256, np.uint32) >> np.uint32(32 - EXP_BITS),
            "table": _garbage(rng, config.act_tables * 256, np.uint8),
            "function": _garbage(rng, config.functions * TABLE_STRIDE, np.uint64),
            "acc": _garbage(rng, config.acc_depth * config.cols, np.int32),
            "ext": _garbage(rng, program.memory_bytes, np.uint8),
        }
        self.memories["ext"][: program.image.size] = program.image
        self._log: list[tuple[int, int, Array, Array, int]] = []

    def width(self, mem: int) -> int:
        """Elements in one word of ``act`` or ``wide``."""
        return self.config.rows if mem == Mem.ACT else self.config.lanes

    def read(self, memory: str, index: Array) -> Array:
        """Elements ``index`` of a memory; :class:`SimulationError` if one is out of range."""
        return self.memories[memory][self._checked(memory, index)]

    def read_codes(self, mem: int, index: Array) -> Array:
        """Signed codes from ``act`` (int8) or ``wide`` (int16) as int64."""
        if mem == Mem.ACT:
            return self.read("act", index).view(np.int8).astype(np.int64)
        return self.read("wide", index).view(np.int16).astype(np.int64)

    def parameters(self, group: int, channels: int) -> tuple[Array, Array, Array]:
        """Bias, multiplier and shift of ``channels`` channels from ``group`` on."""
        start = group * self.config.lanes * 8
        raw = self.read("param", np.arange(start, start + 8 * channels)).reshape(-1, 8)
        bias = np.ascontiguousarray(raw[:, 0:4]).view("<i4")[:, 0].astype(np.int64)
        mult = np.ascontiguousarray(raw[:, 4:6]).view("<i2")[:, 0].astype(np.int64)
        return bias, mult, raw[:, 6].astype(np.int64)

    def commit(self, writes: list[Write], *, step: int, cycle: int) -> None:
        """Perform ``writes`` of step ``step`` and log those into ``act`` and ``wide``."""
        for memory, index, values in writes:
            target = self.memories[memory]
            index = self._checked(memory, index).ravel()
            target[index] = np.broadcast_to(values, index.shape).astype(target.dtype)
            if memory in ("act", "wide"):
                self._log.append((step, int(memory == "wide"), index, target[index], cycle))

    def check_writes(self, writes: list[Write]) -> None:
        """Raise :class:`SimulationError` if a write lies outside its memory."""
        for memory, index, _ in writes:
            self._checked(memory, index)

    def log(self) -> WriteLog:
        """Everything committed so far."""

        def column(values: list[Array]) -> Array:
            return np.concatenate([np.empty(0, np.int64), *values]).astype(np.int64)

        return WriteLog(
            step=column([np.full(i.size, s) for s, _, i, _, _ in self._log]),
            mem=column([np.full(i.size, m) for _, m, i, _, _ in self._log]),
            position=column([i for _, _, i, _, _ in self._log]),
            value=column([v for _, _, _, v, _ in self._log]),
            cycle=column([np.full(i.size, c) for _, _, i, _, c in self._log]),
        )

    def transfer_index(self, mem: int, address: int, count: int) -> tuple[str, Array, int]:
        """Memory, elements and bytes per element of ``count`` DMA entries from ``address``."""
        lanes = self.config.lanes
        memory = Mem(mem).name.lower()
        if mem in (Mem.ACT, Mem.WIDE):
            start = address * self.width(mem)
            return memory, np.arange(start, start + count * lanes), 1 if mem == Mem.ACT else 2
        if mem == Mem.PARAM:
            start = address * lanes * 8
            return memory, np.arange(start, start + count * lanes * 8), 1
        start = address * (TABLE_STRIDE if mem == Mem.FUNCTION else 256)
        return memory, np.arange(start, start + count), _ENTRY_BYTES[Mem(mem)]

    def _checked(self, memory: str, index: Array) -> Array:
        size = self.memories[memory].size
        if index.size and (int(index.min()) < 0 or int(index.max()) >= size):
            bad = int(index.max()) if int(index.max()) >= size else int(index.min())
            raise SimulationError(f"{memory} element {bad} is outside 0..{size - 1}")
        return index


def _garbage(rng: np.random.Generator, size: int, dtype: Any) -> Array:
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, size, dtype=dtype, endpoint=True)
