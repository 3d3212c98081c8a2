"""Rule for convolutions along one axis: windows side by side, and a linear layer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from intformer.compiler.frontend.issues import Unsupported
from intformer.compiler.frontend.lowering import Lowering, Tensor, rule, to_array
from intformer.compiler.frontend.ops_views import reshape

__all__: list[str] = []


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
    """``[B, C, T]`` to ``[B, N, T']``: windows of ``[B, T, C]`` times the kernel."""
    if groups != 1 or not isinstance(weight, torch.Tensor):
        raise Unsupported(
            f"a convolution along one axis with {groups} groups",
            "one group and constant weights",
        )
    n, channels, kernel = weight.shape
    step, spread = int(stride[0]), int(dilation[0])
    reach = spread * (kernel - 1)
    if isinstance(padding, str):
        front = reach // 2 if padding == "same" else 0
        back = reach - front if padding == "same" else 0
    else:
        front = back = int(padding[0])
    batched = x if x.rank == 3 else reshape(lo, x, (1, *x.shape))
    batch, _, length = batched.shape
    name = lo.build.permute(batched.name, (0, 2, 1))
    sides = [
        lo.build.const(np.zeros((batch, count, channels), np.float32), f"{lo.name}.padding")
        for count in (front, back)
        if count
    ]
    parts = [*sides[: bool(front)], name, *sides[bool(front) :]]
    if len(parts) > 1:
        name = lo.build.view("cat", parts, 1)
    total = length + front + back
    count = (total - reach - 1) // step + 1
    windows = [
        lo.build.slice(name, 1, spread * k, spread * k + step * (count - 1) + 1, step)
        for k in range(kernel)
    ]
    name = windows[0] if kernel == 1 else lo.build.view("cat", windows, 2, f"{lo.name}.windows")
    matrix = weight.permute(0, 2, 1).reshape(n, kernel * channels)
    b = None if bias is None else to_array(bias)
    name = lo.build.matmul(name, lo.const(matrix, f"{lo.name}.weight"), bias=b, name=lo.name)
    y = lo.wrap(lo.build.permute(name, (0, 2, 1)))
    return y if x.rank == 3 else reshape(lo, y, y.shape[1:])
