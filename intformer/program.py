"""A program: what the compiler back end makes of an integer graph for one core.

The instruction-level simulator, the RTL bench and the compiled-model files all use this form.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer.config import CoreConfig
from intformer.isa import Instruction, Mem

__all__ = [
    "ExternalTensor",
    "Production",
    "Program",
    "Region",
    "RunResult",
    "Step",
    "WriteLog",
]


@dataclass(frozen=True)
class Region:
    """A named range of external memory: byte address and size."""

    name: str
    address: int
    size: int


@dataclass(frozen=True)
class ExternalTensor:
    """An input or output in external memory.

    Rows (the last axis) follow each other at ``row_elements`` elements, little endian; the
    elements past the row's end are padding.
    """

    name: str
    address: int
    shape: tuple[int, ...]
    dtype: str
    row_elements: int
    scale: float
    zero_point: int

    @property
    def size(self) -> int:
        """Bytes, padding included."""
        return self.rows * self.row_elements * np.dtype(self.dtype).itemsize

    @property
    def rows(self) -> int:
        return int(np.prod(self.shape[:-1], dtype=np.int64))

    def pack(self, codes: NDArray[Any]) -> bytes:
        """Bytes of ``codes`` as they stand in external memory; padding is zero."""
        n = self.shape[-1]
        out = np.zeros((self.rows, self.row_elements), dtype=self.dtype)
        out[:, :n] = np.asarray(codes, dtype=self.dtype).reshape(-1, n)
        return out.astype(np.dtype(self.dtype).newbyteorder("<")).tobytes()

    def unpack(self, data: bytes | NDArray[np.uint8]) -> NDArray[Any]:
        """Inverse of :meth:`pack`."""
        flat = np.frombuffer(bytes(data), dtype=np.dtype(self.dtype).newbyteorder("<"))
        rows = flat.reshape(self.rows, self.row_elements)[:, : self.shape[-1]]
        return rows.reshape(self.shape).astype(self.dtype)


@dataclass(frozen=True)
class Step:
    """One instruction of a program and what it is for.

    ``node``: the graph node (or load, store) that it belongs to; ``tensor``: the tensor whose
    elements it writes into ``act`` or ``wide``, if any.
    """

    instruction: Instruction
    node: str
    tensor: str | None = None


@dataclass(frozen=True)
class Production:
    """Where the elements of a tensor are written on the chip, and by which steps.

    ``positions``: for every element of the tensor, ``word * width + lane`` in memory ``mem``,
    where ``width`` is ``rows`` for ``act`` and ``lanes`` for ``wide``.
    """

    tensor: str
    mem: Mem
    positions: NDArray[np.int64]
    steps: tuple[int, ...]


@dataclass
class Program:
    """Instructions, initial external memory, and the maps needed to run and to check them.

    ``image`` is the initial content of external memory (program included, at ``entry``);
    ``memory_bytes`` is the whole external memory that a run needs (image, inputs, outputs).
    """

    config: CoreConfig
    steps: list[Step]
    image: NDArray[np.uint8]
    memory_bytes: int
    entry: int
    regions: list[Region]
    inputs: list[ExternalTensor]
    outputs: list[ExternalTensor]
    productions: dict[str, Production]
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class WriteLog:
    """Every element written into ``act`` and ``wide`` during one run, in order of time.

    Columns of equal length: ``step`` (index into ``Program.steps``), ``mem`` (0 act, 1 wide),
    ``position`` (as in :class:`Production`), ``value`` (unsigned code bits: 0..255 or 0..65535)
    and ``cycle`` (since start; 0 where the level has no clock).
    """

    step: NDArray[np.int64]
    mem: NDArray[np.int64]
    position: NDArray[np.int64]
    value: NDArray[np.int64]
    cycle: NDArray[np.int64]


@dataclass
class RunResult:
    """One run of a program on one input: outputs (codes), write log, cycles and counters.

    ``counters`` maps the names of :data:`intformer.isa.COUNTERS` to cycle or beat counts.
    """

    outputs: dict[str, NDArray[Any]]
    log: WriteLog
    cycles: int
    counters: dict[str, int] = field(default_factory=dict)
