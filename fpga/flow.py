"""From a component to area and Fmax: yosys, then nextpnr, one seed after the other."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from amaranth.back import rtlil
from amaranth.lib import wiring

from intformer.fpga.devices import Device
from intformer.fpga.floorplan import fix_sites
from intformer.fpga.harness import PORTS, Harness
from intformer.fpga.output_registers import fold_output_registers
from intformer.fpga.tools import Progress, RouterStalled, run_nextpnr, run_yosys

__all__ = [
    "ROUTERS",
    "TOP",
    "Placement",
    "harnessed",
    "median_fmax",
    "place_and_route",
    "placed_file",
    "synthesize",
]

TOP = "top"
"""Name of the harness's module, and of the files."""

ROUTERS: dict[str | None, tuple[str, ...]] = {
    None: ("--no-route",),
    "router1": ("--router", "router1"),
    # Without this option router2 takes long ways with short connections.
    "router2": ("--router", "router2", "--tmg-ripup"),
}
"""What nextpnr is told, by the name of the router."""
_RELIEF = 0.96
"""Share of the clock that is asked for next, where router2 does not reach it."""

_ESTIMATE = re.compile(r"Max frequency for clock .*?: ([\d.]+) MHz")
_SUFFIX = re.compile(
    r"_(?:LUT\d|TRELLIS_FF|CCU2C|PFUMX|L6MUX21|DP16KD|MULT18X18D?|SB_\w+|DFF\w*|ALU|MUX2_LUT\d)_"
)


@dataclass(frozen=True, kw_only=True)
class Placement:
    """One run of nextpnr.

    Attributes
    ----------
    seed, router: as given.
    resources: report name to ``{"used": n, "available": n}``.
    fmax_mhz: of the slowest clock; after routing, or an estimate if ``router`` is None.
    path: the critical path: ``{"delay_ns", "type", "from", "to"}`` per step.
    """

    seed: int
    router: str | None
    resources: dict[str, dict[str, int]]
    fmax_mhz: float
    path: list[dict[str, Any]] = field(repr=False)

    def critical_blocks(self) -> list[str]:
        """The critical path as lines: delay in ns and the blocks that it passes."""
        return [
            f"{step['delay_ns']:6.2f}  {step['type']:<9} {step['from']} -> {step['to']}"
            for step in self.path
        ]


def harnessed(component: wiring.Component) -> str:
    """The RTLIL of ``component`` in a :class:`~intformer.fpga.harness.Harness`."""
    return rtlil.convert(Harness(component), name=TOP, emit_src=False)


def synthesize(
    source: str,
    *,
    device: Device,
    build: Path,
    progress: Progress,
    top: str = TOP,
    native: bool = False,
    sites: Mapping[str, str] | None = None,
) -> Path:
    """Map RTLIL to the cells of ``device``; return the netlist's path.

    ``sites`` are those of a :func:`~intformer.fpga.floorplan.floorplan`. The files ``TOP.il``,
    ``TOP.json`` and ``yosys.log`` stay in ``build``. With ``native`` the yosys on the ``PATH``
    runs instead of the one that pip installs.

    Raises
    ------
    BuildFailed
        If yosys fails.
    """
    build.mkdir(parents=True, exist_ok=True)
    (build / f"{top}.il").write_text(source)
    progress(f"yosys: {device.synth.split()[0]}")
    read = f"read_rtlil {top}.il; hierarchy -top {top}; {device.prepare}"
    script = f"{read} {device.synth} -top {top}; {device.finish} write_json {top}.json"
    run_yosys(script, build=build, native=native)
    netlist = build / f"{top}.json"
    if device.output_registers:
        fold_output_registers(netlist, top=top)
    if sites:
        fix_sites(netlist, sites, top=top)
    return netlist


