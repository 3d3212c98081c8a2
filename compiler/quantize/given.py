"""Codings that the model itself gives: which value has which, and a plan that keeps to them.

Frontends of quantized models (ONNX QDQ, PT2E) set :attr:`~intformer.compiler.graph.Value.coding`.
Values that views connect share one coding; where a model changes it on the way, a
:class:`~intformer.compiler.graph.Recode` stands between them.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from dataclasses import replace

import numpy as np

from intformer import reference
from intformer.compiler import graph as fg
from intformer.compiler.float_eval import activation
from intformer.compiler.quantize.calibrate import Ranges
from intformer.compiler.quantize.plan import PROBABILITY, Fitted, Plan
from intformer.compiler.quantize.scales import Coding
from intformer.compiler.quantize.sites import Site
from intformer.errors import UserError

__all__ = ["GivenPlan", "coded_ranges", "has_codings", "separate_codings", "spread_codings"]

_SIGNED_PROBABILITY = Coding("int8", PROBABILITY.scale, -128)
WIDE_FACTOR = 128
"""int16 copies of int8 codes hold this many times ``code - zero_point``, exactly."""


def has_codings(graph: fg.Graph) -> bool:
    """Whether the model prescribes any codes."""
    return any(value.coding is not None for value in graph.values.values())


def coded_ranges(graph: fg.Graph) -> dict[str, tuple[float, float]]:
    """What the codes of values can hold."""
    result = {}
    for name, value in graph.values.items():
        if isinstance(value.coding, Coding):
            low, high = value.coding.decode(np.array(reference.LIMITS[value.coding.dtype]))
            result[name] = (float(low), float(high))
    return result


def spread_codings(graph: fg.Graph) -> fg.Graph:
    """A copy of ``graph`` where a coding reaches all values that views make of it, and back.

    Not backwards through slices: the parts of a value may have different codings.
    """
    result = copy.copy(graph)
    result.values = {name: copy.copy(value) for name, value in graph.values.items()}
    result.nodes = [copy.copy(node) for node in graph.nodes]
    values = result.values
    views = [node for node in result.nodes if isinstance(node, fg.View)]
    for node in reversed(views):
        target = values[node.output]
        if node.kind == "slice" or target.coding is None:
            continue
        for source in (values[name] for name in node.inputs):
            if source.coding is None and source.const is None and source.kind == "float":
                source.coding = target.coding
    return separate_codings(result, whole=True)


def separate_codings(graph: fg.Graph, *, whole: bool = False) -> fg.Graph:
    """Put a :class:`Recode` wherever a view's result has another coding than what it reads.

    ``whole``: not in front of views that read a part of a value without a coding. Constants take
    the view's coding.

    Raises
    ------
    UserError
        If values with different codings are joined and the result has none; names it.
    """
    nodes: list[fg.Node] = []
    fixed = {name for name, value in graph.values.items() if value.const is not None}
    for node in graph.nodes:
        if isinstance(node, fg.View) and fixed.issuperset(node.inputs):
            fixed.add(node.output)
        elif isinstance(node, fg.View):
            computed = [name for name in node.inputs if name not in fixed]
            codings = [graph.values[name].coding for name in computed]
            target = graph.values[node.output]
            if target.coding is None and codings and codings.count(codings[0]) == len(codings):
                target.coding = codings[0]
            for i, name in enumerate(node.inputs):
                if name in computed or graph.values[name].coding is not None:
                    node.inputs[i] = _recoded(graph, nodes, node, name, whole)
        nodes.append(node)
    graph.nodes = nodes
    return graph


def _recoded(graph: fg.Graph, nodes: list[fg.Node], view: fg.Node, name: str, whole: bool) -> str:
    """The input ``name`` of a view in the coding of the view's result."""
    value, wanted = graph.values[name], graph.values[view.output].coding
    if value.kind != "float" or value.coding == wanted or (whole and value.coding is None):
        return name
    if value.const is not None:
        plain = f"{name}.plain"
        graph.values[plain] = replace(value, name=plain, coding=None)
        return plain
    if wanted is None:
        raise UserError(
            f"{view.name}: joins values of different quantization parameters, and has none itself; "
            "quantize its result"
        )
    output = f"{name}.recoded"
    while output in graph.values:
        output += "_"
    graph.values[output] = fg.Value(output, value.shape, coding=wanted)
    nodes.append(fg.Recode(output, [name], output, view.source))
    return output


