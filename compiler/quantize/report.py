"""What a quantized model holds, in plain data for reports and manifests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from intformer.compiler import integer_graph as ig

__all__ = ["describe"]


def describe(graph: ig.IntGraph, notes: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """A dictionary for each input and computed tensor: what makes it, its type and scale.

    ``table``: whether an activation function ends in 256 entries; ``function``: whether in
    quadratic segments. ``notes`` adds to tensors what the quantizer chose: ``smoothing`` (the
    exponent of the channels' scales), ``weights`` and ``solver`` of static products, and their
    ``operand``: the type of what they multiply, int16 for two passes, ``int8 per token`` for rows
    with scales of their own. Of these rows ``scale`` is to be multiplied by the row's factor.
    """
    makers = {name: node for node in graph.nodes for name in node.outputs}
    result = []
    for tensor in graph.tensors.values():
        node = makers.get(tensor.name)
        if tensor.const is not None or isinstance(node, ig.View):
            continue
        post = node.post if isinstance(node, ig.MatMul | ig.Pointwise) else None
        result.append(
            {
                "tensor": tensor.name,
                "op": type(node).__name__ if node else "Input",
                "source": node.source if node else "",
                "shape": list(tensor.shape),
                "dtype": tensor.dtype,
                "scale": tensor.scale,
                "zero_point": tensor.zero_point,
                "table": post is not None and post.table is not None,
                "function": post is not None and post.function is not None,
                **notes.get(tensor.name, {}),
            }
        )
    return result
