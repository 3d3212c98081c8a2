"""Build a design for a simulator and run a cocotb module on it.

``run_bench`` is for tests of single units::

    run_bench(SoftmaxUnit(...), module="test_softmax", simulator="icarus", seed=7)

The cocotb tests of the module read what they need to know from :func:`bench_options`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from amaranth.hdl import Elaboratable

from intformer.hw import verilog
from intformer.sim import simulators
from intformer.sim.builds import TIMESCALE, Bench, build, tail

__all__ = ["bench_options", "run_bench", "run_module"]

_OPTIONS = "INTFORMER_BENCH_OPTIONS"


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
    status: object = None
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
                timescale=TIMESCALE,
                log_file=log,
                waves=bench.waves,
            )
        except SystemExit as error:
            status = error.code
        except RuntimeError as error:  # The simulator itself failed: $fatal in a model.
            status = str(error)
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
        raise AssertionError(f"no results of {where}, status {status}\n{tail(log)}")
    cases = list(ElementTree.parse(results).getroot().iter("testcase"))
    for case in cases:
        for kind in ("failure", "error"):
            found = case.find(kind)
            if found is not None:
                message = found.get("message") or found.get("error_msg") or found.text or ""
                raise AssertionError(
                    f"{case.get('name')} of {where}: {message.strip()}\n{tail(log)}"
                )
    if not any(case.find("skipped") is None for case in cases):
        raise AssertionError(f"no test ran of {where}\n{tail(log)}")
    if status:
        raise AssertionError(f"status {status} of {where}\n{tail(log)}")
