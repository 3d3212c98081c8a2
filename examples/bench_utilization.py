"""Whole models on RTL: cycles, share of the array's peak, what bounds them, overlap.

``make bench`` runs this and keeps ``docs/results/utilization.{json,md}``. Every run is also
compared with the reference, tensor by tensor; a difference is an error.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np

import intformer
from intformer.cli import Progress
from intformer.compiler.integer_graph import execute
from intformer.isa import Unit
from intformer.model import CompiledModel
from intformer.results import markdown_table, record
from intformer.running import encode_samples
from intformer.sim.iss.simulator import Iss
from intformer.sim.report import cycles_by, overlap, roofline
from intformer.sim.rtl import RtlSimulator
from intformer.sim.verify import check

RUNS = 4
"""Runs of one simulation: its start-up counts for less."""
DIGITS = "examples.digits_vit.model:digits_vit"
DIGITS_BATCH = "examples.digits_vit.model:digits_vit_batch"
BLOCK = "examples.encoder:encoder_block"
CASES = [
    (DIGITS, "8x8", "int8"),
    (DIGITS_BATCH, "8x8", "int8"),
    (DIGITS, "16x8", "int8"),
    (DIGITS, "16x16", "int8"),
    (DIGITS, "16x16", "int4"),
    (BLOCK, "16x8", "int8"),
    (BLOCK, "16x8", "int4"),
    (BLOCK, "16x16", "int8"),
]
SEED = 0


def main(argv: list[str] | None = None) -> int:
    """Measure all cases, print and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-record", action="store_true", help="only print")
    args = parser.parse_args(argv)
    progress = Progress()
    results = [measure(*case, progress) for case in CASES]
    figures = {"seed": SEED, "memory_latency": 8, "cases": results}
    text = markdown(figures)
    print(text)
    if not args.no_record:
        record("utilization", figures, text)
    return 0


def measure(name: str, config: str, weights: str, progress: Progress) -> dict[str, Any]:
    """Compile, run on the cycle model and on RTL; figures of one run as plain data."""
    progress(f"{name}, {config}, weights {weights}")
    model = intformer.compile(name, config=config, weights=weights)
    runs = _random_runs(model)
    simulator = RtlSimulator(model.config)
    simulator.build(progress=progress)
    rtl_results = simulator.run(model.program, runs)
    for codes, result in zip(runs, rtl_results, strict=True):
        expected = execute(model.graph, codes)
        check(model.program, expected, result, level="rtl").raise_if_different()
    iss = Iss(model.program).run(codes)
    check(model.program, expected, iss, level="iss").raise_if_different()
    rtl = rtl_results[-1]
    macs = model.graph.macs()
    busy = {
        unit.name: {
            what: rtl.counters[f"{unit.name.lower()}_{what}"] for what in ("busy", "wait", "stall")
        }
        for unit in Unit
    }
    return {
        "model": name,
        "config": model.config.name,
        "weights": weights,
        "bus_bytes": model.config.bus_bytes,
        "macs": macs,
        "macs_per_cycle": model.config.macs_per_cycle,
        "cycles_rtl": rtl.cycles,
        "cycles_model": iss.cycles,
        "cycle_model_error": round(iss.cycles / rtl.cycles - 1, 4),
        "utilization": round(macs / (rtl.cycles * model.config.macs_per_cycle), 4),
        "roofline": roofline(model.program, cycles=rtl.cycles),
        "units": busy,
        "units_busy_on_average": round(sum(u["busy"] for u in busy.values()) / rtl.cycles, 2),
        "overlap": overlap(iss.timeline),
        "cycles_by_op": cycles_by(iss.timeline, "node"),
        "simulated_cycles_per_second": round(RUNS * rtl.cycles / simulator.seconds),
    }


def _random_runs(model: CompiledModel) -> list[dict[str, Any]]:
    rng = np.random.default_rng(SEED)
    arrays = {
        name: rng.standard_normal((RUNS, *model.graph.tensors[name].shape))
        for name in model.graph.inputs
    }
    return encode_samples(model.graph, arrays).runs


def markdown(figures: dict[str, Any]) -> str:
    """The figures as Markdown."""
    heads = ["Model", "Core", "Weights", "MACs", "Cycles (RTL)", "Cycle model", "Share of peak"]
    heads += ["Bound by", "Array bound", "Memory bound", "Of its bound", "Units busy", "Sim. Hz"]
    lines = [
        "# Utilization of whole models",
        "",
        "`make bench`: one run each on the RTL (Verilator), every tensor equal to the reference.",
        "Share of the peak: MACs of the model (no padding) over cycles x rows x cols, start to",
        "done, loads and stores included. External memory: the config's bytes per cycle,",
        f"{figures['memory_latency']} cycles of latency. *Sim. Hz*: simulated cycles per second.",
        "",
        markdown_table(heads, (_summary_row(case) for case in figures["cases"])),
    ]
    for case in figures["cases"]:
        units = (
            [unit, *(f"{row[what] / case['cycles_rtl']:.1%}" for what in row)]
            for unit, row in case["units"].items()
        )
        ops = (
            [f"`{name}`", row["instructions"], f"{row['busy']:,}"]
            for name, row in case["cycles_by_op"].items()
        )
        lines += [
            "",
            f"## {_name(case)}, {case['config']}, {case['weights']}",
            "",
            markdown_table(["Unit (RTL counters)", "Busy", "Waits for tokens", "Stalls"], units),
            "",
            markdown_table(["Op (cycle model)", "Instructions", "Busy cycles"], ops),
        ]
    return "\n".join(lines)


def _name(case: dict[str, Any]) -> str:
    return case["model"].split(":")[1]


def _summary_row(case: dict[str, Any]) -> list[str]:
    roof = case["roofline"]
    return [
        f"`{_name(case)}`",
        case["config"],
        case["weights"],
        f"{case['macs']:,}",
        f"{case['cycles_rtl']:,}",
        f"{case['cycle_model_error']:+.1%}",
        f"**{case['utilization']:.1%}**",
        roof["bound"],
        f"{roof['array']:,}",
        f"{roof['memory']:,}",
        f"{roof['of_bound']:.1%}",
        str(case["units_busy_on_average"]),
        f"{case['simulated_cycles_per_second']:,}",
    ]


if __name__ == "__main__":
    sys.exit(main())