def place_and_route(
    netlist: Path,
    *,
    device: Device,
    seeds: Sequence[int],
    target_mhz: float,
    progress: Progress,
    router: str | None = "router1",
    limit_s: float | None = None,
    pins: str | None = None,
    native: bool = False,
) -> list[Placement]:
    """Place and route ``netlist`` once per seed. ``router=None`` stops after placement.

    router2 does not end before it has reached ``target_mhz``. Where it gets no nearer, the seed is
    run again with a clock 4 % slower.

    Logs and nextpnr's reports stay beside the netlist (``nextpnr-SEED.log``, ``report-SEED.json``).

    Parameters
    ----------
    pins: constraints of a whole design in the form of the device's tool; every pin must then have
        its place, and the result is written to :func:`placed_file`. None for a component in a
        harness, whose pins may be anywhere.
    native: run the nextpnr on the ``PATH`` instead of the one that pip installs.

    Raises
    ------
    DeviceTooSmall
        If the device has too few of something.
    BuildFailed
        If nextpnr fails, or takes longer than ``limit_s`` for a seed.
    """
    build = netlist.parent
    if pins is None and device.pins:
        lines = [f'IO_LOC "{port}" {pin};\n' for port, pin in zip(PORTS, device.pins, strict=True)]
        (build / "pins.cst").write_text("".join(lines))
    done = []
    for seed in seeds:
        progress(f"nextpnr: {netlist.stem} on {device.name}, seed {seed}")
        report, log = f"report-{seed}.json", f"nextpnr-{seed}.log"
        arguments = [*device.arguments, "--json", netlist.name, "--report", report]
        if pins is not None:
            arguments = [word for word in arguments if word != "--lpf-allow-unconstrained"]
            name, *option = device.constraints
            (build / name).write_text(pins)
            arguments += [*option, *([name] if option else [])]
            arguments += [device.placed[0], placed_file(netlist, device=device, seed=seed).name]
        arguments += ["--seed", str(seed), "--timing-allow-fail", *ROUTERS[router]]
        asked = target_mhz
        while True:
            try:
                run_nextpnr(
                    device,
                    [*arguments, "--freq", f"{asked:g}"],
                    build=build,
                    log=log,
                    progress=progress,
                    limit_s=limit_s,
                    native=native,
                )
                break
            except RouterStalled as error:
                asked *= _RELIEF
                progress(f"{error}; asking for {asked:.1f} MHz")
        content = json.loads((build / report).read_text())
        placement = _read_report(content, device=device, seed=seed, router=router)
        if not content["fmax"]:
            estimates = _ESTIMATE.findall((build / log).read_text(errors="replace"))
            placement = replace(placement, fmax_mhz=float(estimates[-1]) if estimates else 0.0)
        done.append(placement)
    return done


def placed_file(netlist: Path, *, device: Device, seed: int) -> Path:
    """Where the placed and routed design of ``seed`` is, for the packer."""
    return netlist.parent / f"placed-{seed}.{device.placed[1]}"


def median_fmax(placements: Sequence[Placement]) -> float:
    """The median of the seeds' Fmax, in MHz."""
    return statistics.median(placement.fmax_mhz for placement in placements)


def _read_report(
    report: dict[str, Any], *, device: Device, seed: int, router: str | None
) -> Placement:
    resources: dict[str, dict[str, int]] = {}
    for cell, name in device.cells.items():
        if entry := report["utilization"].get(cell):
            # Several kinds of cells may share one kind of place.
            so_far = resources.setdefault(name, {"used": 0, "available": 0})
            so_far["used"] += entry["used"]
            so_far["available"] = max(so_far["available"], entry["available"])
    path: list[dict[str, Any]] = []
    for critical in report.get("critical_paths", []):
        if critical["from"].startswith("posedge") and critical["to"].startswith("posedge"):
            steps = [
                {
                    "delay_ns": round(step["delay"], 3),
                    "type": step["type"],
                    "from": _block(step["from"]["cell"]),
                    "to": _block(step["to"]["cell"]),
                }
                for step in critical["path"]
            ]
            if sum(s["delay_ns"] for s in steps) > sum(s["delay_ns"] for s in path):
                path = steps
    fmax = min((clock["achieved"] for clock in report["fmax"].values()), default=0.0)
    return Placement(
        seed=seed, router=router, resources=resources, fmax_mhz=round(fmax, 2), path=path
    )


def _block(cell: str) -> str:
    """The design's own name of a cell: its hierarchy without the tools' suffixes."""
    return _SUFFIX.split(cell)[0].removeprefix("component.")
