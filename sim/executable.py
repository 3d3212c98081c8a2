"""Programs made by Verilator from a design and a main function in C++, kept by their content."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from intformer.errors import BuildFailed
from intformer.hw import verilog
from intformer.sim import simulators
from intformer.sim.builds import TIMESCALE, Runtime, locked, tail

__all__ = ["build_executable"]


def build_executable(
    sources: Mapping[str, str],
    *,
    toplevel: str,
    defines: Mapping[str, str | int] | None = None,
    arguments: Sequence[str] = (),
    optimize: str = "-O3",
) -> Path:
    """Compile ``sources`` unless that was done before; return the path of the program.

    Parameters
    ----------
    sources: file name to text; ``.sv`` and ``.v`` for Verilator, in this order, and one ``.cpp``
        with ``main``.
    toplevel: the top module; C++ sees it as ``V`` and this name.
    defines: macros of the C++ compiler.
    arguments: further ones of Verilator.
    optimize: option of the C++ compiler for the design: ``-O0`` builds quickly, ``-O3`` runs
        several times as fast.

    Raises
    ------
    BuildFailed
        If Verilator, or what it needs, is missing or refuses the sources.
    """
    simulators.require("verilator")
    macros = [f"-D{name}={value}" for name, value in (defines or {}).items()]
    options = [
        *("--cc", "--exe", "--build", "-j", "1", "--top-module", toplevel),
        *("--x-assign", "fast", "--x-initial", "fast", "-O3", "--no-timing"),
        *("--timescale", "/".join(TIMESCALE), "-Wno-fatal", "-Wno-lint", "-Wno-style"),
        *arguments,
    ]
    what = [list(sources.items()), options, macros, optimize, metadata.version("verilator")]
    digest = hashlib.sha256(json.dumps([*what, sys.prefix]).encode()).hexdigest()[:24]
    folder = verilog.cache_dir() / "executable" / digest
    program, log = folder / f"V{toplevel}", folder / "build.log"
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock"):
        if (folder / "built").exists():
            return program
        for name, text in sources.items():
            (folder / name).write_text(text, encoding="utf-8")
        runtime = Runtime([what[1], metadata.version("verilator"), sys.prefix])
        runtime.restore(folder)
        flags = ["-CFLAGS", " ".join(macros)] if macros else []
        with simulators.environment(optimize=optimize), log.open("w") as output:
            command = ["verilator", *options, *flags, "-Mdir", ".", *sources]
            result = subprocess.run(
                command, cwd=folder, stdout=output, stderr=subprocess.STDOUT, check=False
            )
        if result.returncode or not program.exists():
            raise BuildFailed(f"verilator cannot build {toplevel} in {folder}:\n{tail(log)}")
        runtime.keep(folder)
        for suffix in (".a", ".d", ".gch", ".h", ".o", "__ALL.cpp"):
            for path in folder.glob(f"*{suffix}"):
                os.unlink(path)
        (folder / "built").touch()
    return program
