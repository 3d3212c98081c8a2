"""Rewrites of linear layers: split by the slices of their outputs, fold vectors behind them."""

from __future__ import annotations

import itertools

import numpy as np

from intformer.compiler import graph as fg

__all__ = ["fold_vectors", "split_linears"]


def _is_linear(graph: fg.Graph, node: fg.Node | None) -> bool:
    return isinstance(node, fg.MatMul) and graph.values[node.inputs[1]].const is not None


def split_linears(graph: fg.Graph) -> None:
    """Replace a linear layer of which only slices are used by one layer for each slice.

    Query, key and value of attention, computed by one layer, so get a scale each.
    """
    consumers = graph.consumers()
    nodes: list[fg.Node] = []
    renamed: dict[str, str] = {}
    for node in graph.nodes:
        if node.output in renamed:
            continue
        node.inputs = [renamed.get(name, name) for name in node.inputs]
        readers = consumers[node.output]
        if not _is_linear(graph, node) or not _all_cut(graph, node, readers):
            nodes.append(node)
            continue
        assert isinstance(node, fg.MatMul)
        for reader in readers:
            assert isinstance(reader, fg.View)
            nodes.append(_part(graph, node, reader))
            renamed[reader.output] = nodes[-1].output
    graph.nodes = nodes
    graph.outputs = [renamed.get(name, name) for name in graph.outputs]


def _all_cut(graph: fg.Graph, node: fg.Node, readers: list[fg.Node]) -> bool:
    """Whether all readers are slices of the last axis alone, disjoint ones."""
    shape = graph.values[node.output].shape
    whole = [[0, n, 1] for n in shape[:-1]]
    parts = []
    for reader in readers:
        if not isinstance(reader, fg.View) or reader.kind != "slice":
            return False
        if [list(p) for p in reader.arg[:-1]] != whole or reader.arg[-1][2] != 1:
            return False
        parts.append(reader.arg[-1])
    parts.sort()
    disjoint = all(p[1] <= q[0] for p, q in itertools.pairwise(parts))
    return bool(parts) and disjoint and node.output not in graph.outputs


def _part(graph: fg.Graph, node: fg.MatMul, cut: fg.View) -> fg.MatMul:
    start, stop, _ = cut.arg[-1]
    name = f"{node.output}[{start}:{stop}]"
    weight = f"{node.inputs[1]}[{start}:{stop}]"
    matrix, given = graph.values[node.inputs[1]].const, graph.values[node.inputs[1]].coding
    assert matrix is not None
    graph.values[weight] = fg.Value(
        weight,
        (stop - start, matrix.shape[1]),
        "float",
        matrix[start:stop],
        given.rows(start, stop) if isinstance(given, fg.WeightCoding) else None,
    )
    part = graph.values[cut.output]
    coding = part.coding or graph.values[node.output].coding
    graph.values[name] = fg.Value(name, part.shape, coding=coding)
    bias = None if node.bias is None else node.bias[start:stop]
    return fg.MatMul(
        name, [node.inputs[0], weight], name, node.source, bias=bias, factor=node.factor
    )


def fold_vectors(graph: fg.Graph) -> None:
    """Fold a constant vector that is added to, or scales, a linear layer's only use into it."""
    producers, consumers = graph.producers(), graph.consumers()
    nodes: list[fg.Node] = []
    for node in graph.nodes:
        linear = producers.get(node.inputs[0]) if node.inputs else None
        single = (
            _is_linear(graph, linear)
            and len(consumers[node.inputs[0]]) == 1
            and node.inputs[0] not in graph.outputs
            and graph.values[node.inputs[0]].coding is None
        )
        if single and isinstance(linear, fg.MatMul) and _fold(graph, linear, node):
            linear.output = linear.name = node.output
            producers[node.output] = linear
        else:
            nodes.append(node)
    graph.nodes = nodes


def _fold(graph: fg.Graph, linear: fg.MatMul, node: fg.Node) -> bool:
    """Fold ``node`` into ``linear``; false if it is no addition or scaling by a vector."""
    n = graph.values[linear.output].shape[-1]
    weights = graph.values[linear.inputs[1]]
    bias = np.zeros(n, np.float32) if linear.bias is None else linear.bias
    if isinstance(node, fg.Add):
        vector = graph.values[node.inputs[1]].const
        if vector is None or vector.size not in (1, n) or vector.shape[-1:] != (vector.size,):
            return False
        linear.bias = node.factors[0] * bias + node.factors[1] * vector.reshape(-1)
        linear.factor *= node.factors[0]
        return True
    if isinstance(node, fg.Scale):
        factor = np.broadcast_to(np.asarray(node.factor, np.float32), (n,))
        matrix = weights.const
        assert matrix is not None
        if weights.coding is not None:
            return False
        weight = f"{linear.inputs[1]}.scaled"
        graph.values[weight] = fg.Value(weight, matrix.shape, "float", matrix * factor[:, None])
        linear.inputs = [linear.inputs[0], weight]
        linear.bias = bias * factor
        return True
    return False
