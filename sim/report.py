"""Figures of a run: utilization, roofline, busy cycles per unit, node and operation, overlap."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from intformer.isa import Op, Unit
from intformer.program import Program, RunResult
from intformer.sim.iss.array import stream_beats
from intformer.sim.iss.dma import entry_bytes
from intformer.sim.iss.timing import StepTiming

__all__ = [
    "busy_by_unit",
    "cycles_by",
    "format_report",
    "layers_merged",
    "overlap",
    "report",
    "roofline",
    "side_by_side",
    "utilization",
]


def utilization(program: Program, result: RunResult, *, macs: int) -> dict[str, float]:
    """Share of the array's peak over the whole run.

    ``macs``: those of the model, padding not counted (``IntGraph.macs``). ``fed`` counts the
    words fed to the array instead, padding included.
    """
    peak = result.cycles * program.config.macs_per_cycle
    fed = result.counters.get("array_rows", 0) / result.cycles
    return {"macs": macs, "cycles": result.cycles, "utilization": macs / peak, "fed": fed}


def roofline(program: Program, *, cycles: int | None = None) -> dict[str, Any]:
    """Least cycles that the array and the memory port need for this program, and which bounds.

    ``compute``: words fed to the array, padding included. ``array``: the same with each tile
    lasting at least ``2 * cols`` cycles, the time of its weights' way in. ``memory``: beats of
    instructions, weights, loads and stores.
    """
    config = program.config
    compute = array = 0
    beats = len(program.steps) * 32 // config.bus_bytes
    for step in program.steps:
        ins = step.instruction
        if ins.op == Op.MATMUL:
            compute += ins["rows"] * ins["k_tiles"]
            array += max(ins["rows"], 2 * config.cols) * ins["k_tiles"]
        elif ins.op == Op.FETCH_STREAM:
            beats += stream_beats(config, ins)
        elif ins.op in (Op.LOAD, Op.STORE, Op.GATHER):
            beats += _dma_beats(program, step.instruction)
    limits = {"array": array, "memory": beats}
    bound = max(limits, key=lambda name: limits[name])
    figures: dict[str, Any] = {"compute": compute, **limits, "bound": bound}
    if cycles is not None:
        figures["cycles"] = cycles
        figures["of_bound"] = limits[bound] / cycles
    return figures


def _dma_beats(program: Program, ins: Any) -> int:
    config = program.config
    entry = entry_bytes(config, ins["mem"])
    if ins.op == Op.GATHER:
        return ins["n"] * -(-ins["row_groups"] * entry // config.bus_bytes)
    return -(-ins["count"] * entry // config.bus_bytes)


def cycles_by(timeline: Iterable[StepTiming], key: str) -> dict[str, dict[str, int]]:
    """Instructions, busy, wait and stall cycles by ``"node"``, ``"op"`` or ``"unit"``.

    Busy cycles of overlapping instructions of one unit count once.
    """
    table: dict[str, dict[str, int]] = defaultdict(
        lambda: {"instructions": 0, "busy": 0, "wait": 0, "stall": 0}
    )
    until: dict[Unit | None, int] = defaultdict(int)
    for step in sorted(timeline, key=lambda s: s.start):
        unit = step.op.unit
        name = {"node": step.node, "op": step.op.name, "unit": unit.name if unit else "-"}[key]
        row = table[name]
        row["instructions"] += 1
        row["busy"] += max(0, step.end - max(step.start, until[unit]))
        row["wait"] += step.wait
        row["stall"] += step.stall
        until[unit] = max(until[unit], step.end)
    return dict(table)


def layers_merged(node: str) -> str:
    """The name of a node with its numbers replaced: that of the same node in every layer."""
    return re.sub(r"_\d+\b", "", re.sub(r"(?<=\.)\d+(?=\.)", "*", node))


def busy_by_unit(timeline: Iterable[StepTiming]) -> dict[str, dict[str, int]]:
    """Busy cycles of each unit by node, layers merged; ``{node: {unit: cycles}}``.

    The nodes come in the order of their first instruction.
    """
    table: dict[str, dict[str, int]] = {}
    until: dict[Unit | None, int] = defaultdict(int)
    for step in sorted(timeline, key=lambda s: s.start):
        unit = step.op.unit
        assert unit is not None
        row = table.setdefault(layers_merged(step.node), {u.name: 0 for u in Unit})
        row[unit.name] += max(0, step.end - max(step.start, until[unit]))
        until[unit] = max(until[unit], step.end)
    return table


def overlap(timeline: Iterable[StepTiming]) -> dict[str, float]:
    """How much the units run at once.

    ``busy``: busy cycles of all units together; ``any``: cycles in which at least one unit is
    busy; ``average``: units busy in such a cycle; ``shared``: share of them with two or more.
    """
    changes: list[tuple[int, int]] = []
    per_unit: dict[Unit | None, list[tuple[int, int]]] = defaultdict(list)
    for step in sorted(timeline, key=lambda s: s.start):
        spans = per_unit[step.op.unit]
        if spans and spans[-1][1] >= step.start:
            spans[-1] = (spans[-1][0], max(spans[-1][1], step.end))
        else:
            spans.append((step.start, step.end))
    for spans in per_unit.values():
        for start, end in spans:
            changes += [(start, 1), (end, -1)]
    active = last = busy = some = several = 0
    for time, change in sorted(changes):
        busy += active * (time - last)
        some += (time - last) * (active > 0)
        several += (time - last) * (active > 1)
        active, last = active + change, time
    average, shared = (busy / some, several / some) if some else (0.0, 0.0)
    return {"busy": busy, "any": some, "average": average, "shared": shared}


def side_by_side(results: dict[str, RunResult]) -> dict[str, Any]:
    """Cycles of several levels, and each one's deviation from ``"rtl"`` if that is among them."""
    figures: dict[str, Any] = {level: result.cycles for level, result in results.items()}
    if "rtl" in results:
        rtl = results["rtl"].cycles
        figures["deviation"] = {
            level: result.cycles / rtl - 1 for level, result in results.items() if level != "rtl"
        }
    return figures


