"""Runs a float graph in NumPy: for calibration, and as the yardstick of quantization."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer.compiler import graph as fg

__all__ = ["activation", "evaluate"]

Array = NDArray[Any]


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
        dtype = {"float": np.float32, "int": np.int64, "bool": np.bool_}[value.kind]
        values[name] = np.asarray(inputs[name]).astype(dtype)
        if values[name].shape != value.shape:
            raise ValueError(
                f"input {name!r} must have shape {value.shape}, not {values[name].shape}"
            )
    for node in graph.nodes:
        operands = [values[name] for name in node.inputs]
        values[node.output] = _EVALUATE[type(node)](node, *operands)
    return values


def activation(kind: str, x: Array) -> Array:
    """An element-wise function of :data:`intformer.compiler.graph.ACTIVATIONS`, in float64."""
    x = np.asarray(x, dtype=np.float64)
    if kind == "gelu":
        return 0.5 * x * (1.0 + _erf(x / math.sqrt(2.0)))
    if kind == "gelu_tanh":
        return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))
    if kind == "relu":
        return np.maximum(x, 0.0)
    if kind == "tanh":
        return np.tanh(x)
    if kind in ("sigmoid", "silu"):
        sigmoid = 0.5 * (1.0 + np.tanh(0.5 * x))
        return x * sigmoid if kind == "silu" else sigmoid
    raise ValueError(f"activation must be one of {', '.join(fg.ACTIVATIONS)}, not {kind!r}")


def keep_mask(node: fg.Softmax, shape: tuple[int, ...], mask: Array | None) -> Array:
    """Which elements of a softmax's input count."""
    keep = np.ones(shape, bool)
    if mask is not None:
        keep &= np.broadcast_to(mask, shape)
    if node.causal:
        rows, n = shape[-2:]
        keep &= np.arange(n) < np.arange(rows)[:, None] + 1 + node.causal_offset
    return keep


_ERF_STEP = 1.0 / 256.0
_ERF_END = 6.0


@cache
def _erf_nodes() -> tuple[Array, Array]:
    grid = np.arange(-_ERF_END, _ERF_END + _ERF_STEP / 2, _ERF_STEP)
    value = np.array([math.erf(x) for x in grid])
    return value, 2.0 / math.sqrt(math.pi) * np.exp(-grid * grid) * _ERF_STEP


def _erf(x: Array) -> Array:
    """erf by cubic Hermite interpolation between exact nodes; absolute error below 1e-11."""
    value, slope = _erf_nodes()
    position = (np.clip(x, -_ERF_END, _ERF_END) + _ERF_END) / _ERF_STEP
    index = np.minimum(position.astype(np.int64), len(value) - 2)
    t = position - index
    v0, v1, d0, d1 = value[index], value[index + 1], slope[index], slope[index + 1]
    return v0 + t * (d0 + t * (3 * (v1 - v0) - 2 * d0 - d1 + t * (2 * (v0 - v1) + d0 + d1)))


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
    fg.View: _view,
}
