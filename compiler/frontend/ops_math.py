"""Rules for matrix products, sums, scaling, products of elements and mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch

from intformer.compiler import graph as fg
from intformer.compiler.expressions import call
from intformer.compiler.frontend.issues import Unsupported
from intformer.compiler.frontend.lowering import Lowering, Tensor, rule, to_array
from intformer.compiler.frontend.ops_elementwise import activation, product_of_same
from intformer.compiler.frontend.ops_masks import additive_mask, input_mask, masked_integers
from intformer.compiler.frontend.ops_norm import rms_norm_product
from intformer.compiler.frontend.ops_views import reshape

__all__ = ["batched_matmul", "plain_sum", "scale"]

Operand: TypeAlias = "Tensor | torch.Tensor"


@rule("aten.linear")
def _linear(lo: Lowering, x: Operand, weight: Operand, bias: Operand | None = None) -> Tensor:
    if not isinstance(weight, torch.Tensor) or isinstance(bias, Tensor):
        raise Unsupported("weight or bias is computed", "use torch.matmul for computed operands")
    assert isinstance(x, Tensor)
    flat = x if x.rank > 1 else reshape(lo, x, (1, -1))
    w = lo.const(weight, f"{lo.name}.weight")
    b = None if bias is None else to_array(bias)
    y = lo.wrap(lo.build.matmul(flat.name, w, bias=b, name=lo.name))
    return y if x.rank > 1 else reshape(lo, y, (-1,))


@rule("aten.matmul", "aten.mm", "aten.bmm")
def _matmul(lo: Lowering, x: Operand, y: Operand) -> Tensor:
    if len(x.shape) == 0 or len(y.shape) == 0:
        raise Unsupported("an operand is a scalar", "multiply with *")
    if len(x.shape) == 1:
        x = x.unsqueeze(0) if isinstance(x, torch.Tensor) else reshape(lo, x, (1, -1))
        z = _matmul(lo, x, y)
        return reshape(lo, z, (*z.shape[:-2], z.shape[-1]))
    if len(y.shape) == 1:
        y = y.unsqueeze(1) if isinstance(y, torch.Tensor) else reshape(lo, y, (-1, 1))
        z = _matmul(lo, x, y)
        return reshape(lo, z, z.shape[:-1])
    if isinstance(y, torch.Tensor):
        if y.numel() != y.shape[-1] * y.shape[-2]:
            return _matmul_by_index(lo, x, y)
        assert isinstance(x, Tensor)
        weight = y.reshape(y.shape[-2:]).t()
        lead = np.broadcast_shapes(x.shape[:-2], tuple(y.shape[:-2]))
        z = lo.wrap(lo.build.matmul(x.name, lo.const(weight, f"{lo.name}.weight"), name=lo.name))
        return reshape(lo, z, (*lead, *z.shape[-2:]))
    return batched_matmul(lo, x, lo.wrap(lo.build.swap_last(y.name)))


def _matmul_by_index(lo: Lowering, x: Tensor, y: torch.Tensor) -> Tensor:
    """``x @ y`` with a constant matrix for each leading index: a linear layer for each."""
    lead = np.broadcast_shapes(x.shape[:-2], tuple(y.shape[:-2]))
    m, k, n = x.shape[-2], x.shape[-1], y.shape[-1]
    matrices = y.expand(*lead, k, n).reshape(-1, k, n)
    count = len(matrices)
    wide = reshape(lo, lo.wrap(lo.build.expand(x.name, (*lead, m, k))), (count, m, k))
    names = []
    for i, matrix in enumerate(matrices):
        part = lo.build.slice(wide.name, 0, i, i + 1)
        weight = lo.const(matrix.t(), f"{lo.name}.weight")
        names.append(lo.build.matmul(part, weight, name=f"{lo.name}.{i}"))
    return reshape(lo, lo.wrap(lo.build.view("cat", names, 0, lo.name)), (*lead, m, n))


def batched_matmul(lo: Lowering, a: Operand, b: Tensor, name: str = "") -> Tensor:
    """``a @ b.T`` with computed ``b``; leading axes broadcast."""
    lead = np.broadcast_shapes(tuple(a.shape[:-2]), b.shape[:-2])
    if isinstance(a, torch.Tensor):
        left = lo.const(a.expand(*lead, *a.shape[-2:]).contiguous())
    else:
        left = lo.build.expand(a.name, (*lead, *a.shape[-2:]))
    right = lo.build.expand(b.name, (*lead, *b.shape[-2:]))
    return lo.wrap(lo.build.matmul(left, right, name=name or lo.name))


@rule("aten.addmm")
def _addmm(
    lo: Lowering, bias: Operand, x: Operand, y: Operand, *, beta: float = 1, alpha: float = 1
) -> Tensor:
    if not isinstance(y, torch.Tensor) or not isinstance(bias, torch.Tensor) or bias.ndim != 1:
        return _add(lo, scale(lo, _matmul(lo, x, y), float(alpha)), bias, alpha=float(beta))
    return _linear(lo, x, alpha * y.t(), beta * bias)


def scale(lo: Lowering, x: Tensor, factor: float) -> Tensor:
    """``factor * x``."""
    if factor == 1.0:
        return x
    if factor == 0.0 or not np.isfinite(factor):
        raise Unsupported(f"scales by {factor}", "scale by a finite number that is not 0")
    whole = lo.kind(x) != "float" and float(factor).is_integer()
    kind = "int" if whole else "float"
    return lo.wrap(
        lo.build.node(fg.Scale, lo.name, [x.name], x.shape, value_kind=kind, factor=float(factor))
    )


@rule("aten.mul", "aten.multiply", "aten.mul_")
def _mul(lo: Lowering, x: Any, y: Any) -> Tensor:
    if not isinstance(x, Tensor):
        x, y = y, x
    if isinstance(y, Tensor):
        return _product(lo, x, y)
    if not isinstance(y, torch.Tensor):
        return scale(lo, x, float(y))
    shape = np.broadcast_shapes(x.shape, tuple(y.shape))
    if y.numel() and bool((y == y.flatten()[0]).all()) and shape == x.shape:
        return scale(lo, x, float(y.flatten()[0]))
    if y.numel() == y.shape[-1] == x.shape[-1] and y.ndim <= x.rank:
        factor = to_array(y).reshape(-1)
        return lo.wrap(lo.build.node(fg.Scale, lo.name, [x.name], x.shape, factor=factor))
    return _scale_by_places(lo, lo.wrap(lo.build.expand(x.name, shape)), to_array(y))


_PLACES = 1 << 16


def _scale_by_places(lo: Lowering, x: Tensor, factor: np.ndarray) -> Tensor:
    """A constant that differs along several axes: a vector along these axes as one."""
    factor = factor.reshape((1,) * (x.rank - factor.ndim) + factor.shape)
    first = next(i for i, n in enumerate(factor.shape) if n != 1)
    tail = np.broadcast_to(factor, (*factor.shape[:first], *x.shape[first:])).reshape(-1)
    if tail.size > _PLACES:
        raise Unsupported(
            f"multiplies by a constant of shape {factor.shape}: {tail.size} different channels",
            f"multiply by at most {_PLACES} different numbers",
        )
    flat = lo.build.reshape(x.name, (*x.shape[:first], tail.size))
    name = lo.build.node(fg.Scale, lo.name, [flat], lo.build.shape(flat), factor=tail)
    return lo.wrap(lo.build.reshape(name, x.shape))


def _product(lo: Lowering, x: Tensor, y: Tensor) -> Tensor:
    """The product of two computed tensors, element by element."""
    if "float" not in (lo.kind(x), lo.kind(y)):
        return masked_integers(lo, x, y)
    if lo.kind(x) != "float":
        x, y = y, x
    if lo.kind(y) != "float":
        y = input_mask(lo, y)
    else:
        found = product_of_same(lo, x, y) or rms_norm_product(lo, x, y)
        if found is not None:
            return found
    shape = np.broadcast_shapes(x.shape, y.shape)
    return lo.wrap(lo.build.node(fg.Mul, lo.name, [x.name, y.name], shape))


@rule("aten.div", "aten.divide")
def _div(lo: Lowering, x: Any, y: Any, **kwargs: Any) -> Tensor:
    if kwargs.get("rounding_mode") is not None:
        raise Unsupported("divides and rounds", "divide without rounding")
    if isinstance(y, Tensor):
        same = product_of_same(lo, x, y, "div") if isinstance(x, Tensor) else None
        return same or _mul(lo, x, activation(lo, y, call("div", 1.0, "x")))
    inverse = 1.0 / y.to(torch.float64) if isinstance(y, torch.Tensor) else 1.0 / float(y)
    return _mul(lo, x, inverse)


@rule("aten.neg")
def _neg(lo: Lowering, x: Tensor) -> Tensor:
    return scale(lo, x, -1.0)


@rule("aten.add", "aten.add_")
def _add(lo: Lowering, x: Any, y: Any, *, alpha: float = 1) -> Any:
    masked = additive_mask(lo, x, y, alpha)
    if masked is not None:
        return masked
    return plain_sum(lo, x, y, (1.0, float(alpha)))


@rule("aten.sub", "aten.subtract")
def _sub(lo: Lowering, x: Any, y: Any, *, alpha: float = 1) -> Tensor:
    return plain_sum(lo, x, y, (1.0, -float(alpha)))


@rule("aten.rsub")
def _rsub(lo: Lowering, x: Any, y: Any, *, alpha: float = 1) -> Tensor:
    return plain_sum(lo, y, x, (1.0, -float(alpha)))


def plain_sum(lo: Lowering, x: Any, y: Any, factors: tuple[float, float]) -> Tensor:
    """``factors[0] * x + factors[1] * y``; at least one is computed."""
    x, y = (v if isinstance(v, Tensor | torch.Tensor) else torch.tensor(v) for v in (x, y))
    kind = _sum_kind(lo, x, y)
    x, y = (_of_kind(v, kind) for v in (x, y))
    shape = np.broadcast_shapes(tuple(x.shape), tuple(y.shape))
    names = [_addend(lo, v, shape) for v in (x, y)]
    computed = [i for i, v in enumerate((x, y)) if isinstance(v, Tensor)]
    if all(lo.build.shape(names[i]) != shape for i in computed):
        names[computed[0]] = lo.build.expand(names[computed[0]], shape)
    return lo.wrap(
        lo.build.node(fg.Add, lo.name, names, shape, value_kind=kind, factors=factors)
    )


def _sum_kind(lo: Lowering, x: Operand, y: Operand) -> str:
    whole = all(
        lo.kind(v) != "float" if isinstance(v, Tensor) else not v.dtype.is_floating_point
        for v in (x, y)
    )
    return "int" if whole else "float"


def _of_kind(x: Operand, kind: str) -> Operand:
    """A constant in the type of the sum."""
    if isinstance(x, Tensor):
        return x
    if kind == "float":
        return x.to(torch.float32)
    if bool((x.to(torch.int64).abs() > 32767).any()):
        raise Unsupported("adds whole numbers beyond 16 bits", "keep ids and counts in 16 bits")
    return x.to(torch.int64)


def _addend(lo: Lowering, x: Operand, shape: tuple[int, ...]) -> str:
    """``x``, broadcast so far that only leading axes are left to broadcast."""
    lead = len(shape) - len(x.shape)
    sizes = (1,) * lead + tuple(x.shape)
    first = next((i for i, n in enumerate(sizes) if n != 1), len(shape))
    tail = shape[min(first, len(shape) - 1) :]
    if isinstance(x, torch.Tensor):
        return lo.const(x.reshape(sizes[len(shape) - len(tail) :]).expand(tail).contiguous())
    if sizes[len(shape) - len(tail) :] == tail and lead == 0:
        return x.name
    return lo.build.expand(x.name, (*sizes[: len(shape) - len(tail)], *tail))


@rule("aten.mean")
def _mean(
    lo: Lowering, x: Tensor, axes: Sequence[int] | None = None, keep: bool = False, **_kw: Any
) -> Tensor:
    """Mean as a product with ones, so that it runs on the array."""
    chosen = sorted(x.axis(a) for a in (axes or range(x.rank)))
    first, count = chosen[0], len(chosen)
    if chosen != list(range(first, first + count)):
        raise Unsupported(
            f"averages over the axes {chosen}, which are not adjacent", "average one by one"
        )
    kept = [1 if i in chosen else n for i, n in enumerate(x.shape)]
    final = kept if keep else [n for i, n in enumerate(x.shape) if i not in chosen]
    size = int(np.prod([x.shape[a] for a in chosen]))
    merged = reshape(lo, x, (*x.shape[:first], size, *x.shape[first + count :]))
    if first == merged.rank - 1:
        flat = merged if merged.rank > 1 else reshape(lo, merged, (1, size))
        ones = lo.build.const(np.ones((1, size)), f"{lo.name}.ones")
        y = lo.build.matmul(flat.name, ones, name=lo.name)
    else:
        others = [a for a in range(merged.rank) if a != first]
        b = lo.build.permute(merged.name, (*others, first))
        lead = lo.build.shape(b)[:-2]
        ones = lo.build.const(np.ones((*lead, 1, size)), f"{lo.name}.ones")
        y = lo.build.matmul(ones, b, name=lo.name)
    lo.build.graph.nodes[-1].factor = 1.0 / size  # type: ignore[attr-defined]
    return reshape(lo, lo.wrap(y), final)


@rule("aten.sum")
def _total(
    lo: Lowering, x: Tensor, axes: Sequence[int] | None = None, keep: bool = False, **_kw: Any
) -> Tensor:
    chosen = axes or range(x.rank)
    size = int(np.prod([x.shape[a] for a in chosen]))
    return scale(lo, _mean(lo, x, axes, keep), float(size))


@rule("aten.adaptive_avg_pool1d")
def _adaptive_avg_pool1d(lo: Lowering, x: Tensor, size: Sequence[int]) -> Tensor:
    count, length = size[0], x.shape[-1]
    if length % count:
        raise Unsupported(
            f"averages {length} elements in {count} windows of different sizes",
            "use a number of windows that divides the length",
        )
    return _mean(lo, reshape(lo, x, (*x.shape[:-1], count, length // count)), [-1])
