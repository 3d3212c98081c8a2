"""Takes ``scaled_dot_product_attention`` apart in an FX graph, for PT2E to annotate its inside."""

from __future__ import annotations

import math
from typing import Any

import torch

__all__ = ["decompose_attention"]

_aten = torch.ops.aten
_NAMES = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")


def decompose_attention(model: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """Replace every attention by products, scaling, mask and softmax, in place.

    One with dropout or grouped heads stays as it is.
    """
    for node in list(model.graph.nodes):
        if node.target is _aten.scaled_dot_product_attention.default:
            _decompose(model.graph, node)
    model.graph.lint()
    model.recompile()
    return model


def _decompose(graph: torch.fx.Graph, node: torch.fx.Node) -> None:
    given = dict(zip(_NAMES, node.args, strict=False)) | dict(node.kwargs)
    if given.get("dropout_p") or given.get("enable_gqa"):
        return
    q, k, v = (given[name] for name in _NAMES[:3])
    width = q.meta["val"].shape[-1]
    factor = given.get("scale") or 1.0 / math.sqrt(width)
    with graph.inserting_before(node):

        def call(target: Any, *args: Any, **kwargs: Any) -> torch.fx.Node:
            made = graph.call_function(target, args, kwargs)
            values = torch.fx.map_arg((args, kwargs), lambda n: n.meta["val"])
            made.meta = {key: node.meta[key] for key in node.meta if key != "val"}
            made.meta["val"] = target(*values[0], **values[1])
            return made

        keys = call(_aten.transpose.int, k, -2, -1)
        scores = call(_aten.matmul.default, q, keys)
        scores = call(_aten.mul.Tensor, scores, factor)
        scores = _masked(call, scores, given)
        p = call(_aten.softmax.int, scores, -1)
        result = call(_aten.matmul.default, p, v)
    node.replace_all_uses_with(result)
    graph.erase_node(node)


def _masked(call: Any, scores: torch.fx.Node, given: dict[str, Any]) -> torch.fx.Node:
    mask = given.get("attn_mask")
    if given.get("is_causal"):
        rows, n = scores.meta["val"].shape[-2:]
        ones = call(_aten.ones.default, [rows, n], dtype=torch.bool)
        mask = call(_aten.tril.default, ones)
    if mask is None:
        return scores
    if mask.meta["val"].dtype != torch.bool:
        return call(_aten.add.Tensor, scores, mask)
    gone = call(_aten.logical_not.default, mask)
    return call(_aten.masked_fill.Scalar, scores, gone, -math.inf)
