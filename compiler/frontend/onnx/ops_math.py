"""Rules for matrix products, sums, scaling and activations."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np

from intformer.compiler import graph as fg
from intformer.compiler.expressions import call
from intformer.compiler.frontend.issues import Unsupported
from intformer.compiler.frontend.onnx.lowering import Lowering, rule
from intformer.compiler.frontend.onnx.ops_attention import masked_sum
from intformer.compiler.frontend.onnx.ops_views import reshape
from intformer.compiler.frontend.onnx.values import (
    Centred,
    Const,
    Curve,
    Deviation,
    MaskForm,
    Mean,
    Normalized,
    Partial,
    Quantized,
    Tensor,
)

__all__ = ["batched_matmul", "linear"]

Operand: TypeAlias = "Tensor | Const"


def linear(lo: Lowering, x: Tensor, weight: Const, bias: Any = None, factor: float = 1.0) -> Tensor:
    """``factor * x @ weight.T + bias`` with constant ``weight`` ``[N, K]`` and ``bias`` ``[N]``."""
    w = lo.const(weight, f"{lo.name}.weight")
    y = lo.wrap(lo.build.matmul(x.name, w, bias=bias, name=lo.name))
    lo.build.graph.nodes[-1].factor = float(factor)  # type: ignore[attr-defined]
    return y


@rule("MatMul")
def _matmul(lo: Lowering, x: Operand, y: Operand) -> Tensor:
    if not x.shape or not y.shape:
        raise Unsupported("an operand is a scalar", "multiply with Mul")
    if len(x.shape) == 1:
        z = _matmul(lo, _lead(lo, x, (1, *x.shape)), y)
        return reshape(lo, z, (*z.shape[:-2], z.shape[-1]))
    if len(y.shape) == 1:
        z = _matmul(lo, x, _lead(lo, y, (*y.shape, 1)))
        return reshape(lo, z, z.shape[:-1])
    if isinstance(y, Tensor):
        return batched_matmul(lo, x, lo.wrap(lo.build.swap_last(y.name)))
    if y.size != y.shape[-1] * y.shape[-2]:
        raise Unsupported(
            f"the constant second operand has shape {y.shape}: a different matrix for each leading "
            "index",
            "apply one linear layer per index and concatenate",
        )
    assert isinstance(x, Tensor)
    lead = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    sizes = y.shape[-2:]
    z = linear(lo, x, y.view(lambda a: a.reshape(sizes).T))
    return reshape(lo, z, (*lead, *z.shape[-2:]))


def _lead(lo: Lowering, x: Operand, shape: tuple[int, ...]) -> Operand:
    if isinstance(x, Const):
        return x.view(lambda a: a.reshape(shape))
    return reshape(lo, x, shape)


def batched_matmul(lo: Lowering, a: Operand, b: Tensor) -> Tensor:
    """``a @ b.T`` with computed ``b``; leading axes broadcast."""
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    if isinstance(a, Const):
        sizes = (*lead, *a.shape[-2:])
        left = lo.const(a.view(lambda v: np.broadcast_to(v, sizes).copy()))
    else:
        left = lo.build.expand(a.name, (*lead, *a.shape[-2:]))
    right = lo.build.expand(b.name, (*lead, *b.shape[-2:]))
    return lo.wrap(lo.build.matmul(left, right, name=lo.name))


@rule("Gemm")
def _gemm(lo: Lowering, a: Operand, b: Operand, c: Operand | None = None) -> Tensor:
    alpha, beta = float(lo.attribute("alpha", 1.0)), float(lo.attribute("beta", 1.0))
    if lo.attribute("transA", 0):
        a = _swap(lo, a)
    if not isinstance(b, Const):
        right = b if lo.attribute("transB", 0) else _swap(lo, b)
        assert isinstance(right, Tensor)
        y = lo.scale(batched_matmul(lo, a, right), alpha)
        return y if c is None else _sum(lo, y, c, (1.0, beta))
    assert isinstance(a, Tensor)
    weight = b if lo.attribute("transB", 0) else b.view(lambda v: v.T)
    n = weight.shape[0]
    if c is None:
        return linear(lo, a, weight, None, alpha)
    if isinstance(c, Const) and c.size in (1, n) and (c.size == 1 or c.shape[-1] == n):
        bias = np.broadcast_to(beta * c.array.reshape(-1).astype(np.float64), (n,))
        return linear(lo, a, weight, bias, alpha)
    return _sum(lo, linear(lo, a, weight, None, alpha), c, (1.0, beta))


def _swap(lo: Lowering, x: Operand) -> Operand:
    if isinstance(x, Const):
        return x.view(lambda v: np.swapaxes(v, -1, -2))
    return lo.wrap(lo.build.swap_last(x.name))


def origin(lo: Lowering, x: Tensor) -> tuple[str, float]:
    """What ``x`` is a multiple of, and the factor."""
    producers = lo.build.graph.producers()
    name, factor = x.name, 1.0
    node = producers.get(name)
    while isinstance(node, fg.Scale) and isinstance(node.factor, float):
        name, factor = node.inputs[0], factor * node.factor
        node = producers.get(name)
    return name, factor


@rule("Mul", partial=True)
def _mul(lo: Lowering, x: Any, y: Any) -> Any:
    if isinstance(x, Const) or (isinstance(y, Partial) and isinstance(x, Tensor)):
        x, y = y, x
    if isinstance(x, MaskForm) and isinstance(y, Const) and y.size == 1:
        number = y.number()
        return x.map(lambda v: 0.0 if v == 0 else v * number)
    if isinstance(x, Curve) and isinstance(y, Const) and y.size == 1:
        return x.scaled(y.number(), lo.name)
    if isinstance(x, Curve) and isinstance(y, Tensor):
        curve = _gelu_of(lo, x, y)
        if curve is not None:
            return curve
    if isinstance(x, Centred) and isinstance(y, Centred) and x == y and x.power == 1:
        return Centred(x.x, 2)
    if isinstance(x, Centred | Deviation) and isinstance(y, Centred | Deviation):
        centred, deviation = (x, y) if isinstance(x, Centred) else (y, x)
        if (
            isinstance(centred, Centred)
            and isinstance(deviation, Deviation)
            and deviation.power == -1
            and (centred.x, centred.power) == (deviation.x, 1)
        ):
            return _normalized(lo, centred, deviation)
    if isinstance(x, Normalized) and isinstance(y, Const) and _is_vector(y, x.shape[-1]):
        factor = y.array.reshape(-1)
        beta = None if x.beta is None else x.beta * factor
        return Normalized(x.x, lo.name, x.eps, x.gamma * factor, beta)
    x, y = lo.whole(x), lo.whole(y)
    if isinstance(y, Tensor):
        return _product(lo, x, y)
    if y.size == 1 and len(y.shape) <= x.rank:
        return lo.scale(x, y.number())
    if y.size == y.shape[-1] == x.shape[-1] and len(y.shape) <= x.rank:
        factor = y.array.reshape(-1).astype(np.float32)
        return lo.wrap(lo.build.node(fg.Scale, lo.name, [x.name], x.shape, factor=factor))
    raise Unsupported(
        f"multiplies by a constant of shape {y.shape}",
        "multiply by a number or by a vector along the last axis",
    )


def _product(lo: Lowering, x: Tensor, y: Tensor) -> Tensor:
    """SiLU, if one operand is the sigmoid of the other."""
    producers = lo.build.graph.producers()
    for one, other in ((x, y), (y, x)):
        node = producers.get(one.name)
        if isinstance(node, fg.Activation) and node.kind == "sigmoid":
            (base, inner), (same, factor) = origin(lo, lo.wrap(node.inputs[0])), origin(lo, other)
            inner *= node.factor
            if base == same and inner != 0:
                silu = lo.activation(lo.wrap(base), "silu", inner, f"{lo.name}.silu")
                if abs(factor / inner - 1.0) < 1e-6:
                    lo.build.graph.nodes.pop()
                    del lo.build.graph.values[silu.name]
                    return lo.activation(lo.wrap(base), "silu", inner)
                return lo.scale(silu, factor / inner)
    shape = np.broadcast_shapes(x.shape, y.shape)
    return lo.wrap(lo.build.node(fg.Mul, lo.name, [x.name, y.name], shape))


def _gelu_of(lo: Lowering, curve: Curve, y: Tensor) -> Curve | None:
    """``y * curve`` as a GELU, if ``y`` is a multiple of the curve's argument."""
    base, factor = origin(lo, y)
    names = {"erf": "gelu", "tanh": "gelu_tanh"}
    balanced = abs(curve.offset - curve.scale) <= 0.01 * abs(curve.scale)
    if base != curve.x.name or curve.kind not in names or not balanced:
        return None
    whole = 2.0 * curve.scale * factor / curve.inner
    return Curve(names[curve.kind], curve.x, lo.name, scale=whole, inner=curve.inner)


