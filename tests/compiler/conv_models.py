"""Small PyTorch models of convolutional networks, one for each form that the frontend takes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from op_models import Case, fn
from torch import nn

from intformer.compiler.frontend import torch_export
from intformer.compiler.graph import Graph

IMAGE = (1, 8, 6, 5)


def conv(inputs: int, outputs: int, kernel: Any = 3, **kwargs: Any) -> nn.Conv2d:
    """A convolution with fixed random weights."""
    torch.manual_seed(11)
    return nn.Conv2d(inputs, outputs, kernel, **kwargs)


def conv1d(inputs: int, outputs: int, kernel: int = 3, **kwargs: Any) -> nn.Conv1d:
    torch.manual_seed(12)
    return nn.Conv1d(inputs, outputs, kernel, **kwargs)


def norm(channels: int) -> nn.BatchNorm2d:
    """Batch normalization with random statistics."""
    torch.manual_seed(13)
    module = nn.BatchNorm2d(channels)
    nn.init.normal_(module.weight, 1.0, 0.3)
    nn.init.normal_(module.bias, 0.0, 0.5)
    nn.init.normal_(module.running_mean, 0.0, 0.3)
    nn.init.uniform_(module.running_var, 0.5, 2.0)
    return module


def depthwise(channels: int, **kwargs: Any) -> nn.Conv2d:
    return conv(channels, channels, groups=channels, **kwargs)


def _fusion(m: Any, x: torch.Tensor) -> torch.Tensor:
    """A local path beside a wider one, joined along the channels."""
    x = m.first(x)
    y = m.wide(F.silu(m.norm(m.local(x))))
    return m.fuse(torch.cat((x, F.relu(m.narrow(y))), 1))


CASES: dict[str, Callable[[], Case]] = {
    "pointwise": lambda: fn(lambda m, x: m.c(x), IMAGE, c=conv(8, 12, 1)),
    "pointwise_stride": lambda: fn(lambda m, x: m.c(x), IMAGE, c=conv(8, 12, 1, stride=2)),
    "standard": lambda: fn(lambda m, x: m.c(x), IMAGE, c=conv(8, 12, padding=1)),
    "no_padding": lambda: fn(lambda m, x: m.c(x), IMAGE, c=conv(8, 4, bias=False)),
    "stride": lambda: fn(lambda m, x: m.c(x), (2, 3, 7, 8), c=conv(3, 5, stride=2, padding=1)),
    "dilation": lambda: fn(lambda m, x: m.c(x), IMAGE, c=conv(8, 4, padding=2, dilation=2)),
    "odd_kernel": lambda: fn(lambda m, x: m.c(x), IMAGE, c=conv(8, 6, (2, 5), padding="same")),
    "valid": lambda: fn(lambda m, x: m.c(x), IMAGE, c=conv(8, 6, (1, 3), padding="valid")),
    "groups": lambda: fn(lambda m, x: m.c(x), IMAGE, c=conv(8, 12, padding=1, groups=2)),
    "many_groups": lambda: fn(
        lambda m, x: m.c(x), (1, 40, 4, 4), c=conv(40, 40, padding=1, groups=2)
    ),
    "depthwise": lambda: fn(lambda m, x: m.c(x), IMAGE, c=depthwise(8, padding=1)),
    "depthwise_blocks": lambda: fn(
        lambda m, x: F.silu(m.n(m.c(x))), (1, 36, 4, 4), c=depthwise(36, padding=1), n=norm(36)
    ),
    "depthwise_multiplier": lambda: fn(
        lambda m, x: m.c(x), IMAGE, c=conv(8, 16, padding=1, groups=8)
    ),
    "unbatched": lambda: fn(lambda m, x: m.c(x), IMAGE[1:], c=conv(8, 4, padding=1)),
    "biased_input": lambda: fn(
        lambda m, x: m.d(F.silu(m.c(x) + 3.0)), IMAGE, c=conv(8, 8, 1), d=conv(8, 8, padding=1)
    ),
    "two_in_a_row": lambda: fn(
        lambda m, x: m.d(F.relu(m.n(m.c(x)))),
        IMAGE,
        c=conv(8, 8, padding=1),
        n=norm(8),
        d=conv(8, 4, padding=1),
    ),
    "inverted_residual": lambda: fn(
        lambda m, x: (y := m.first(x)) + m.n(m.p(F.silu(m.d(F.silu(m.w(y)))))),
        IMAGE,
        first=conv(8, 8, 1),
        w=conv(8, 16, 1),
        d=depthwise(16, padding=1),
        p=conv(16, 8, 1),
        n=norm(8),
    ),
    "input_residual": lambda: fn(lambda m, x: x + m.c(x), IMAGE, c=conv(8, 8, padding=1)),
    "fusion": lambda: fn(
        _fusion,
        IMAGE,
        first=conv(8, 8, 1),
        local=conv(8, 8, padding=1),
        norm=norm(8),
        wide=conv(8, 12, 1),
        narrow=conv(12, 8, 1),
        fuse=conv(16, 8, padding=1),
    ),
    "conv1d": lambda: fn(
        lambda m, x: F.gelu(m.c(x)), (1, 8, 10), c=conv1d(8, 6, padding=1, stride=2)
    ),
    "conv1d_groups": lambda: fn(
        lambda m, x: m.c(x), (2, 6, 9), c=conv1d(6, 6, padding=1, groups=3)
    ),
    "norm_alone": lambda: fn(lambda m, x: m.n(x), IMAGE, n=norm(8)),
    "norm_after_relu": lambda: fn(
        lambda m, x: m.n(F.relu(m.c(x))), IMAGE, c=conv(8, 8, 1), n=norm(8)
    ),
    "norm_after_linear": lambda: fn(
        lambda m, x: m.n(m.fc(x)), (5, 8), fc=nn.Linear(8, 6), n=nn.BatchNorm1d(6)
    ),
    "hardswish": lambda: fn(lambda m, x: F.hardswish(m.c(x) * 3), IMAGE, c=conv(8, 8, 1)),
    "hardsigmoid": lambda: fn(lambda m, x: F.hardsigmoid(2 * x), IMAGE),
    "relu6": lambda: fn(lambda m, x: F.relu6(m.c(x) * 9), IMAGE, c=conv(8, 8, 1)),
    "clamp": lambda: fn(lambda m, x: torch.clamp(4 * x, min=0.0, max=6.0), IMAGE),
    "avg_pool": lambda: fn(lambda m, x: F.avg_pool2d(x, 2), (1, 8, 6, 4)),
    "avg_pool_padded": lambda: fn(lambda m, x: F.avg_pool2d(x, 3, 2, 1), IMAGE),
    "avg_pool_all": lambda: fn(lambda m, x: F.adaptive_avg_pool2d(x, 1), IMAGE),
    "avg_pool_adaptive": lambda: fn(lambda m, x: F.adaptive_avg_pool2d(x, (3, 5)), IMAGE),
    "max_pool": lambda: fn(lambda m, x: F.max_pool2d(x, 2), IMAGE),
    "max_pool_padded": lambda: fn(lambda m, x: F.max_pool2d(m.c(x), 3, 2, 1), IMAGE, c=conv(8, 8)),
    "resize": lambda: fn(
        lambda m, x: F.interpolate(x, size=(4, 10), mode="bilinear"), (1, 2, 6, 5)
    ),
    "resize_nothing": lambda: fn(
        lambda m, x: F.interpolate(x, size=(6, 5), mode="bilinear") + x, IMAGE
    ),
}


@cache
def load_case(name: str) -> tuple[nn.Module, tuple[torch.Tensor, ...], Graph]:
    """Module, inputs and float graph of a case."""
    module, inputs = CASES[name]()
    return module, inputs, torch_export.load((module, inputs))