def report(
    program: Program, result: RunResult, *, macs: int, timeline: Iterable[StepTiming] = ()
) -> dict[str, Any]:
    """All figures of a run as plain data; see the functions of this module."""
    steps = list(timeline)
    figures: dict[str, Any] = {
        "utilization": utilization(program, result, macs=macs),
        "roofline": roofline(program, cycles=result.cycles),
        "counters": dict(result.counters),
    }
    if steps:
        figures |= {key: cycles_by(steps, key) for key in ("unit", "op", "node")}
        figures["overlap"] = overlap(steps)
    return figures


def format_report(figures: dict[str, Any]) -> str:
    """The figures of :func:`report` as text."""
    use, roof = figures["utilization"], figures["roofline"]
    lines = [
        (
            f"{use['cycles']:,} cycles, {use['macs']:,} MACs: {use['utilization']:.1%} of the peak "
            f"({use['fed']:.1%} with padding)"
        ),
        (
            f"roofline: array {roof['array']:,}, memory {roof['memory']:,} cycles: bound by the "
            f"{roof['bound']}, which is {roof['of_bound']:.1%} of the cycles"
        ),
    ]
    if "overlap" in figures:
        over = figures["overlap"]
        lines.append(
            f"overlap: {over['average']:.2f} units busy on average, two or more in "
            f"{over['shared']:.1%} of the busy cycles"
        )
    for key in ("unit", "op", "node"):
        if key in figures:
            lines += ["", *_table(key, figures[key])]
    return "\n".join(lines)


def _table(key: str, rows: dict[str, dict[str, int]]) -> list[str]:
    width = max(len(name) for name in (key, *rows))
    head = f"{key:<{width}} {'instr':>7} {'busy':>10} {'wait':>10} {'stall':>10}"
    lines = [head]
    for name, row in sorted(rows.items(), key=lambda item: -item[1]["busy"]):
        lines.append(
            f"{name:<{width}} {row['instructions']:>7,} {row['busy']:>10,} {row['wait']:>10,} "
            f"{row['stall']:>10,}"
        )
    return lines
