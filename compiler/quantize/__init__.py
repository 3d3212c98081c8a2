"""Post-training quantization: from the float graph and sample data to the integer graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from intformer.compiler.canonical import canonicalize
from intformer.compiler.canonical.products import expand_products
from intformer.compiler.graph import Graph, View
from intformer.compiler.integer_graph import IntGraph
from intformer.compiler.quantize.calibrate import Ranges, calibrate
from intformer.compiler.quantize.data import (
    dequantize_outputs,
    quantize_inputs,
    random_inputs,
    runs,
)
from intformer.compiler.quantize.given import has_codings
from intformer.compiler.quantize.given_lower import quantize_given
from intformer.compiler.quantize.layers import LayerSolver, Solved
from intformer.compiler.quantize.lower import Lowerer
from intformer.compiler.quantize.plan import Fitted, Plan
from intformer.compiler.quantize.report import describe
from intformer.compiler.quantize.settings import Settings
from intformer.compiler.quantize.sites import find_sites
from intformer.compiler.stationary import STATIONARY_MIN, clip_stationary
from intformer.errors import UserError

__all__ = ["Quantizer", "dequantize_outputs", "quantize", "quantize_inputs", "runs"]

RANDOM_RUNS = 8
RANDOM_SEED = 0


def quantize(
    graph: Graph,
    calibration: Mapping[str, NDArray[Any]] | None = None,
    *,
    weights: str = "int8",
    activations: str = "int8",
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
    weight_min: int = STATIONARY_MIN,
) -> IntGraph:
    """Quantize ``graph``: :class:`Quantizer` in one call.

    Parameters
    ----------
    calibration:
        An array for each model input, samples along the first axis. Without it, random normal
        data with a fixed seed stands in, and ``meta["calibration"]`` says so.
    weights, activations, overrides:
        See :class:`~intformer.compiler.quantize.settings.Settings`.
    weight_min:
        Least code that the array takes as a weight (``CoreConfig.weight_min``). Computed operands
        with a coding of the model are clipped only if that is more than -128.

    Raises
    ------
    UserError
        If a model that prescribes its codes is to have other weights or activations.
    """
    if has_codings(graph):
        if (weights, activations) != ("int8", "int8") or overrides:
            raise UserError(
                "the model is quantized already: its weights and activations cannot become others; "
                "compile the float model"
            )
        return quantize_given(graph, calibration, weight_min=weight_min)
    return Quantizer(weights=weights, activations=activations, overrides=overrides).fit(
        graph, calibration
    )


class Quantizer:
    """Post-training quantization with ``weights``, a scheme of ``activations``, and ``overrides``.

    Static weights are symmetric per output channel, or in groups. Computed operands that the
    array holds as weights (keys, values) saturate at -127, as ``dsp_packed`` arrays require.
    Operands of products are int8 (with a zero point where only linear layers read them) or, for
    linear layers, int16 in two passes or rows with scales of their own; softmax probabilities are
    uint8; sums, LayerNorm inputs and outputs of the model int16.

    Raises
    ------
    UserError
        If a setting is unknown.
    """

    def __init__(
        self,
        *,
        weights: str = "int8",
        activations: str = "int8",
        overrides: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.settings = Settings(weights, activations, overrides)
        self._ranges: Ranges | None = None
        self._fitted: Fitted | None = None
        self._solved: dict[str, Solved] = {}
        self._source = ""

    def fit(self, graph: Graph, calibration: Mapping[str, NDArray[Any]] | None = None) -> IntGraph:
        """Calibrate on samples, fit the weights, and return the integer graph.

        Without samples, random data sets the ranges, and nothing else is fitted to it: weights
        are rounded, channels not smoothed.

        Returns
        -------
        IntGraph
            ``meta`` has ``weights``, ``activations``, ``overrides``, ``calibration`` (source,
            runs), ``exact_inputs`` (inputs whose codes are their values) and ``sites`` (what
            each tensor holds and how it is made, for reports).

        Raises
        ------
        UserError
            If the calibration data does not fit the model, or an override matches no layer.
        UnsupportedModel
            If sums of products can exceed 32 bits.
        """
        self._source = "data" if calibration is not None else f"random normal, seed {RANDOM_SEED}"
        fitting = calibration is not None and self.settings.needs_rows  # never to random data
        if calibration is None:
            calibration = random_inputs(graph, RANDOM_RUNS, RANDOM_SEED)
        canonical = canonicalize(graph)
        self.settings.check_used(canonical)
        shapes = {name: canonical.values[name].shape for name in canonical.inputs}
        self._ranges = calibrate(canonical, runs(shapes, calibration), rows=fitting)
        known = expand_products(canonical, self._ranges.all)
        if known is not None:
            self._ranges = calibrate(canonical, runs(shapes, calibration), rows=fitting)
            self._ranges.all |= known
        self._fitted, self._solved = None, {}
        result = self._lower(graph, canonical)
        self._ranges.forget_rows()
        return result

    def apply(self, graph: Graph) -> IntGraph:
        """The integer graph of the same model with other shapes, for instance another length.

        It has the scales and weights that :meth:`fit` found, so that elements which both graphs
        compute from the same values are equal.

        Raises
        ------
        UserError
            If nothing was fitted yet, or a value of ``graph`` is not one of the fitted model.
        """
        if self._ranges is None:
            raise UserError("fit a model before applying it to other shapes")
        canonical = canonicalize(graph)
        expand_products(canonical, self._ranges.all)
        views = {node.output for node in canonical.nodes if isinstance(node, View)}
        for value in canonical.values.values():
            known = value.name in views or value.name in self._ranges.all
            if value.kind == "float" and not known:
                raise UserError(f"{value.name!r} is not a value of the model that was fitted")
        return self._lower(graph, canonical)

    def _lower(self, graph: Graph, canonical: Graph) -> IntGraph:
        assert self._ranges is not None
        sites = find_sites(canonical)
        plan = Plan(canonical, sites, self._ranges, self.settings, self._fitted)
        solver = LayerSolver(canonical, self.settings, self._ranges, self._solved)
        lowerer = Lowerer(canonical, plan, solver)
        result = lowerer.run(sites)
        self._fitted, self._solved = plan.fitted, solver.solved
        clip_stationary(result)
        result.meta |= {
            "weights": self.settings.weights,
            "activations": self.settings.activations,
            "overrides": self.settings.overrides,
            "calibration": {"source": self._source, "runs": self._ranges.runs},
            "exact_inputs": [n for n in result.inputs if canonical.values[n].kind != "float"],
            "model": graph.meta.get("model", ""),
            "sites": describe(result, lowerer.notes),
        }
        return result
