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
    "RunOutput",
    "Samples",
    "collect_output",
    "encode_samples",
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
