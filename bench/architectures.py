"""The architecture sweep: small Hugging Face models through the whole flow.

Each model is exported, compiled and run. Recorded are whether it compiles, and if not, why not;
whether the simulator (and the RTL) equal the integer reference in every tensor; and how far the
integer output is from the float model's.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from intformer.bench.architecture_models import ARCHITECTURES, Architecture, Built, build
from intformer.config import CoreConfig
from intformer.errors import IntformerError
from intformer.results import markdown_table, record

__all__ = ["CORE", "sweep", "try_architecture"]

CORE = CoreConfig(
    name="sweep",
    rows=8,
    cols=8,
    lanes=4,
    act_words=1 << 13,
    wide_words=1 << 14,
    acc_depth=256,
    param_groups=512,
    row_max=256,
)
"""One small core for all models, so that the RTL is built once."""

SAMPLES = 16
"""Samples that set the scales, and as many others that are compared with the float model."""
RTL_SAMPLES = 1
"""Samples that run on the simulator and in RTL; the same code path handles each."""

Figures = dict[str, Any]


def try_architecture(
    architecture: Architecture, attention: str, *, rtl: bool = False, samples: int = SAMPLES
) -> Figures:
    """Figures of one architecture with one implementation of attention."""
    figures: Figures = {
        "name": architecture.name,
        "model": architecture.model.rpartition(".")[2],
        "attention": attention,
        "output": architecture.output,
        "compiles": False,
        "passes": False,
        "why": "",
    }
    start = time.monotonic()
    try:
        built = build(architecture, attention)
        _fill(figures, built, rtl=rtl, samples=samples)
    except IntformerError as error:
        figures["why"] = str(error)
    figures["seconds"] = round(time.monotonic() - start, 1)
    return figures


def _fill(figures: Figures, built: Built, *, rtl: bool, samples: int) -> None:
    from intformer.compiler.backend import build_program
    from intformer.compiler.float_eval import evaluate
    from intformer.compiler.frontend import torch_export
    from intformer.compiler.quantize import quantize
    from intformer.model import CompiledModel

    floats = torch_export.load((built.module, built.inputs))
    names = floats.inputs
    calibration = _arrays(names, built, range(samples))
    tests = _arrays(names, built, range(samples, 2 * samples))
    wanted = _torch_outputs(built, range(samples, 2 * samples))
    first = evaluate(floats, {name: array[0] for name, array in tests.items()})
    figures["float_difference"] = float(np.abs(first[floats.outputs[0]] - wanted[0]).max())
    graph = quantize(floats, calibration)
    model = CompiledModel(graph, build_program(graph, CORE))
    figures["compiles"] = True
    figures |= _accuracy(model.run(tests).outputs[graph.outputs[0]], wanted)
    few = {name: array[:RTL_SAMPLES] for name, array in tests.items()}
    report = model.verify(few, levels=("iss", "rtl") if rtl else ("iss",))
    shown = report.figures()
    figures["float_nodes"] = len(floats.nodes)
    figures["macs"] = shown["macs_per_run"]
    for level in report.levels:
        entry = shown["levels"][level]
        figures[level] = {
            "equal": report.level(level).ok,
            "tensors": entry["tensors_compared"],
            "elements": entry["elements_compared"],
            "cycles": entry["cycles_per_run"],
        }
        if entry["first_mismatch"]:
            figures["why"] = f"{level}: {entry['first_mismatch']}"
    figures["passes"] = report.ok


def _arrays(names: list[str], built: Built, indices: range) -> dict[str, np.ndarray]:
    """Samples by input name, each with an axis of samples in front."""
    samples = [built.sample(i) for i in indices]
    return {name: np.stack([s[i].numpy() for s in samples]) for i, name in enumerate(names)}


def _torch_outputs(built: Built, indices: range) -> np.ndarray:
    import torch

    with torch.no_grad():
        return np.stack([built.module(*built.sample(i)).numpy() for i in indices])


def _accuracy(got: np.ndarray, wanted: np.ndarray) -> Figures:
    """Cosine and largest error over samples, of all tokens as one vector."""
    a = got.reshape(len(got), -1).astype(np.float64)
    b = wanted.reshape(len(wanted), -1).astype(np.float64)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine = (a * b).sum(axis=1) / np.where(norms > 0, norms, 1.0)
    return {
        "cosine_mean": float(cosine.mean()),
        "cosine_worst": float(cosine.min()),
        "largest_error": float(np.abs(a - b).max()),
        "largest_output": float(np.abs(b).max()),
    }


def sweep(
    architectures: tuple[Architecture, ...], *, rtl: bool, progress: Callable[[Figures], None]
) -> list[Figures]:
    """Figures of all architectures and implementations, in order."""
    result = []
    for architecture in architectures:
        for number, attention in enumerate(architecture.attention):
            result.append(try_architecture(architecture, attention, rtl=rtl and number == 0))
            progress(result[-1])
    return result


def _verdict(entry: Figures) -> str:
    if entry["passes"]:
        return "passes"
    return "DIFFERS" if entry["compiles"] else "no"


def _line(entry: Figures) -> str:
    text = f"{entry['name']:<32} {entry['attention']:<6} {_verdict(entry):<8}"
    if entry["compiles"]:
        text += (
            f" cosine {entry['cosine_mean']:.5f} (worst {entry['cosine_worst']:.5f})"
            f" {entry['iss']['cycles']:.0f} cycles"
        )
    return f"{text} {entry['seconds']:.0f} s {entry['why']}"


def _row(entry: Figures) -> list[str]:
    if not entry["compiles"]:
        return [entry["name"], entry["attention"], "no", "", "", "", "", "", ""]
    share = entry["largest_error"] / entry["largest_output"]
    levels = [
        f"{entry[level]['tensors']} equal"
        if level in entry and entry[level]["equal"]
        else ("DIFFERS" if level in entry else "")
        for level in ("iss", "rtl")
    ]
    return [
        entry["name"],
        entry["attention"],
        "yes",
        *levels,
        f"{entry['iss']['cycles']:,.0f}",
        f"{entry['cosine_mean']:.5f}",
        f"{entry['cosine_worst']:.5f}",
        f"{100 * share:.1f} %",
    ]


def markdown(figures: Figures) -> str:
    """The figures as a page."""
    entries = figures["entries"]
    table = markdown_table(
        [
            "Architecture",
            "Attention",
            "Compiles",
            "Simulator",
            "RTL",
            "Cycles",
            "Cosine",
            "Worst",
            "Largest error",
        ],
        [_row(entry) for entry in entries],
    )
    passed = {entry["name"] for entry in entries if entry["passes"]}
    failed = [e for e in entries if not e["passes"]]
    reasons = "\n\n".join(
        f"**{e['name']}** ({e['attention']}):\n\n```\n{e['why']}\n```" for e in failed
    )
    return f"""# Architectures

