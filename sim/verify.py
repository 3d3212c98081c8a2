"""Comparison of a run with the reference: every tensor, every element, every write.

A run's write log is replayed for each :class:`~intformer.program.Production`: only the writes
of its own steps count, so what overwrites the memory later does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer.config import CoreConfig
from intformer.errors import Mismatch
from intformer.isa import Mem, Op
from intformer.program import Production, Program, RunResult

__all__ = ["Difference", "Report", "check", "timing_difference", "verify_levels"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Difference:
    """One element that differs.

    ``kind`` is ``"wrong"`` (another value than expected), ``"unwritten"``, ``"stray"`` (written
    by a step of the tensor outside of it, or by a step of no tensor) or ``"output"`` (an element
    of an output in external memory). ``step``, ``op``, ``node`` and ``cycle`` name the
    instruction that wrote it, where there is one.
    """

    kind: str
    tensor: str
    index: tuple[int, ...] | None
    expected: int | None
    got: int | None
    step: int | None = None
    op: str | None = None
    node: str | None = None
    cycle: int | None = None

    def __str__(self) -> str:
        where = f"tensor {self.tensor!r}"
        if self.index is not None:
            where += f" element [{', '.join(map(str, self.index))}]"
        text = f"{where}: {self.kind}"
        if self.expected is not None:
            text += f", expected {self.expected}"
        if self.got is not None:
            text += f", got {self.got}"
        if self.step is not None:
            text += f"; step {self.step} ({self.op}, node {self.node!r}), cycle {self.cycle}"
        return text


@dataclass
class Report:
    """What was compared and what differs.

    ``counts`` holds the number of differing elements by tensor; ``first`` is the earliest
    difference in time (differences that no instruction wrote come last).
    """

    level: str
    tensors: int = 0
    elements: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    first: Difference | None = None

    @property
    def ok(self) -> bool:
        """Whether everything is equal."""
        return not self.counts

    @property
    def mismatches(self) -> int:
        """Number of differing elements."""
        return sum(self.counts.values())

    def __str__(self) -> str:
        head = f"{self.level}: {self.tensors} tensors, {self.elements} elements compared"
        if self.ok:
            return f"{head}, all equal"
        names = ", ".join(f"{name} ({count})" for name, count in self.counts.items())
        return f"{head}, {self.mismatches} differ: {names}\nfirst: {self.first}"

    def raise_if_different(self) -> None:
        """Raise :class:`~intformer.errors.Mismatch` with the message of the report."""
        if not self.ok:
            raise Mismatch(str(self))

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "level": self.level,
            "tensors": self.tensors,
            "elements": self.elements,
            "mismatches": self.mismatches,
            "counts": dict(self.counts),
            "first": None if self.first is None else vars(self.first).copy(),
        }


def check(
    program: Program,
    graph_values: Mapping[str, Array],
    result: RunResult,
    *,
    level: str = "simulator",
) -> Report:
    """Compare a run with the reference's values of every tensor.

    Parameters
    ----------
    graph_values:
        Codes by tensor name, as :func:`intformer.compiler.integer_graph.execute` returns them.
    level:
        Name of what made ``result``, for messages.

    Raises
    ------
    ValueError
        If ``graph_values`` lacks a tensor of the program, or its shape differs.
    """
    report = Report(level)
    found: list[tuple[int, Difference]] = []  # with the position in the log
    owners = np.full((len(program.steps), 2), -1)  # of what is written to act, to wide
    names = list(program.productions)
    for number, name in enumerate(names):
        production = program.productions[name]
        owners[list(production.steps), int(production.mem)] = number
        _check_production(program, production, graph_values, result, report, found)
    _check_strays(program, names, owners, result, report, found)
    _check_outputs(program, graph_values, result, report, found)
    if found:
        report.first = min(found, key=lambda item: item[0])[1]
    return report


def verify_levels(
    program: Program, graph_values: Mapping[str, Array], results: Mapping[str, RunResult]
) -> dict[str, Report]:
    """:func:`check` for several runs, by the name of the level (``"iss"``, ``"rtl"``)."""
    return {
        level: check(program, graph_values, result, level=level)
        for level, result in results.items()
    }


def timing_difference(result: RunResult, other: RunResult) -> str | None:
    """What of two runs differs first: cycles, a counter, or a write to a scratchpad; or None."""
    if result.cycles != other.cycles:
        return f"{result.cycles} cycles, not {other.cycles}"
    for name, count in other.counters.items():
        if result.counters.get(name) != count:
            return f"counter {name} is {result.counters.get(name)}, not {count}"
    names = ("cycle", "mem", "position", "value", "step")
    one, two = ([getattr(r.log, name) for name in names] for r in (result, other))
    if len(one[0]) != len(two[0]):
        return f"{len(one[0])} elements written, not {len(two[0])}"
    differs = np.any([a != b for a, b in zip(one, two, strict=True)], axis=0)
    if not differs.any():
        return None
    at = int(np.flatnonzero(differs)[0])
    texts = (
        ", ".join(f"{name} {column[at]}" for name, column in zip(names, columns, strict=True))
        for columns in (one, two)
    )
    return "written: " + "; not: ".join(texts)


def _expected(graph_values: Mapping[str, Array], name: str, shape: tuple[int, ...]) -> Array:
    if name not in graph_values:
        raise ValueError(f"the reference has no tensor {name!r}")
    expected = np.asarray(graph_values[name])
    if expected.shape != shape:
        raise ValueError(f"tensor {name!r}: the reference has {expected.shape}, not {shape}")
    return expected


def _check_production(
    program: Program,
    production: Production,
    graph_values: Mapping[str, Array],
    result: RunResult,
    report: Report,
    found: list[tuple[int, Difference]],
) -> None:
    log, name = result.log, production.tensor
    positions = production.positions
    expected = _expected(graph_values, name, positions.shape).astype(np.int64)
    bits = 8 if production.mem == Mem.ACT else 16
    mine = np.flatnonzero(np.isin(log.step, production.steps) & (log.mem == int(production.mem)))
    last = np.full(_memory_size(program.config, production.mem), -1)
    last[log.position[mine]] = mine  # in order of time, so the last write stays
    entry = last[positions]
    got = np.where(entry >= 0, log.value[entry] if log.value.size else 0, -1)
    wrong = got != expected & ((1 << bits) - 1)
    report.tensors += 1
    report.elements += positions.size
    if not wrong.any():
        return
    report.counts[name] = report.counts.get(name, 0) + int(wrong.sum())
    order = np.where(wrong, np.where(entry >= 0, entry, log.step.size), log.step.size + 1)
    index = np.unravel_index(int(order.argmin()), order.shape)
    at = int(entry[index])
    kind = "wrong" if at >= 0 else "unwritten"
    value = _signed_like(int(got[index]), graph_values[name], bits) if at >= 0 else None
    place = tuple(int(i) for i in index)
    writer = _writer(program, result, at) if at >= 0 else {}
    difference = Difference(kind, name, place, int(expected[index]), value, **writer)
    found.append((int(order[index]), difference))


def _check_strays(
    program: Program,
    names: list[str],
    owners: Array,
    result: RunResult,
    report: Report,
    found: list[tuple[int, Difference]],
) -> None:
    log = result.log
    # What a step writes to a memory where none of its tensors lies counts as its other one's.
    owner = owners[log.step, log.mem]
    owner = np.where(owner >= 0, owner, owners.max(axis=1)[log.step])
    for number in np.unique(owner):
        entries = np.flatnonzero(owner == number)
        name = names[number] if number >= 0 else "(none)"
        if number >= 0:
            entries = entries[~_inside(program, program.productions[name], result, entries)]
        if entries.size:
            report.counts[name] = report.counts.get(name, 0) + int(entries.size)
            at = int(entries[0])
            writer = _writer(program, result, at)
            difference = Difference("stray", name, None, None, int(log.value[at]), **writer)
            found.append((at, difference))


def _inside(program: Program, production: Production, result: RunResult, entries: Array) -> Array:
    """Whether each write lies in its tensor; DMA may also fill the rest of the tensor's words."""
    log, config = result.log, program.config
    width = config.rows if production.mem == Mem.ACT else config.lanes
    own = np.zeros(_memory_size(config, production.mem), bool)
    own[production.positions] = True
    own_word = np.repeat(own.reshape(-1, width).any(axis=1), width)
    whole_words = [s for s in production.steps if _op(program, s) in (Op.LOAD, Op.GATHER)]
    same_mem = log.mem[entries] == int(production.mem)
    position = np.where(same_mem, log.position[entries], 0)
    by_dma = np.isin(log.step[entries], whole_words)
    return same_mem & np.where(by_dma, own_word[position], own[position])


