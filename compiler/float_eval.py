"""Runs a float graph in NumPy: for calibration, and as the yardstick of quantization."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer.compiler import graph as fg
from intformer.compiler.expressions import NAMES, evaluate_expression

__all__ = ["activation", "compare", "evaluate"]

Array = NDArray[Any]


_DTYPES: dict[str, Any] = {"float": np.float32, "int": np.int64, "bool": np.bool_}


def evaluate(graph: fg.Graph, inputs: dict[str, Array]) -> dict[str, Array]:
    """Run ``graph``; return every value, constants included, in float32 (bool, int64).

    Raises
    ------
    ValueError
        If an input is missing or has another shape.
    """
    values = {v.name: v.const for v in graph.values.values() if v.const is not None}
    for name in graph.inputs:
        value = graph.values[name]
        if name not in inputs:
            raise ValueError(f"input {name!r} is missing")
        values[name] = np.asarray(inputs[name]).astype(_DTYPES[value.kind])
        if values[name].shape != value.shape:
            raise ValueError(
                f"input {name!r} must have shape {value.shape}, not {values[name].shape}"
            )
    for node in graph.nodes:
        operands = [values[name] for name in node.inputs]
        result = _EVALUATE[type(node)](node, *operands)
        kind = graph.values[node.output].kind
        values[node.output] = result if kind == "float" else result.astype(_DTYPES[kind])
    return values


def activation(kind: str, x: Array) -> Array:
    """An element-wise function, in float64.

    ``kind`` is one of :data:`intformer.compiler.graph.ACTIVATIONS` or an expression of
    :mod:`intformer.compiler.expressions`.
    """
    x = np.asarray(x, dtype=np.float64)
    if kind in NAMES:
        return NAMES[kind](x)
    if "(" not in kind:
        raise ValueError(
            f"activation must be one of {', '.join(fg.ACTIVATIONS)} or an expression, not {kind!r}"
        )
    return evaluate_expression(kind, x)


def keep_mask(node: fg.Softmax, shape: tuple[int, ...], mask: Array | None) -> Array:
    """Which elements of a softmax's input count."""
    keep = np.ones(shape, bool)
    if mask is not None:
        keep &= np.broadcast_to(mask, shape)
    if node.causal:
        rows, n = shape[-2:]
        keep &= np.arange(n) < np.arange(rows)[:, None] + 1 + node.causal_offset
    return keep


def _matmul(node: fg.MatMul, a: Array, b: Array) -> Array:
    y = a @ np.swapaxes(b, -1, -2)
    if node.factor != 1.0:
        y = y * np.float32(node.factor)
    return y if node.bias is None else y + node.bias.astype(np.float32)


def _add(node: fg.Add, x: Array, y: Array) -> Array:
    fx, fy = (np.float32(f) for f in node.factors)
    return fx * x + fy * y


def _scale(node: fg.Scale, x: Array) -> Array:
    return x * np.asarray(node.factor, dtype=np.float32)


def _activation(node: fg.Activation, x: Array) -> Array:
    return activation(node.kind, x * np.float64(node.factor)).astype(np.float32)


def _softmax(node: fg.Softmax, x: Array, mask: Array | None = None) -> Array:
    keep = keep_mask(node, x.shape, mask)
    scores = np.where(keep, x.astype(np.float64) * node.factor, -np.inf)
    top = scores.max(axis=-1, keepdims=True)
    e = np.where(keep, np.exp(scores - np.where(np.isfinite(top), top, 0.0)), 0.0)
    total = e.sum(axis=-1, keepdims=True)
    return (e / np.where(total > 0, total, 1.0)).astype(np.float32)


def _layernorm(node: fg.LayerNorm, x: Array) -> Array:
    x = x.astype(np.float64)
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred * centred).mean(axis=-1, keepdims=True)
    return (centred / np.sqrt(variance + node.eps) * node.gamma + node.beta).astype(np.float32)


def _rmsnorm(node: fg.RMSNorm, x: Array) -> Array:
    x = x.astype(np.float64)
    root = np.sqrt((x * x).mean(axis=-1, keepdims=True) + node.eps)
    return (x / root * node.gamma).astype(np.float32)


def _mul(node: fg.Mul, x: Array, y: Array) -> Array:
    return np.float32(node.factor) * x * y


_COMPARE: dict[str, Any] = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}


def compare(kind: str, x: Array, number: int) -> Array:
    """``x kind number``, for a :class:`~intformer.compiler.graph.Compare`."""
    return np.asarray(_COMPARE[kind](x, number))


def _compare(node: fg.Compare, x: Array) -> Array:
    return compare(node.kind, x.astype(np.int64), node.number)


def _embedding(node: fg.Embedding, ids: Array, table: Array) -> Array:
    if ids.size and (ids.min() < 0 or ids.max() >= len(table)):
        raise ValueError(f"{node.name}: ids must be from 0 to {len(table) - 1}")
    return table[ids]


def _not(node: fg.Not, mask: Array) -> Array:
    return ~mask


def _recode(node: fg.Recode, x: Array) -> Array:
    return x


def _view(node: fg.View, *operands: Array) -> Array:
    return node.apply(*operands)


_EVALUATE: dict[type[fg.Node], Any] = {
    fg.MatMul: _matmul,
    fg.Add: _add,
    fg.Scale: _scale,
    fg.Activation: _activation,
    fg.Softmax: _softmax,
    fg.LayerNorm: _layernorm,
    fg.Embedding: _embedding,
    fg.Not: _not,
    fg.Recode: _recode,
    fg.RMSNorm: _rmsnorm,
    fg.Mul: _mul,
    fg.Compare: _compare,
    fg.View: _view,
}
