"""Builds of a design for a simulator, kept under a digest of everything that went into them."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from intformer.errors import BuildFailed
from intformer.hw import verilog
from intformer.sim import simulators

__all__ = ["TIMESCALE", "Bench", "Runtime", "build", "locked", "tail"]

TIMESCALE = ("1ns", "1ps")


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What is built: sources and how they are compiled.

    Attributes
    ----------
    sources:
        File name to text. The simulator sees them in this order.
    toplevel:
        Name of the top module.
    simulator:
        One of :data:`intformer.sim.simulators.SIMULATORS`.
    optimize:
        Compiler option for Verilator's C++.
    parameters, defines:
        Verilog parameters of the top module, macros.
    build_args:
        Further arguments of the simulator's compiler.
    waves:
        Whether a run can record waveforms.
    """

    sources: Mapping[str, str]
    toplevel: str
    simulator: str = "verilator"
    optimize: str = "-O0"
    parameters: Mapping[str, int] = field(default_factory=dict)
    defines: Mapping[str, str] = field(default_factory=dict)
    build_args: Sequence[str] = ()
    waves: bool = False

    def digest(self) -> str:
        """Digest of everything that decides what the build makes."""
        what = [
            list(self.sources.items()),
            self.toplevel,
            self.simulator,
            self.optimize,
            sorted(self.parameters.items()),
            sorted(self.defines.items()),
            list(self.build_args),
            self.waves,
            _versions(),
            sys.prefix,
        ]
        return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:24]


def build(bench: Bench, *, build_dir: Path | None = None) -> Path:
    """Build ``bench`` unless that was done before; return the folder of the build.

    Without ``build_dir`` the folder is in :func:`intformer.hw.verilog.cache_dir`.

    Raises
    ------
    BuildFailed
        If the simulator is missing or refuses the sources; the message ends with its output.
    """
    from cocotb_tools.runner import get_runner

    simulators.require(bench.simulator)
    digest = bench.digest()
    folder = build_dir or verilog.cache_dir() / "sim" / digest
    folder.mkdir(parents=True, exist_ok=True)
    stamp = folder / "built"
    with locked(folder / "lock"):
        if stamp.exists() and stamp.read_text() == digest:
            return folder
        stamp.unlink(missing_ok=True)
        paths = []
        for file_name, text in bench.sources.items():
            path = folder / file_name
            path.write_text(text, encoding="utf-8")
            paths.append(path)
        arguments = list(bench.build_args)
        if bench.simulator == "verilator":
            arguments += ["-Wno-fatal", "-Wno-lint", "-Wno-style"]
        log = folder / "build.log"
        runtime = None
        if bench.simulator == "verilator":
            runtime = Runtime([_versions(), list(bench.build_args), bench.waves, sys.prefix])
        if runtime:
            runtime.restore(folder)
        with simulators.environment(optimize=bench.optimize):
            try:
                get_runner(bench.simulator).build(
                    sources=paths,
                    hdl_toplevel=bench.toplevel,
                    build_dir=folder,
                    parameters=bench.parameters,
                    defines=bench.defines,
                    build_args=arguments,
                    timescale=TIMESCALE,
                    waves=bench.waves,
                    always=True,
                    log_file=log,
                )
            except (Exception, SystemExit) as error:
                raise BuildFailed(
                    f"{bench.simulator} cannot build {bench.toplevel} in {folder}: {error}\n"
                    f"{tail(log)}"
                ) from None
        if runtime:
            runtime.keep(folder)
            _clean(folder)
        stamp.write_text(digest)
    return folder


class Runtime:
    """Verilator's own object files, which are the same in every build with the same options.

    ``key``: what they depend on, as plain data.
    """

    def __init__(self, key: list[object]) -> None:
        name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]
        self.folder = verilog.cache_dir() / "runtime" / name

    def restore(self, folder: Path) -> None:
        """Put what is known into ``folder``."""
        # make compares them with the makefile that Verilator is about to write: be newer.
        later = time.time() + 3600
        for path in self.folder.glob("verilated*"):
            shutil.copyfile(path, folder / path.name)
            os.utime(folder / path.name, (later, later))

    def keep(self, folder: Path) -> None:
        """Remember the object files that the build in ``folder`` made."""
        if self.folder.exists():
            return
        partial = self.folder.with_suffix(f".{os.getpid()}")
        partial.mkdir(parents=True)
        for path in (*folder.glob("verilated*.d"), *folder.glob("verilated*.o")):
            shutil.copyfile(path, partial / path.name)
        with contextlib.suppress(OSError):  # Another process was faster.
            partial.rename(self.folder)


def _versions() -> list[str]:
    """Versions of the packages that decide what a build makes."""
    return [metadata.version(package) for package in ("cocotb", "verilator")]


def _clean(folder: Path) -> None:
    """Remove what the finished build no longer needs: most of its size."""
    for suffix in (".a", ".cpp", ".d", ".gch", ".h", ".o"):
        for path in folder.glob(f"*{suffix}"):
            path.unlink()


def tail(log: Path, *, lines: int = 60) -> str:
    """The last lines of ``log``."""
    if not log.exists():
        return "(no log)"
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on ``path``: builds of one design must not overlap."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
