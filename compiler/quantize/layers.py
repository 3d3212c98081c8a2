"""Weights of each layer: rounded, or fitted to samples that ran through the integer graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer.compiler import graph as fg
from intformer.compiler import integer_graph as ig
from intformer.compiler.quantize.calibrate import Ranges, Tokens
from intformer.compiler.quantize.data import quantize_inputs
from intformer.compiler.quantize.scales import Coding, LayerWeights, is_int8, round_weights
from intformer.compiler.quantize.settings import Settings
from intformer.compiler.quantize.solver import solve

__all__ = ["LayerSolver", "Solved"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Solved:
    """Weights and bias of a layer, and how they were found."""

    weights: LayerWeights
    bias: Array
    solver: str


class LayerSolver:
    """Finds the weights of static layers, in the order in which the integer graph grows.

    ``known`` holds layers that are solved already, by their node's output.
    """

    def __init__(
        self,
        graph: fg.Graph,
        settings: Settings,
        ranges: Ranges,
        known: dict[str, Solved] | None = None,
    ) -> None:
        self.graph, self.settings, self.ranges = graph, settings, ranges
        self.solved: dict[str, Solved] = dict(known or {})
        self._tokens = Tokens(graph)
        self._values: list[dict[str, Array]] | None = None
        self._dead: set[str] = set()
        self._done = 0

    def weights(
        self,
        node: fg.MatMul,
        out: ig.IntGraph,
        operand: Sequence[str],
        codings: Sequence[Coding],
        smoothing: Array | None,
        *,
        floor: Callable[[Array], Array],
        factor: str | None = None,
    ) -> tuple[LayerWeights, Array]:
        """Weights, times ``smoothing``, and the real bias of a layer.

        ``operand``: the tensors in ``out`` whose sum, decoded, is the layer's input (divided by
        ``smoothing``), times ``factor``, a tensor with a number for each row, if there is one.
        ``floor``: the least scale of each channel for a bias.
        """
        if node.output not in self.solved:
            self.solved[node.output] = self._solve(
                node, out, operand, codings, smoothing, floor, factor
            )
        found = self.solved[node.output]
        return found.weights, found.bias

    def _solve(
        self,
        node: fg.MatMul,
        out: ig.IntGraph,
        operand: Sequence[str],
        codings: Sequence[Coding],
        smoothing: Array | None,
        floor: Callable[[Array], Array],
        factor: str | None,
    ) -> Solved:
        const = self.graph.values[node.inputs[1]].const
        assert const is not None
        matrix = np.asarray(const, np.float64)
        scales = np.ones(matrix.shape[1]) if smoothing is None else smoothing
        bias = np.zeros(len(matrix)) if node.bias is None else np.asarray(node.bias, np.float64)
        layer = self.settings.at(node)
        rows = self.ranges.rows.get(node.inputs[0])
        if layer.solver == "round" or is_int8(matrix) or not rows or not sum(map(len, rows)):
            weights = round_weights(matrix * scales, layer.format, floor=floor(bias))
            return Solved(weights, bias, "round")
        self._advance(out)
        coded = sum(
            coding.decode(np.concatenate(self._rows(name)))
            for name, coding in zip(operand, codings, strict=True)
        )
        if factor is not None:
            coded = coded * np.concatenate(self._rows(factor))
        weights, shifted = solve(
            matrix * scales,
            bias / node.factor,
            np.concatenate(rows) / scales,
            np.asarray(coded),
            layer.format,
            floor=floor(bias),
        )
        return Solved(weights, shifted * node.factor, "gptq")

    def _rows(self, tensor: str) -> list[Array]:
        assert self._values is not None
        return [
            self._tokens.rows(values[tensor], inputs)
            for values, inputs in zip(self._values, self.ranges.samples, strict=True)
        ]

    def _advance(self, out: ig.IntGraph) -> None:
        """Run the nodes that are new since the last call on all samples."""
        if self._values is None:
            exact = [n for n in out.inputs if self.graph.values[n].kind != "float"]
            probe = ig.IntGraph(out.tensors, [], out.inputs, [], {"exact_inputs": exact})
            self._values = [quantize_inputs(probe, inputs) for inputs in self.ranges.samples]
        for node in out.nodes[self._done :]:
            read = [*node.inputs, *_residual(node)]
            constants = {name: c for name in read if (c := out.tensors[name].const) is not None}
            for values in self._values:
                values |= constants
                ig.step(out, node, values)
        for values in self._values:
            for name in self._dead.intersection(values):
                del values[name]
        self._done = len(out.nodes)

    def forget(self, tensors: set[str]) -> None:
        """Note tensors that no node reads which comes later."""
        self._dead |= tensors


def _residual(node: ig.Node) -> list[str]:
    """The tensor that a node adds, if any."""
    name = node.post.residual if isinstance(node, ig.MatMul | ig.Pointwise) else None
    return [] if name is None else [name]
