"""Gate-level netlists run an encoder block: ``python -m intformer.bench.netlist [--only ...]``.

Every tensor is compared with the reference, every write and counter with the RTL, cycle for cycle.
The figures go to ``docs/results/netlist.{json,md}``; a run of one case replaces that case's only.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from dataclasses import dataclass
from typing import Any

from intformer import api
from intformer.bench.units import kept
from intformer.cli import Progress
from intformer.config import CoreConfig, load_config
from intformer.fpga.devices import device
from intformer.fpga.netlist import core_netlist
from intformer.results import markdown_table, record

__all__ = ["CASES", "MODEL", "NetlistCase", "main", "markdown", "measure"]

MODEL = "examples.encoder:small_encoder"
"""One encoder block: attention with two heads and softmax, LayerNorm, GELU."""


@dataclass(frozen=True, kw_only=True)
class NetlistCase:
    """A configuration and the device that it is synthesized for."""

    preset: str
    device: str
    changes: dict[str, Any] = dataclasses.field(default_factory=dict)

    def config(self) -> CoreConfig:
        """The configuration, named after the preset."""
        return dataclasses.replace(load_config(self.preset), **self.changes)


CASES = {
    "ice40": NetlistCase(preset="ice40", device="iCE40UP5K"),
    # Its memories are block RAM here: smaller ones fit.
    "ice40-ecp5": NetlistCase(
        preset="ice40", device="LFE5U-25F", changes={"act_words": 4096, "wide_words": 8192}
    ),
    "tiny": NetlistCase(preset="tiny", device="LFE5U-45F"),
}
"""The netlists that `make bench-netlist` runs, by name."""


def measure(case: NetlistCase, *, progress: Progress) -> dict[str, Any]:
    """Run one case; return its figures.

    Returns
    -------
    dict
        ``model``, ``config``, ``device``, ``cells`` (type to count), ``runs``, ``tensors``,
        ``elements``, ``mismatches``, ``cycles_per_run``, ``rtl_cycles_per_run``,
        ``timing_differences``.

    Raises
    ------
    DeviceTooSmall, BuildFailed
        If the netlist cannot be made.
    """
    config = case.config()
    example = api.compile(MODEL, config=config)
    shape = example.graph.tensors[example.graph.inputs[0]].shape
    samples = _samples(shape)
    report = example.verify(
        {example.graph.inputs[0]: samples},
        levels=("rtl", "netlist"),
        device=case.device,
        progress=progress,
    )
    cells = core_netlist(config, device=device(case.device), progress=progress).cells
    figures = report.figures()
    level = figures["levels"]["netlist"]
    return {
        "model": MODEL,
        "config": config.to_dict(),
        "device": case.device,
        "cells": dict(cells),
        "runs": level["runs"],
        "tensors": level["tensors_compared"],
        "elements": level["elements_compared"],
        "mismatches": level["mismatches"],
        "first_mismatch": level["first_mismatch"],
        "cycles_per_run": level["cycles_per_run"],
        "rtl_cycles_per_run": figures["levels"]["rtl"]["cycles_per_run"],
        "timing_differences": figures["netlist_timing_differences"],
    }


def _samples(shape: tuple[int, ...]) -> Any:
    import numpy as np

    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def markdown(cases: dict[str, dict[str, Any]]) -> str:
    """The page of several cases' figures, by name."""
    heads = [
        "Core",
        "Device",
        "Cells",
        "Tensors",
        "Elements",
        "Different",
        "Cycles",
        "RTL's cycles",
    ]
    rows = [
        [
            name,
            figures["device"],
            f"{sum(figures['cells'].values()):,}",
            figures["tensors"],
            f"{figures['elements']:,}",
            figures["mismatches"],
            f"{figures['cycles_per_run']:,.0f}",
            f"{figures['rtl_cycles_per_run']:,.0f}",
        ]
        for name, figures in cases.items()
    ]
    parts = ["# Gate-level netlists", ""]
    parts.append(
        "An encoder block (32 wide, two heads, 8 tokens) on synthesized cores; every tensor is "
        "compared with the reference, every write and counter with the RTL."
    )
    parts += ["", markdown_table(heads, rows), ""]
    for name, figures in cases.items():
        often = sorted(figures["cells"].items(), key=lambda item: -item[1])
        cells = ", ".join(f"{count:,} {cell}" for cell, count in often)
        late = figures["timing_differences"]
        parts.append(
            f"- {name}: {cells}; {late} of {figures['runs']} runs differ from RTL in time."
        )
    return "\n".join(parts) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Run the cases; the exit status is 1 if anything differs."""
    parser = argparse.ArgumentParser(prog="python -m intformer.bench.netlist", description=__doc__)
    parser.add_argument("--only", metavar="NAME", nargs="+", choices=list(CASES))
    parser.add_argument("--dry", action="store_true", help="do not keep the figures")
    args = parser.parse_args(argv)
    ok = True
    for name in args.only or CASES:
        figures = measure(CASES[name], progress=Progress())
        ok = ok and not figures["mismatches"] and not figures["timing_differences"]
        print(markdown({name: figures}))
        if not args.dry:
            cases = kept("netlist").get("cases", {}) | {name: figures}
            ordered = {key: cases[key] for key in CASES if key in cases}
            record("netlist", {"cases": ordered}, markdown(ordered))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
