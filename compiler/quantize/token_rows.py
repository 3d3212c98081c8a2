"""Inputs of linear layers whose rows have scales of their own, found as the model runs.

Such an input exists as int16 codes at a static scale. A :class:`RowScale` makes int8 codes of each
row, and a factor, the largest magnitude of the row's int16 codes: code 1 of a row is worth
``factor / 127`` int16 codes. In front of it the channels may be divided by the scales of
:mod:`.smoothing`, by a LayerNorm of their own or by a copy, int16 as well.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer import reference
from intformer.compiler import graph as fg
from intformer.compiler.quantize.calibrate import Ranges
from intformer.compiler.quantize.scales import Coding, is_int8, symmetric
from intformer.compiler.quantize.settings import Settings
from intformer.compiler.quantize.sites import Site
from intformer.compiler.quantize.smoothing import FittedOperand, fit_operand

__all__ = ["COPY_WORTH", "ROW_TOP", "TokenRows", "keeps_channels", "largest_sums"]

Array = NDArray[Any]

ROW_TOP = 127
"""The largest magnitude of a row's codes."""
COPY_WORTH = 0.5
"""A copy for the sake of smoothing must bring the layers' error below this share of it."""
_FACTOR_TOP = reference.LIMITS["int16"][1]


class TokenRows:
    """Which linear layers read rows with scales of their own, and how these are smoothed.

    A layer whose settings say so does, unless its input is a constant or is computed as 8-bit
    codes (by a table of 256 entries, or as probabilities), or its weights are integers that are
    kept as they are (sums, selections): then the codes of the input have one static scale.

    Parameters
    ----------
    fixed: values that are computed as 8-bit codes.
    fitted: what an earlier graph of the same model found, see below.

    Attributes
    ----------
    products: the layers.
    fitted: how the inputs of layers are smoothed, by the layer's output.
    """

    def __init__(
        self,
        graph: fg.Graph,
        sites: list[Site],
        ranges: Ranges,
        settings: Settings,
        fixed: set[str],
        fitted: dict[str, FittedOperand] | None = None,
    ) -> None:
        self.graph, self.ranges, self.settings = graph, ranges, settings
        self._makers = graph.producers()
        self._sites = {site.output: site for site in sites}
        self._fixed = fixed
        self.products = [n for n in graph.nodes if isinstance(n, fg.MatMul) and self._suits(n)]
        self._outputs = {node.output for node in self.products}
        self.fitted = self._fit() if fitted is None else fitted
        self._smoothed = {
            self.origin(node.inputs[0]): self.fitted[node.output]
            for node in self.products
            if node.output in self.fitted
        }

    def reads(self, node: fg.MatMul) -> bool:
        """Whether a product reads rows with scales of their own."""
        return node.output in self._outputs

    def smoothing(self, name: str) -> FittedOperand | None:
        """How a value that such a product reads is smoothed, if it is."""
        return self._smoothed.get(self.origin(name))

    def coding(self, name: str) -> Coding:
        """int16 coding of the smoothed value."""
        found, site = self.smoothing(name), self._site(self.origin(name))
        assert found is not None
        assert site is not None
        return symmetric("int16", *found.limits, headroom=self.settings.at(site.node).headroom)

    def origin(self, name: str) -> str:
        """The value that a chain of views starts from which keep the last axis as it is."""
        while True:
            maker = self._makers.get(name)
            if not isinstance(maker, fg.View) or not keeps_channels(self.graph, maker):
                return name
            (name,) = maker.inputs

    def _by_norm(self, origin: str) -> bool:
        """Whether a LayerNorm makes the smoothed codes of a value, rather than a copy."""
        maker = self._makers.get(origin)
        return isinstance(maker, fg.LayerNorm) and self.settings.at(maker).norm == "dual"

    def _suits(self, node: fg.MatMul) -> bool:
        matrix = self.graph.values[node.inputs[1]].const
        if matrix is None or self.settings.at(node).scales != "token" or is_int8(matrix):
            return False
        if self.graph.values[node.inputs[0]].kind != "float":
            return False
        sources = self._sources(node.inputs[0])
        constant = {name for name in sources if self.graph.values[name].const is not None}
        return constant != sources and not sources & self._fixed

    def _sources(self, name: str) -> set[str]:
        """What the elements of a value come from, through views."""
        pending, found = [name], set()
        while pending:
            current = pending.pop()
            maker = self._makers.get(current)
            if isinstance(maker, fg.View):
                pending += maker.inputs
            else:
                found.add(current)
        return found

    def _site(self, origin: str) -> Site | None:
        """The site that computes a value, if it is one alone."""
        sources = self._sources(origin)
        return self._sites.get(min(sources)) if len(sources) == 1 else None

    def _fit(self) -> dict[str, FittedOperand]:
        readers: dict[str, list[fg.MatMul]] = {}
        for node in self.products:
            readers.setdefault(self.origin(node.inputs[0]), []).append(node)
        result: dict[str, FittedOperand] = {}
        for origin, nodes in readers.items():
            site = self._site(origin)
            smooth = 0.0 if site is None else self.settings.at(site.node).smoothing
            names = {node.inputs[0] for node in nodes}
            rows = [part for name in sorted(names) for part in self.ranges.rows.get(name, ())]
            if not smooth or not sum(map(len, rows)) or not self._can_copy(origin):
                continue
            lows, highs = zip(*(self.ranges.channels[name] for name in names), strict=True)
            found = fit_operand(
                (np.min(lows, axis=0), np.max(highs, axis=0)),
                np.concatenate(rows),
                [np.asarray(self.graph.values[node.inputs[1]].const) for node in nodes],
                [self.settings.at(node).format for node in nodes],
                alpha=smooth,
                clip=False,
                per_row=True,
                worth=1.0 if self._by_norm(origin) else COPY_WORTH,
            )
            if found.alpha:
                result |= {node.output: found for node in nodes}
        return result

    def _can_copy(self, origin: str) -> bool:
        """Whether smoothed codes of a value cost no more than those that it is computed as.

        Windows of a convolution repeat elements.
        """
        sizes = [int(np.prod(self.graph.values[name].shape)) for name in self._sources(origin)]
        return int(np.prod(self.graph.values[origin].shape)) <= sum(sizes)


def keeps_channels(graph: fg.Graph, view: fg.View) -> bool:
    """Whether a view leaves the last axis as it is."""
    (source,) = view.inputs if len(view.inputs) == 1 else (None,)
    if source is None:
        return False
    shape, result = graph.values[source].shape, graph.values[view.output].shape
    if not shape or not result or shape[-1] != result[-1]:
        return False
    if view.kind == "permute":
        return bool(view.arg[-1] == len(shape) - 1)
    if view.kind == "take":
        return bool((np.asarray(view.arg) % shape[-1] == np.arange(shape[-1])).all())
    return view.kind != "slice" or list(view.arg[-1]) == [0, shape[-1], 1]


def largest_sums(weights: Array) -> Array:
    """The largest magnitude of each row's sums, times their factors, for ``weights`` ``[N, K]``."""
    top = ROW_TOP * np.abs(weights).sum(axis=1)
    return (top * _FACTOR_TOP + (1 << (reference.FACTOR_SHIFT - 1))) / (1 << reference.FACTOR_SHIFT)
