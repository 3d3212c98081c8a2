"""Rules for functions of one tensor, element by element: each chain of them is one table.

A chain is followed back to the tensor that it starts from: what it computes of it is written as
an expression (:mod:`intformer.compiler.expressions`). So the products, powers and sums by which
models spell out GELU, Mish or a hard sigmoid need no operation of their own.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from intformer.compiler import graph as fg
from intformer.compiler.expressions import call, substitute
from intformer.compiler.frontend.lowering import Lowering, Tensor, rule

__all__ = ["activation", "product_of_same", "trace"]

_LONGEST = 2000
"""Characters of an expression beyond which a chain is cut in two tables."""


def trace(lo: Lowering, name: str) -> tuple[str, str, bool]:
    """Where a value comes from, element by element.

    Returns the value at the start of the chain, the expression of it that ``name`` is, and
    whether the chain holds more than scaling and adding numbers.
    """
    node = lo.build.made.get(name)
    if isinstance(node, fg.Scale) and not isinstance(node.factor, np.ndarray):
        root, inner, bent = trace(lo, node.inputs[0])
        return root, call("mul", inner, float(node.factor)), bent
    if isinstance(node, fg.Activation):
        root, inner, _ = trace(lo, node.inputs[0])
        inner = inner if node.factor == 1.0 else call("mul", inner, node.factor)
        return root, substitute(node.kind, inner), True
    if isinstance(node, fg.Add):
        found = _trace_sum(lo, node)
        if found is not None:
            return found
    return name, "x", False


def _trace_sum(lo: Lowering, node: fg.Add) -> tuple[str, str, bool] | None:
    parts, roots, bent = [], set(), False
    for name, factor in zip(node.inputs, node.factors, strict=True):
        value = lo.build.graph.values[name]
        if value.const is not None:
            first = float(value.const.flat[0])
            if value.kind != "float" or not np.all(value.const == first):
                return None
            parts.append(call("mul", first, float(factor)))
            continue
        if value.shape != lo.build.shape(node.output):
            return None
        root, inner, curved = trace(lo, name)
        roots.add(root)
        bent |= curved
        parts.append(inner if factor == 1.0 else call("mul", inner, float(factor)))
    if len(roots) != 1 or lo.build.graph.values[min(roots)].kind != "float":
        return None
    text = call("add", *parts)
    return (roots.pop(), text, bent) if len(text) <= _LONGEST else None


def activation(lo: Lowering, x: Tensor, kind: str) -> Tensor:
    """``kind`` (a name or an expression) of ``x``; one table with the chain that ``x`` ends."""
    name = x.name
    root, inner, bent = trace(lo, name)
    if bent:
        whole = substitute(kind, inner)
        if len(whole) <= _LONGEST:
            name, kind = root, whole
    return lo.wrap(lo.build.node(fg.Activation, lo.name, [name], x.shape, kind=kind))


def product_of_same(lo: Lowering, x: Tensor, y: Tensor, function: str = "mul") -> Tensor | None:
    """``function(x, y)`` as a table, if both are functions of one tensor; else ``None``."""
    (root, left, _), (other, right, _) = trace(lo, x.name), trace(lo, y.name)
    if root != other or x.shape != y.shape:
        return None
    text = call(function, left, right)
    if len(text) > _LONGEST:
        return None
    return lo.wrap(lo.build.node(fg.Activation, lo.name, [root], x.shape, kind=text))


@rule("aten.gelu", "aten.gelu_")
def _gelu(lo: Lowering, x: Tensor, *, approximate: str = "none") -> Tensor:
    return activation(lo, x, "gelu" if approximate == "none" else "gelu_tanh")


@rule("aten.relu", "aten.relu_")
def _relu(lo: Lowering, x: Tensor) -> Tensor:
    return activation(lo, x, "relu")


@rule("aten.silu", "aten.silu_")
def _silu(lo: Lowering, x: Tensor) -> Tensor:
    return activation(lo, x, "silu")


@rule("aten.sigmoid")
def _sigmoid(lo: Lowering, x: Tensor) -> Tensor:
    return activation(lo, x, "sigmoid")


@rule("aten.tanh")
def _tanh(lo: Lowering, x: Tensor) -> Tensor:
    return activation(lo, x, "tanh")


def _function(name: str) -> None:
    """The rule of a function of the same name in expressions."""

    @rule(f"aten.{name}")
    def apply(lo: Lowering, x: Tensor) -> Tensor:
        return activation(lo, x, call(name, "x"))


for _name in ("abs", "erf", "exp", "log", "log1p", "sqrt", "rsqrt", "sin", "cos"):
    _function(_name)


@rule("aten.reciprocal")
def _reciprocal(lo: Lowering, x: Tensor) -> Tensor:
    return activation(lo, x, call("div", 1.0, "x"))


@rule("aten.square")
def _square(lo: Lowering, x: Tensor) -> Tensor:
    return activation(lo, x, call("mul", "x", "x"))


@rule("aten.pow")
def _pow(lo: Lowering, x: Tensor | float, exponent: float) -> Tensor:
    from intformer.compiler.frontend.issues import Unsupported

    if not isinstance(x, Tensor) or not isinstance(exponent, int | float):
        raise Unsupported("raises to a computed power", "use a constant exponent")
    if exponent == 2:
        return _square(lo, x)
    return activation(lo, x, call("pow", "x", float(exponent)))


@rule("aten.softplus")
def _softplus(lo: Lowering, x: Tensor, beta: float = 1.0, _threshold: float = 20.0) -> Tensor:
    inner = "x" if beta == 1 else call("mul", "x", float(beta))
    text = call("softplus", inner)
    return activation(lo, x, text if beta == 1 else call("div", text, float(beta)))


@rule("aten.mish")
def _mish(lo: Lowering, x: Tensor) -> Tensor:
    return activation(lo, x, call("mul", "x", call("tanh", call("softplus", "x"))))


@rule("aten.elu", "aten.elu_")
def _elu(
    lo: Lowering, x: Tensor, alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0
) -> Tensor:
    low = call("mul", call("expm1", call("mul", "x", float(input_scale))), float(alpha))
    text = call("where_positive", "x", "x", low)
    return activation(lo, x, call("mul", text, float(scale)))


@rule("aten.leaky_relu", "aten.leaky_relu_")
def _leaky_relu(lo: Lowering, x: Tensor, slope: float = 0.01) -> Tensor:
    return activation(lo, x, call("where_positive", "x", "x", call("mul", "x", float(slope))))


@rule("aten.hardsigmoid")
def _hardsigmoid(lo: Lowering, x: Tensor) -> Tensor:
    text = call("add", call("mul", "x", 1.0 / 6.0), 0.5)
    return activation(lo, x, call("min", call("max", text, 0.0), 1.0))


@rule("aten.clamp", "aten.hardtanh", "aten.hardtanh_")
def _clamp(lo: Lowering, x: Tensor, min: float | None = None, max: float | None = None) -> Tensor:
    text = "x"
    if min is not None and not math.isinf(float(min)):
        text = call("max", text, float(min))
    if max is not None and not math.isinf(float(max)):
        text = call("min", text, float(max))
    return x if text == "x" else activation(lo, x, text)


@rule("aten.clamp_min")
def _clamp_min(lo: Lowering, x: Tensor, low: float) -> Tensor:
    return _clamp(lo, x, low)


@rule("aten.clamp_max")
def _clamp_max(lo: Lowering, x: Tensor, high: float) -> Tensor:
    return _clamp(lo, x, None, high)


@rule("aten.log_sigmoid", "aten.log_sigmoid_forward")
def _log_sigmoid(lo: Lowering, x: Tensor) -> Any:
    return activation(lo, x, call("mul", call("softplus", call("mul", "x", -1.0)), -1.0))
