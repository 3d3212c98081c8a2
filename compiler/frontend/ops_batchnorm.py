"""Rules for batch normalization, which is a scale and a shift per channel once training is over."""

from __future__ import annotations

from typing import Any

import torch

from intformer.compiler import graph as fg
from intformer.compiler.frontend.issues import Unsupported
from intformer.compiler.frontend.lowering import Lowering, Tensor, rule, to_array

__all__: list[str] = []


@rule("aten.batch_norm")
def _batch_norm(
    lo: Lowering,
    x: Tensor,
    gamma: torch.Tensor | None,
    beta: torch.Tensor | None,
    mean: torch.Tensor | None,
    variance: torch.Tensor | None,
    train: bool,
    _momentum: float,
    eps: float,
    *_rest: Any,
) -> Tensor:
    """Behind a convolution or linear layer it folds into the weights, see ``canonical``."""
    if train or mean is None or variance is None:
        raise Unsupported(
            "batch normalization in training mode depends on the other samples",
            "export the model after .eval(), with running statistics",
        )
    scale = torch.rsqrt(variance.double() + eps)
    if gamma is not None:
        scale = scale * gamma.double()
    shift = -mean.double() * scale
    if beta is not None:
        shift = shift + beta.double()
    order = (0, *range(2, x.rank), 1)
    back = (0, x.rank - 1, *range(1, x.rank - 1))
    name = lo.build.permute(x.name, order)
    shape = lo.build.shape(name)
    name = lo.build.node(fg.Scale, f"{lo.name}.scale", [name], shape, factor=to_array(scale))
    constant = lo.const(shift.float(), f"{lo.name}.shift")
    name = lo.build.node(fg.Add, f"{lo.name}.sum", [name, constant], shape)
    return lo.wrap(lo.build.permute(name, back, lo.name))


@rule("aten._native_batch_norm_legit_no_training")
def _no_training(
    lo: Lowering,
    x: Tensor,
    gamma: torch.Tensor | None,
    beta: torch.Tensor | None,
    mean: torch.Tensor,
    variance: torch.Tensor,
    momentum: float,
    eps: float,
) -> list[Tensor]:
    return [_batch_norm(lo, x, gamma, beta, mean, variance, False, momentum, eps)]
