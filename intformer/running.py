"""Run and verify a compiled model on its levels: reference, instruction-level simulator, RTL.

Arrays of inputs and outputs hold samples along the first axis. A model compiled for a batch of
``B`` takes ``B`` samples per run; the last run is filled up with copies of the last sample, and
their results are dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from intformer.compiler.integer_graph import IntGraph, execute
from intformer.compiler.quantize.data import dequantize_outputs, quantize_inputs, runs
from intformer.errors import UserError
from intformer.program import RunResult, WriteLog

if TYPE_CHECKING:
    from intformer.model import CompiledModel

__all__ = [
    "LEVELS",
    "BoardOutput",
    "RunOutput",
    "Samples",
    "collect_output",
    "compare_with_reference",
    "encode_samples",
    "run_board",
    "run_levels",
    "run_model",
]

LEVELS = ("reference", "iss", "rtl")
"""Where a compiled model can run, from definition to hardware."""

Array = NDArray[Any]
_NOTHING = np.zeros(0, np.int64)
_EMPTY_LOG = WriteLog(_NOTHING, _NOTHING, _NOTHING, _NOTHING, _NOTHING)
Progress = Callable[[str], None]


@dataclass
class RunOutput:
    """Results of a run over samples.

    ``outputs``: real values per output, samples first; ``codes``: the same as integer codes;
    ``cycles``: core cycles of each run (none on the reference); ``counters``: sums over the runs.
    """

    outputs: dict[str, Array]
    codes: dict[str, Array]
    cycles: list[int] = field(default_factory=list)
    counters: dict[str, int] = field(default_factory=dict)


@dataclass
class BoardOutput(RunOutput):
    """Results of a run on a board.

    ``board``: its name; ``clock_hz``: of its core; ``load``: bytes of the image, bytes sent,
    seconds; ``seconds``: of each run, transfers included; ``link``: frames sent again, and the
    device's counters of errors on the line.
    """

    board: str = ""
    clock_hz: int = 0
    load: dict[str, float] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    link: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Samples:
    """Input codes, run by run.

    ``count``: samples given along the model's own first axis; the last run is filled up with
    copies. ``None`` if the samples stand along an axis of their own in front of the model's
    shapes: one run each.
    """

    runs: list[dict[str, Array]]
    count: int | None


def encode_samples(graph: IntGraph, arrays: Mapping[str, Array]) -> Samples:
    """Split arrays of real values into runs and quantize them.

    Raises
    ------
    UserError
        If an input is missing, unknown or not finite, or shapes or numbers of samples do not fit.
    """
    shapes = {name: tuple(graph.tensors[name].shape) for name in graph.inputs}
    encoded = [quantize_inputs(graph, run) for run in runs(shapes, arrays)]
    own_axis = [
        len(array)
        for array, shape in zip(_in_order(graph, arrays), shapes.values(), strict=True)
        if np.ndim(array) == len(shape)
    ]
    return Samples(encoded, min(own_axis, default=None))


def _in_order(graph: IntGraph, arrays: Mapping[str, Array]) -> list[Array]:
    if len(arrays) == 1:
        return list(arrays.values())
    return [arrays[name] for name in graph.inputs]


def run_levels(
    model: CompiledModel,
    codes_of_runs: list[dict[str, Array]],
    on: str,
    *,
    simulator: str = "verilator",
    device: str | None = None,
    progress: Progress | None = None,
) -> list[RunResult]:
    """Run input codes on the level ``iss``, ``rtl`` or ``netlist``; one :class:`RunResult` per run.

    ``device`` is that of the netlist, which always runs in Verilator.
    """
    if on == "iss":
        from intformer.sim.iss.simulator import Iss

        iss = Iss(model.program)
        results: list[RunResult] = []
        for i, codes in enumerate(codes_of_runs):
            results.append(iss.run(codes))
            if progress:
                progress(f"iss: run {i + 1} of {len(codes_of_runs)}")
        return results
    if on == "rtl":
        from intformer.sim.rtl import RtlSimulator

        rtl = RtlSimulator(model.config, simulator=simulator)
        return rtl.run(model.program, codes_of_runs, progress=progress)
    if on == "netlist":
        from intformer.sim.netlist import NetlistSimulator

        if device is None:
            raise UserError("level netlist needs a device")
        netlist = NetlistSimulator(model.config, device=device)
        return netlist.run(model.program, codes_of_runs, progress=progress)
    raise UserError(f"a model runs on {', '.join(LEVELS)}, not on {on!r}")


def run_model(
    model: CompiledModel,
    arrays: Mapping[str, Array],
    *,
    on: str = "reference",
    simulator: str = "verilator",
    progress: Progress | None = None,
) -> RunOutput:
    """Run real-valued samples on one level; see :class:`RunOutput`."""
    if on not in LEVELS:
        raise UserError(f"a model runs on {', '.join(LEVELS)}, not on {on!r}")
    graph = model.graph
    samples = encode_samples(graph, arrays)
    if on == "reference":
        results = [RunResult(execute(graph, codes), _EMPTY_LOG, 0) for codes in samples.runs]
    else:
        results = run_levels(model, samples.runs, on, simulator=simulator, progress=progress)
    output = collect_output(graph, results, samples)
    if on == "reference":
        output.cycles = []
    return output


def run_board(
    model: CompiledModel,
    arrays: Mapping[str, Array],
    *,
    port: str,
    baud: int | None = None,
    progress: Progress | None = None,
) -> BoardOutput:
    """Run real-valued samples on a board: load once, then every sample.

    Raises
    ------
    UserError
        If the arrays do not fit, the port cannot be opened, or the board has another core or too
        little memory; see :class:`intformer.host.device.Device` for the rest.
    """
    from intformer.host.device import BAUD, Device

    samples = encode_samples(model.graph, arrays)
    with Device(port, baud=baud or BAUD) as device:
        identity = device.info()
        if progress:
            progress(f"board: {identity.board}, {identity.clock_hz / 1e6:g} MHz, on {port}")
        loaded = device.load(model.program, progress=_prefixed("board", progress))
        if progress:
            progress(f"board: image of {loaded.size:,} bytes is there, {loaded.sent:,} sent")
        results, seconds = [], []
        for i, codes in enumerate(samples.runs):
            run = device.run(codes)
            results.append(RunResult(run.outputs, _EMPTY_LOG, run.cycles, run.counters))
            seconds.append(run.seconds)
            if progress:
                progress(f"board: run {i + 1} of {len(samples.runs)}")
        link = device.errors() | {"retries": device.retries}
    output = collect_output(model.graph, results, samples)
    return BoardOutput(
        output.outputs,
        output.codes,
        output.cycles,
        output.counters,
        board=identity.board,
        clock_hz=identity.clock_hz,
        load={"size": loaded.size, "sent": loaded.sent, "seconds": loaded.seconds},
        seconds=seconds,
        link=link,
    )


def _prefixed(prefix: str, progress: Progress | None) -> Progress | None:
    return (lambda text: progress(f"{prefix}: {text}")) if progress else None


def compare_with_reference(
    model: CompiledModel, arrays: Mapping[str, Array], output: RunOutput
) -> str | None:
    """What the codes of ``output`` differ in from the reference's; None if they are equal."""
    expected = run_model(model, arrays).codes
    for name, codes in output.codes.items():
        wrong = np.argwhere(codes != expected[name])
        if len(wrong):
            at = tuple(int(i) for i in wrong[0])
            return (
                f"{name}: {len(wrong)} of {codes.size} elements differ from the reference; the "
                f"first is {at}: {codes[at]} instead of {expected[name][at]}"
            )
    return None


def collect_output(graph: IntGraph, results: list[RunResult], samples: Samples) -> RunOutput:
    """Join the results of runs: outputs sample by sample, cycles, summed counters."""
    join = np.stack if samples.count is None else np.concatenate
    codes = {
        name: join([result.outputs[name] for result in results])[: samples.count]
        for name in graph.outputs
    }
    counters: dict[str, int] = {}
    for result in results:
        for key, amount in result.counters.items():
            counters[key] = counters.get(key, 0) + amount
    cycles = [result.cycles for result in results]
    return RunOutput(dequantize_outputs(graph, codes), codes, cycles, counters)
