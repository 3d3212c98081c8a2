"""all-MiniLM-L6-v2 whole on the 16x16 core: every tensor equal, cycles, and where they go.

``python -m intformer.bench.minilm_run`` measures; ``python -m intformer.bench.minilm --equality
--cycles`` does too, and keeps the figures in ``docs/results/minilm.{json,md}``.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from intformer.bench import minilm_model as minilm
from intformer.bench.sentences import calibration_sentences, test_sentences
from intformer.compiler.backend import build_program
from intformer.compiler.graph import Graph
from intformer.compiler.integer_graph import Gather, IntGraph, execute
from intformer.compiler.quantize import Quantizer
from intformer.config import CoreConfig, load_config
from intformer.errors import IntformerError
from intformer.program import Program, RunResult
from intformer.results import markdown_table
from intformer.running import encode_samples
from intformer.sim.idle import array_idle
from intformer.sim.iss.simulator import Iss
from intformer.sim.report import busy_by_unit, roofline
from intformer.sim.rtl import RtlSimulator
from intformer.sim.verify import check
from intformer.tasks import Task, TextSteps
from intformer.text import Encoded, encode_texts

__all__ = ["CASES", "cycles", "equality", "main", "report_cycles", "report_equality"]

Progress = Callable[[str], None]

PRESET = "minilm"
LENGTH = 128
REQUIRED = 0.85
"""Least share of the array's peak with INT8 weights and 4 bytes per cycle."""
SCHEMES = {
    "W8A8, plain int8": ("int8", "int8"),
    "W8A8": ("int8", "mixed"),
    "W8A8, token": ("int8", "token"),
    "W4(g32)A8": ("int4-g32", "mixed"),
    "W4A8, plain int8": ("int4", "int8"),
}
"""Weights and activations, by the names of the accuracy section."""
CASES = [
    ("W8A8, plain int8", 4),
    ("W8A8, plain int8", 2),
    ("W4A8, plain int8", 2),
    ("W8A8", 4),
    ("W8A8", 2),
    ("W8A8, token", 4),
    ("W8A8, token", 2),
    ("W4(g32)A8", 2),
]
"""Scheme, and bytes per cycle of external memory."""
MAIN = ("W8A8", 4)
"""The case whose every sentence is compared on all levels."""
SHORT = 3
"""Sentences of fewer tokens in the comparison, beside one that fills the model."""


@cache
def _model(length: int) -> tuple[Graph, Task]:
    from intformer.compiler.frontend.huggingface import load_folder

    return load_folder(minilm.model_folder(), length=length)


def _encoded(texts: Sequence[str], length: int) -> Encoded:
    return encode_texts(_model(LENGTH)[1].tokenizer, TextSteps(length=length), texts)


@cache
def _graph(scheme: str) -> IntGraph:
    """The integer graph of 128 tokens, calibrated as in the accuracy section."""
    weights, activations = SCHEMES[scheme]
    quantizer = Quantizer(weights=weights, activations=activations)
    encoded = _encoded(calibration_sentences(), minilm.CALIBRATION_LENGTH)
    floats, _ = _model(minilm.CALIBRATION_LENGTH)
    ids, mask = floats.inputs
    quantizer.fit(floats, {ids: encoded.ids, mask: encoded.mask})
    return quantizer.apply(_model(LENGTH)[0])


def _texts() -> list[str]:
    """One text of at least 128 tokens, and shorter ones of different lengths."""
    texts = test_sentences(64)
    counts = _encoded(texts, LENGTH).tokens
    order = sorted(range(len(texts)), key=lambda i: counts[i])
    shorter = [texts[order[i]] for i in np.linspace(0, len(order) - 1, SHORT).astype(int)]
    long = " ".join(texts)
    return [long, *shorter]


# Equality


