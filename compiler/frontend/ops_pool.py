"""Rules for pooling: averages as products with ones, maxima of pairs as ``relu(a - b) + b``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from intformer.compiler import graph as fg
from intformer.compiler.frontend.issues import Unsupported
from intformer.compiler.frontend.lowering import Lowering, Tensor, rule
from intformer.compiler.frontend.ops_conv import (
    Windows,
    channels_first,
    channels_last,
    grouped,
)
from intformer.compiler.frontend.ops_views import reshape

__all__: list[str] = []


def _pair(values: int | Sequence[int]) -> tuple[int, int]:
    given = [values] if isinstance(values, int) else list(values)
    a, b = (int(v) for v in (given if len(given) == 2 else given * 2))
    return a, b


def _image(lo: Lowering, x: Tensor) -> Tensor:
    return x if x.rank == 4 else reshape(lo, x, (1, *x.shape))


@rule("aten.avg_pool2d")
def _avg_pool2d(
    lo: Lowering,
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    ceil: bool = False,
    count_pad: bool = True,
    divisor: int | None = None,
) -> Tensor:
    if ceil or (any(_pair(padding)) and not count_pad):
        raise Unsupported(
            "windows at the border average fewer pixels (ceil_mode, or count_include_pad=False)",
            "pad the image to a multiple of the stride, and count the padding",
        )
    size = _pair(kernel)
    return _average(lo, x, size, _pair(stride) if stride else size, _pair(padding), divisor)


@rule("aten.adaptive_avg_pool2d", "aten._adaptive_avg_pool2d")
def _adaptive_avg_pool2d(lo: Lowering, x: Tensor, size: Sequence[int | None]) -> Tensor:
    height, width = x.shape[-2:]
    wanted = [n if n is not None else have for n, have in zip(size, (height, width), strict=True)]
    if height % wanted[0] or width % wanted[1]:
        raise Unsupported(
            f"averages {height} x {width} pixels to {wanted[0]} x {wanted[1]}: uneven windows",
            "pool to sizes that divide the image's",
        )
    kernel = (height // wanted[0], width // wanted[1])
    return _average(lo, x, kernel, kernel, (0, 0), None)


def _average(
    lo: Lowering,
    x: Tensor,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    divisor: int | None,
) -> Tensor:
    """Average over windows; over the whole image, a product with a row of ones per channel."""
    if kernel == (1, 1) and stride == (1, 1) and not any(padding):
        return x
    image = _image(lo, x)
    batch, channels, height, width = image.shape
    area = divisor or kernel[0] * kernel[1]
    if kernel == (height, width) and not any(padding):
        flat = reshape(lo, image, (batch, channels, height * width))
        ones = lo.build.const(np.ones((1, height * width)), f"{lo.name}.ones")
        y = lo.wrap(lo.build.matmul(flat.name, ones, name=lo.name))
        _divide(lo, area)
        y = reshape(lo, y, (batch, channels, 1, 1))
    else:
        y = grouped(
            lo,
            image,
            Windows(kernel, stride, padding, padding),
            np.ones((channels, 1, *kernel), np.float32),
            groups=channels,
            done=lambda: _divide(lo, area),
        )
    return y if x.rank == 4 else reshape(lo, y, y.shape[1:])


def _divide(lo: Lowering, by: int) -> None:
    node = lo.build.graph.nodes[-1]
    assert isinstance(node, fg.MatMul)
    node.factor = 1.0 / by


@rule("aten.max_pool2d", "aten.max_pool2d_with_indices")
def _max_pool2d(
    lo: Lowering,
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    ceil: bool = False,
) -> Any:
    size, side = _pair(kernel), _pair(padding)
    if ceil:
        raise Unsupported("rounds the number of windows up (ceil_mode)", "pad the image instead")
    gaps = _pair(dilation)
    if any(p and (g != 1 or 2 * p > k) for p, g, k in zip(side, gaps, size, strict=True)):
        raise Unsupported(
            "windows may lie in the padding altogether", "pad by at most half of the kernel"
        )
    image = _image(lo, x)
    windows = Windows(size, _pair(stride) if stride else size, dilation=gaps)
    name = channels_last(lo, image)
    for axis in (0, 1):
        name = _bordered(lo, name, axis + 1, side[axis])
        largest, *others = windows.taps(lo, name, axis)
        for other in others:
            largest = _maximum(lo, largest, other)
        name = largest
    y = channels_first(lo, name)
    return y if x.rank == 4 else reshape(lo, y, y.shape[1:])


def _bordered(lo: Lowering, x: str, axis: int, side: int) -> str:
    """``x`` with its first and last slices repeated: they change no maximum of a window."""
    if not side:
        return x
    n = lo.build.shape(x)[axis]
    first = lo.build.slice(x, axis, 0, 1)
    last = lo.build.slice(x, axis, n - 1, n)
    return lo.build.view("cat", [first] * side + [x] + [last] * side, axis, f"{lo.name}.padded")


def _maximum(lo: Lowering, a: str, b: str) -> str:
    shape = lo.build.shape(a)
    more = lo.build.node(fg.Add, f"{lo.name}.more", [a, b], shape, factors=(1.0, -1.0))
    more = lo.build.node(fg.Activation, f"{lo.name}.relu", [more], shape, kind="relu")
    return lo.build.node(fg.Add, f"{lo.name}.max", [more, b], shape)
