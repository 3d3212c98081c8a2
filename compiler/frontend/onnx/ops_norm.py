"""Rules for LayerNorm, whole or in parts, and means."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from intformer.compiler.frontend.issues import Unsupported
from intformer.compiler.frontend.onnx.lowering import Lowering, rule
from intformer.compiler.frontend.onnx.ops_views import ints, reshape
from intformer.compiler.frontend.onnx.values import (
    Centred,
    Const,
    Deviation,
    Mean,
    Tensor,
)

__all__: list[str] = []


@rule("LayerNormalization")
def _layer_norm(lo: Lowering, x: Tensor, gamma: Any, beta: Any = None) -> Tensor:
    axis = lo.attribute("axis", -1) % x.rank
    if axis != x.rank - 1:
        raise Unsupported(
            f"normalizes over {x.rank - axis} axes", "normalize over the last axis alone"
        )
    if not isinstance(gamma, Const) or isinstance(beta, Tensor):
        raise Unsupported("scale or bias is computed", "use constant ones")
    b = np.zeros(1) if beta is None else beta.array.reshape(-1)
    return lo.layernorm(x, gamma.array.reshape(-1), b, lo.attribute("epsilon", 1e-5))


@rule("Sqrt", partial=True)
def _sqrt(lo: Lowering, x: Any) -> Any:
    if isinstance(x, Deviation) and x.power == 2:
        return Deviation(x.x, x.eps, 1)
    raise Unsupported("a square root", "it can be mapped only as part of a LayerNorm")


@rule("Reciprocal", partial=True)
def _reciprocal(lo: Lowering, x: Any) -> Any:
    if isinstance(x, Deviation) and x.power == 1:
        return Deviation(x.x, x.eps, -1)
    raise Unsupported("a reciprocal", "it can be mapped only as part of a LayerNorm")


@rule("ReduceMean", partial=True)
def _reduce_mean(lo: Lowering, x: Any, axes: Any = None) -> Any:
    rank = len(x.shape)
    chosen = lo.attribute("axes") if axes is None else ints(axes, "the axes")
    if not chosen and lo.attribute("noop_with_empty_axes", 0):
        return x
    chosen = sorted({a % rank for a in (chosen or range(rank))})
    keep = bool(lo.attribute("keepdims", 1))
    if isinstance(x, Centred) and x.power == 2 and chosen == [rank - 1] and keep:
        return Deviation(x.x)
    x = lo.whole(x)
    name = lo.name

    def make() -> Tensor:
        lo.name = name
        return _mean(lo, x, chosen, keep=keep)

    return Mean(x, make) if chosen == [rank - 1] and keep else make()


@rule("GlobalAveragePool")
def _global_average(lo: Lowering, x: Tensor) -> Tensor:
    return _mean(lo, x, list(range(2, x.rank)), keep=True)


def _mean(lo: Lowering, x: Tensor, chosen: list[int], *, keep: bool) -> Tensor:
    """Mean as a product with ones, so that it runs on the array."""
    first, count = chosen[0], len(chosen)
    if chosen != list(range(first, first + count)):
        raise Unsupported(
            f"averages over the axes {chosen}, which are not adjacent", "average one by one"
        )
    kept = [1 if i in chosen else n for i, n in enumerate(x.shape)]
    final = kept if keep else [n for i, n in enumerate(x.shape) if i not in chosen]
    size = prod(x.shape[a] for a in chosen)
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