def equality(
    progress: Progress, *, rtl: bool = True, cases: Sequence[tuple[str, int]] = CASES
) -> dict[str, Any]:
    """Run sentences on every level and compare every tensor with the reference.

    All sentences on the simulator and on RTL with :data:`MAIN`; the longest one, on RTL, with each
    other case.

    Raises
    ------
    Mismatch
        At the first element that differs.
    """
    texts = _texts()
    encoded = _encoded(texts, LENGTH)
    runs = []
    for case in (MAIN, *(case for case in cases if case != MAIN)):
        scheme, bus = case
        graph = _graph(scheme)
        config = dataclasses.replace(load_config(PRESET), bus_bytes=bus)
        program = build_program(graph, config)
        progress(f"{scheme}, {bus} bytes: compiled, {len(program.steps):,} instructions")
        ids, mask = graph.inputs
        samples = encode_samples(graph, {ids: encoded.ids, mask: encoded.mask}).runs
        samples = samples if case == MAIN else samples[:1]
        expected = [execute(graph, codes) for codes in samples]
        if case == MAIN:
            results: list[RunResult] = [Iss(program).run(codes) for codes in samples]
            runs.append(_compared(program, graph, case, expected, results, "iss"))
            progress(f"iss: all equal, {results[0].cycles:,} cycles")
        if rtl:
            simulator = RtlSimulator(config)
            simulator.build(progress=progress)
            results = simulator.run(program, samples, progress=progress)
            run = _compared(program, graph, case, expected, results, "rtl")
            runs.append(run | {"cycles_per_second": round(simulator.cycles_per_second)})
            progress(f"rtl: all equal, {run['cycles'][0]:,} cycles, {run['utilization']:.1%}")
    return {
        "core": load_config(PRESET).to_dict(),
        "tokens": [min(count, LENGTH) for count in encoded.tokens],
        "required": REQUIRED,
        "runs": runs,
        "ok": all(r["utilization"] >= REQUIRED for r in runs if _is_bound(r)),
    }


def _compared(
    program: Program,
    graph: IntGraph,
    case: tuple[str, int],
    expected: list[dict[str, Any]],
    results: Sequence[Any],
    level: str,
) -> dict[str, Any]:
    tensors = elements = 0
    for values, result in zip(expected, results, strict=True):
        report = check(program, values, result, level=level)
        report.raise_if_different()
        tensors += report.tensors
        elements += report.elements
    scheme, bus = case
    cycles = [int(result.cycles) for result in results]
    return {
        "scheme": scheme,
        "weights": SCHEMES[scheme][0],
        "bus_bytes": bus,
        "level": level,
        "tensors": tensors,
        "elements": elements,
        "cycles": cycles,
        "utilization": round(graph.macs() / (cycles[0] * program.config.macs_per_cycle), 4),
    }


def _is_bound(run: dict[str, Any]) -> bool:
    """Whether :data:`REQUIRED` holds for this run."""
    return bool(run["bus_bytes"] == 4 and run["weights"] == "int8")


def report_equality(figures: dict[str, Any]) -> str:
    """Markdown of :func:`equality`."""
    rows = [
        [
            run["scheme"],
            str(run["bus_bytes"]),
            run["level"],
            str(len(run["cycles"])),
            f"{run['tensors']:,}",
            f"{run['elements']:,}",
            f"{run['cycles'][0]:,}",
            f"{run['utilization']:.1%}",
            f"{run['cycles_per_second']:,}" if run["level"] == "rtl" else "",
        ]
        for run in figures["runs"]
    ]
    heads = ["Scheme", "Bytes per cycle", "Level", "Sentences", "Tensors", "Elements, all equal"]
    heads += ["Cycles", "Share of peak", "Simulated Hz"]
    return "\n".join(
        [
            "## Equality",
            "",
            (
                f"Sentences of {', '.join(map(str, figures['tokens']))} tokens in a program for "
                f"{LENGTH} (where there is one, the first), on the core "
                f"`{figures['core']['name']}`: every tensor equal to the reference. Cycles of the "
                "first, start to done; *iss*: the simulator with its cycle model."
            ),
            "",
            markdown_table(heads, rows),
            "",
        ]
    )


# Cycles


def cycles(progress: Progress, *, cases: Sequence[tuple[str, int]] = CASES) -> dict[str, Any]:
    """Compile for each case and run the cycle model: no duration depends on data."""
    model_macs = _graph("W8A8, plain int8").macs()
    found = []
    for scheme, bus in cases:
        config = dataclasses.replace(load_config(PRESET), bus_bytes=bus)
        found.append(_case(scheme, config, model_macs))
        progress(
            f"{scheme}, {bus} bytes per cycle: {found[-1]['cycles']:,} cycles, "
            f"{found[-1]['utilization']:.1%} of the peak"
        )
    return {
        "length": LENGTH,
        "model_macs": model_macs,
        "required": REQUIRED,
        "cases": found,
        "ok": all(case["utilization"] >= REQUIRED for case in found if _is_bound(case)),
    }