def _is_vector(y: Const, n: int) -> bool:
    return y.size in (1, n) and (y.size == 1 or y.shape[-1] == n)


@rule("Div", partial=True)
def _div(lo: Lowering, x: Any, y: Any) -> Any:
    pair = isinstance(x, Centred) and isinstance(y, Deviation)
    if pair and y.power == 1 and (x.x, x.power) == (y.x, 1):
        return _normalized(lo, x, y)
    if isinstance(x, Const) and isinstance(y, Deviation) and (x.array == 1).all() and y.power == 1:
        return Deviation(y.x, y.eps, -1)
    y = lo.whole(y)
    if not isinstance(y, Const):
        raise Unsupported("divides by a computed tensor", "divide by a constant")
    if not y.array.all():
        raise Unsupported("divides by 0", "divide by a number that is not 0")
    return _mul(lo, x, Const(1.0 / y.array.astype(np.float64)))


def _normalized(lo: Lowering, x: Centred, deviation: Deviation) -> Normalized:
    return Normalized(x.x, lo.name, deviation.eps, np.ones(x.shape[-1], np.float32))


@rule("Neg", partial=True)
def _neg(lo: Lowering, x: Any) -> Any:
    return _mul(lo, x, Const(np.array(-1.0)))


@rule("Add", partial=True)
def _add(lo: Lowering, x: Any, y: Any) -> Any:
    if isinstance(x, Const):
        x, y = y, x
    masked = masked_sum(lo, x, y)
    if masked is not None:
        return masked
    if isinstance(y, Const) and y.size == 1:
        number = y.number()
        if isinstance(x, Curve) and x.kind in ("erf", "tanh"):
            return Curve(x.kind, x.x, lo.name, x.scale, x.offset + number, x.inner)
        if isinstance(x, Deviation) and x.power == 2:
            return Deviation(x.x, x.eps + number)
        if isinstance(x, MaskForm):
            return x.map(lambda v: v + number)
    if isinstance(x, Normalized) and isinstance(y, Const) and _is_vector(y, x.shape[-1]):
        beta = y.array.reshape(-1) if x.beta is None else x.beta + y.array.reshape(-1)
        return Normalized(x.x, lo.name, x.eps, x.gamma, beta)
    for one, other in ((x, y), (y, x)):
        if isinstance(one, Curve) and one.kind == "cube" and isinstance(other, Tensor):
            base, factor = origin(lo, other)
            if base == one.x.name:
                return Curve("cube", one.x, lo.name, one.scale, one.offset + factor, one.inner)
    return _sum(lo, lo.whole(x), lo.whole(y), (1.0, 1.0))


