"""The demo model on several array shapes, INT8 and INT4 weights, both simulators: all equal?

``make regress`` runs this and keeps ``docs/results/equality.{json,md}``.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import intformer
from examples.digits_vit.data import calibration_images, test_split
from intformer.cli import Progress
from intformer.config import CoreConfig, load_config
from intformer.results import markdown_table, record

MODEL = "examples.digits_vit.model:digits_vit"
SHAPES = [
    load_config("8x8"),
    load_config("16x8"),  # not square
    CoreConfig(name="12x12", rows=12, cols=12, lanes=4, bus_bytes=4),  # not a power of two
    CoreConfig(name="6x10", rows=6, cols=10, lanes=2, bus_bytes=8),  # neither
    CoreConfig(name="8x8 packed", rows=8, cols=8, lanes=4, array="dsp_packed"),
]
IMAGES = {"verilator": 4, "icarus": 1}


def main(argv: list[str] | None = None) -> int:
    """Compare all combinations; exit status 1 if any tensor differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--no-record", action="store_true", help="only print")
    args = parser.parse_args(argv)
    progress = Progress()
    images, _ = test_split()
    rows = []
    for config in SHAPES:
        for weights in ("int8", "int4"):
            model = intformer.compile(
                MODEL, config=config, calibrate={"images": calibration_images()}, weights=weights
            )
            for simulator, count in IMAGES.items():
                progress(f"{config.name}, {weights}, {simulator}: {count} images")
                report = model.verify({"images": images[:count]}, simulator=simulator)
                rows.append(_row(report.figures(), weights, simulator))
                print(report.text())
    figures = {"model": MODEL, "cases": rows}
    if not args.no_record:
        record("equality", figures, markdown(figures))
    return 0 if not any(row["mismatches"] for row in rows) else 1


def _row(figures: dict[str, Any], weights: str, simulator: str) -> dict[str, Any]:
    rtl = figures["levels"]["rtl"]
    return {
        "config": figures["config"],
        "weights": weights,
        "simulator": simulator,
        "images": rtl["runs"],
        "tensors": rtl["tensors_compared"],
        "elements": rtl["elements_compared"],
        "mismatches": figures["mismatches"],
        "cycles_per_image": rtl["cycles_per_run"],
        "cycle_model_error": figures["cycle_model_error"],
    }


def markdown(figures: dict[str, Any]) -> str:
    """The figures as Markdown."""
    heads = ["Core", "Weights", "Simulator", "Images", "Tensors", "Elements", "Different"]
    heads += ["Cycles per image", "Cycle model"]
    rows = (
        [
            row["config"],
            row["weights"],
            row["simulator"],
            row["images"],
            f"{row['tensors']:,}",
            f"{row['elements']:,}",
            row["mismatches"],
            f"{row['cycles_per_image']:,.0f}",
            f"{row['cycle_model_error']:+.1%}",
        ]
        for row in figures["cases"]
    )
    return f"""# Equality of every tensor

`make regress`: `{figures["model"]}` on the RTL against the NumPy reference.

{markdown_table(heads, rows)}
"""


if __name__ == "__main__":
    sys.exit(main())
