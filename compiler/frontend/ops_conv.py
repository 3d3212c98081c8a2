"""Rules for convolutions: windows gathered by views, then one matrix product.

Images lie as ``[batch, height, width, channels]`` inside, between two permutations that
:func:`~intformer.compiler.canonical.canonicalize` cancels from one convolution to the next. The
row of a window has the order column, row, channel: once the rows of the kernel lie side by side
in every column of pixels, all of a window is contiguous, so that a column is stored only once for
the windows that share it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from intformer.compiler.frontend.issues import Unsupported
from intformer.compiler.frontend.lowering import Lowering, Tensor, rule, to_array
from intformer.compiler.frontend.ops_views import reshape

__all__ = ["CHANNEL_BLOCK", "Windows", "channels_first", "channels_last", "grouped"]

CHANNEL_BLOCK = 16
"""Channels of a grouped convolution that share one (block-diagonal) matrix product."""

Pair = tuple[int, int]


@dataclass(frozen=True)
class Windows:
    """The windows of a convolution or pooling; every pair is (height, width)."""

    kernel: Pair
    stride: Pair = (1, 1)
    before: Pair = (0, 0)
    after: Pair = (0, 0)
    dilation: Pair = (1, 1)

    def count(self, axis: int, size: int) -> int:
        """Windows along axis 0 (height) or 1 (width) of an image of ``size`` pixels."""
        reach = self.dilation[axis] * (self.kernel[axis] - 1) + 1
        return (size + self.before[axis] + self.after[axis] - reach) // self.stride[axis] + 1

    def taps(self, lo: Lowering, x: str, axis: int) -> list[str]:
        """For each row (axis 0) or column (1) of the kernel, what it covers of padded ``x``."""
        size = lo.build.shape(x)[axis + 1]
        step, gap = self.stride[axis], self.dilation[axis]
        last = (size - gap * (self.kernel[axis] - 1) - 1) // step * step + 1
        starts = [gap * i for i in range(self.kernel[axis])]
        return [lo.build.slice(x, axis + 1, s, s + last, step) for s in starts]

    def gather(self, lo: Lowering, x: str, name: str) -> str:
        """Rows of windows ``[N, H', W', kw * kh * C]`` of an image ``[N, H, W, C]``."""
        if any((*self.before, *self.after)):
            depth = lo.build.shape(x)[-1]
            zero = lo.build.const(np.zeros((1, 1, 1, depth)), f"{name}.zero")
            for axis in (0, 1):
                x = _padded(lo, x, zero, axis + 1, self.before[axis], self.after[axis])
        for axis, label in ((0, "rows"), (1, "windows")):
            taps = self.taps(lo, x, axis)
            if len(taps) > 1:
                x = lo.build.view("cat", taps, 3, f"{name}.{label}")
            else:
                x = taps[0]
        return x


def _padded(lo: Lowering, x: str, zero: str, axis: int, before: int, after: int) -> str:
    """``x`` with the pixel ``zero`` before and after along ``axis``.

    The zeros are a constant of the same class of values as ``x``: they get the code of real 0.
    """
    shape = lo.build.shape(x)

    def zeros(size: int) -> list[str]:
        wide = (*shape[:axis], size, *shape[axis + 1 :])
        return [lo.build.expand(zero, wide, f"{lo.name}.zeros")] if size else []

    parts = [*zeros(before), x, *zeros(after)]
    return lo.build.view("cat", parts, axis, f"{lo.name}.padded") if len(parts) > 1 else x


def channels_last(lo: Lowering, x: Tensor) -> str:
    """An image ``[N, C, H, W]`` as ``[N, H, W, C]``."""
    return lo.build.permute(x.name, (0, 2, 3, 1))


def channels_first(lo: Lowering, x: str) -> Tensor:
    """An image ``[N, H, W, C]`` as ``[N, C, H, W]``."""
    return lo.wrap(lo.build.permute(x, (0, 3, 1, 2), lo.name))


@rule("aten.conv2d", "aten.convolution")
def _conv2d(
    lo: Lowering,
    x: Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] | str = (0, 0),
    dilation: Sequence[int] = (1, 1),
    *rest: Any,
) -> Tensor:
    _check(x, weight, bias)
    if len(rest) == 3 and rest[0]:
        return _other(lo, x, weight)
    groups = int(rest[-1]) if rest else 1
    if weight.ndim == 3:  # aten.convolution of a sequence
        return _conv1d(lo, x, weight, bias, stride, padding, dilation, groups)
    if weight.ndim != 4:
        return _other(lo, x, weight)
    image = x if x.rank == 4 else reshape(lo, x, (1, *x.shape))
    windows = _windows(weight, stride, padding, dilation)
    y = _convolve(lo, image, weight, bias, windows, groups)
    return y if x.rank == 4 else reshape(lo, y, y.shape[1:])


@rule("aten.conv1d")
def _conv1d(
    lo: Lowering,
    x: Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Sequence[int] = (1,),
    padding: Sequence[int] | str = (0,),
    dilation: Sequence[int] = (1,),
    groups: int = 1,
) -> Tensor:
    """A sequence is an image of one row."""
    _check(x, weight, bias)
    image = reshape(lo, x, (*x.shape[:-1], 1, x.shape[-1]))
    if image.rank == 3:
        image = reshape(lo, image, (1, *image.shape))
    side = padding if isinstance(padding, str) else (0, *padding)
    flat = weight.unsqueeze(2)
    windows = _windows(flat, (1, *stride), side, (1, *dilation))
    y = _convolve(lo, image, flat, bias, windows, groups)
    return reshape(lo, y, (*x.shape[:-2], y.shape[1], y.shape[3]))


@rule("aten.conv_transpose2d", "aten.conv_transpose1d", "aten.conv3d")
def _other(_lo: Lowering, _x: Tensor, weight: torch.Tensor, *_args: Any, **_kwargs: Any) -> Tensor:
    axes = weight.ndim - 2
    what = f"convolves over {axes} axes" if axes > 2 else "is a transposed convolution"
    raise Unsupported(what, "use an ordinary convolution over one or two axes")


def _check(x: Any, weight: Any, bias: Any) -> None:
    if not isinstance(weight, torch.Tensor) or isinstance(bias, Tensor):
        raise Unsupported("weight or bias is computed", "convolve with constant weights")
    if not isinstance(x, Tensor):
        raise Unsupported("the image is a constant", "give the image as an input")


def _windows(
    weight: torch.Tensor, stride: Sequence[int], padding: Sequence[int] | str, dilation: Any
) -> Windows:
    kernel = (int(weight.shape[2]), int(weight.shape[3]))
    steps, gaps = _pair(stride), _pair(dilation)
    if padding == "same":
        total = [g * (k - 1) for g, k in zip(gaps, kernel, strict=True)]
        before = (total[0] // 2, total[1] // 2)
        return Windows(kernel, steps, before, (total[0] - before[0], total[1] - before[1]), gaps)
    side = (0, 0) if isinstance(padding, str) else _pair(padding)
    return Windows(kernel, steps, side, side, gaps)


def _pair(values: Sequence[int]) -> Pair:
    a, b = (int(v) for v in (values if len(values) == 2 else (*values, *values)))
    return a, b


def _convolve(
    lo: Lowering,
    image: Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    windows: Windows,
    groups: int,
) -> Tensor:
    for axis, what in ((0, "height"), (1, "width")):
        if windows.count(axis, image.shape[axis + 2]) < 1:
            raise Unsupported(
                f"the kernel is larger than the padded image's {what}, {image.shape[axis + 2]}",
                "use a larger image or a smaller kernel",
            )
    b = None if bias is None else to_array(bias)
    matrix = to_array(weight)
    apart = windows.stride == windows.kernel and windows.kernel != (1, 1)
    plain = Windows(windows.kernel, windows.kernel)
    if apart and windows == plain and groups == 1:
        return _patches(lo, image, matrix, b)
    return grouped(lo, image, windows, matrix, bias=b, groups=groups)


def grouped(
    lo: Lowering,
    image: Tensor,
    windows: Windows,
    weight: np.ndarray,
    *,
    bias: np.ndarray | None = None,
    groups: int = 1,
    done: Callable[[], None] | None = None,
) -> Tensor:
    """Convolution of ``image`` ``[N, C, H, W]`` with ``weight`` ``[outputs, C / groups, kh, kw]``.

    Groups are taken together until they read :data:`CHANNEL_BLOCK` channels: one product with a
    block-diagonal matrix for each such block, their results side by side. ``done`` is called
    after each product, which then is the newest node.
    """
    x = channels_last(lo, image)
    channels, (outputs, depth) = image.shape[1], weight.shape[:2]
    each = outputs // groups
    together = min(groups, max(1, CHANNEL_BLOCK // depth)) if groups > 1 else 1
    parts = []
    for first in range(0, groups, together):
        count = min(together, groups - first)
        start, stop = first * depth, (first + count) * depth
        part = x
        if (start, stop) != (0, channels):
            part = lo.build.slice(x, 3, start, stop)
        rows = windows.gather(lo, part, lo.name)
        block = _diagonal(weight[first * each : (first + count) * each], count)
        matrix = lo.build.const(block, f"{lo.name}.weight")
        piece = None if bias is None else bias[first * each : (first + count) * each]
        parts.append(lo.build.matmul(rows, matrix, bias=piece, name=lo.name))
        if done is not None:
            done()
    y = parts[0] if len(parts) == 1 else lo.build.view("cat", parts, 3, f"{lo.name}.channels")
    return channels_first(lo, y)


def _diagonal(weight: np.ndarray, groups: int) -> np.ndarray:
    """The matrix of ``groups`` groups: rows are outputs, columns lie as in a window's row."""
    outputs, depth, kh, kw = weight.shape
    matrix = np.zeros((outputs, kw, kh, groups, depth), np.float32)
    each = outputs // groups
    for g in range(groups):
        rows = slice(g * each, (g + 1) * each)
        matrix[rows, :, :, g] = weight[rows].transpose(0, 3, 2, 1)
    return matrix.reshape(outputs, -1)


def _patches(lo: Lowering, image: Tensor, weight: np.ndarray, bias: np.ndarray | None) -> Tensor:
    """Windows that do not overlap: a patch in the order of the weights, from channels in front."""
    batch, channels, height, width = image.shape
    n, _, kh, kw = weight.shape
    h, w = height // kh, width // kw
    name = image.name
    if h * kh != height:
        name = lo.build.slice(name, 2, 0, h * kh)
    if w * kw != width:
        name = lo.build.slice(name, 3, 0, w * kw)
    name = lo.build.reshape(name, (batch, channels, h, kh, w, kw))
    name = lo.build.permute(name, (0, 2, 4, 1, 3, 5))
    name = lo.build.reshape(name, (batch, h * w, channels * kh * kw), f"{lo.name}.patches")
    matrix = lo.build.const(weight.reshape(n, -1), f"{lo.name}.weight")
    name = lo.build.matmul(name, matrix, bias=bias, name=lo.name)
    return channels_first(lo, lo.build.reshape(name, (batch, h, w, n)))