class GivenPlan(Plan):
    """Codings of a graph that prescribes some; the others are calibrated.

    Softmax results are uint8 with scale 1/256, whatever the model says: the core's only format.
    """

    def __init__(self, graph: fg.Graph, sites: list[Site], ranges: Ranges) -> None:
        super().__init__(graph, sites, ranges, fitted=Fitted())
        self.given: dict[str, Coding] = {}
        self._sites = {site.output: site for site in sites}
        self.replaced: list[str] = []
        found: dict[str, dict[str, Coding]] = defaultdict(dict)
        for name, value in graph.values.items():
            if isinstance(value.coding, Coding):
                found[self.of(name)][name] = value.coding
        for cls, codings in found.items():
            computed = {n: c for n, c in codings.items() if graph.values[n].const is None}
            different = set((computed or codings).values())
            if len(different) > 1:
                first, second = sorted(computed or codings)[:2]
                raise UserError(
                    f"{first!r} and {second!r} hold the same elements, but have different "
                    "quantization parameters"
                )
            self.given[cls] = different.pop()
        for name in self._softmaxes:
            if self.given.pop(self.of(name), _SIGNED_PROBABILITY) != _SIGNED_PROBABILITY:
                self.replaced.append(name)

    def given_of(self, name: str) -> Coding | None:
        """The coding that the model gives a value."""
        return self.given.get(self.of(name))

    def main(self, name: str) -> str:
        given = self.given_of(name)
        return super().main(name) if given is None else given.dtype

    def root_coding(self, name: str) -> Coding:
        if self.graph.values[name].kind == "float" and name not in self._softmaxes:
            given = self.given_of(name)
            if given is not None:
                return given
        return super().root_coding(name)

    def coding(self, name: str, dtype: str) -> Coding:
        given = self.given_of(name)
        if given is None:
            return super().coding(name, dtype)
        if given.dtype == dtype:
            return given
        if dtype == "int16" and given.dtype == "int8":
            factor = WIDE_FACTOR
            while factor > 1 and given.scale / factor < self._floor[self.of(name)]:
                factor //= 2
            return Coding("int16", given.scale / factor)
        raise UserError(
            f"{name!r} is quantized to {given.dtype}, but what reads it takes {dtype}; quantize "
            "the operands of matrix products and softmax to 8 bits"
        )

    def index_coding(self, site: Site, output: Coding) -> Coding:
        given = None if site.x is None or site.residual else self.given_of(site.x)
        if given is not None and given.dtype == "int8" and site.factor == 1.0:
            return given
        if site.before not in self.ranges.all:
            raise _missing(site.before)
        return super().index_coding(site, output)

    def _range(self, cls: str) -> tuple[float, float]:
        if self.ranges.runs:
            return super()._range(cls)
        seen = [self._known(name) for name in self._roots[cls]]
        return min(low for low, _ in seen), max(high for _, high in seen)

    def _known(self, name: str) -> tuple[float, float]:
        """A range that is known without data: of a constant, of a function of given codes."""
        const, site = self.graph.values[name].const, self._sites.get(name)
        if const is not None:
            return float(const.min(initial=0)), float(const.max(initial=0))
        given = None if site is None or site.x is None or site.residual else self.given_of(site.x)
        if site is None or site.activation is None or given is None:
            raise _missing(name)
        low, high = reference.LIMITS[given.dtype]
        inputs = given.decode(np.arange(low, high + 1)) * site.factor * site.activation.factor
        outputs = activation(site.activation.kind, inputs)
        return float(outputs.min()), float(outputs.max())


def _missing(name: str) -> UserError:
    return UserError(
        f"{name!r} has no quantization parameters; quantize it too, or give calibration data for "
        "what the model leaves open"
    )
