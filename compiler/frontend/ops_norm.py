"""Rules for LayerNorm and RMSNorm, also where a model spells RMSNorm out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from intformer.compiler import graph as fg
from intformer.compiler.expressions import evaluate_expression
from intformer.compiler.frontend.issues import Unsupported
from intformer.compiler.frontend.lowering import Lowering, Tensor, rule, to_array
from intformer.compiler.frontend.ops_elementwise import trace

__all__ = ["rms_norm_product"]


def _last_axis(shape: Sequence[int]) -> int:
    if len(shape) != 1:
        raise Unsupported(
            f"normalizes over {len(shape)} axes", "normalize over the last axis alone"
        )
    return shape[0]


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
    n = _last_axis(shape)
    g = np.ones(n, np.float32) if gamma is None else to_array(gamma)
    b = np.zeros(n, np.float32) if beta is None else to_array(beta)
    name = lo.build.node(fg.LayerNorm, lo.name, [x.name], x.shape, gamma=g, beta=b, eps=float(eps))
    return lo.wrap(name)


@rule("aten.rms_norm")
def _rms_norm(
    lo: Lowering,
    x: Tensor,
    shape: Sequence[int],
    gamma: torch.Tensor | None = None,
    eps: float | None = None,
) -> Tensor:
    n = _last_axis(shape)
    g = np.ones(n, np.float32) if gamma is None else to_array(gamma)
    small = float(torch.finfo(torch.float32).eps if eps is None else eps)
    return _rms(lo, x.name, g, small)


def _rms(lo: Lowering, x: str, gamma: np.ndarray, eps: float) -> Tensor:
    shape = lo.build.shape(x)
    return lo.wrap(lo.build.node(fg.RMSNorm, lo.name, [x], shape, gamma=gamma, eps=eps))


def rms_norm_product(lo: Lowering, x: Tensor, y: Tensor) -> Tensor | None:
    """``x * rsqrt(mean(x**2) + eps)`` as RMSNorm; ``None`` if the product is another."""
    for value, root in ((x, y), (y, x)):
        if root.shape != (*value.shape[:-1], 1):
            continue
        eps = _inverse_root(lo, root.name, value.name)
        if eps is not None:
            return _rms(lo, value.name, np.ones(value.shape[-1], np.float32), eps)
    return None


def _inverse_root(lo: Lowering, name: str, x: str) -> float | None:
    """``eps``, if ``name`` is ``1 / sqrt(mean(x**2) + eps)``."""
    mean, text, _ = trace(lo, name)
    at_zero = float(evaluate_expression(text, np.zeros(1))[0])
    eps = 1.0 / at_zero**2 if np.isfinite(at_zero) and at_zero > 0 else 0.0
    grid = np.array([0.25, 1.0, 3.0, 50.0])
    wanted = 1.0 / np.sqrt(grid + eps)
    if not np.allclose(evaluate_expression(text, grid), wanted, rtol=1e-6):
        return None
    node = lo.build.made.get(mean)
    while isinstance(node, fg.View) and node.kind == "reshape":
        node = lo.build.made.get(node.inputs[0])
    if not isinstance(node, fg.MatMul) or node.bias is not None:
        return None
    n = lo.build.shape(x)[-1]
    ones = lo.build.graph.values[node.inputs[1]].const
    if ones is None or ones.shape != (1, n) or not np.allclose(ones * node.factor, 1.0 / n):
        return None
    root, square, _ = trace(lo, node.inputs[0])
    origin, inner, _ = trace(lo, x)
    samples = np.array([-2.0, -0.5, 0.0, 1.0, 3.0])
    x_values = evaluate_expression(inner, samples)
    same = np.allclose(evaluate_expression(square, samples), x_values**2, rtol=1e-6)
    return eps if root == origin and same else None
