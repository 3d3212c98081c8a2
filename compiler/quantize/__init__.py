"""Post-training quantization: from the float graph and sample data to the integer graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from intformer import reference
from intformer.compiler.canonical import canonicalize
from intformer.compiler.graph import Graph
from intformer.compiler.integer_graph import IntGraph
from intformer.compiler.quantize.calibrate import Ranges, calibrate
from intformer.compiler.quantize.data import (
    dequantize_outputs,
    quantize_inputs,
    random_inputs,
    runs,
)
from intformer.compiler.quantize.given import (
    GivenPlan,
    has_codings,
    separate_codings,
    spread_codings,
)
from intformer.compiler.quantize.given_lower import GivenLowerer
from intformer.compiler.quantize.lower import Lowerer
from intformer.compiler.quantize.plan import Plan
from intformer.compiler.quantize.report import describe
from intformer.compiler.quantize.sites import find_sites
from intformer.compiler.stationary import STATIONARY_MIN, clip_stationary
from intformer.errors import UserError

__all__ = ["dequantize_outputs", "quantize", "quantize_inputs", "runs"]

RANDOM_RUNS = 8
RANDOM_SEED = 0


def quantize(
    graph: Graph,
    calibration: Mapping[str, NDArray[Any]] | None = None,
    *,
    weights: str = "int8",
    weight_min: int = STATIONARY_MIN,
) -> IntGraph:
    """Quantize ``graph`` to W8A8 or W4A8.

    Static weights are symmetric per output channel. Computed operands that the array holds as
    weights (keys, values) saturate at -127, as ``dsp_packed`` arrays require. Operands of products
    are int8 (with a zero point where only linear layers read them), softmax probabilities uint8,
    sums, LayerNorm inputs and outputs of the model int16. Ranges are the smallest and largest
    calibrated values.

    Parameters
    ----------
    calibration:
        An array for each model input, samples along the first axis. Without it, random normal
        data with a fixed seed stands in, and ``meta["calibration"]`` says so.
    weights:
        ``"int8"`` (codes -127..127) or ``"int4"`` (codes -7..7).
    weight_min:
        Least code that the array takes as a weight (``CoreConfig.weight_min``). Computed operands
        with a coding of the model are clipped only if that is more than -128.

    Returns
    -------
    IntGraph
        ``meta`` has ``weights``, ``calibration`` (source, samples), ``exact_inputs`` (inputs
        whose codes are their values) and ``sites`` (what each tensor holds, for reports).

    Raises
    ------
    UserError
        If the calibration data does not fit the model, or an argument is wrong.
    UnsupportedModel
        If sums of products can exceed 32 bits.
    """
    if weights not in ("int8", "int4"):
        raise UserError(f"weights must be int8 or int4, not {weights!r}")
    if has_codings(graph):
        return _quantize_given(graph, calibration, weights, weight_min)
    source = "data" if calibration is not None else f"random normal, seed {RANDOM_SEED}"
    if calibration is None:
        calibration = random_inputs(graph, RANDOM_RUNS, RANDOM_SEED)
    canonical = canonicalize(graph)
    shapes = {name: canonical.values[name].shape for name in canonical.inputs}
    ranges = calibrate(canonical, runs(shapes, calibration))
    sites = find_sites(canonical)
    plan = Plan(canonical, sites, ranges)
    result = Lowerer(canonical, plan, weight_bits=4 if weights == "int4" else 8).run(sites)
    clip_stationary(result)
    return _finish(result, canonical, weights, {"source": source, "runs": ranges.runs})


def _quantize_given(
    graph: Graph, calibration: Mapping[str, NDArray[Any]] | None, weights: str, weight_min: int
) -> IntGraph:
    """Quantize a graph that prescribes codings; calibration is for the values that have none."""
    if weights != "int8":
        raise UserError(
            f"the model is quantized already; its weights cannot become {weights}: compile the "
            "float model"
        )
    canonical = separate_codings(canonicalize(spread_codings(graph)))
    ranges, source = Ranges(), "the model"
    if calibration is not None:
        shapes = {name: canonical.values[name].shape for name in canonical.inputs}
        ranges, source = calibrate(canonical, runs(shapes, calibration)), "the model, and data"
    sites = find_sites(canonical)
    plan = GivenPlan(canonical, sites, ranges)
    result = GivenLowerer(canonical, plan, weight_bits=8).run(sites)
    if weight_min > reference.LIMITS["int8"][0]:
        clip_stationary(result)
    result.meta["replaced_codings"] = plan.replaced
    return _finish(result, canonical, weights, {"source": source, "runs": ranges.runs})


def _finish(
    result: IntGraph, canonical: Graph, weights: str, calibration: dict[str, Any]
) -> IntGraph:
    result.meta |= {
        "weights": weights,
        "calibration": calibration,
        "exact_inputs": [n for n in result.inputs if canonical.values[n].kind != "float"],
        "model": canonical.meta.get("model", ""),
        "sites": describe(result),
    }
    return result
