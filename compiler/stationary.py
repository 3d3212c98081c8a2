"""The range of codes that the array holds as weights, or as the stationary operand of a product.

A ``dsp_packed`` array multiplies two weights at once and takes none below -127. Static weights are
symmetric anyhow; operands that are computed (the keys and values of attention) are clipped
where they are written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from intformer import reference
from intformer.compiler.integer_graph import (
    Gather,
    IntGraph,
    LayerNorm,
    MatMul,
    Node,
    Pointwise,
    PostParams,
    RowScale,
    View,
)
from intformer.errors import UserError

__all__ = ["STATIONARY_MIN", "check_stationary", "clip_stationary"]

STATIONARY_MIN = -127
"""Least code that every array takes as a weight."""


def clip_stationary(graph: IntGraph) -> None:
    """Keep the computed stationary operands of all products at -127 or more, in place.

    The node that writes such an operand saturates there; a copy is made of one that no node
    writes (an input of the graph).
    """
    for position in reversed(range(len(graph.nodes))):
        node = graph.nodes[position]
        if isinstance(node, MatMul) and graph.tensors[node.inputs[1]].const is None:
            sources = list(_sources(graph, node.inputs[1]))
            stored = [source for source in sources if isinstance(source, str)]
            if any(_least(graph, source) < STATIONARY_MIN for source in stored):
                graph.nodes.insert(position, _copy(graph, node))
                sources = list(_sources(graph, node.inputs[1]))
            for source in sources:
                _clip(graph, source)


def check_stationary(graph: IntGraph, least: int) -> None:
    """Check that no product's stationary operand can have a code below ``least``.

    Raises
    ------
    UserError
        The message names the product, its operand and where the code comes from.
    """
    for node in graph.nodes:
        if not isinstance(node, MatMul):
            continue
        name = node.inputs[1]
        for source in _sources(graph, name):
            low = _least(graph, source)
            if low < least:
                origin = source if isinstance(source, str) else source.name
                raise UserError(
                    f"{node.name}: its operand {name!r} can hold {low} (from {origin!r}), but the "
                    f"array takes weights from {least}; quantize to {least}..127 or use an array "
                    "of one product per DSP"
                )


def _sources(graph: IntGraph, name: str) -> Iterator[Node | str]:
    """The nodes, inputs and constants that the elements of a tensor come from."""
    makers = {node.output: node for node in graph.nodes}
    pending, seen = [name], set()
    while pending:
        current = pending.pop()
        if current in seen:
            continue
        seen.add(current)
        node = makers.get(current)
        if isinstance(node, View):
            pending += node.inputs
        elif isinstance(node, Gather):
            pending.append(node.inputs[1])
        else:
            yield current if node is None else node


def _least(graph: IntGraph, source: Node | str) -> int:
    """Least code that a source can hold."""
    if isinstance(source, str):
        tensor = graph.tensors[source]
        if tensor.const is not None:
            return int(np.min(tensor.const, initial=0))
        return reference.LIMITS[tensor.dtype][0]
    if isinstance(source, MatMul | Pointwise):
        return _least_of_post(source.post)
    if isinstance(source, LayerNorm):
        return source.lo
    return -127 if isinstance(source, RowScale) else 0  # softmax


def _least_of_post(post: PostParams) -> int:
    if post.function is not None:
        return post.function.lo
    return post.lo if post.table is None else int(np.min(post.table))


def _clip(graph: IntGraph, source: Node | str) -> None:
    """Let the node saturate at :data:`STATIONARY_MIN`."""
    if isinstance(source, MatMul | Pointwise):
        post = source.post
        if post.function is not None:
            low = max(post.function.lo, STATIONARY_MIN)
            post.function = dataclasses.replace(post.function, lo=low)
        elif post.table is None:
            post.lo = max(post.lo, STATIONARY_MIN)
        else:
            post.table = np.maximum(post.table, STATIONARY_MIN).astype(post.table.dtype)
    elif isinstance(source, LayerNorm):
        source.lo = max(source.lo, STATIONARY_MIN)


def _copy(graph: IntGraph, node: MatMul) -> Pointwise:
    """A node that copies the operand of ``node``, which reads the copy from now on."""
    original = graph.tensors[node.inputs[1]]
    name = f"{original.name}.clipped"
    while name in graph.tensors:
        name += "_"
    graph.tensors[name] = dataclasses.replace(original, name=name)
    post = PostParams(
        bias=np.zeros(1, np.int32),
        mult=np.array([1 << 14], np.int16),
        shift=np.array([14], np.uint8),
        lo=STATIONARY_MIN,
        hi=reference.LIMITS["int8"][1],
    )
    node.inputs[1] = name
    return Pointwise(name, [original.name], name, node.source, post=post)
