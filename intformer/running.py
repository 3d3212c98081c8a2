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
from intformer.errors import UserError
from intformer.program import RunResult, WriteLog
from intformer.reference import LIMITS

if TYPE_CHECKING:
    from intformer.model import CompiledModel

__all__ = [
    "LEVELS",
    "RunOutput",
    "bind_arrays",
    "collect_output",
    "encode_inputs",
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


def bind_arrays(
    graph: IntGraph, arrays: Mapping[str, Array], *, source: str = "input"
) -> dict[str, Array]:
    """Match arrays with the model's inputs by name; a single array fits a single input.

    Raises
    ------
    UserError
        If an input is missing, or the shapes or the numbers of samples do not fit.
    """
    names = list(graph.inputs)
    given = {name: np.asarray(value) for name, value in arrays.items()}
    if len(names) == 1 and len(given) == 1:
        given = {names[0]: next(iter(given.values()))}
    missing = [name for name in names if name not in given]
    if missing:
        raise UserError(
            f"{source}: no array for model input {missing[0]!r}; it holds "
            f"{', '.join(given) or 'nothing'}, the model takes {', '.join(names)}"
        )
    bound = {}
    for name in names:
        want = graph.tensors[name].shape
        array = given[name]
        if array.ndim != len(want) or array.shape[1:] != want[1:]:
            raise UserError(
                f"{source}: array {name!r} has shape {array.shape}; expected (samples"
                f"{''.join(f', {d}' for d in want[1:])})"
            )
        if not np.issubdtype(array.dtype, np.number) and array.dtype != np.bool_:
            raise UserError(f"{source}: array {name!r} is not numeric but {array.dtype}")
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            raise UserError(f"{source}: array {name!r} holds values that are not finite")
        bound[name] = array
    counts = {name: len(array) for name, array in bound.items()}
    if len(set(counts.values())) > 1:
        raise UserError(f"{source}: the arrays differ in the number of samples: {counts}")
    if next(iter(counts.values())) == 0:
        raise UserError(f"{source}: there are no samples")
    return bound


def encode_inputs(graph: IntGraph, arrays: Mapping[str, Array]) -> list[dict[str, Array]]:
    """Codes for each run: real values are divided by the scale, rounded half to even, clipped.

    ``arrays`` as returned by :func:`bind_arrays`.
    """
    count = len(next(iter(arrays.values())))
    batch = graph.tensors[graph.inputs[0]].shape[0]
    runs = []
    for first in range(0, count, batch):
        run = {}
        for name, array in arrays.items():
            tensor = graph.tensors[name]
            part = array[first : first + batch]
            if len(part) < batch:
                part = np.concatenate([part, np.repeat(part[-1:], batch - len(part), axis=0)])
            low, high = LIMITS[tensor.dtype]
            codes = np.rint(part.astype(np.float64) / tensor.scale) + tensor.zero_point
            if np.issubdtype(part.dtype, np.integer) and (
                tensor.scale == 1.0 and codes.size and (codes.min() < low or codes.max() > high)
            ):
                raise UserError(
                    f"input {name!r} has values {codes.min():.0f}..{codes.max():.0f}; "
                    f"allowed are {low} to {high}"
                )
            run[name] = np.clip(codes, low, high).astype(tensor.dtype)
        runs.append(run)
    return runs


def run_levels(
    model: CompiledModel,
    runs: list[dict[str, Array]],
    on: str,
    *,
    simulator: str = "verilator",
    progress: Progress | None = None,
) -> list[RunResult]:
    """Run input codes on the level ``iss`` or ``rtl``; one :class:`RunResult` per run."""
    if on == "iss":
        from intformer.sim.iss import Iss

        iss = Iss(model.program)
        results: list[RunResult] = []
        for i, codes in enumerate(runs):
            results.append(iss.run(codes))
            if progress:
                progress(f"iss: run {i + 1} of {len(runs)}")
        return results
    if on == "rtl":
        from intformer.sim.rtl import RtlSimulator

        rtl = RtlSimulator(model.config, simulator=simulator)
        return rtl.run(model.program, runs, progress=progress)
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
    bound = bind_arrays(graph, arrays)
    runs = encode_inputs(graph, bound)
    if on == "reference":
        results = [RunResult(execute(graph, codes), _EMPTY_LOG, 0) for codes in runs]
    else:
        results = run_levels(model, runs, on, simulator=simulator, progress=progress)
    output = collect_output(graph, results, len(next(iter(bound.values()))))
    if on == "reference":
        output.cycles = []
    return output


def collect_output(graph: IntGraph, results: list[RunResult], count: int) -> RunOutput:
    """Join the results of runs: outputs of the first ``count`` samples, cycles, summed counters."""
    codes = {
        name: np.concatenate([result.outputs[name] for result in results])[:count]
        for name in graph.outputs
    }
    outputs = {}
    for name, value in codes.items():
        tensor = graph.tensors[name]
        real = tensor.scale * (value.astype(np.float64) - tensor.zero_point)
        outputs[name] = real.astype(np.float32)
    counters: dict[str, int] = {}
    for result in results:
        for key, amount in result.counters.items():
            counters[key] = counters.get(key, 0) + amount
    return RunOutput(outputs, codes, [result.cycles for result in results], counters)
