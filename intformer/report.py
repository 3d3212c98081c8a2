"""What ``intformer info``, ``compile`` and ``run`` print: figures as plain data, and as text."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from intformer.compiler.integer_graph import IntGraph, MatMul
from intformer.config import CoreConfig
from intformer.isa import INSTRUCTION_BYTES
from intformer.running import BoardOutput

if TYPE_CHECKING:
    from intformer.model import CompiledModel
    from intformer.running import RunOutput

__all__ = [
    "config_figures",
    "describe_config",
    "describe_model",
    "list_precision",
    "list_steps",
    "model_figures",
    "run_figures",
]


def model_figures(model: CompiledModel) -> dict[str, Any]:
    """Ops, instructions, memory map, MACs and expected cycles per op.

    The expected cycles come from the cycle model, on inputs of zeros: no duration depends on data.
    """
    from intformer.sim.iss.simulator import Iss
    from intformer.sim.report import cycles_by, overlap, roofline

    program, graph = model.program, model.graph
    zeros = {t.name: np.zeros(t.shape, t.dtype) for t in program.inputs}
    result = Iss(program).run(zeros)
    by_node = cycles_by(result.timeline, "node")
    macs = _macs_by_node(graph)
    kinds = {node.name: type(node).__name__ for node in graph.nodes}
    sources = {node.name: node.source for node in graph.nodes}
    ops = [
        {
            "name": name,
            "kind": kinds.get(name, "Transfer"),
            "module": sources.get(name, ""),
            "macs": macs.get(name, 0),
            "instructions": row["instructions"],
            "expected_cycles": row["busy"],
            "wait_cycles": row["wait"],
        }
        for name, row in by_node.items()
    ]
    total = graph.macs()
    return {
        "config": model.config.to_dict(),
        "inputs": [_tensor_spec(tensor) for tensor in program.inputs],
        "outputs": [_tensor_spec(tensor) for tensor in program.outputs],
        "ops": ops,
        "instructions": dict(Counter(step.instruction.op.name for step in program.steps)),
        "memory_map": [
            {"name": r.name, "address": r.address, "bytes": r.size} for r in program.regions
        ],
        "memory_bytes": program.memory_bytes,
        "program_bytes": len(program.steps) * INSTRUCTION_BYTES,
        "on_chip_words": program.meta.get("used", {}),
        "macs": total,
        "expected_cycles": result.cycles,
        "expected_utilization": round(total / (result.cycles * model.config.macs_per_cycle), 4),
        "roofline": roofline(program, cycles=result.cycles),
        "overlap": overlap(result.timeline),
        "calibration": graph.meta.get("calibration"),
        "precision": {
            name: graph.meta.get(name) for name in ("weights", "activations", "overrides", "sites")
        },
    }


def _macs_by_node(graph: IntGraph) -> dict[str, int]:
    return {
        node.name: int(np.prod(graph.tensors[node.output].shape))
        * graph.tensors[node.inputs[0]].shape[-1]
        for node in graph.nodes
        if isinstance(node, MatMul)
    }


def _tensor_spec(tensor: Any) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "shape": list(tensor.shape),
        "dtype": tensor.dtype,
        "scale": tensor.scale,
        "zero_point": tensor.zero_point,
        "address": tensor.address,
        "bytes": tensor.size,
    }


def describe_model(figures: dict[str, Any]) -> str:
    """Readable text of :func:`model_figures`."""
    config = figures["config"]
    lines = [
        (
            f"core {config['name']}: {config['rows']}x{config['cols']} array, "
            f"{config['lanes']} lanes, {config['bus_bytes']} bytes per cycle"
        ),
        "",
    ]
    for kind in ("inputs", "outputs"):
        for t in figures[kind]:
            lines.append(
                f"{kind[:-1]:<7} {t['name']}: {t['dtype']} {t['shape']}, "
                f"scale {t['scale']:.6g}, zero point {t['zero_point']}"
            )
    lines += ["", *_op_table(figures["ops"])]
    lines += [
        "",
        "instructions: "
        + ", ".join(f"{n} {op}" for op, n in sorted(figures["instructions"].items())),
        "",
        f"{'external memory':<40} {'address':>10} {'bytes':>10}",
    ]
    for region in figures["memory_map"]:
        lines.append(f"  {region['name'][:38]:<38} {region['address']:>10} {region['bytes']:>10}")
    lines.append(f"  {'in all':<38} {'':>10} {figures['memory_bytes']:>10}")
    roof = figures["roofline"]
    lines += [
        "",
        (
            f"{figures['macs']:,} MACs, {figures['expected_cycles']:,} cycles expected: "
            f"{figures['expected_utilization']:.1%} of the array's peak"
        ),
        (
            f"roofline: array {roof['array']:,} cycles, memory {roof['memory']:,} cycles; "
            f"bound by the {roof['bound']}, at {roof['of_bound']:.1%} of that bound"
        ),
        f"on average {figures['overlap']['average']:.2f} units are busy at once",
    ]
    if figures.get("calibration"):
        used = figures["calibration"]
        lines.append(f"calibration: {used['source']}, {used['runs']} runs")
    return "\n".join(lines)


def _op_table(ops: list[dict[str, Any]]) -> list[str]:
    width = max([len(op["name"]) for op in ops] + [4])
    lines = [f"{'op':<{width}} {'kind':<10} {'MACs':>12} {'instr.':>7} {'cycles':>9}  module"]
    for op in ops:
        lines.append(
            f"{op['name']:<{width}} {op['kind']:<10} {op['macs']:>12,} {op['instructions']:>7,} "
            f"{op['expected_cycles']:>9,}  {op['module']}".rstrip()
        )
    return lines


def list_precision(model: CompiledModel) -> str:
    """The code type of every tensor, and how each layer's weights were quantized, a line each."""
    heads = ("tensor", "op", "codes", "weights", "operand", "solver", "smoothing", "scale")
    rows = [
        (
            site["tensor"],
            site["op"],
            site["dtype"],
            site.get("weights", ""),
            site.get("operand", ""),
            site.get("solver", ""),
            f"{site['smoothing']:g}" if "smoothing" in site else "",
            f"{site['scale']:.4g}",
        )
        for site in model.graph.meta.get("sites", ())
    ]
    widths = [max(len(row[i]) for row in (heads, *rows)) for i in range(len(heads))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (heads, *rows)
    )


