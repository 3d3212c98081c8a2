"""Products of two computed tensors, element by element, by sums of what there is.

They are expanded when the ranges of the factors are known: the sums need factors of one size.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from intformer.compiler import graph as fg
from intformer.compiler.expressions import call

__all__ = ["expand_products"]

_SQUARE = call("mul", "x", "x")
_TABLE = call("max", "x", 0.0)
"""A mask scaled by more than a multiplier can: by a table."""
_BEYOND = 2.5
"""A masked element is moved by this many times the largest one seen, below 0 also if int16 codes
saturate."""

Ranges = Mapping[str, tuple[float, float]]


def expand_products(graph: fg.Graph, ranges: Ranges) -> dict[str, tuple[float, float]] | None:
    """Replace every :class:`~intformer.compiler.graph.Mul` of ``graph``.

    Returns the ranges of new values that are known beforehand, whatever the samples mask, or
    ``None`` if there was no product.

    - Two numbers: ``x * y = ((g*x + y/g)**2 - (g*x - y/g)**2) / 4``, with ``g`` such that both
      have one range, and the squares by a table.
    - A number and a mask: ``relu(x - top*~mask) - relu(-x - top*~mask)``, with ``top`` beyond
      every ``x``.
    """
    nodes: list[fg.Node] = []
    known: dict[str, tuple[float, float]] | None = None
    for node in graph.nodes:
        if isinstance(node, fg.Mul):
            expansion = _Expansion(graph, node, ranges)
            nodes.extend(expansion.nodes)
            known = (known or {}) | expansion.known
        else:
            nodes.append(node)
    graph.nodes = nodes
    return known


class _Expansion:
    """The nodes of one product."""

    def __init__(self, graph: fg.Graph, product: fg.Mul, ranges: Ranges) -> None:
        self.graph, self.product, self.ranges = graph, product, ranges
        self.shape = graph.values[product.output].shape
        self.nodes: list[fg.Node] = []
        self.known: dict[str, tuple[float, float]] = {}
        x, y = product.inputs
        if graph.values[x].kind == "bool":
            x, y = y, x
        if graph.values[y].kind == "bool":
            self._mask(self._whole(x), y)
        else:
            self._numbers(self._whole(x), self._whole(y))

    def _value(self, part: str, shape: tuple[int, ...], kind: str = "float") -> str:
        name = f"{self.product.output}.{part}"
        self.graph.values[name] = fg.Value(name, shape, kind)
        return name

    def _whole(self, name: str) -> str:
        """``name``, broadcast to the shape of the product."""
        shape = self.graph.values[name].shape
        if shape == self.shape:
            return name
        source = self.product.source
        full = (1,) * (len(self.shape) - len(shape)) + shape
        if full != shape:
            flat = self._value(f"axes{len(self.nodes)}", full)
            self.nodes.append(fg.View(flat, [name], flat, source, kind="reshape", arg=full))
            name = flat
        wide = self._value(f"wide{len(self.nodes)}", self.shape)
        self.nodes.append(fg.View(wide, [name], wide, source, kind="expand", arg=self.shape))
        return wide

    def _top(self, name: str) -> float:
        """The largest magnitude of a factor."""
        given = {w.output: w.inputs[0] for w in self.nodes if isinstance(w, fg.View)}
        while name in given:
            name = given[name]
        return max((abs(v) for v in self.ranges.get(name, ())), default=0.0) or 1.0

    def _apply(self, part: str, kind: str, x: str, y: str, factors: tuple[float, float]) -> str:
        """``kind`` of a sum."""
        total, result = self._value(part, self.shape), self._value(f"{part}.{kind}", self.shape)
        source = self.product.source
        function = _SQUARE if kind == "square" else kind
        self.nodes.append(fg.Add(total, [x, y], total, source, factors=factors))
        self.nodes.append(fg.Activation(result, [total], result, source, kind=function))
        return result

    def _difference(self, x: str, y: str, factor: float) -> None:
        out = self.product.output
        factors = (factor, -factor)
        self.nodes.append(fg.Add(out, [x, y], out, self.product.source, factors=factors))

    def _numbers(self, x: str, y: str) -> None:
        g = math.sqrt(self._top(y) / self._top(x))
        plus = self._apply("plus", "square", x, y, (g, 1.0 / g))
        minus = self._apply("minus", "square", x, y, (g, -1.0 / g))
        self._difference(plus, minus, self.product.factor / 4.0)

    def _mask(self, x: str, mask: str) -> None:
        source, shape = self.product.source, self.graph.values[mask].shape
        gone, far = self._value("gone", shape, "bool"), self._value("far", shape)
        top = _BEYOND * self._top(x)
        self.nodes.append(fg.Not(gone, [mask], gone, source))
        self.nodes.append(fg.Activation(far, [gone], far, source, kind=_TABLE, factor=top))
        self.known |= {gone: (0.0, 1.0), far: (0.0, top)}
        far = self._whole(far)
        up = self._apply("up", "relu", x, far, (1.0, -1.0))
        down = self._apply("down", "relu", x, far, (-1.0, -1.0))
        self._difference(up, down, self.product.factor)
