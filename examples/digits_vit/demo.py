"""The demo: the trained digits ViT on generated hardware, every tensor compared.

``make demo`` runs this. It leaves ``build/demo``: the compiled model, the core's Verilog and
``summary.json``.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

import intformer
from examples.digits_vit.data import calibration_images, test_split
from intformer.cli import Progress, write_text
from intformer.results import provenance
from intformer.running import run_model

MODEL = "examples.digits_vit.model:digits_vit"
SEED = 0


def main(argv: list[str] | None = None) -> int:
    """Run the demo; exit status 1 if any tensor differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="8x8", help="core configuration (default: 8x8)")
    parser.add_argument("--weights", choices=("int8", "int4"), default="int8")
    parser.add_argument("--images", type=int, default=32, help="images to simulate (default: 32)")
    parser.add_argument("--build", type=Path, default=Path("build/demo"))
    args = parser.parse_args(argv)
    progress = Progress()

    images, labels = test_split()
    chosen = np.random.default_rng(SEED).permutation(len(images))[: args.images]
    sample, sample_labels = images[chosen], labels[chosen]

    progress(f"compile {MODEL} for the {args.config} core, weights {args.weights}")
    model = intformer.compile(
        MODEL, config=args.config, calibrate={"images": calibration_images()}, weights=args.weights
    )
    model.save(args.build / "model")
    progress("generate the core's Verilog")
    write_text(args.build / "core.v", intformer.verilog(model.config))
    progress(f"run float model and integer reference on the {len(images)} test images")
    float_logits = _float_logits(images)
    integer_logits = _logits(run_model(model, {"images": images}).outputs)
    progress(f"simulate the RTL with cocotb on Verilator: {len(sample)} images")
    report = model.verify({"images": sample}, levels=("iss", "rtl"), progress=progress)

    rtl = report.level("rtl")
    summary = report.figures() | {
        "model": MODEL,
        "weights": args.weights,
        "images": len(sample),
        "test_images": len(images),
        "seed": SEED,
        "accuracy_on_simulated_images": {
            "float": _accuracy(float_logits[chosen], sample_labels),
            "integer_reference": _accuracy(integer_logits[chosen], sample_labels),
            "rtl": _accuracy(_logits(rtl.outputs), sample_labels),
        },
        "accuracy_on_test_split": {
            "float": _accuracy(float_logits, labels),
            "integer_reference": _accuracy(integer_logits, labels),
        },
        "files": {
            "compiled_model": str(args.build / "model"),
            "verilog": str(args.build / "core.v"),
            "summary": str(args.build / "summary.json"),
        },
    }
    summary |= provenance()
    write_text(args.build / "summary.json", json.dumps(summary, indent=2, sort_keys=True) + "\n")
    print(_text(summary, report.text()))
    return 0 if report.ok else 1


def _float_logits(images: np.ndarray) -> np.ndarray:
    import torch

    from examples.digits_vit.model import digits_vit

    module, _ = digits_vit()
    with torch.no_grad():
        return module(torch.from_numpy(images)).numpy()


def _logits(outputs: dict[str, np.ndarray]) -> np.ndarray:
    (logits,) = outputs.values()
    return logits


def _accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    return round(float((logits.argmax(axis=-1) == labels).mean()), 4)


def _text(summary: dict, verification: str) -> str:
    rows = []
    for count, key in (
        (summary["images"], "accuracy_on_simulated_images"),
        (summary["test_images"], "accuracy_on_test_split"),
    ):
        cells = (summary[key].get(level) for level in ("float", "integer_reference", "rtl"))
        texts = "".join(f"{'' if cell is None else format(cell, '.2%'):>20}" for cell in cells)
        rows.append(f"  {count:>4} test images {texts}")
    heads = "".join(f"{head:>20}" for head in ("float", "integer reference", "RTL"))
    files = "\n".join(f"  {what:<15} {path}" for what, path in summary["files"].items())
    return f"\n{verification}\n\naccuracy{'':<9} {heads}\n" + "\n".join(rows) + f"\n\n{files}"


if __name__ == "__main__":
    sys.exit(main())
