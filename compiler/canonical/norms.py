"""Normalization: vectors behind it fold into it; RMSNorm becomes a LayerNorm."""

from __future__ import annotations

import numpy as np

from intformer.compiler import graph as fg

__all__ = ["expand_rms_norms", "fold_norm_vectors"]


def fold_norm_vectors(graph: fg.Graph) -> None:
    """Fold a vector that scales, or is added to, the only use of a norm into gamma and beta."""
    producers, consumers = graph.producers(), graph.consumers()
    nodes: list[fg.Node] = []
    for node in graph.nodes:
        norm = producers.get(node.inputs[0]) if node.inputs else None
        single = len(consumers.get(node.inputs[0], ())) == 1 if node.inputs else False
        open_ended = node.inputs and node.inputs[0] in graph.outputs
        if single and graph.values[node.inputs[0]].coding is not None:
            single = False  # to be stored as the model says
        if single and not open_ended and _fold(graph, norm, node):
            assert norm is not None
            norm.output = norm.name = node.output
            producers[node.output] = norm
        else:
            nodes.append(node)
    graph.nodes = nodes


def _fold(graph: fg.Graph, norm: fg.Node | None, node: fg.Node) -> bool:
    if isinstance(norm, fg.RMSNorm | fg.LayerNorm) and isinstance(node, fg.Scale):
        if np.ndim(node.factor) == 0 and isinstance(norm, fg.LayerNorm):
            return False  # moves on into what reads the norm, see sink_scales
        norm.gamma = np.asarray(norm.gamma * node.factor, np.float32)
        if isinstance(norm, fg.LayerNorm):
            norm.beta = np.asarray(norm.beta * node.factor, np.float32)
        return True
    if isinstance(norm, fg.LayerNorm) and isinstance(node, fg.Add) and node.factors == (1.0, 1.0):
        vector = graph.values[node.inputs[1]].const
        n = len(norm.gamma)
        if vector is None or vector.shape[-1:] != (n,) or vector.size != n:
            return False
        norm.beta = np.asarray(norm.beta + vector.reshape(-1), np.float32)
        return True
    return False


def expand_rms_norms(graph: fg.Graph) -> None:
    """RMSNorm of ``x`` as the first half of the LayerNorm of ``x`` beside ``-x``.

    The mean of both together is 0, and the variance is the mean of ``x**2``: the same function,
    on the unit that there is.
    """
    nodes: list[fg.Node] = []
    for node in graph.nodes:
        if isinstance(node, fg.RMSNorm):
            nodes.extend(_expanded(graph, node))
        else:
            nodes.append(node)
    graph.nodes = nodes


def _expanded(graph: fg.Graph, node: fg.RMSNorm) -> list[fg.Node]:
    (x,) = node.inputs
    shape = graph.values[x].shape
    n = shape[-1]
    wide = (*shape[:-1], 2 * n)
    minus, both, normed = (f"{node.output}.{part}" for part in ("minus", "both", "wide"))
    for name, size in ((minus, shape), (both, wide), (normed, wide)):
        graph.values[name] = fg.Value(name, size)
    graph.values[normed].coding = graph.values[node.output].coding
    gamma = np.concatenate([node.gamma, node.gamma])
    axis = len(shape) - 1
    cut = [[0, size, 1] for size in shape]
    return [
        fg.Scale(minus, [x], minus, node.source, factor=-np.ones(n, np.float32)),
        fg.View(both, [x, minus], both, node.source, kind="cat", arg=axis),
        fg.LayerNorm(
            normed,
            [both],
            normed,
            node.source,
            gamma=gamma,
            beta=np.zeros(2 * n, np.float32),
            eps=node.eps,
        ),
        fg.View(node.output, [normed], node.output, node.source, kind="slice", arg=cut),
    ]
