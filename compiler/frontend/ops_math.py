"""Rules for matrix products, sums, scaling, activations, LayerNorm and mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch

from intformer.compiler import graph as fg
from intformer.compiler.frontend.issues import Unsupported
from intformer.compiler.frontend.lowering import Lowering, Tensor, rule, to_array
from intformer.compiler.frontend.ops_views import reshape

__all__ = ["batched_matmul", "scale"]

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
            raise Unsupported(
                f"the constant second operand has shape {tuple(y.shape)}: a different matrix for "
                "each leading index",
                "apply one linear layer per index and concatenate",
            )
        assert isinstance(x, Tensor)
        weight = y.reshape(y.shape[-2:]).t()
        lead = np.broadcast_shapes(x.shape[:-2], tuple(y.shape[:-2]))
        z = lo.wrap(lo.build.matmul(x.name, lo.const(weight, f"{lo.name}.weight"), name=lo.name))
        return reshape(lo, z, (*lead, *z.shape[-2:]))
    return batched_matmul(lo, x, lo.wrap(lo.build.swap_last(y.name)))


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
    return lo.wrap(lo.build.node(fg.Scale, lo.name, [x.name], x.shape, factor=factor))


@rule("aten.mul", "aten.multiply")
def _mul(lo: Lowering, x: Any, y: Any) -> Tensor:
    if not isinstance(x, Tensor):
        x, y = y, x
    if isinstance(y, Tensor):
        raise Unsupported(
            "multiplies two computed tensors element by element",
            "the core multiplies by constants and in matrix products only",
        )
    if not isinstance(y, torch.Tensor):
        return scale(lo, x, float(y))
    if y.numel() == 1 and y.ndim <= x.rank:
        return scale(lo, x, float(y))
    if y.numel() == y.shape[-1] == x.shape[-1] and y.ndim <= x.rank:
        factor = to_array(y).reshape(-1)
        return lo.wrap(lo.build.node(fg.Scale, lo.name, [x.name], x.shape, factor=factor))
    raise Unsupported(
        f"multiplies by a constant of shape {tuple(y.shape)}",
        "multiply by a number or by a vector along the last axis",
    )


@rule("aten.div", "aten.divide")
def _div(lo: Lowering, x: Any, y: Any, **kwargs: Any) -> Tensor:
    if isinstance(y, Tensor) or kwargs.get("rounding_mode") is not None:
        raise Unsupported("divides by a computed tensor, or rounds", "divide by a constant")
    inverse = 1.0 / y.to(torch.float64) if isinstance(y, torch.Tensor) else 1.0 / float(y)
    return _mul(lo, x, inverse)


@rule("aten.neg")
def _neg(lo: Lowering, x: Tensor) -> Tensor:
    return scale(lo, x, -1.0)


@rule("aten.add", "aten.add_")
def _add(lo: Lowering, x: Any, y: Any, *, alpha: float = 1) -> Any:
    from intformer.compiler.frontend.ops_attention import additive_mask

    masked = additive_mask(lo, x, y, alpha)
    if masked is not None:
        return masked
    return _sum(lo, x, y, (1.0, float(alpha)))


@rule("aten.sub", "aten.subtract")
def _sub(lo: Lowering, x: Any, y: Any, *, alpha: float = 1) -> Tensor:
    return _sum(lo, x, y, (1.0, -float(alpha)))


@rule("aten.rsub")
def _rsub(lo: Lowering, x: Any, y: Any, *, alpha: float = 1) -> Tensor:
    return _sum(lo, y, x, (1.0, -float(alpha)))


def _sum(lo: Lowering, x: Any, y: Any, factors: tuple[float, float]) -> Tensor:
    x, y = (v if isinstance(v, Tensor | torch.Tensor) else torch.tensor(float(v)) for v in (x, y))
    shape = np.broadcast_shapes(tuple(x.shape), tuple(y.shape))
    names = [_addend(lo, v, shape) for v in (x, y)]
    computed = [i for i, v in enumerate((x, y)) if isinstance(v, Tensor)]
    if all(lo.build.shape(names[i]) != shape for i in computed):
        names[computed[0]] = lo.build.expand(names[computed[0]], shape)
    return lo.wrap(lo.build.node(fg.Add, lo.name, names, shape, factors=factors))


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


@rule("aten.gelu")
def _gelu(lo: Lowering, x: Tensor, *, approximate: str = "none") -> Tensor:
    return _activation(lo, x, "gelu" if approximate == "none" else "gelu_tanh")


@rule("aten.relu", "aten.relu_")
def _relu(lo: Lowering, x: Tensor) -> Tensor:
    return _activation(lo, x, "relu")


@rule("aten.silu", "aten.silu_")
def _silu(lo: Lowering, x: Tensor) -> Tensor:
    return _activation(lo, x, "silu")


@rule("aten.sigmoid")
def _sigmoid(lo: Lowering, x: Tensor) -> Tensor:
    return _activation(lo, x, "sigmoid")


@rule("aten.tanh")
def _tanh(lo: Lowering, x: Tensor) -> Tensor:
    return _activation(lo, x, "tanh")


def _activation(lo: Lowering, x: Tensor, kind: str) -> Tensor:
    return lo.wrap(lo.build.node(fg.Activation, lo.name, [x.name], x.shape, kind=kind))


@rule("aten.layer_norm", "aten.native_layer_norm")
def _layer_norm(
    lo: Lowering,
    x: Tensor,
    shape: Sequence[int],
    gamma: torch.Tensor | None = None,
    beta: torch.Tensor | None = None,
    eps: float = 1e-5,
    *_args: Any,
) -> Any:
    if len(shape) != 1:
        raise Unsupported(
            f"normalizes over {len(shape)} axes", "normalize over the last axis alone"
        )
    n = shape[0]
    g = np.ones(n, np.float32) if gamma is None else to_array(gamma)
    b = np.zeros(n, np.float32) if beta is None else to_array(beta)
    name = lo.build.node(fg.LayerNorm, lo.name, [x.name], x.shape, gamma=g, beta=b, eps=float(eps))
    return lo.wrap(name)


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
