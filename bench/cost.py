"""Area, clock, latency and throughput of the catalogue's components."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from amaranth.hdl import UnusedElaboratable

from intformer.bench.cases import CostCase
from intformer.errors import BuildFailed
from intformer.fpga.devices import device
from intformer.fpga.measure import measure
from intformer.fpga.tools import Progress

__all__ = ["TARGET_MHZ", "measure_costs", "timing_of"]

TARGET_MHZ = {"LFE5U-85F": 200.0, "iCE40UP5K": 50.0, "GW2A-18": 150.0}
"""What nextpnr is asked for; it tries as hard as that."""

_DSP = ("DSP", "DSP9", "DSP18", "DSP36")


def timing_of(case: CostCase) -> dict[str, str]:
    """Latency and throughput as the component states them."""
    # Built to be asked, not to be elaborated.
    warnings.simplefilter("ignore", UnusedElaboratable)
    component = case.build("ecp5")
    return {
        name: str(value)
        for name in ("latency", "throughput")
        if (value := getattr(component, name, None)) is not None
    }


def measure_costs(
    cases: Sequence[CostCase],
    *,
    devices: Sequence[str],
    seeds: Sequence[int],
    progress: Progress,
    quick: bool = False,
    jobs: int = 1,
    limit_s: float | None = None,
) -> dict[str, dict[str, Any]]:
    """Figures of ``cases`` by name, each on those of its devices that ``devices`` holds.

    ``quick`` places without routing, one seed. ``jobs`` tools run at the same time.
    """

    def one(work: tuple[CostCase, str]) -> dict[str, Any]:
        case, name = work
        progress(f"{case.name} on {name}")
        return _cost(case, name, seeds=seeds[:1] if quick else seeds, quick=quick, limit_s=limit_s)

    works = [(case, name) for case in cases for name in case.devices if name in devices]
    with ThreadPoolExecutor(jobs) as pool:
        results = list(pool.map(one, works))
    figures: dict[str, dict[str, Any]] = {
        case.name: {
            "unit": case.unit,
            "configuration": case.configuration,
            "rival": case.rival,
            **timing_of(case),
            "devices": {},
        }
        for case in cases
    }
    for (case, name), result in zip(works, results, strict=True):
        figures[case.name]["devices"][name] = result
    return figures


def _cost(
    case: CostCase, name: str, *, seeds: Sequence[int], quick: bool, limit_s: float | None
) -> dict[str, Any]:
    part = device(name)
    try:
        cost = measure(
            case.build(part.target),
            device=part,
            seeds=seeds,
            target_mhz=TARGET_MHZ.get(name, 100.0),
            router=None if quick else "router1",
            progress=lambda _text: None,
            limit_s=limit_s,
        )
    except BuildFailed as error:
        return {"failed": str(error)}
    if cost.too_small:
        return {"too_small": cost.too_small}
    return {
        "lut": cost.used("LUT4"),
        "ff": cost.used("FF"),
        "dsp": cost.used(*_DSP),
        "bram": cost.used("BRAM"),
        "fmax_mhz": cost.fmax_mhz,
        "fmax_seeds": {str(seed): mhz for seed, mhz in cost.fmax.items()},
        "routed": cost.router is not None,
        "target_mhz": cost.target_mhz,
        "critical_path": [cost.path[0]["from"], cost.path[-1]["to"]] if cost.path else [],
    }