@rule("Sub", partial=True)
def _sub(lo: Lowering, x: Any, y: Any) -> Any:
    if isinstance(x, Tensor) and isinstance(y, Mean) and x.name == y.x.name:
        return Centred(x)
    if isinstance(x, Const) and isinstance(y, MaskForm) and x.size == 1:
        number = x.number()
        return y.map(lambda v: number - v)
    if isinstance(y, Const) and isinstance(x, MaskForm) and y.size == 1:
        number = y.number()
        return x.map(lambda v: v - number)
    return _sum(lo, lo.whole(x), lo.whole(y), (1.0, -1.0))


def _sum(lo: Lowering, x: Operand, y: Operand, factors: tuple[float, float]) -> Tensor:
    if any(isinstance(v, Quantized) for v in (x, y)):
        raise Unsupported("adds quantized codes", "dequantize in front of the sum")
    shape = np.broadcast_shapes(x.shape, y.shape)
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
    cut = len(shape) - len(tail)
    if isinstance(x, Const):
        return lo.const(x.view(lambda a: np.broadcast_to(a.reshape(sizes[cut:]), tail).copy()))
    if sizes[cut:] == tail and lead == 0:
        return x.name
    return lo.build.expand(x.name, (*sizes[:cut], *tail))


@rule("Pow", partial=True)
def _pow(lo: Lowering, x: Any, y: Any) -> Any:
    power = y.number() if isinstance(y, Const) and y.size == 1 else None
    if isinstance(x, Centred) and x.power == 1 and power == 2:
        return Centred(x.x, 2)
    x = lo.whole(x)
    if isinstance(x, Tensor) and power == 3:
        return Curve("cube", x, lo.name)
    raise Unsupported("a power", "powers can be mapped only as parts of GELU and LayerNorm")