`make bench-architectures`: small random configurations of Hugging Face models
(`bench/architecture_models.py`), W8A8, on an 8x8 core. Text models take ids and an attention mask
and are padded; {figures["samples"]} samples set the scales, {figures["samples"]} others are
compared with the float model. Simulator and RTL: tensors compared with the integer reference,
element for element, in one run. The largest error is relative to the largest output.

{len(passed)} of {figures["architectures"]} architectures pass.

{table}

{"## Why not" if failed else ""}

{reasons}
"""


def main(argv: list[str] | None = None) -> int:
    """Sweep, print, keep."""
    parser = argparse.ArgumentParser(
        prog="python -m intformer.bench.architectures", description=__doc__
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", help="parts of architectures' names")
    parser.add_argument("--rtl", action="store_true", help="also run the RTL (Verilator)")
    parser.add_argument("--no-record", action="store_true", help="keep nothing in docs/results")
    args = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    chosen = tuple(
        a
        for a in ARCHITECTURES
        if not args.only or any(part.lower() in a.name.lower() for part in args.only)
    )
    if not chosen:
        names = ", ".join(a.name for a in ARCHITECTURES)
        print(f"no architecture is called {' or '.join(args.only)}; there are {names}")
        return 2
    entries = sweep(chosen, rtl=args.rtl, progress=lambda e: print(_line(e), flush=True))
    figures = {
        "core": CORE.to_dict(),
        "samples": SAMPLES,
        "architectures": len(chosen),
        "passed": len({e["name"] for e in entries if e["passes"]}),
        "entries": entries,
    }
    print(f"{figures['passed']} of {len(chosen)} architectures pass")
    if not args.no_record and not args.only:
        record("architectures", figures, markdown(figures))
    return 0 if all(e["passes"] or not e["compiles"] for e in entries) else 1


if __name__ == "__main__":
    sys.exit(main())
