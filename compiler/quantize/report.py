"""What a quantized model holds, in plain data for reports and manifests."""

from __future__ import annotations

from typing import Any

from intformer.compiler import integer_graph as ig

__all__ = ["describe"]


def describe(graph: ig.IntGraph) -> list[dict[str, Any]]:
    """A dictionary for each input and computed tensor: what makes it, its type and scale."""
    makers = {node.output: node for node in graph.nodes}
    result = []
    for tensor in graph.tensors.values():
        node = makers.get(tensor.name)
        if tensor.const is not None or isinstance(node, ig.View):
            continue
        result.append(
            {
                "tensor": tensor.name,
                "op": type(node).__name__ if node else "Input",
                "source": node.source if node else "",
                "shape": list(tensor.shape),
                "dtype": tensor.dtype,
                "scale": tensor.scale,
                "zero_point": tensor.zero_point,
                "table": isinstance(node, ig.MatMul | ig.Pointwise) and node.post.table is not None,
            }
        )
    return result
