"""Why the array was idle: every cycle without a word fed, with the cause.

A MATMUL starts when the last of its tokens is there. Tokens of a unit are taken in the order in
which they were given, so the instruction that gave the last one is known exactly; it is the cause.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from intformer.isa import Op, Unit
from intformer.program import Program
from intformer.sim.iss.timing import StepTiming

__all__ = ["array_idle"]

START, END, DISPATCH = "start", "end", "instructions"
PIPELINE, WEIGHTS, OPERANDS = "pipeline", "weights", "operands"


@dataclass(frozen=True)
class _Product:
    """A MATMUL: its step, the givers of its tokens, and its FETCH with the givers of its own."""

    step: StepTiming
    givers: list[StepTiming]
    fetch: StepTiming
    fetch_givers: list[StepTiming]


def array_idle(program: Program, timeline: Iterable[StepTiming], *, cycles: int) -> dict[str, int]:
    """Cycles in which no word went into the array, by cause; they add up to all idle cycles.

    Keys: ``start`` (before the first product), ``end`` (after the last), ``instructions`` (not
    dispatched yet), ``weights`` and ``operands`` (columns late from external memory, or from
    ``act``), ``pipeline`` (handing over between products, filling and draining), and ``UNIT of
    NODE`` for an instruction whose result, or whose room, was waited for; layers are numbered
    ``*``.
    """
    steps = {step.index: step for step in timeline}
    products = _products(program, steps)
    found: dict[str, int] = defaultdict(int)
    fed = sum(_words(program, p.step) for p in products)
    until = 0
    for number, product in enumerate(products):
        step = product.step
        gap = max(0, step.start - until)
        if gap:
            found[START if number == 0 else _cause(product)] += gap
        if step.stall:
            found[_column_cause(product)] += step.stall
        until = max(until, step.end)
    found[END] += max(0, cycles - until)
    found[PIPELINE] += cycles - fed - sum(found.values())
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _words(program: Program, step: StepTiming) -> int:
    ins = program.steps[step.index].instruction
    return int(ins["rows"] * ins["k_tiles"])


def _products(program: Program, steps: Mapping[int, StepTiming]) -> list[_Product]:
    """All MATMULs in order, with what they waited for."""
    tokens: dict[tuple[Unit, Unit], deque[StepTiming]] = defaultdict(deque)
    for index, step in enumerate(program.steps):  # in program order, which is that of each unit
        for target in Unit:
            if step.instruction.push >> target & 1:
                assert step.instruction.op.unit is not None
                tokens[step.instruction.op.unit, target].append(steps[index])
    fetches: deque[list[Any]] = deque()
    matmuls = []
    for index, step in enumerate(program.steps):
        ins = step.instruction
        if ins.op.unit not in (Unit.FETCH, Unit.MATMUL):
            continue
        givers = [tokens[u, ins.op.unit].popleft() for u in Unit if ins.pop >> u & 1]
        if ins.op.unit is Unit.FETCH:
            tiles = ins["columns"] if ins.op is Op.FETCH_STREAM else None
            columns = tiles or ins["n_tiles"] * ins["k_tiles"] * program.config.cols
            fetches.append([columns, steps[index], givers])
        else:
            matmuls.append((index, ins["k_tiles"] * program.config.cols, givers))
    products = []
    for index, columns, givers in matmuls:
        _, fetch, fetch_givers = fetches[0]
        products.append(_Product(steps[index], givers, fetch, fetch_givers))
        fetches[0][0] -= columns
        if fetches[0][0] <= 0:
            fetches.popleft()
    return products


def _cause(product: _Product) -> str:
    late = max(product.givers, key=lambda s: s.end, default=None)
    if late is None or product.step.queued > late.end:
        return DISPATCH
    return _name(late)


def _column_cause(product: _Product) -> str:
    fetch = product.fetch
    if fetch.wait and fetch.start > product.step.start - 1 and product.fetch_givers:
        return _name(max(product.fetch_givers, key=lambda s: s.end))
    return WEIGHTS if fetch.op is Op.FETCH_STREAM else OPERANDS


def _name(step: StepTiming) -> str:
    from intformer.sim.report import layers_merged

    assert step.op.unit is not None
    return f"{step.op.unit.name} of {layers_merged(step.node)}"