def _check_outputs(
    program: Program,
    graph_values: Mapping[str, Array],
    result: RunResult,
    report: Report,
    found: list[tuple[int, Difference]],
) -> None:
    for tensor in program.outputs:
        expected = _expected(graph_values, tensor.name, tuple(tensor.shape)).astype(np.int64)
        got = np.asarray(result.outputs[tensor.name]).astype(np.int64)
        report.tensors += tensor.name not in program.productions
        report.elements += expected.size
        if got.shape != expected.shape:
            raise ValueError(f"output {tensor.name!r} has shape {got.shape}, not {tensor.shape}")
        wrong = np.argwhere(got != expected)
        if len(wrong):
            report.counts[tensor.name] = report.counts.get(tensor.name, 0) + len(wrong)
            place = tuple(int(i) for i in wrong[0])
            difference = Difference(
                "output", tensor.name, place, int(expected[place]), int(got[place])
            )
            found.append((result.log.step.size + 2, difference))


def _memory_size(config: CoreConfig, mem: Mem) -> int:
    if mem == Mem.ACT:
        return config.act_words * config.rows
    return config.wide_words * config.lanes


def _op(program: Program, step: int) -> Op:
    return program.steps[step].instruction.op


def _writer(program: Program, result: RunResult, at: int) -> dict[str, Any]:
    step = int(result.log.step[at])
    return {
        "step": step,
        "op": _op(program, step).name,
        "node": program.steps[step].node,
        "cycle": int(result.log.cycle[at]),
    }


def _signed_like(value: int, reference_values: Array, bits: int) -> int:
    signed = np.asarray(reference_values).dtype.kind == "i"
    return value - (1 << bits) if signed and value >> (bits - 1) else value
