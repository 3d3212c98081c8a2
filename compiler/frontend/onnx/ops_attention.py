"""Rules for masks and softmax.

Masks arrive as numbers: 0 and 1 from the inputs, turned into 0 and a very negative number by a
subtraction and a product, added to the scores. :class:`MaskForm` follows such numbers until a sum
or a ``Where`` with the scores shows what they are for.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer.compiler import graph as fg
from intformer.compiler.frontend.issues import Unsupported
from intformer.compiler.frontend.onnx.lowering import Lowering, rule
from intformer.compiler.frontend.onnx.ops_views import moved
from intformer.compiler.frontend.onnx.values import Const, Masked, MaskForm, Partial, Tensor

__all__ = ["NEVER", "masked_sum"]

NEVER = -1e4
"""Numbers at or below this, added to scores, mean that the element does not count."""


def masked_sum(lo: Lowering, x: Any, y: Any) -> Masked | None:
    """``scores + mask``; ``None`` if it is another sum."""
    if isinstance(y, Tensor | Masked) and isinstance(x, Const | MaskForm):
        x, y = y, x
    if isinstance(x, Tensor | Masked) and isinstance(y, MaskForm):
        return _mask(lo, x, _keep(lo, y))
    if isinstance(x, Tensor | Masked) and isinstance(y, Const):
        keep = y.array == 0
        if bool((keep | (y.array <= NEVER)).all()) and not bool(keep.all()):
            return _mask(lo, x, keep)
    return None


def _mask(lo: Lowering, x: Tensor | Masked, keep: Tensor | NDArray[Any]) -> Masked:
    """Scores under one more mask."""
    have = x if isinstance(x, Masked) else Masked(x)
    if isinstance(keep, Tensor):
        if have.keep is not None and have.keep.name != keep.name:
            raise Unsupported("two computed masks on the same scores", "combine them beforehand")
        return Masked(have.scores, keep, have.fixed)
    both = keep if have.fixed is None else have.fixed & keep
    return Masked(have.scores, have.keep, both)


def _keep(lo: Lowering, form: MaskForm) -> Tensor:
    """The elements that count under an added mask."""
    if form.one == 0.0 and form.zero <= NEVER:
        return form.keep
    if form.zero == 0.0 and form.one <= NEVER:
        return _invert(lo, form.keep)
    raise Unsupported(
        f"adds {form.one} or {form.zero}, by a mask",
        "masks add 0 to the scores that count and -inf to the others",
    )


def _invert(lo: Lowering, mask: Tensor) -> Tensor:
    name = lo.build.node(fg.Not, f"{lo.name}.not", [mask.name], mask.shape, value_kind="bool")
    return lo.wrap(name)


def _as_form(lo: Lowering, x: Any) -> MaskForm:
    """A condition as a mask."""
    if isinstance(x, MaskForm):
        if bool(x.one) == bool(x.zero):
            raise Unsupported("a condition that is always the same", "leave it out")
        return MaskForm(x.keep) if x.one else MaskForm(x.keep, 0.0, 1.0)
    if isinstance(x, Tensor) and lo.kind(x) == "int":
        x = lo.as_mask(x)
    if isinstance(x, Tensor) and lo.kind(x) == "bool":
        return MaskForm(x)
    raise Unsupported("a condition computed from numbers", "use a boolean input as mask")


@rule("Cast", "CastLike", partial=True)
def _cast(lo: Lowering, x: Any, *_like: Any) -> Any:
    if isinstance(x, Partial):
        to_bool = lo.node.op == "Cast" and lo.attribute("to") == 9
        return _as_form(lo, x) if isinstance(x, MaskForm) and to_bool else x
    assert isinstance(x, Tensor)
    have = lo.kind(x)
    wanted = _kind_of(lo.attribute("to")) if lo.node.op == "Cast" else have
    if wanted == have:
        return x
    if have in ("bool", "int") and wanted in ("float", "bool", "int"):
        return MaskForm(lo.as_mask(x))
    raise Unsupported(
        f"converts a computed {have} tensor to {wanted}",
        "give the model inputs of the types that it uses",
    )


def _kind_of(element_type: int) -> str:
    return {9: "bool", 1: "float", 10: "float", 11: "float", 16: "float"}.get(element_type, "int")


@rule("Not", partial=True)
def _not(lo: Lowering, x: Any) -> MaskForm:
    return _as_form(lo, x).map(lambda v: 1.0 - v)


@rule("Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", partial=True)
def _compare(lo: Lowering, x: Any, y: Any) -> MaskForm:
    compare = {
        "Equal": np.equal,
        "Less": np.less,
        "LessOrEqual": np.less_equal,
        "Greater": np.greater,
        "GreaterOrEqual": np.greater_equal,
    }[lo.node.op]
    forms = [v if isinstance(v, MaskForm | Const) else _as_form(lo, v) for v in (x, y)]
    first, second = forms
    if isinstance(second, MaskForm) and isinstance(first, Const) and first.size == 1:
        number = first.number()
        return second.map(lambda v: float(compare(number, v)))
    if isinstance(first, MaskForm) and isinstance(second, Const) and second.size == 1:
        number = second.number()
        return first.map(lambda v: float(compare(v, number)))
    raise Unsupported("compares computed tensors", "use boolean inputs as masks")


@rule("And", partial=True)
def _and(lo: Lowering, x: Any, y: Any) -> Any:
    for one, other in ((x, y), (y, x)):
        if isinstance(one, Const) and bool(one.array.astype(bool).all()):
            form = _as_form(lo, other)
            return _expanded(lo, form, np.broadcast_shapes(form.shape, one.shape))
    raise Unsupported("combines two masks", "add one after the other to the scores")


def _expanded(lo: Lowering, form: MaskForm, shape: tuple[int, ...]) -> Any:
    return moved(lo, form, lambda t: lo.wrap(lo.build.expand(t.name, shape, lo.name)))


@rule("Where", partial=True)
def _where(lo: Lowering, condition: Any, x: Any, y: Any) -> Any:
    if isinstance(condition, Const):
        keep = condition.array.astype(bool)
        if isinstance(x, Tensor | Masked) and _never(y):
            return _mask(lo, x, keep)
        if isinstance(y, Tensor | Masked) and _never(x):
            return _mask(lo, y, ~keep)
        raise Unsupported(
            "chooses between two tensors",
            "only where(mask, scores, -inf) before a softmax can be mapped",
        )
    form = _as_form(lo, condition)
    if isinstance(x, Tensor | Masked) and _never(y):
        return _mask(lo, x, form.keep if form.one else _invert(lo, form.keep))
    if isinstance(y, Tensor | Masked) and _never(x):
        return _mask(lo, y, _invert(lo, form.keep) if form.one else form.keep)
    arms = [_arm(form, arm) for arm in (x, y)]
    if None in arms:
        raise Unsupported(
            "chooses between two tensors",
            "only where(mask, scores, -inf) before a softmax can be mapped",
        )
    (x_one, x_zero), (y_one, y_zero) = arms  # type: ignore[misc]
    return MaskForm(form.keep, x_one if form.one else y_one, x_zero if form.zero else y_zero)


def _never(x: Any) -> bool:
    return isinstance(x, Const) and bool((x.array <= NEVER).all())


def _arm(form: MaskForm, arm: Any) -> tuple[float, float] | None:
    """Values of one side of a ``Where``, for a true and for a false mask."""
    if isinstance(arm, Const) and arm.size and (arm.array == np.ravel(arm.array)[0]).all():
        return arm.number(), arm.number()
    if isinstance(arm, MaskForm) and arm.keep.name == form.keep.name:
        return arm.one, arm.zero
    return None


@rule("Softmax", partial=True)
def _softmax(lo: Lowering, x: Any) -> Tensor:
    if isinstance(x, Partial) and not isinstance(x, Masked):
        x = lo.whole(x)
    axis = lo.attribute("axis", -1 if lo.model.opset >= 13 else 1)
    rank = len(x.shape)
    last = axis % rank == rank - 1 or (lo.model.opset < 13 and _flat(x.shape, axis))
    if not last:
        raise Unsupported(f"softmax over axis {axis}", "softmax over the last axis")
    masked = x if isinstance(x, Masked) else Masked(x)
    scores, inputs = masked.scores, [masked.scores.name]
    fields: dict[str, Any] = {}
    fixed = masked.fixed
    if fixed is not None:
        offset = _causal_offset(fixed, scores.shape)
        if offset is not None:
            fields = {"causal": True, "causal_offset": offset}
        elif masked.keep is None:
            sizes = (*fixed.shape[:-1], scores.shape[-1])
            inputs.append(lo.build.const(np.broadcast_to(fixed, sizes).copy(), f"{lo.name}.mask"))
        else:
            raise Unsupported(
                "a constant mask and a computed one on the same scores",
                "the constant one must be causal",
            )
    if masked.keep is not None:
        inputs.append(_row_mask(lo, masked.keep, scores))
    return lo.wrap(lo.build.node(fg.Softmax, lo.name, inputs, scores.shape, **fields))


def _flat(shape: tuple[int, ...], axis: int) -> bool:
    """Whether a softmax of old models over all axes from ``axis`` on is one over the last."""
    return all(n == 1 for n in shape[axis % len(shape) : -1])


def _row_mask(lo: Lowering, keep: Tensor, scores: Tensor) -> str:
    """A mask as the softmax takes it: before broadcasts along all axes but the last."""
    producers = lo.build.graph.producers()
    name = keep.name
    node = producers.get(name)
    while isinstance(node, fg.View) and node.kind == "expand":
        if lo.build.shape(node.inputs[0])[-1] != scores.shape[-1]:
            break
        name = node.inputs[0]
        node = producers.get(name)
    return lo.build.expand(name, (*lo.build.shape(name)[:-1], scores.shape[-1]))


def _causal_offset(mask: NDArray[Any], shape: tuple[int, ...]) -> int | None:
    """The diagonal, if a mask is lower triangular, the same for all leading indices."""
    rows, n = shape[-2:]
    if mask.ndim < 2 or mask.shape[-2:] != (rows, n) or mask.size != rows * n:
        return None
    matrix = mask.reshape(rows, n)
    offset = int(matrix[0].sum()) - 1
    if offset < 0:
        return None
    triangle = np.arange(n) < np.arange(rows)[:, None] + 1 + offset
    return offset if bool((matrix == triangle).all()) else None
