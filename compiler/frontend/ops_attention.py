"""Rules for softmax, masks and scaled dot-product attention."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import torch

from intformer.compiler import graph as fg
from intformer.compiler.frontend.issues import Unsupported
from intformer.compiler.frontend.lowering import Lowering, Masked, MaskTerm, Tensor, rule
from intformer.compiler.frontend.ops_masks import as_predicate, mask_term, plus
from intformer.compiler.frontend.ops_math import batched_matmul
from intformer.compiler.frontend.ops_math import scale as scaled

__all__: list[str] = []

Operand: TypeAlias = "Tensor | torch.Tensor"

@rule("aten.scaled_dot_product_attention")
def _attention(
    lo: Lowering,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Operand | MaskTerm | Masked | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    if dropout_p:
        raise Unsupported("dropout in attention is random", "set dropout_p to 0 in .eval()")
    if not all(isinstance(x, Tensor) for x in (q, k, v)):
        raise Unsupported("query, key or value is a constant", "compute all three from the inputs")
    if enable_gqa and k.shape[-3] != q.shape[-3]:
        k, v = (_repeat_heads(lo, x, q.shape[-3]) for x in (k, v))
    factor = 1.0 / math.sqrt(q.shape[-1]) if scale is None else float(scale)
    scores = batched_matmul(lo, q, k, f"{lo.name}.scores")
    keep, bias = _parts(lo, mask)
    if bias is not None:
        scores, factor = plus(lo, scaled(lo, scores, factor), bias), 1.0
    p = _softmax_node(lo, scores, keep, factor, f"{lo.name}.softmax", causal=is_causal)
    return batched_matmul(lo, p, lo.wrap(lo.build.swap_last(v.name)), lo.name)


def _parts(
    lo: Lowering, mask: Operand | MaskTerm | Masked | None
) -> tuple[Operand | None, Operand | None]:
    """An attention mask as a predicate (true = keep) and a bias that is added to the scores."""
    if isinstance(mask, torch.Tensor):
        return (mask, None) if mask.dtype == torch.bool else as_predicate(mask)
    if isinstance(mask, Tensor) and lo.kind(mask) == "float":
        mask = mask_term(lo, mask) or mask
    if isinstance(mask, MaskTerm):
        return mask.mask, mask.bias
    if isinstance(mask, Masked):
        return mask.mask, mask.scores
    if mask is None or lo.kind(mask) == "bool":
        return mask, None
    if _is_input(lo, mask.name):
        raise Unsupported(
            "the mask is a float input that is added to the scores",
            "pass a boolean mask (true = attend)",
        )
    return None, mask


def _is_input(lo: Lowering, name: str) -> bool:
    """Whether a value is a model input, or a view of one."""
    node = lo.build.made.get(name)
    while isinstance(node, fg.View):
        name = node.inputs[0]
        node = lo.build.made.get(name)
    return name in lo.build.graph.inputs


def _repeat_heads(lo: Lowering, x: Tensor, heads: int) -> Tensor:
    *lead, own, rows, n = x.shape
    name = lo.build.reshape(x.name, (*lead, own, 1, rows, n))
    name = lo.build.expand(name, (*lead, own, heads // own, rows, n))
    return lo.wrap(lo.build.reshape(name, (*lead, heads, rows, n)))


@rule("aten.softmax", "aten._softmax")
def _softmax(lo: Lowering, x: Tensor | Masked, axis: int, *_args: Any, **_kwargs: Any) -> Tensor:
    if axis % len(x.shape) != len(x.shape) - 1:
        raise Unsupported(f"softmax over axis {axis}", "softmax over the last axis")
    if isinstance(x, Masked):
        return _softmax_node(lo, x.scores, x.mask, 1.0, lo.name)
    return _softmax_node(lo, x, None, 1.0, lo.name)


def _softmax_node(
    lo: Lowering,
    x: Tensor,
    mask: Operand | None,
    factor: float,
    name: str,
    *,
    causal: bool = False,
) -> Tensor:
    offset = 0
    inputs = [x.name]
    if isinstance(mask, torch.Tensor):
        mask = mask.to(torch.bool)
        found = _causal_offset(mask)
        if found is not None and not causal and tuple(mask.shape[-2:]) == x.shape[-2:]:
            causal, offset = True, found
        elif not bool(mask.all()):
            mask = _without_repeats(mask)
            sizes = (*mask.shape[:-1], x.shape[-1])
            inputs.append(lo.const(mask.expand(sizes).contiguous(), f"{name}.mask"))
    elif mask is not None:
        sizes = (*mask.shape[:-1], x.shape[-1])
        inputs.append(lo.build.expand(_before_expand(lo, mask.name), sizes))
    output = lo.build.node(
        fg.Softmax,
        name,
        inputs,
        x.shape,
        factor=factor,
        causal=causal,
        causal_offset=offset,
    )
    return lo.wrap(output)


def _without_repeats(mask: torch.Tensor) -> torch.Tensor:
    """``mask`` with size 1 where it repeats along a leading axis."""
    for axis in range(mask.ndim - 1):
        first = mask.narrow(axis, 0, 1)
        if torch.equal(first.expand_as(mask), mask):
            mask = first
    return mask


def _before_expand(lo: Lowering, name: str) -> str:
    """A mask before a broadcast along leading axes, which the softmax does by itself."""
    node = lo.build.made.get(name)
    if isinstance(node, fg.View) and node.kind == "expand":
        inner = node.inputs[0]
        if lo.build.shape(inner)[-1] == lo.build.shape(name)[-1]:
            return inner
    return name


def _causal_offset(mask: torch.Tensor) -> int | None:
    """The diagonal, if a mask is lower triangular, the same for all leading indices."""
    if mask.ndim < 2 or mask.numel() != mask.shape[-1] * mask.shape[-2]:
        return None
    matrix = mask.reshape(mask.shape[-2:])
    offset = int(matrix[0].sum()) - 1
    same = torch.equal(matrix, torch.ones_like(matrix).tril(offset))
    return offset if same and offset >= 0 else None