def _case(scheme: str, config: CoreConfig, model_macs: int) -> dict[str, Any]:
    graph = _graph(scheme)
    begin = time.monotonic()
    program = build_program(graph, config)
    seconds = time.monotonic() - begin
    run = Iss(program).run({t.name: np.zeros(t.shape, t.dtype) for t in program.inputs})
    peak = run.cycles * config.macs_per_cycle
    used = program.meta["used"]
    return {
        "scheme": scheme,
        "weights": SCHEMES[scheme][0],
        "bus_bytes": config.bus_bytes,
        "macs": graph.macs(),
        "cycles": run.cycles,
        "utilization": round(graph.macs() / peak, 4),
        "model_utilization": round(model_macs / peak, 4),
        "roofline": roofline(program, cycles=run.cycles),
        "idle": array_idle(program, run.timeline, cycles=run.cycles),
        "busy": busy_by_unit(run.timeline),
        "instructions": len(program.steps),
        "compile_seconds": round(seconds, 1),
        "image": _image(graph, program),
        "memory_bytes": program.memory_bytes,
        "act_bytes": used["act_words"] * config.rows,
        "wide_bytes": used["wide_words"] * config.lanes * 2,
    }


def _image(graph: IntGraph, program: Program) -> dict[str, int]:
    """Bytes of the memory image by kind."""
    tables = {f"{n.inputs[1]}.table" for n in graph.nodes if isinstance(n, Gather)}
    sizes = {"embeddings": 0, "weights": 0, "instructions": 0, "parameters, tables": 0}
    for region in program.regions:
        if region.name.startswith(("input ", "output ")):
            continue
        kind = "parameters, tables"
        if region.name in tables:
            kind = "embeddings"
        elif region.name.endswith(".weights"):
            kind = "weights"
        elif region.name == "program":
            kind = "instructions"
        sizes[kind] += region.size
    return sizes


def report_cycles(figures: dict[str, Any]) -> str:
    """Markdown of :func:`cycles`."""
    heads = ["Scheme", "Bytes per cycle", "MACs", "Cycles", "Share of peak", "Model's MACs alone"]
    heads += ["Array bound", "Memory bound", "Instructions", "Image, MB"]
    lines = [
        "## Cycles",
        "",
        (
            f"{figures['length']} tokens on the core `{PRESET}` (16x16), cycle model, start to "
            "done. Schemes as above: an operand of 16 bits takes two products, which count in "
            "*MACs* and in *Share of peak*, but not in *Model's MACs alone*."
        ),
        "",
        markdown_table(heads, [_row(case) for case in figures["cases"]]),
        "",
    ]
    for case in figures["cases"]:
        lines += _details(case)
    return "\n".join(lines)


def _row(case: dict[str, Any]) -> list[str]:
    return [
        case["scheme"],
        str(case["bus_bytes"]),
        f"{case['macs']:,}",
        f"{case['cycles']:,}",
        f"**{case['utilization']:.1%}**",
        f"{case['model_utilization']:.1%}",
        f"{case['roofline']['array']:,}",
        f"{case['roofline']['memory']:,}",
        f"{case['instructions']:,}",
        f"{sum(case['image'].values()) / 1e6:.1f}",
    ]


def _details(case: dict[str, Any]) -> list[str]:
    image = ", ".join(f"{name} {size:,}" for name, size in case["image"].items())
    units = list(next(iter(case["busy"].values())))
    idle = [
        [cause, f"{count:,}", f"{count / case['cycles']:.2%}"]
        for cause, count in case["idle"].items()
        if count
    ]
    busy = [
        [f"`{node}`", *(f"{row[unit]:,}" if row[unit] else "" for unit in units)]
        for node, row in case["busy"].items()
    ]
    return [
        f"### {case['scheme']}, {case['bus_bytes']} bytes per cycle",
        "",
        (
            f"Image, bytes: {image}. On the chip: {case['act_bytes']:,} bytes of `act`, "
            f"{case['wide_bytes']:,} of `wide`. Compiled in {case['compile_seconds']} s."
        ),
        "",
        markdown_table(["The array is idle for", "Cycles", "Share"], idle),
        "",
        markdown_table(["Op, all layers: busy cycles of", *units], busy),
        "",
    ]


def main(argv: list[str] | None = None) -> int:
    """Measure and print, without keeping anything."""
    parser = argparse.ArgumentParser(prog="python -m intformer.bench.minilm_run")
    parser.add_argument("--only", choices=("equality", "cycles"))
    parser.add_argument("--no-rtl", action="store_true", help="equality: the simulator alone")
    args = parser.parse_args(argv)
    start = time.monotonic()

    def progress(text: str) -> None:
        print(f"[{time.monotonic() - start:6.1f} s] {text}", file=sys.stderr, flush=True)

    try:
        if args.only != "equality":
            print(report_cycles(cycles(progress)))
        if args.only != "cycles":
            print(report_equality(equality(progress, rtl=not args.no_rtl)))
    except IntformerError as error:
        print(f"minilm_run: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
