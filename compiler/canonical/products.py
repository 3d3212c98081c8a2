"""Products of two computed tensors, element by element, by sums and squares."""

from __future__ import annotations

from intformer.compiler import graph as fg
from intformer.compiler.expressions import call

__all__ = ["expand_products"]

_SQUARE = call("mul", "x", "x")


def expand_products(graph: fg.Graph) -> None:
    """``x * y`` as ``((x + y)**2 - (x - y)**2) / 4``: sums, and squares by a table."""
    nodes: list[fg.Node] = []
    for node in graph.nodes:
        if isinstance(node, fg.Mul):
            nodes.extend(_expanded(graph, node))
        else:
            nodes.append(node)
    graph.nodes = nodes


def _expanded(graph: fg.Graph, node: fg.Mul) -> list[fg.Node]:
    x, y = node.inputs
    shape = graph.values[node.output].shape
    result: list[fg.Node] = []
    squares = []
    for part, sign in (("plus", 1.0), ("minus", -1.0)):
        total, square = f"{node.output}.{part}", f"{node.output}.{part}.square"
        for name in (total, square):
            graph.values[name] = fg.Value(name, shape)
        result.append(fg.Add(total, [x, y], total, node.source, factors=(1.0, sign)))
        result.append(fg.Activation(square, [total], square, node.source, kind=_SQUARE))
        squares.append(square)
    share = node.factor / 4.0
    result.append(
        fg.Add(node.output, squares, node.output, node.source, factors=(share, -share))
    )
    return result
