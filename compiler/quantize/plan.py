"""Decides the code type and scale of every value.

Values that views connect form a class, with one scale per code type. What reads a class decides
its main type: int16 if a sum, a LayerNorm, an output or a linear layer with int16 operand, or with
a scale for each row, reads it, else int8. Where both are wanted, an int8 copy is made.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer.compiler import graph as fg
from intformer.compiler.float_eval import activation
from intformer.compiler.quantize.calibrate import Ranges, static_operands
from intformer.compiler.quantize.norms import smallest_input_scale
from intformer.compiler.quantize.scales import Coding, asymmetric, is_int8, symmetric
from intformer.compiler.quantize.settings import Settings
from intformer.compiler.quantize.sites import Site
from intformer.compiler.quantize.smoothing import FittedOperand, fit_operand
from intformer.compiler.quantize.token_rows import TokenRows, keeps_channels

__all__ = ["Fitted", "Plan"]

Array = NDArray[Any]

PROBABILITY = Coding("uint8", 1.0 / 256.0)
EXACT = {"int": Coding("int16", 1.0), "bool": Coding("int8", 1.0)}

_SHIFTABLE = {"linear", "softmax", "any"}  # readers that take a zero point
_WIDE = {"linear16", "token", "wide"}  # readers of int16 codes
_LINEAR_ONLY = _WIDE | {"linear"}


@dataclass(frozen=True)
class Fitted:
    """How inputs of static products were fitted to samples, for other graphs of the same model.

    Attributes
    ----------
    static: int8 codes, by the value that their class is computed as.
    token: rows with scales of their own, by the output of the product that reads them.
    """

    static: dict[str, FittedOperand] = field(default_factory=dict)
    token: dict[str, FittedOperand] = field(default_factory=dict)


class Plan:
    """Codings of the values of a canonical float graph.

    Attributes
    ----------
    rows: the linear layers that read rows with scales of their own.
    fitted: how inputs of static products were fitted.
    """

    def __init__(
        self,
        graph: fg.Graph,
        sites: list[Site],
        ranges: Ranges,
        settings: Settings | None = None,
        fitted: Fitted | None = None,
    ) -> None:
        self.graph = graph
        self.ranges = ranges
        self.settings = settings or Settings()
        self._parent: dict[str, str] = {name: name for name in graph.values}
        self._demands: dict[str, set[str]] = defaultdict(set)
        self._floor: dict[str, float] = defaultdict(float)
        self._roots: dict[str, list[str]] = defaultdict(list)
        self._tables = {s.output for s in sites if s.table and not self.function16(s)}
        self._functions = {s.output for s in sites if s.table} - self._tables
        self._headroom = {s.output: self.settings.at(s.node).headroom for s in sites}
        self._softmaxes = {s.output for s in sites if isinstance(s.node, fg.Softmax)}
        self._makers = graph.producers()
        for node in graph.nodes:
            if isinstance(node, fg.View):
                for name in node.inputs:
                    self._parent[self.of(name)] = self.of(node.output)
        fixed = self._tables | self._softmaxes
        token = None if fitted is None else fitted.token
        self.rows = TokenRows(graph, sites, ranges, self.settings, fixed, token)
        for site in sites:
            self._note(site)
        for name in graph.outputs:
            self._demands[self.of(name)].add("wide")
        views = {node.output for node in graph.nodes if isinstance(node, fg.View)}
        inside = {name for site in sites for name in _hidden(site)}
        for name in graph.values:
            if name not in views and name not in inside:
                self._roots[self.of(name)].append(name)
        static = self._fit_operands(sites) if fitted is None else fitted.static
        self.fitted = Fitted(static, self.rows.fitted)
        self._operands = {self.of(name): found for name, found in static.items()}

    def _fit_operands(self, sites: list[Site]) -> dict[str, FittedOperand]:
        """Smoothing and clipping of what static products read as int8."""
        result = {}
        operands = static_operands(self.graph)
        for site in sites:
            cls = self.of(site.output)
            if self._roots[cls] != [site.output] or "linear" not in self._demands[cls]:
                continue
            layer = self.settings.at(site.node)
            nodes = [n for name in operands if self.of(name) == cls for n in operands[name]]
            nodes = [n for n in nodes if not self.rows.reads(n)]
            consts = [self.graph.values[n.inputs[1]].const for n in nodes]
            matrices = [np.asarray(const) for const in consts if const is not None]
            clip = layer.ranges == "mse" and self._demands[cls] <= _LINEAR_ONLY
            smooth = layer.smoothing if self._can_smooth(site, cls, matrices) else 0.0
            rows = self._rows(cls)
            if (not smooth and not clip) or rows is None:
                continue
            formats = [self.settings.at(n).format for n in nodes]
            found = fit_operand(
                self._channels(cls), rows, matrices, formats, alpha=smooth, clip=clip
            )
            if found.alpha or clip:
                result[site.output] = found
        return result

    def _can_smooth(self, site: Site, cls: str, matrices: list[Array]) -> bool:
        """Whether the int8 codes of a class can have a scale for each channel."""
        if not self._demands[cls] <= _LINEAR_ONLY or any(is_int8(m) for m in matrices):
            return False
        if not isinstance(site.node, fg.LayerNorm) and self.main(site.output) != "int16":
            return False  # nothing but LayerNorm, or a copy, scales by channel
        views = [n for n in self.graph.nodes if isinstance(n, fg.View) and self.of(n.output) == cls]
        return all(keeps_channels(self.graph, view) for view in views)

    def _channels(self, cls: str) -> tuple[Array, Array]:
        """Smallest and largest value of each channel of a class."""
        seen = [pair for name, pair in self.ranges.channels.items() if self.of(name) == cls]
        lows, highs = zip(*seen, strict=True)
        return np.min(lows, axis=0), np.max(highs, axis=0)

    def _rows(self, cls: str) -> Array | None:
        parts = [r for name, rows in self.ranges.rows.items() if self.of(name) == cls for r in rows]
        return np.concatenate(parts) if sum(map(len, parts)) else None

    def operand(self, name: str) -> FittedOperand | None:
        """How the int8 codes of a value were fitted, if they were."""
        return self._operands.get(self.of(name))

    def only_smoothed(self, name: str) -> bool:
        """Whether nothing but smoothed rows with scales of their own is read of a value."""
        if self._demands[self.of(name)] != {"token"} or self.rows.smoothing(name) is None:
            return False
        reads = {node.inputs[0] for node in self.rows.products}
        return all(self.rows.origin(x) == name for x in reads if self.of(x) == self.of(name))

    def function16(self, site: Site) -> bool:
        """Whether a site's activation function takes int16 codes."""
        from intformer.hw.units.functions import FUNCTIONS

        node = site.activation
        if node is None or not site.table or node.kind not in FUNCTIONS:
            return False
        return self.settings.at(node).function == "int16"

    def operand16(self, node: fg.MatMul) -> bool:
        """Whether a static product takes int16 codes, in two passes."""
        choice = self.settings.at(node).operand
        if choice == "auto":
            made = self._made_by(node.inputs[0])
            return made in self._functions
        return choice == "int16"

    def _smooths_function(self, name: str) -> bool:
        """Whether a value is an int16 function's result that is to be smoothed.

        A copy of its codes can have a scale for each channel, the function itself cannot.
        """
        made = self._made_by(name)
        return made in self._functions and bool(self.settings.at(self._makers[made]).smoothing)

    def _made_by(self, name: str) -> str:
        """The value that a chain of views with one input each starts from."""
        makers = self._makers
        while isinstance(makers.get(name), fg.View) and len(makers[name].inputs) == 1:
            name = makers[name].inputs[0]
        return name

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
            operand = "linear"
            if static and self.rows.reads(node):
                operand = "token"
            elif static and self.operand16(node):
                operand = "linear16"
            want(node.inputs[0], operand if static else "product")
            if static and operand == "linear" and self._smooths_function(node.inputs[0]):
                want(node.inputs[0], "wide")
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
        return "int16" if self._demands[self.of(name)] & _WIDE else "int8"

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
        roots = self._roots[cls] or [name]
        low, high = self._range(cls)
        if dtype != "int8":
            headroom = max(self._headroom.get(r, self.settings.base.headroom) for r in roots)
            return symmetric(dtype, low, high, floor=self._floor[cls], headroom=headroom)
        if cls in self._operands:
            return asymmetric(*self._operands[cls].limits)
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
        """Coding of a function's argument: the range of ``u`` where the function is not flat."""
        assert site.activation is not None
        low, high = self.ranges.all[site.before]
        wide = site.output in self._functions
        if wide:
            headroom = self._headroom[site.output]
            low, high = headroom * min(low, 0.0), headroom * max(high, 0.0)
        grid = np.linspace(low, high, 1025)
        y = activation(site.activation.kind, site.activation.factor * grid)
        step = output.scale / 8
        flat_low = np.maximum.accumulate(np.abs(y - y[0])) <= step
        flat_high = np.maximum.accumulate(np.abs(y - y[-1])[::-1])[::-1] <= step
        if not flat_low.all():
            first, last = np.flatnonzero(flat_low)[-1], np.flatnonzero(flat_high)[0]
            low, high = float(grid[first]), float(grid[last])
        return symmetric("int16", low, high, headroom=1.0) if wide else asymmetric(low, high)


def _hidden(site: Site) -> set[str]:
    """Values inside a fused site, which are never stored."""
    names = {site.node.output, site.before}
    return names - {site.output} - ({site.x} if site.x else set())
