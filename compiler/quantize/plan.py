"""Decides the code type and scale of every value.

Values that views connect form a class, with one scale per code type. What reads a class decides
its main type: int16 if a sum, a LayerNorm or an output reads it, else int8. Where both are
wanted, an int8 copy is made.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from intformer.compiler import graph as fg
from intformer.compiler.float_eval import activation
from intformer.compiler.quantize.calibrate import Ranges
from intformer.compiler.quantize.norms import smallest_input_scale
from intformer.compiler.quantize.scales import Coding, asymmetric, symmetric
from intformer.compiler.quantize.sites import Site

__all__ = ["Plan"]

PROBABILITY = Coding("uint8", 1.0 / 256.0)
EXACT = {"int": Coding("int16", 1.0), "bool": Coding("int8", 1.0)}

_SHIFTABLE = {"linear", "softmax", "any"}  # readers that take a zero point


class Plan:
    """Codings of the values of a canonical float graph."""

    def __init__(self, graph: fg.Graph, sites: list[Site], ranges: Ranges) -> None:
        self.graph = graph
        self.ranges = ranges
        self._parent: dict[str, str] = {name: name for name in graph.values}
        self._demands: dict[str, set[str]] = defaultdict(set)
        self._floor: dict[str, float] = defaultdict(float)
        self._roots: dict[str, list[str]] = defaultdict(list)
        self._tables = {site.output for site in sites if site.table}
        self._softmaxes = {s.output for s in sites if isinstance(s.node, fg.Softmax)}
        for node in graph.nodes:
            if isinstance(node, fg.View):
                for name in node.inputs:
                    self._parent[self.of(name)] = self.of(node.output)
        for site in sites:
            self._note(site)
        for name in graph.outputs:
            self._demands[self.of(name)].add("wide")
        views = {node.output for node in graph.nodes if isinstance(node, fg.View)}
        inside = {name for site in sites for name in _hidden(site)}
        for name in graph.values:
            if name not in views and name not in inside:
                self._roots[self.of(name)].append(name)

    def of(self, name: str) -> str:
        """The class of a value."""
        while self._parent[name] != name:
            name = self._parent[name]
        return name

    def _note(self, site: Site) -> None:
        """Record what a site wants of the values that it reads."""
        node = site.node

        def want(name: str, what: str) -> None:
            self._demands[self.of(name)].add(what)

        if isinstance(node, fg.MatMul):
            static = self.graph.values[node.inputs[1]].const is not None
            want(node.inputs[0], "linear" if static else "product")
            if not static:
                want(node.inputs[1], "product")
        elif isinstance(node, fg.Softmax):
            want(node.inputs[0], "softmax")
        elif isinstance(node, fg.LayerNorm):
            want(node.inputs[0], "wide")
            floor = smallest_input_scale(len(node.gamma), node.eps)
            cls = self.of(node.inputs[0])
            self._floor[cls] = max(self._floor[cls], floor)
        elif isinstance(node, fg.Scale | fg.Recode):
            want(node.inputs[0], "any")
        if site.x is not None:
            want(site.x, "wide" if site.residual is not None else "any")
        if site.residual is not None:
            want(site.residual, "wide")

    def main(self, name: str) -> str:
        """Main code type of a value's class."""
        return "int16" if "wide" in self._demands[self.of(name)] else "int8"

    def root_coding(self, name: str) -> Coding:
        """Coding of a value where it is computed (or fed in)."""
        kind = self.graph.values[name].kind
        if kind != "float":
            return EXACT[kind]
        if name in self._softmaxes:
            return PROBABILITY
        return self.coding(name, "int8" if name in self._tables else self.main(name))

    def coding(self, name: str, dtype: str) -> Coding:
        """Coding of a value's class in a code type."""
        cls = self.of(name)
        demands = self._demands[cls]
        low, high = self._range(cls)
        if dtype != "int8":
            return symmetric(dtype, low, high, floor=self._floor[cls])
        tables = any(root in self._tables for root in self._roots[cls])
        shiftable = "product" not in demands and not (tables and "wide" in demands)
        if shiftable and demands & _SHIFTABLE:
            return asymmetric(low, high)
        return symmetric(dtype, low, high)

    def _range(self, cls: str) -> tuple[float, float]:
        only_softmax = self._demands[cls] == {"softmax"}
        names = [n for n in self.graph.values if self.of(n) == cls]
        store = self.ranges.kept if only_softmax else self.ranges.all
        if not only_softmax:
            names = self._roots[cls]
        seen = [store[n] for n in names if n in store] or [(0.0, 0.0)]
        return min(low for low, _ in seen), max(high for _, high in seen)

    def index_coding(self, site: Site, output: Coding) -> Coding:
        """Coding of a table's index: the range of ``u`` where the function is not flat."""
        assert site.activation is not None
        low, high = self.ranges.all[site.before]
        grid = np.linspace(low, high, 1025)
        y = activation(site.activation.kind, site.activation.factor * grid)
        step = output.scale / 8
        flat_low = np.maximum.accumulate(np.abs(y - y[0])) <= step
        flat_high = np.maximum.accumulate(np.abs(y - y[-1])[::-1])[::-1] <= step
        if flat_low.all():
            return asymmetric(low, high)
        first, last = np.flatnonzero(flat_low)[-1], np.flatnonzero(flat_high)[0]
        return asymmetric(float(grid[first]), float(grid[last]))


def _hidden(site: Site) -> set[str]:
    """Values inside a fused site, which are never stored."""
    names = {site.node.output, site.before}
    return names - {site.output} - ({site.x} if site.x else set())
