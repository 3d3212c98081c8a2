"""Rules for softmax, masks and scaled dot-product attention."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import torch

from intformer.compiler import graph as fg
from intformer.compiler.frontend.issues import Unsupported
from intformer.compiler.frontend.lowering import Lowering, Masked, Tensor, rule
from intformer.compiler.frontend.ops_math import batched_matmul

__all__ = ["additive_mask"]

Operand: TypeAlias = "Tensor | torch.Tensor"

_NEVER = -1e4
"""Scores at or below this, added or filled in, mean that the element does not count."""


@rule("aten.scaled_dot_product_attention")
def _attention(
    lo: Lowering,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Operand | None = None,
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
    keep = None if mask is None else _keep(lo, mask)
    p = _softmax_node(lo, scores, keep, factor, f"{lo.name}.softmax", causal=is_causal)
    return batched_matmul(lo, p, lo.wrap(lo.build.swap_last(v.name)), lo.name)


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
        found = _causal_offset(mask)
        if found is not None and not causal and tuple(mask.shape[-2:]) == x.shape[-2:]:
            causal, offset = True, found
        elif not bool(mask.all()):
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


def _before_expand(lo: Lowering, name: str) -> str:
    """A mask before a broadcast along leading axes, which the softmax does by itself."""
    node = lo.build.graph.producers().get(name)
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


def _keep(lo: Lowering, mask: Operand) -> Operand:
    """An attention mask as true = keep."""
    if isinstance(mask, Tensor):
        if lo.build.graph.values[mask.name].kind != "bool":
            raise Unsupported(
                "the mask is a computed float tensor that is added to the scores",
                "pass a boolean mask (true = attend)",
            )
        return mask
    if mask.dtype == torch.bool:
        return mask
    keep = _as_predicate(mask)
    if keep is None:
        raise Unsupported(
            "the float mask holds values other than 0 and minus infinity (a position bias)",
            "use a mask of 0 and -inf, or a boolean one",
        )
    return keep


def _as_predicate(mask: torch.Tensor) -> torch.Tensor | None:
    """True where an additive mask is 0, if it is 0 or very negative everywhere."""
    keep = mask == 0
    return keep if bool((keep | (mask <= _NEVER)).all()) else None


def additive_mask(lo: Lowering, x: Any, y: Any, alpha: float) -> Masked | None:
    """``scores + mask`` with a constant mask of 0 and -inf; ``None`` if it is another sum."""
    if isinstance(x, torch.Tensor):
        x, y = y, x
    if not isinstance(x, Tensor) or not isinstance(y, torch.Tensor) or alpha != 1:
        if isinstance(x, Masked) or isinstance(y, Masked):
            raise Unsupported("adds to masked scores", "apply softmax right after one mask")
        return None
    keep = _as_predicate(y)
    if keep is None or bool(keep.all()):
        return None
    return Masked(x, keep)


@rule("aten.masked_fill")
def _masked_fill(lo: Lowering, x: Tensor, mask: Operand, value: Any) -> Masked:
    if float(value) > _NEVER:
        raise Unsupported(
            f"fills masked elements with {float(value)}",
            "only -inf (or a number below -10000) before a softmax can be mapped",
        )
    return Masked(x, _invert(lo, mask))


@rule("aten.where")
def _where(lo: Lowering, mask: Operand, x: Any, y: Any) -> Masked:
    if isinstance(x, Tensor) and isinstance(y, torch.Tensor) and bool((y <= _NEVER).all()):
        return Masked(x, mask)
    if isinstance(y, Tensor) and isinstance(x, torch.Tensor) and bool((x <= _NEVER).all()):
        return Masked(y, _invert(lo, mask))
    raise Unsupported(
        "chooses between two tensors",
        "only where(mask, scores, -inf) before a softmax can be mapped",
    )


@rule("aten.bitwise_not", "aten.logical_not")
def _not(lo: Lowering, x: Tensor) -> Tensor:
    if lo.build.graph.values[x.name].kind != "bool":
        raise Unsupported("inverts the bits of integers", "use a boolean mask")
    return lo.wrap(lo.build.node(fg.Not, lo.name, [x.name], x.shape, value_kind="bool"))


def _invert(lo: Lowering, mask: Operand) -> Operand:
    return _not(lo, mask) if isinstance(mask, Tensor) else ~mask
