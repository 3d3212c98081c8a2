"""What every instruction asks of the layout of its operands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from intformer.compiler.integer_graph import (
    Gather,
    IntGraph,
    LayerNorm,
    MatMul,
    Node,
    Pointwise,
    RowScale,
    Softmax,
    View,
)

__all__ = ["Need", "Use", "has_group_operands", "is_static", "uses_of"]


class Need(Enum):
    """Requirement on the positions of an operand.

    WORDS: every row is contiguous and starts at a word. EVEN: also, the rows of each matrix (the
    last two axes) lie at a constant distance. GROUPS: every row falls into contiguous
    pieces that start at a lane group, at columns that are multiples of ``lanes``. PACKED: the
    canonical layout, in one piece.
    """

    WORDS = "words"
    EVEN = "even"
    GROUPS = "groups"
    PACKED = "packed"


@dataclass(frozen=True)
class Use:
    """Node number ``when`` reads ``tensor`` on the chip (the number of nodes: a STORE)."""

    tensor: str
    need: Need
    when: int


def is_static(graph: IntGraph, node: MatMul) -> bool:
    """Whether the weights stream from external memory."""
    b = graph.tensors[node.inputs[1]]
    return b.const is not None and len(b.shape) == 2


def has_group_operands(node: Node) -> bool:
    """Whether POST reads another stored operand beside what it writes."""
    if isinstance(node, Pointwise):
        return True
    return isinstance(node, MatMul) and node.post.residual is not None


def uses_of(graph: IntGraph) -> Iterator[Use]:
    """All uses, in the order of the nodes, outputs last."""
    for when, node in enumerate(graph.nodes):
        for tensor, need in _node_uses(graph, node):
            yield Use(tensor, need, when)
    for name in dict.fromkeys(graph.outputs):
        yield Use(name, Need.PACKED, len(graph.nodes))


def _node_uses(graph: IntGraph, node: Node) -> Iterator[tuple[str, Need]]:
    if isinstance(node, View):
        return
    if isinstance(node, MatMul):
        yield node.inputs[0], Need.WORDS
        if not is_static(graph, node):
            yield node.inputs[1], Need.EVEN
    elif isinstance(node, Pointwise):
        yield node.inputs[0], Need.GROUPS
    elif isinstance(node, Softmax | LayerNorm | RowScale):
        for name in node.inputs:
            yield name, Need.WORDS
    elif isinstance(node, Gather):
        yield node.inputs[0], Need.WORDS
    if isinstance(node, MatMul) and node.post.factor is not None:
        yield node.post.factor, Need.WORDS
    if isinstance(node, MatMul | Pointwise) and node.post.residual is not None:
        yield node.post.residual, Need.GROUPS