def list_steps(model: CompiledModel) -> str:
    """Every instruction of the program, a line each."""
    lines = []
    for number, step in enumerate(model.program.steps):
        ins = step.instruction
        unit = ins.op.unit
        fields = " ".join(f"{name}={value}" for name, value in ins.fields.items() if value)
        lines.append(
            f"{number:>6} {unit.name if unit is not None else '-':<6} {ins.op.name:<12} "
            f"pop={ins.pop:06b} push={ins.push:06b} {fields}  ; {step.node}"
        )
    return "\n".join(lines)


def config_figures(config: CoreConfig) -> dict[str, Any]:
    """Parameters of a core and what follows from them."""
    return config.to_dict() | {
        "macs_per_cycle": config.macs_per_cycle,
        "act_bytes": config.act_words * config.rows,
        "wide_bytes": config.wide_words * config.lanes * 2,
        "acc_bytes": config.acc_depth * config.cols * 4,
        "param_channels": config.param_groups * config.lanes,
        "operations": [op.name for op in config.operations],
    }


def describe_config(figures: dict[str, Any]) -> str:
    """Readable text of :func:`config_figures`."""
    f = figures
    return "\n".join(
        [
            f"core {f['name']}",
            f"  array               {f['rows']} x {f['cols']}, {f['macs_per_cycle']} MACs/cycle",
            f"  lanes               {f['lanes']} (epilogue, row unit, narrow ports)",
            f"  external memory     {f['bus_bytes']} bytes per cycle",
            f"  activations (act)   {f['act_words']} words, {f['act_bytes']} bytes",
            f"  int16 (wide)        {f['wide_words']} words, {f['wide_bytes']} bytes",
            f"  accumulators        {f['acc_depth']} rows, {f['acc_bytes']} bytes",
            f"  parameters          {f['param_channels']} channels",
            f"  tables              {f['exp_tables']} for softmax, {f['act_tables']} activations",
            *([f"  functions           {n} of int16 codes"] if (n := f.get("functions")) else []),
            *(["  weights             also in groups with scales"] if "group_scales" in f else []),
            f"  longest row         {f['row_max']} elements in softmax and LayerNorm",
            *([f"  scales of rows      {n} elements"] if (n := f.get("row_scales")) else []),
            f"  queues              {f['queue_depth']} instructions per unit",
        ]
    )


def run_figures(model: CompiledModel, result: RunOutput, *, on: str) -> dict[str, Any]:
    """Figures of a run: samples, cycles per run, share of the array's peak, counters."""
    figures: dict[str, Any] = {
        "level": on,
        "config": model.config.name,
        "samples": len(next(iter(result.outputs.values()))),
        "macs_per_run": model.graph.macs(),
    }
    if result.cycles:
        mean = float(np.mean(result.cycles))
        figures |= {
            "runs": len(result.cycles),
            "cycles_per_run": mean,
            "utilization": round(model.graph.macs() / (mean * model.config.macs_per_cycle), 4),
            "counters": result.counters,
        }
    if isinstance(result, BoardOutput):
        seconds = float(np.mean(result.cycles)) / result.clock_hz
        figures |= {
            "board": result.board,
            "clock_hz": result.clock_hz,
            "core_seconds_per_run": seconds,
            "seconds_per_run": round(float(np.mean(result.seconds)), 6),
            "load": result.load,
            "link": result.link,
        }
    return figures


def describe_board_run(figures: dict[str, Any]) -> str:
    """The figures of a run on a board that other levels do not have, as text."""
    link = figures["link"]
    return (
        f"{figures['board']} at {figures['clock_hz'] / 1e6:g} MHz: "
        f"{1e3 * figures['core_seconds_per_run']:.3f} ms per run, "
        f"{1e3 * figures['seconds_per_run']:.1f} ms with the transfers\n"
        f"image: {figures['load']['size']:,} bytes, {figures['load']['sent']:,} sent in "
        f"{figures['load']['seconds']:.1f} s\n"
        f"link: {link['frames']} frames, {link['retries']} sent again, "
        f"{link['broken'] + link['short']} broken, {link['lost'] + link['line']} dropped"
    )
