"""Sums with constants that are all zero."""

from __future__ import annotations

from intformer.compiler import graph as fg

__all__ = ["drop_zeros"]


def drop_zeros(graph: fg.Graph) -> None:
    """Replace ``x + 0`` by ``x``, scaled by its factor if there is one."""
    alias: dict[str, str] = {}
    nodes: list[fg.Node] = []
    for node in graph.nodes:
        node.inputs = [alias.get(name, name) for name in node.inputs]
        main = _other_than_zero(graph, node) if isinstance(node, fg.Add) else None
        if main is None:
            nodes.append(node)
            continue
        assert isinstance(node, fg.Add)
        name, factor = node.inputs[main], node.factors[main]
        given = graph.values[node.output].coding
        if factor == 1.0 and given in (None, graph.values[name].coding):
            alias[node.output] = name
        else:
            nodes.append(fg.Scale(node.name, [name], node.output, node.source, factor=factor))
    graph.nodes = nodes
    graph.outputs = [alias.get(name, name) for name in graph.outputs]


def _other_than_zero(graph: fg.Graph, node: fg.Add) -> int | None:
    """Which operand is the whole sum, if the other is a constant of zeros."""
    out = graph.values[node.output]
    for main in (0, 1):
        x, y = (graph.values[node.inputs[i]] for i in (main, 1 - main))
        zero = y.const is not None and not y.const.any()
        if zero and (x.shape, x.kind) == (out.shape, out.kind):
            return main
    return None
