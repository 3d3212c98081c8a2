"""Rules for resampling images: products with constant matrices, or a choice of pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from intformer.compiler.frontend.lowering import Lowering, Tensor, rule
from intformer.compiler.frontend.ops_take import take_by
from intformer.compiler.frontend.ops_views import reshape

__all__: list[str] = []


@rule("aten.upsample_bilinear2d")
def _bilinear(
    lo: Lowering,
    x: Tensor,
    size: Sequence[int] | None,
    align_corners: bool,
    scales: Sequence[float] | None = None,
    *rest: Any,
) -> Tensor:
    """Bilinear in height and width: nothing to do at equal sizes."""
    if rest or isinstance(scales, float) or size is None:
        return _linear_map(
            lo, x, torch.ops.aten.upsample_bilinear2d.vec, size, align_corners, scales
        )
    for axis in (3, 2):
        if x.shape[axis] == int(size[axis - 2]) or x.rank != 4:
            continue
        have, wanted = x.shape[axis], int(size[axis - 2])
        basis = torch.eye(have).reshape(1, have, 1, have)
        seen = torch.ops.aten.upsample_bilinear2d(basis, [1, wanted], align_corners)
        matrix = lo.const(seen.reshape(have, wanted).t(), f"{lo.name}.matrix")
        name = x.name if axis == 3 else lo.build.swap_last(x.name)
        name = lo.build.matmul(name, matrix, name=lo.name)
        x = lo.wrap(name if axis == 3 else lo.build.swap_last(name))
    return x


def _linear_map(lo: Lowering, x: Tensor, function: Any, *args: Any) -> Tensor:
    """``function`` of each channel, as one linear layer over all its elements."""
    sizes = x.shape[2:]
    count = math.prod(sizes)
    image = function(torch.eye(count).reshape(count, 1, *sizes), *args)
    matrix = lo.const(image.reshape(count, -1).t(), f"{lo.name}.matrix")
    flat = reshape(lo, x, (*x.shape[:2], count))
    name = lo.build.matmul(flat.name, matrix, name=lo.name)
    return reshape(lo, lo.wrap(name), (*x.shape[:2], *image.shape[2:]))


@rule("aten.upsample_bicubic2d")
def _bicubic(lo: Lowering, x: Tensor, *args: Any) -> Tensor:
    return _linear_map(lo, x, torch.ops.aten.upsample_bicubic2d.vec, *args)


@rule("aten.upsample_nearest2d", view=True)
def _nearest(lo: Lowering, x: Tensor, *args: Any) -> Tensor:
    def move(places: torch.Tensor) -> torch.Tensor:
        return torch.ops.aten.upsample_nearest2d.vec(places.double(), *args).long()

    return take_by(lo, x, move)
