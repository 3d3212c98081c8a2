"""Rules for masks: comparisons of ids, masks that are added or filled in before a softmax.

A mask is a predicate (true: the element counts), never a big negative number: constants and
what a model computes from an input of ones and zeros are recognized as such.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import torch

from intformer.compiler import graph as fg
from intformer.compiler.float_eval import activation, compare
from intformer.compiler.frontend.issues import Unsupported
from intformer.compiler.frontend.lowering import Lowering, Masked, MaskTerm, Tensor, rule

__all__ = ["additive_mask", "as_predicate", "input_mask", "mask_term", "masked_integers"]

Operand: TypeAlias = "Tensor | torch.Tensor"

NEVER = -64.0
"""Scores to which this or less is added, or that are set to it, do not count: exp(-64) is far
below a step of any probability."""


def as_predicate(mask: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """A float mask as a predicate (true = keep) and a bias; ``None`` for what there is not."""
    keep = mask > NEVER
    bias = torch.where(keep, mask, torch.zeros_like(mask))
    return (None if bool(keep.all()) else keep), (bias if bool((bias != 0).any()) else None)


def mask_term(lo: Lowering, x: Tensor) -> MaskTerm | None:
    """``x`` as a mask that is added, if it is 0 and very negative for an input of 1 and 0."""
    found = _of_mask(lo, x.name)
    if found is None:
        return None
    mask, off, on = found
    if on == 0.0 and off <= NEVER:
        return MaskTerm(mask)
    if off == 0.0 and on <= NEVER:
        return MaskTerm(_not(lo, mask))
    return None


def _of_mask(lo: Lowering, name: str) -> tuple[Tensor, float, float] | None:
    """The mask behind a value, viewed as the value is, and the value where it is 0 and 1."""
    value = lo.build.graph.values[name]
    if value.kind == "bool":
        return lo.wrap(name), 0.0, 1.0
    node = lo.build.made.get(name)
    if node is None:
        if value.kind == "int" and name in lo.build.graph.inputs:
            return to_bool(lo, lo.wrap(name)), 0.0, 1.0
        return None
    computed = [n for n in node.inputs if lo.build.graph.values[n].const is None]
    if len(computed) != 1:
        return None
    found = _of_mask(lo, computed[0])
    if found is None:
        return None
    mask, *at = found
    if isinstance(node, fg.View) and len(node.inputs) == 1:
        return lo.wrap(lo.build.view(node.kind, [mask.name], node.arg)), at[0], at[1]
    if isinstance(node, fg.Scale) and not isinstance(node.factor, np.ndarray):
        return mask, at[0] * node.factor, at[1] * node.factor
    if isinstance(node, fg.Activation):
        off, on = (float(activation(node.kind, np.array(v * node.factor))) for v in at)
        return mask, off, on
    if isinstance(node, fg.Add):
        main = node.inputs.index(computed[0])
        const = lo.build.graph.values[node.inputs[1 - main]].const
        same_shape = mask.shape == lo.build.shape(node.output)
        if const is None or not same_shape or not np.all(const == const.flat[0]):
            return None
        added = float(const.flat[0]) * node.factors[1 - main]
        off, on = (v * node.factors[main] + added for v in at)
        return mask, off, on
    return None


def additive_mask(lo: Lowering, x: Any, y: Any, alpha: float) -> Masked | MaskTerm | None:
    """The sum of scores and a mask, or of a bias and a mask; ``None`` if it is another sum."""
    if isinstance(x, torch.Tensor | MaskTerm) and not isinstance(y, torch.Tensor):
        x, y = y, x
    if isinstance(x, Masked):
        return _add_to_masked(lo, x, y, alpha)
    if isinstance(y, Masked) and isinstance(x, Tensor | MaskTerm):
        x, y = y, x
        return _add_to_masked(lo, x, y, alpha)
    if alpha != 1:
        return None
    if isinstance(y, MaskTerm) and isinstance(x, torch.Tensor):
        return MaskTerm(y.mask, _bias_sum(lo, x, y.bias))
    if isinstance(y, MaskTerm) and isinstance(x, MaskTerm):
        bias = y.bias if x.bias is None else _bias_sum(lo, x.bias, y.bias)
        return MaskTerm(both(lo, x.mask, y.mask), bias)
    if isinstance(x, Tensor) and isinstance(y, Tensor):
        for scores, added in ((x, y), (y, x)):
            found = mask_term(lo, added) if lo.kind(added) == "float" else None
            if found is not None:
                return Masked(scores, found.mask)
        return None
    if isinstance(x, Tensor) and isinstance(y, MaskTerm):
        return Masked(x if y.bias is None else plus(lo, x, y.bias), y.mask)
    if isinstance(x, Tensor) and isinstance(y, torch.Tensor) and y.dtype.is_floating_point:
        keep, bias = as_predicate(y)
        term = mask_term(lo, x) if lo.kind(x) == "float" else None
        if term is not None:
            mask = term.mask if keep is None else both(lo, term.mask, keep)
            return MaskTerm(mask, bias)
        if keep is not None:
            return Masked(x if bias is None else plus(lo, x, bias), keep)
    return None


def _add_to_masked(lo: Lowering, x: Masked, y: Any, alpha: float) -> Masked:
    """``x + y`` for masked scores, or masked scores ``x`` that are 0 where they count."""
    if alpha != 1:
        raise Unsupported("scales what it adds to masked scores", "add it before the mask")
    if isinstance(y, Tensor):
        found = _of_mask(lo, x.scores.name)
        if found is not None and 0.0 in found[1:]:  # a mask built by masked_fill
            return Masked(y, x.mask)
        return Masked(plus(lo, x.scores, y), x.mask)
    if isinstance(y, MaskTerm):
        scores = x.scores if y.bias is None else plus(lo, x.scores, y.bias)
        return Masked(scores, both(lo, x.mask, y.mask))
    if isinstance(y, Masked):
        raise Unsupported("adds masked scores to masked scores", "add before the mask")
    constant = y if isinstance(y, torch.Tensor) else torch.tensor(float(y))
    keep, bias = as_predicate(constant)
    scores = x.scores if bias is None else plus(lo, x.scores, bias)
    return Masked(scores, x.mask if keep is None else both(lo, x.mask, keep))


def plus(lo: Lowering, x: Tensor, y: Operand) -> Tensor:
    """``x + y`` by the rule of sums."""
    from intformer.compiler.frontend.ops_math import plain_sum

    return plain_sum(lo, x, y, (1.0, 1.0))


def _bias_sum(lo: Lowering, x: Operand, y: Operand | None) -> Operand:
    if y is None:
        return x
    if isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor):
        return x + y
    return plus(lo, x, y) if isinstance(x, Tensor) else plus(lo, y, x)  # type: ignore[arg-type]


def input_mask(lo: Lowering, x: Tensor) -> Tensor:
    """A tensor of whole numbers that is a mask: boolean, or an input of zeros and ones."""
    found = _of_mask(lo, x.name)
    if found is None or found[1:] != (0.0, 1.0):
        raise Unsupported(
            f"multiplies by a computed {lo.kind(x)} tensor that is no mask",
            "multiply float tensors, or by a mask",
        )
    return found[0]


def masked_integers(lo: Lowering, x: Tensor, y: Tensor) -> Tensor:
    """The product of two masks, or of a count and a mask.

    A count ``x`` from 0 to ``top`` under a mask is ``relu(x + top * mask - top)``.
    """
    if _bound(lo, y.name) is not None:
        x, y = y, x
    top, y = _bound(lo, x.name), input_mask(lo, y)
    if top is None:
        both_true = both(lo, input_mask(lo, x), y)
        assert isinstance(both_true, Tensor)
        return both_true
    shape = np.broadcast_shapes(x.shape, y.shape)
    down = lo.const(torch.full(shape[-1:], -top))
    name = lo.build.expand(x.name, shape)
    name = lo.build.node(fg.Add, f"{lo.name}.down", [name, down], shape, value_kind="int")
    mask = lo.build.expand(y.name, shape)
    factors = (1.0, float(top))
    name = lo.build.node(
        fg.Add, f"{lo.name}.up", [name, mask], shape, value_kind="int", factors=factors
    )
    name = lo.build.node(fg.Activation, lo.name, [name], shape, value_kind="int", kind="relu")
    lo.bounds[name] = top
    return lo.wrap(name)


def _bound(lo: Lowering, name: str) -> int | None:
    """The largest value of a count, if it is known."""
    node = lo.build.made.get(name)
    if name in lo.bounds or node is None:
        return lo.bounds.get(name)
    if isinstance(node, fg.View) and len(node.inputs) == 1:
        return _bound(lo, node.inputs[0])
    if isinstance(node, fg.Add):
        tops = []
        for part, factor in zip(node.inputs, node.factors, strict=True):
            const = lo.build.graph.values[part].const
            low, high = (0, _bound(lo, part)) if const is None else (const.min(), const.max())
            if high is None or factor != 1 or low < 0:
                return None
            tops.append(int(high))
        return sum(tops)
    return None


@rule("aten.cumsum")
def _cumsum(lo: Lowering, x: Tensor, axis: int, **_kwargs: Any) -> Tensor:
    """A running sum as a product with a triangle of ones."""
    if x.axis(axis) != x.rank - 1 or lo.kind(x) == "int":
        raise Unsupported(
            f"sums a computed {lo.kind(x)} tensor up along axis {axis}",
            "sum floats or a mask up along the last axis",
        )
    n = x.shape[-1]
    flat = lo.build.reshape(x.name, (1, n)) if x.rank == 1 else x.name
    ones = lo.build.const(np.tril(np.ones((n, n), np.float32)), f"{lo.name}.ones")
    name = lo.build.matmul(flat, ones, name=lo.name)
    if lo.kind(x) == "bool":
        lo.build.graph.values[name].kind = "int"
        lo.bounds[name] = n
    return lo.wrap(lo.build.reshape(name, x.shape))


@rule("aten.masked_fill")
def _masked_fill(lo: Lowering, x: Operand, mask: Operand, value: Any) -> Masked | MaskTerm:
    if float(value) > NEVER:
        raise Unsupported(
            f"fills masked elements with {float(value)}",
            f"only -inf (or a number of at most {NEVER:.0f}) before a softmax can be mapped",
        )
    keep = inverse(lo, mask)
    if isinstance(x, Tensor):
        return Masked(x, keep)
    assert isinstance(keep, Tensor)
    return MaskTerm(keep, x if bool((x != 0).any()) else None)


@rule("aten.where")
def _where(lo: Lowering, mask: Operand, x: Any, y: Any) -> Masked | MaskTerm:
    x, y = (v if isinstance(v, Tensor | torch.Tensor) else torch.tensor(float(v)) for v in (x, y))
    for kept, gone, keep in ((x, y, lambda: mask), (y, x, lambda: inverse(lo, mask))):
        if isinstance(gone, torch.Tensor) and bool((gone <= NEVER).all()):
            if isinstance(kept, Tensor):
                return Masked(kept, keep())
            if isinstance(mask, Tensor):
                return MaskTerm(keep(), kept if bool((kept != 0).any()) else None)
    raise Unsupported(
        "chooses between two tensors",
        "only where(mask, scores, -inf) before a softmax can be mapped",
    )


@rule("aten.bitwise_not", "aten.logical_not")
def _not(lo: Lowering, x: Tensor) -> Tensor:
    if lo.kind(x) != "bool":
        raise Unsupported("inverts the bits of integers", "use a boolean mask")
    made = lo.build.made.get(x.name)
    if isinstance(made, fg.Not):
        return lo.wrap(made.inputs[0])
    name = f"{lo.name}.not"
    return lo.wrap(lo.build.node(fg.Not, name, [x.name], x.shape, value_kind="bool"))


def inverse(lo: Lowering, mask: Operand) -> Operand:
    """The inverted mask."""
    return _not(lo, mask) if isinstance(mask, Tensor) else ~mask.to(torch.bool)


@rule("aten.bitwise_and", "aten.logical_and", "aten.__and__")
def both(lo: Lowering, x: Operand, y: Operand) -> Operand:
    """Where both masks are true."""
    if isinstance(x, torch.Tensor):
        x, y = y, x
    if isinstance(x, torch.Tensor):
        return x & y  # type: ignore[operator]
    if isinstance(y, torch.Tensor):
        y = y.to(torch.bool)
        shape = np.broadcast_shapes(x.shape, tuple(y.shape))
        if bool(y.all()):
            return lo.wrap(lo.build.expand(x.name, shape))
    if lo.kind(x) != "bool" or (isinstance(y, Tensor) and lo.kind(y) != "bool"):
        raise Unsupported("combines the bits of integers", "use boolean masks")
    from intformer.compiler.frontend.ops_math import plain_sum

    ones = y.to(torch.int64) if isinstance(y, torch.Tensor) else y
    count = plain_sum(lo, x, ones, (1.0, 1.0))
    return _compare(lo, count, "ge", 2)


def _compare(lo: Lowering, x: Tensor, kind: str, number: Any) -> Tensor:
    if isinstance(number, torch.Tensor) and number.numel() == 1:
        number = number.item()
    if lo.kind(x) == "float" or not isinstance(number, int | float):
        raise Unsupported(
            "compares computed numbers", "compare ids or masks with a constant whole number"
        )
    if abs(number) > 32767 or number != int(number):
        raise Unsupported(f"compares with {number}", "compare with a whole number of 16 bits")
    if lo.kind(x) == "bool":
        off, on = (bool(compare(kind, np.array(v), int(number))) for v in (0, 1))
        if (off, on) == (False, True):
            return x
        if (off, on) == (True, False):
            return _not(lo, x)
    name = f"{lo.name}.{kind}"
    return lo.wrap(
        lo.build.node(
            fg.Compare, name, [x.name], x.shape, value_kind="bool", kind=kind, number=int(number)
        )
    )


def _comparison(kind: str) -> None:
    """The rule of one comparison with a number."""

    @rule(f"aten.{kind}")
    def apply(lo: Lowering, x: Tensor, number: Any) -> Tensor:
        return _compare(lo, x, kind, number)


for _kind in ("eq", "ne", "lt", "le", "gt", "ge"):
    _comparison(_kind)


def to_bool(lo: Lowering, x: Tensor) -> Tensor:
    """Where a whole number is not 0."""
    return x if lo.kind(x) == "bool" else _compare(lo, x, "ne", 0)


def to_kind(lo: Lowering, x: Tensor, dtype: torch.dtype) -> Tensor:
    """A computed tensor as another type."""
    kind = lo.kind(x)
    if dtype == torch.bool and kind == "float":
        found = _of_mask(lo, x.name)
        if found is not None:
            mask, off, on = found
            if off == 0.0 and on != 0.0:
                return mask
            if on == 0.0 and off != 0.0:
                return _not(lo, mask)
    if dtype == torch.bool and kind != "float":
        return to_bool(lo, x)
    if dtype.is_floating_point or (kind != "float" and dtype != torch.bool):
        return x
    raise Unsupported(
        f"converts a computed {kind} tensor to {dtype}",
        "give the model inputs of the types that it uses",
    )
