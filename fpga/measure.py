"""What a component costs on a device: area net of its harness, Fmax of several seeds.

Every seed's result is kept in ``~/.cache/intformer/fpga`` under a digest of the RTLIL, the device,
the settings and the versions of the tools: what was measured once is not measured again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from amaranth.lib import wiring

from intformer.errors import DeviceTooSmall
from intformer.fpga.devices import Device
from intformer.fpga.floorplan import floorplan
from intformer.fpga.flow import ROUTERS, TOP, Placement, harnessed, place_and_route, synthesize
from intformer.fpga.harness import HarnessShare, harness_share
from intformer.fpga.tools import Progress, tool_versions
from intformer.hw.verilog import cache_dir

__all__ = ["Cost", "measure"]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """A component on a device.

    Attributes
    ----------
    device: its name.
    target_mhz, router: as given; Fmax is an estimate if ``router`` is None.
    too_small: what the device has too little of, and then all below is empty; or None.
    resources: report name to ``{"used", "available"}``, without the harness.
    fmax: MHz by seed.
    path: the critical path of the seed with the median Fmax (see
        :attr:`~intformer.fpga.flow.Placement.path`).
    """

    device: str
    target_mhz: float
    router: str | None
    too_small: str | None = None
    resources: dict[str, dict[str, int]] = field(default_factory=dict)
    fmax: dict[int, float] = field(default_factory=dict)
    path: list[dict[str, Any]] = field(default_factory=list, repr=False)

    @property
    def fmax_mhz(self) -> float | None:
        """The seeds' median, in MHz; None if the device is too small."""
        return statistics.median(self.fmax.values()) if self.fmax else None

    def used(self, *names: str) -> int:
        """How many are used of these resources; absent ones count 0."""
        return sum(self.resources.get(name, {"used": 0})["used"] for name in names)


def measure(
    component: wiring.Component,
    *,
    device: Device,
    seeds: Sequence[int],
    target_mhz: float,
    progress: Progress,
    router: str | None = "router1",
    build: Path | None = None,
    limit_s: float | None = None,
) -> Cost:
    """Place and route ``component`` alone on ``device`` once per seed.

    ``router=None`` stops after placement: Fmax is then nextpnr's estimate. The tools' files stay
    in ``build``; without it, they stay in the cache only if a tool fails.

    Raises
    ------
    BuildFailed
        If a tool fails for another reason than a device that is too small.
    """
    if not seeds:
        raise ValueError("seeds must hold at least one seed")
    source = harnessed(component)
    sites = floorplan(source, device=device, top=TOP)
    versions = sorted(tool_versions([device]).items())
    routing = " ".join(ROUTERS[router][1:])
    settings = [device.steps, device.arguments, target_mhz, routing, versions, *sites.items()]
    digest = hashlib.sha256(json.dumps([settings, source]).encode()).hexdigest()
    cache = cache_dir() / "fpga" / digest
    missing = [seed for seed in seeds if not (cache / f"{seed}.json").exists()]
    if missing:
        where = build or cache / f"build.{os.getpid()}"
        cache.mkdir(parents=True, exist_ok=True)
        netlist = synthesize(source, device=device, build=where, progress=progress, sites=sites)
        share = harness_share(netlist, top=TOP)
        for seed in missing:
            try:
                (placement,) = place_and_route(
                    netlist,
                    device=device,
                    seeds=[seed],
                    target_mhz=target_mhz,
                    router=router,
                    progress=progress,
                    limit_s=limit_s,
                )
                result: dict[str, Any] = {"placement": _net(placement, share=share, device=device)}
            except DeviceTooSmall as error:
                result = {"too_small": str(error).partition("; ")[0]}
            _store(cache / f"{seed}.json", result)
        if build is None:
            shutil.rmtree(where)
    results = {seed: json.loads((cache / f"{seed}.json").read_text()) for seed in seeds}
    return _merge(Cost(device=device.name, target_mhz=target_mhz, router=router), results)


def _net(placement: Placement, *, share: HarnessShare, device: Device) -> dict[str, Any]:
    """A placement as plain data, without the harness."""
    figures = asdict(placement)
    luts = figures["resources"]["LUT4"]
    luts["used"] -= share.luts + (share.lone if device.lut_and_ff else 0)
    flip_flops = figures["resources"].setdefault(
        "FF", {"used": share.total_flip_flops, "available": luts["available"]}
    )
    flip_flops["used"] -= share.flip_flops
    return figures


def _merge(base: Cost, results: dict[int, dict[str, Any]]) -> Cost:
    """The cost of all seeds; the critical path is that of the median one."""
    for result in results.values():
        if "too_small" in result:
            return replace(base, too_small=result["too_small"])
    placements = {seed: result["placement"] for seed, result in results.items()}
    fmax = {seed: placement["fmax_mhz"] for seed, placement in placements.items()}
    middle = placements[sorted(fmax, key=lambda seed: fmax[seed])[(len(fmax) - 1) // 2]]
    return replace(base, resources=middle["resources"], fmax=fmax, path=middle["path"])


def _store(path: Path, result: dict[str, Any]) -> None:
    """Write ``result`` in one step, for processes that run at the same time."""
    partial = path.with_suffix(f".{os.getpid()}")
    partial.write_text(json.dumps(result))
    partial.replace(path)
