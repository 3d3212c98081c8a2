"""Whole cores on their devices: ``python -m intformer.bench.core [--only NAME ...]``.

The figures go to ``docs/results/core.{json,md}``; a run of one core replaces that core's only.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intformer.bench.units import kept
from intformer.cli import Progress
from intformer.config import CoreConfig, load_config
from intformer.fpga.core import build_core, describe, markdown
from intformer.fpga.devices import device
from intformer.results import record

__all__ = ["CORES", "CoreCase", "main"]


@dataclass(frozen=True, kw_only=True)
class CoreCase:
    """A configuration, where it goes, and what nextpnr is asked for."""

    preset: str
    device: str
    target_mhz: float
    router: str = "router1"
    changes: dict[str, Any] = dataclasses.field(default_factory=dict)

    def config(self) -> CoreConfig:
        """The configuration, named after the preset."""
        return dataclasses.replace(load_config(self.preset), **self.changes)


CORES = {
    # router1 does not come to an end with this one.
    "lfe5u-85f": CoreCase(
        preset="lfe5u-85f",
        device="LFE5U-85F",
        target_mhz=110.5,
        router="router2",
    ),
    "8x8": CoreCase(
        preset="8x8",
        device="LFE5U-85F",
        target_mhz=120,
        changes={"array": "dsp_packed", "multipliers": "luts"},
    ),
    # With everything that is off by default.
    "8x8-options": CoreCase(
        preset="8x8",
        device="LFE5U-85F",
        target_mhz=110,
        changes={
            "name": "8x8-options",
            "array": "dsp_packed",
            "multipliers": "luts",
            "functions": 1,
            "group_scales": True,
            "row_scales": 1024,
        },
    ),
    "ice40": CoreCase(preset="ice40", device="iCE40UP5K", target_mhz=30),
    # The iCE40's core with memories of half the size: these are block RAM here.
    "gowin": CoreCase(
        preset="ice40",
        device="GW2A-18",
        target_mhz=60,
        changes={"name": "gowin", "act_words": 8192, "wide_words": 16384},
    ),
}
"""The cores that `make bench-core` builds, by name."""


def main(argv: list[str] | None = None) -> int:
    """Build the cores; the exit status is 1 if one does not fit."""
    parser = argparse.ArgumentParser(prog="python -m intformer.bench.core", description=__doc__)
    parser.add_argument("--only", metavar="NAME", nargs="+", choices=list(CORES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument(
        "--router", choices=("router1", "router2", "none"), help="default: the core's own"
    )
    parser.add_argument("--limit", type=float, metavar="S", help="give up a seed after S seconds")
    parser.add_argument("--build", metavar="DIR", help="keep the tools' files below DIR")
    parser.add_argument("--dry", action="store_true", help="do not keep the figures")
    args = parser.parse_args(argv)
    ok = True
    for name in args.only or CORES:
        case = CORES[name]
        router = args.router or case.router
        figures = build_core(
            case.config(),
            device=device(case.device),
            seeds=args.seeds,
            target_mhz=case.target_mhz,
            router=None if router == "none" else router,
            build=Path(args.build) / name if args.build else None,
            limit_s=args.limit,
            progress=Progress(),
        )
        print(describe(figures))
        ok = ok and figures["too_small"] is None
        if not args.dry:
            cores = kept("core").get("cores", {}) | {name: figures}
            ordered = {key: cores[key] for key in CORES if key in cores}
            record("core", {"cores": ordered}, markdown(ordered))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
