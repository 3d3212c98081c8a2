"""Rules for resizing images: a fixed linear map of the pixels, or a choice among them."""

from __future__ import annotations

from typing import Any

import torch

from intformer.compiler.frontend.lowering import Lowering, Tensor, rule
from intformer.compiler.frontend.ops_take import take_by
from intformer.compiler.frontend.ops_views import reshape

__all__: list[str] = []


def _linear_map(lo: Lowering, x: Tensor, function: Any, *args: Any) -> Tensor:
    """``function`` of each channel, as a linear layer over its elements."""
    sizes = x.shape[2:]
    count = 1
    for n in sizes:
        count *= n
    basis = torch.eye(count).reshape(count, 1, *sizes)
    image = function(basis, *args)
    weight = image.reshape(count, -1).t()
    flat = reshape(lo, x, (*x.shape[:2], count))
    name = lo.build.matmul(flat.name, lo.const(weight, f"{lo.name}.weight"), name=lo.name)
    return reshape(lo, lo.wrap(name), (*x.shape[:2], *image.shape[2:]))


@rule("aten.upsample_bilinear2d")
def _bilinear(lo: Lowering, x: Tensor, *args: Any) -> Tensor:
    return _linear_map(lo, x, torch.ops.aten.upsample_bilinear2d.vec, *args)


@rule("aten.upsample_bicubic2d")
def _bicubic(lo: Lowering, x: Tensor, *args: Any) -> Tensor:
    return _linear_map(lo, x, torch.ops.aten.upsample_bicubic2d.vec, *args)


@rule("aten.upsample_nearest2d", view=True)
def _nearest(lo: Lowering, x: Tensor, *args: Any) -> Tensor:
    def move(places: torch.Tensor) -> torch.Tensor:
        return torch.ops.aten.upsample_nearest2d.vec(places.double(), *args).long()

    return take_by(lo, x, move)
