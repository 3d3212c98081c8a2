"""Models that the tests compile from the command line."""

from __future__ import annotations

import torch
from torch import nn


class Small(nn.Module):
    """A normalized layer, then two more: every kind of unit but softmax has work."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.norm = nn.LayerNorm(6)
        self.first = nn.Linear(6, 9)
        self.second = nn.Linear(9, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(torch.relu(self.first(self.norm(x))))


class TwoInputs(nn.Module):
    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return left + right


class Unsupported(nn.Module):
    """Three operations that cannot be mapped, in different modules."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(1, 2, 3)
        self.pool = nn.AdaptiveMaxPool2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cumprod(self.pool(self.conv(x)), -1)


def small() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    return Small(), (torch.zeros(2, 6),)


def two_inputs() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    return TwoInputs(), (torch.zeros(2, 4), torch.zeros(2, 4))


def unsupported() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    return Unsupported(), (torch.zeros(1, 1, 8, 8),)


def wide() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Activations that a small core cannot hold."""
    return nn.Sequential(nn.Linear(300, 300), nn.ReLU()), (torch.zeros(200, 300),)


def normed() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    """Parameters that are all needed at once."""
    return nn.LayerNorm(64), (torch.zeros(1, 64),)


def long_rows() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    return nn.Softmax(dim=-1), (torch.zeros(1, 2000),)


def broken() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    raise RuntimeError("the weights are on the moon")


def no_module() -> str:
    return "nothing"


NOT_CALLABLE = 3
