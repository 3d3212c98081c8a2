"""Rules for convolutions and batch normalization."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer.compiler import graph as fg
from intformer.compiler.frontend.issues import Unsupported
from intformer.compiler.frontend.onnx.lowering import Lowering, rule
from intformer.compiler.frontend.onnx.ops_math import linear
from intformer.compiler.frontend.onnx.ops_views import reshape
from intformer.compiler.frontend.onnx.values import Const, Tensor

__all__: list[str] = []


@rule("Conv")
def _conv(lo: Lowering, x: Tensor, weight: Any, bias: Any = None) -> Tensor:
    if not isinstance(weight, Const) or isinstance(bias, Tensor):
        raise Unsupported("weight or bias is computed", "convolve with constant weights")
    b = None if bias is None else bias.array.astype(np.float64)
    kernel = tuple(weight.shape[2:])
    if len(kernel) == 1:  # a sequence is an image of one row
        flat = weight.view(lambda a: a[:, :, None])
        y = _image(lo, reshape(lo, x, (*x.shape[:2], 1, x.shape[2])), flat, b)
        return reshape(lo, y, (y.shape[0], y.shape[1], y.shape[3]))
    if len(kernel) != 2:
        raise Unsupported(f"convolves over {len(kernel)} axes", "convolve over one or two axes")
    return _image(lo, x, weight, b)


def _image(lo: Lowering, x: Tensor, weight: Const, bias: NDArray[Any] | None) -> Tensor:
    kernel = (int(weight.shape[2]), int(weight.shape[3]))
    stride, dilation = (_pair(lo, name) for name in ("strides", "dilations"))
    before, after = _pads(lo, x, kernel, stride, dilation)
    group = int(lo.attribute("group", 1))
    apart = stride == kernel and dilation == (1, 1) and group == 1 and kernel != (1, 1)
    if apart and before == after == (0, 0):
        return _patches(lo, x, weight, bias)
    try:
        from intformer.compiler.frontend.ops_conv import Windows, grouped
    except ImportError as error:
        raise Unsupported(
            f"this needs PyTorch ({error})", "pip install 'intformer[torch]'"
        ) from None
    windows = Windows(kernel, stride, before, after, dilation)
    for axis in (0, 1):
        if windows.count(axis, x.shape[axis + 2]) < 1:
            raise Unsupported("the kernel is larger than the padded image", "use a larger image")
    first = 0

    def coded() -> None:
        """The newest product's weights get the scales of its outputs."""
        nonlocal first
        node = lo.build.graph.nodes[-1]
        value = lo.build.graph.values[node.inputs[1]]
        if weight.scale is not None:
            scale = np.broadcast_to(weight.scale, weight.shape).reshape(weight.shape[0], -1)
            if not (scale == scale[:, :1]).all():
                raise Unsupported(
                    "the scales of the weights differ within a channel",
                    "quantize weights per tensor or per output channel",
                )
            rows = scale[first : first + value.shape[0], 0]
            value.coding = fg.WeightCoding(rows.astype(np.float64))
        first += value.shape[0]

    array = weight.array.astype(np.float32)
    # Both lowerings have what it needs of one: a builder, names, and tensors of a graph.
    shared: Any = grouped
    y = shared(lo, x, windows, array, bias=bias, groups=group, done=coded)
    return lo.wrap(y.name)


def _pair(lo: Lowering, name: str) -> tuple[int, int]:
    """An attribute along height and width; along the only axis it is the width."""
    values = [int(v) for v in (lo.attribute(name) or (1, 1))]
    return (values[0], values[1]) if len(values) == 2 else (1, values[0])


def _pads(
    lo: Lowering,
    x: Tensor,
    kernel: tuple[int, ...],
    stride: tuple[int, int],
    dilation: tuple[int, int],
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Padding before and after, of height and width."""
    auto = lo.attribute("auto_pad", b"NOTSET").decode()
    if auto in ("NOTSET", "VALID"):
        pads = [int(p) for p in (lo.attribute("pads") or (0, 0, 0, 0))]
        pads = pads if auto == "NOTSET" else [0, 0, 0, 0]
        pads = [0, pads[0], 0, pads[1]] if len(pads) == 2 else pads
        return (pads[0], pads[1]), (pads[2], pads[3])
    before, after = [], []
    for axis in (0, 1):
        size, step = x.shape[axis + 2], stride[axis]
        reach = dilation[axis] * (kernel[axis] - 1) + 1
        total = max((-(-size // step) - 1) * step + reach - size, 0)
        small, large = total // 2, total - total // 2
        before.append(small if auto == "SAME_UPPER" else large)
        after.append(large if auto == "SAME_UPPER" else small)
    return (before[0], before[1]), (after[0], after[1])


def _patches(lo: Lowering, x: Tensor, weight: Const, bias: NDArray[Any] | None) -> Tensor:
    """Windows that do not overlap: a patch in the order of the weights."""
    batch, channels, height, width = x.shape
    n, _, kh, kw = weight.shape
    h, w = height // kh, width // kw
    name = x.name
    if h * kh != height:
        name = lo.build.slice(name, 2, 0, h * kh)
    if w * kw != width:
        name = lo.build.slice(name, 3, 0, w * kw)
    name = lo.build.reshape(name, (batch, channels, h, kh, w, kw))
    name = lo.build.permute(name, (0, 2, 4, 1, 3, 5))
    name = lo.build.reshape(name, (batch, h * w, channels * kh * kw), f"{lo.name}.patches")
    y = linear(lo, lo.wrap(name), weight.view(lambda a: a.reshape(n, -1)), bias)
    name = lo.build.reshape(y.name, (batch, h, w, n))
    return lo.wrap(lo.build.permute(name, (0, 3, 1, 2)))


@rule("BatchNormalization")
def _batch_norm(lo: Lowering, x: Tensor, gamma: Any, beta: Any, mean: Any, variance: Any) -> Tensor:
    """A scale and a shift per channel; behind a convolution they fold into it."""
    parts = (gamma, beta, mean, variance)
    if lo.attribute("training_mode", 0) or not all(isinstance(p, Const) for p in parts):
        raise Unsupported("batch normalization in training mode", "export in inference mode")
    g, b, m, v = (p.array.astype(np.float64) for p in parts)
    factor = g / np.sqrt(v + lo.attribute("epsilon", 1e-5))
    name = lo.build.permute(x.name, (0, *range(2, x.rank), 1))
    shape = lo.build.shape(name)
    scale = np.asarray(factor, np.float32)
    name = lo.build.node(fg.Scale, f"{lo.name}.scale", [name], shape, factor=scale)
    shift = lo.build.const(b - m * factor, f"{lo.name}.shift")
    name = lo.build.node(fg.Add, f"{lo.name}.sum", [name, shift], shape)
    back = (0, x.rank - 1, *range(1, x.rank - 1))
    return lo.wrap(lo.build.permute(name, back, lo.name))
