"""Build a design for a simulator and run a cocotb module on it.

``run_bench`` is for tests of single units::

    run_bench(SoftmaxUnit(...), module="test_softmax", simulator="icarus", seed=7)

The cocotb tests of the module read what they need to know from :func:`bench_options`.
"""

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
from typing import Any
from xml.etree import ElementTree

from amaranth.hdl import Elaboratable

from intformer.errors import BuildFailed
from intformer.hw import verilog
from intformer.sim import simulators

__all__ = ["Bench", "bench_options", "build", "run_bench", "run_module"]

_OPTIONS = "INTFORMER_BENCH_OPTIONS"
_TIMESCALE = ("1ns", "1ps")


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
    with _locked(folder / "lock"):
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
        runtime = _Runtime(bench)
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
                    timescale=_TIMESCALE,
                    waves=bench.waves,
                    always=True,
                    log_file=log,
                )
            except (Exception, SystemExit) as error:
                raise BuildFailed(
                    f"{bench.simulator} cannot build {bench.toplevel} in {folder}: {error}\n"
                    f"{_tail(log)}"
                ) from None
        runtime.keep(folder)
        stamp.write_text(digest)
    return folder


class _Runtime:
    """Verilator's own object files, which are the same in every build with the same options."""

    def __init__(self, bench: Bench) -> None:
        key = [_versions(), list(bench.build_args), bench.waves, sys.prefix]
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


def run_module(
    bench: Bench,
    module: str,
    *,
    folder: Path,
    run_dir: Path,
    testcase: str | None = None,
    plusargs: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    seed: int = 1,
) -> None:
    """Run the cocotb tests of ``module`` on the build in ``folder``.

    ``module`` is imported by its name, so its folder must be on ``sys.path``. ``run_dir`` takes
    the log and the results; two runs at the same time need two folders. ``options`` (anything
    that JSON can hold) is what :func:`bench_options` returns inside the tests, with ``seed`` added,
    which also seeds :mod:`random` there.

    Raises
    ------
    AssertionError
        If a test failed, or none ran; the message holds the failing test's and the log's end.
    """
    from cocotb_tools.runner import get_runner

    run_dir.mkdir(parents=True, exist_ok=True)
    results, log = run_dir / "results.xml", run_dir / "run.log"
    status = None
    with simulators.environment(optimize=bench.optimize):
        try:
            get_runner(bench.simulator).test(
                test_module=module,
                testcase=testcase,
                hdl_toplevel=bench.toplevel,
                hdl_toplevel_lang="verilog",
                build_dir=folder,
                test_dir=run_dir,
                seed=seed,
                plusargs=list(plusargs),
                extra_env={_OPTIONS: json.dumps({"seed": seed, **(options or {})})},
                results_xml=str(results),
                timescale=_TIMESCALE,
                log_file=log,
                waves=bench.waves,
            )
        except SystemExit as error:
            status = error.code
    where = f"{module} on {bench.simulator}, seed {seed}, in {run_dir}"
    _check_results(results, where=where, log=log, status=status)


def run_bench(
    design: Elaboratable | str,
    *,
    module: str,
    toplevel: str = "dut",
    simulator: str = "verilator",
    testcase: str | None = None,
    parameters: Mapping[str, int] | None = None,
    plusargs: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    seed: int = 1,
    optimize: str = "-O0",
    waves: bool = False,
) -> None:
    """Build ``design`` (a component, or Verilog text) and run cocotb ``module`` on it.

    Builds are kept under a digest of the Verilog and shared; see :func:`run_module` for the
    other arguments and the errors. With ``waves`` the run folder, which the message of a
    failure names, holds a waveform.
    """
    text = design if isinstance(design, str) else verilog.emit(design, name=toplevel)
    bench = Bench(
        sources={"dut.sv": text},
        toplevel=toplevel,
        simulator=simulator,
        optimize=optimize,
        parameters=parameters or {},
        waves=waves,
    )
    folder = build(bench)
    run_dir = folder / "runs" / f"{module}-{testcase or 'all'}-{seed}-{os.getpid()}"
    run_module(
        bench,
        module,
        folder=folder,
        run_dir=run_dir,
        testcase=testcase,
        plusargs=plusargs,
        options=options,
        seed=seed,
    )
    if not waves:
        shutil.rmtree(run_dir)


def bench_options() -> dict[str, Any]:
    """Inside a cocotb test: the ``options`` given to :func:`run_bench`, and its ``seed``."""
    return json.loads(os.environ.get(_OPTIONS, "{}"))


def _check_results(results: Path, *, where: str, log: Path, status: object) -> None:
    """Raise ``AssertionError`` unless ``results`` tells of tests that all passed."""
    if not results.exists():
        raise AssertionError(f"no results of {where}, status {status}\n{_tail(log)}")
    cases = list(ElementTree.parse(results).getroot().iter("testcase"))
    for case in cases:
        for kind in ("failure", "error"):
            found = case.find(kind)
            if found is not None:
                message = found.get("message") or found.get("error_msg") or found.text or ""
                raise AssertionError(
                    f"{case.get('name')} of {where}: {message.strip()}\n{_tail(log)}"
                )
    if not any(case.find("skipped") is None for case in cases):
        raise AssertionError(f"no test ran of {where}\n{_tail(log)}")
    if status:
        raise AssertionError(f"status {status} of {where}\n{_tail(log)}")


def _tail(log: Path, *, lines: int = 60) -> str:
    """The last lines of ``log``."""
    if not log.exists():
        return "(no log)"
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on ``path``: builds of one design must not overlap."""
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
