"""Constants that are added one after the other become one (position and token-type embeddings)."""

from __future__ import annotations

import numpy as np

from intformer.compiler import graph as fg

__all__ = ["join_constants"]


def join_constants(graph: fg.Graph) -> None:
    """Turn ``(x + c) + d`` into ``x + e`` where nothing else reads the inner sum.

    A sum whose coding is given stays: it is rounded.
    """
    producers, consumers = graph.producers(), graph.consumers()
    for node in graph.nodes:
        outer = _constant_operand(graph, node)
        if outer is None:
            continue
        inner_node = producers.get(node.inputs[1 - outer])
        inner = _constant_operand(graph, inner_node)
        if inner is None or inner_node is None or inner_node.output in graph.outputs:
            continue
        if len(consumers[inner_node.output]) > 1 or graph.values[inner_node.output].coding:
            continue
        assert isinstance(node, fg.Add) and isinstance(inner_node, fg.Add)
        factor = node.factors[1 - outer]
        first, second = graph.values[inner_node.inputs[inner]], graph.values[node.inputs[outer]]
        assert first.const is not None and second.const is not None
        joined = (
            np.float64(factor * inner_node.factors[inner]) * first.const
            + np.float64(node.factors[outer]) * second.const
        ).astype(np.float32)
        x = inner_node.inputs[1 - inner]
        shape = graph.values[node.output].shape
        if shape not in (graph.values[x].shape, joined.shape):
            continue
        name = f"{node.output}.constants"
        graph.values[name] = fg.Value(name, joined.shape, "float", joined)
        node.inputs = [x, name]
        node.factors = (factor * inner_node.factors[1 - inner], 1.0)


def _constant_operand(graph: fg.Graph, node: fg.Node | None) -> int | None:
    """Number of the only constant operand of a sum."""
    if not isinstance(node, fg.Add):
        return None
    constant = [graph.values[name].const is not None for name in node.inputs]
    return constant.index(True) if sum(constant) == 1 else None
