"""Element-wise functions of one real number, written as text: ``mul(x,sigmoid(mul(1.702,x)))``.

An expression is ``x``, a number, or a function of expressions. It is the ``kind`` of an
:class:`intformer.compiler.graph.Activation` that has no name of its own, so that a chain of
element-wise operations becomes one table.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["FUNCTIONS", "NAMES", "call", "evaluate_expression", "substitute"]

Array = NDArray[Any]
Tree = str | float | tuple[Any, ...]

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


def _gelu(x: Array) -> Array:
    return 0.5 * x * (1.0 + _erf(x / math.sqrt(2.0)))


def _gelu_tanh(x: Array) -> Array:
    return 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3)))


def _sigmoid(x: Array) -> Array:
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def _softplus(x: Array) -> Array:
    return np.logaddexp(0.0, x)


NAMES: dict[str, Callable[[Array], Array]] = {
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "relu": lambda x: np.maximum(x, 0.0),
    "sigmoid": _sigmoid,
    "silu": lambda x: x * _sigmoid(x),
    "tanh": np.tanh,
}
"""Functions that are kinds of activation by their name alone."""

FUNCTIONS: dict[str, Callable[..., Array]] = NAMES | {
    "add": np.add,
    "mul": np.multiply,
    "div": np.divide,
    "pow": np.power,
    "min": np.minimum,
    "max": np.maximum,
    "abs": np.abs,
    "erf": _erf,
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1.0 / np.sqrt(x),
    "sin": np.sin,
    "cos": np.cos,
    "softplus": _softplus,
    "where_positive": lambda c, x, y: np.where(c > 0, x, y),
}
"""All functions that an expression may use, with their number of arguments as in Python."""

_TOKEN = re.compile(r"\s*([A-Za-z_]\w*|[-+]?(?:inf|nan|\d[\d.]*(?:e[-+]?\d+)?)|[(),])")


def call(function: str, *arguments: str | float) -> str:
    """The expression ``function(*arguments)``; numbers are written exactly."""
    if function not in FUNCTIONS:
        raise ValueError(f"function must be one of {', '.join(FUNCTIONS)}, not {function!r}")
    return f"{function}({','.join(a if isinstance(a, str) else _number(a) for a in arguments)})"


def substitute(kind: str, inner: str) -> str:
    """``kind`` (a name or an expression) of ``inner`` instead of ``x``."""
    if kind in NAMES:
        return call(kind, inner)
    return re.sub(r"\bx\b", inner.replace("\\", r"\\"), kind)


def evaluate_expression(text: str, x: Array) -> Array:
    """Values of an expression for every element of ``x``, float64.

    Where the expression is undefined (the root of a negative number, say) the result is 0.

    Raises
    ------
    ValueError
        If ``text`` is no expression.
    """
    x = np.asarray(x, np.float64)
    with np.errstate(all="ignore"):
        result = np.broadcast_to(_value(_parse(text), x), x.shape)
    return np.where(np.isnan(result), 0.0, result)


def _number(value: float) -> str:
    return repr(float(value))


def _value(tree: Tree, x: Array) -> Array:
    if tree == "x":
        return x
    if isinstance(tree, tuple):
        return FUNCTIONS[tree[0]](*(_value(part, x) for part in tree[1:]))
    return np.float64(tree)


@cache
def _parse(text: str) -> Tree:
    tokens = _TOKEN.findall(text)
    if "".join(tokens) != text.replace(" ", ""):
        raise ValueError(f"not an expression: {text!r}")
    tree, rest = _term(tokens, text)
    if rest:
        raise ValueError(f"not an expression: {text!r}")
    return tree


def _term(tokens: list[str], text: str) -> tuple[Tree, list[str]]:
    if not tokens:
        raise ValueError(f"not an expression: {text!r}")
    head, *rest = tokens
    if head == "x":
        return "x", rest
    if head not in FUNCTIONS:
        try:
            return float(head), rest
        except ValueError:
            raise ValueError(f"unknown function {head!r} in {text!r}") from None
    if rest[:1] != ["("]:
        raise ValueError(f"not an expression: {text!r}")
    parts: list[Tree] = [head]
    while rest and rest[0] in "(,":
        part, rest = _term(rest[1:], text)
        parts.append(part)
    if rest[:1] != [")"]:
        raise ValueError(f"not an expression: {text!r}")
    return tuple(parts), rest[1:]