@rule("Erf", partial=True)
def _erf(lo: Lowering, x: Any) -> Curve:
    base, factor = origin(lo, lo.whole(x))
    inner = factor * math.sqrt(2.0)
    inner = 1.0 if abs(inner - 1.0) < 1e-3 else inner
    return Curve("erf", lo.wrap(base), lo.name, inner=inner)


_TANH = math.sqrt(2.0 / math.pi)


@rule("Tanh", partial=True)
def _tanh(lo: Lowering, x: Any) -> Any:
    if isinstance(x, Curve) and x.kind == "cube" and x.offset:
        inner = x.offset / _TANH
        inner = 1.0 if abs(inner - 1.0) < 1e-3 else inner
        if abs(x.scale / (_TANH * 0.044715 * inner**3) - 1.0) < 1e-2:
            return Curve("tanh", x.x, lo.name, inner=inner)
    return lo.activation(lo.whole(x), "tanh")


@rule("Relu")
def _relu(lo: Lowering, x: Tensor) -> Tensor:
    return lo.activation(x, "relu")


@rule("Sigmoid")
def _sigmoid(lo: Lowering, x: Tensor) -> Tensor:
    return lo.activation(x, "sigmoid")


@rule("Gelu", "com.microsoft.Gelu")
def _gelu(lo: Lowering, x: Tensor) -> Tensor:
    exact = lo.attribute("approximate", b"none") == b"none"
    return lo.activation(x, "gelu" if exact else "gelu_tanh")


@rule("com.microsoft.FastGelu")
def _fast_gelu(lo: Lowering, x: Tensor, bias: Operand | None = None) -> Tensor:
    if bias is not None:
        x = _sum(lo, x, bias, (1.0, 1.0))
    return lo.activation(x, "gelu_tanh")


@rule("com.microsoft.QuickGelu")
def _quick_gelu(lo: Lowering, x: Tensor) -> Tensor:
    alpha = float(lo.attribute("alpha", 1.702))
    return lo.scale(lo.activation(x, "silu", alpha, f"{lo.name}.silu"), 1.0 / alpha)


@rule("HardSwish", "HardSigmoid", "LeakyRelu")
def _piecewise(lo: Lowering, x: Tensor) -> Tensor:
    if lo.node.op == "LeakyRelu":
        return lo.activation(x, call("max", "x", call("mul", "x", lo.attribute("alpha", 0.01))))
    slope, offset = lo.attribute("alpha", 0.2), lo.attribute("beta", 0.5)
    if lo.node.op == "HardSwish":
        slope, offset = 1.0 / 6.0, 0.5
    ramp = call("add", call("mul", "x", float(slope)), float(offset))
    ramp = call("min", call("max", ramp, 0.0), 1.0)
    return lo.activation(x, ramp if lo.node.op == "HardSigmoid" else call("mul", "x", ramp))


@rule("Clip")
def _clip(lo: Lowering, x: Tensor, low: Any = None, high: Any = None) -> Tensor:
    bounds = []
    for value, name, default in ((low, "min", -np.inf), (high, "max", np.inf)):
        given = value.number() if isinstance(value, Const) else lo.attribute(name, default)
        bounds.append(float(given))
    if bounds[0] == 0 and bounds[1] >= 3e38:
        return lo.activation(x, "relu")
    if not np.isfinite(bounds).all() or bounds[0] >= bounds[1]:
        raise Unsupported(
            f"clips to {bounds[0]:g}..{bounds[1]:g}", "clip to finite bounds, or ReLU"
        )
    return lo.activation(x, call("min", call("max", "x", bounds[0]), bounds[1]))
