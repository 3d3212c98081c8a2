"""Draft instructions: what lowering produces, before order, addresses of sums and tokens."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from intformer.compiler.backend.image import Image
from intformer.compiler.backend.storage import Storage
from intformer.compiler.backend.tiling import row_blocks
from intformer.compiler.integer_graph import IntGraph
from intformer.config import CoreConfig
from intformer.errors import DoesNotFit
from intformer.function_layout import ENTRIES
from intformer.isa import Mem, Op, Unit

__all__ = ["AccRegion", "Draft", "Lowering", "Span"]

Span = tuple[str, NDArray[np.int64]]
"""A memory (``act``, ``wide``, ``param``, ``exp``, ``table``, ``function``) and words of it."""


@dataclass(eq=False)
class AccRegion:
    """Rows of the accumulator memory that one MATMUL writes; ``base`` is set by scheduling."""

    rows: int
    base: int = 0


@dataclass(eq=False)
class Draft:
    """An instruction to be: fields, node, tensor written, and the words read and written.

    ``factor``: the tensor of factors that a ROWSCALE writes too. ``acc``: the sums that a MATMUL
    writes or a POST_ACC reads; field ``acc``, or ``src``, is relative to the region. ``job``:
    number of the FETCH whose columns a MATMUL takes (or that this FETCH is). ``io``: ``ext`` is
    relative to the inputs and outputs. ``cycles``: estimate.
    """

    op: Op
    fields: dict[str, int]
    node: str
    tensor: str | None = None
    factor: str | None = None
    reads: list[Span] = field(default_factory=list)
    writes: list[Span] = field(default_factory=list)
    acc: AccRegion | None = None
    job: int = -1
    io: bool = False
    cycles: int = 1

    @property
    def unit(self) -> Unit:
        unit = self.op.unit
        assert unit is not None
        return unit


class _Slots:
    """Tables that stay until their slot is needed for another."""

    def __init__(self, count: int) -> None:
        self._held: list[bytes | None] = [None] * count
        self._next = 0

    def get(self, data: bytes) -> tuple[int, bool]:
        """Slot of ``data``, and whether it has to be loaded."""
        if data in self._held:
            return self._held.index(data), False
        slot = self._next
        self._held[slot] = data
        self._next = (slot + 1) % len(self._held)
        return slot, True


class Lowering:
    """State shared by the lowering of all nodes: drafts so far, image, parameters, tables."""

    def __init__(self, graph: IntGraph, config: CoreConfig, storage: Storage) -> None:
        self.graph, self.config, self.storage = graph, config, storage
        self.image = Image()
        self.drafts: list[Draft] = []
        self.jobs = 0
        self.row_blocks = row_blocks(graph)
        self.param_used = 0
        self._param_next = 0
        self._slots = {
            Mem.EXP: _Slots(config.exp_tables),
            Mem.TABLE: _Slots(config.act_tables),
            Mem.FUNCTION: _Slots(config.functions),
        }

    def add(self, draft: Draft) -> Draft:
        """Append an instruction."""
        self.drafts.append(draft)
        return draft

    def words(self, tensor: str, positions: NDArray[np.int64]) -> Span:
        """The words of ``tensor``'s scratchpad under ``positions``."""
        mem = self.storage.mem(tensor)
        words = positions.ravel() // self.storage.width(tensor)
        first = int(words.min())
        touched = np.zeros(int(words.max()) - first + 1, bool)
        touched[words - first] = True
        return mem.name.lower(), first + np.flatnonzero(touched)

    def load_params(self, data: bytes, node: str) -> int:
        """LOAD parameter groups; return the first."""
        size = 8 * self.config.lanes
        count = len(data) // size
        have = self.config.param_groups
        if count > have:
            raise DoesNotFit(
                f"{node}: the parameter memory has {have} groups of {self.config.lanes} "
                f"channels, one layer needs {count}; raise param_groups to at least {count}"
            )
        if self._param_next + count > have:
            self._param_next = 0
        first = self._param_next
        self._param_next += count
        self.param_used = max(self.param_used, self._param_next)
        fields = {"mem": Mem.PARAM, "addr": first, "count": count}
        self._load(fields, f"{node}.params", data, node, ("param", np.arange(first, first + count)))
        return first

    def load_table(self, mem: Mem, data: bytes, node: str) -> int:
        """Number of the table in ``mem`` (EXP, TABLE or FUNCTION) that holds ``data``.

        It is loaded if it is not there.
        """
        slot, missing = self._slots[mem].get(data)
        if missing:
            count = ENTRIES if mem is Mem.FUNCTION else 256
            fields = {"mem": mem, "addr": slot, "count": count}
            what = mem.name.lower()
            self._load(fields, f"{node}.{what}", data, node, (what, np.array([slot])))
        return slot

    def _load(self, fields: dict[str, int], name: str, data: bytes, node: str, span: Span) -> None:
        fields["ext"] = self.image.add(name, data)
        beats = -(-len(data) // self.config.bus_bytes)
        self.add(Draft(Op.LOAD, fields, node, writes=[span], cycles=beats + 20))
