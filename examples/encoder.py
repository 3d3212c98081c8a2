"""A synthetic encoder block: random weights, for measuring how busy the array is."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from examples.digits_vit.model import Block

__all__ = ["encoder", "encoder_block", "small_encoder"]

SEED = 0


def encoder(
    *,
    dim: int = 256,
    heads: int = 4,
    tokens: int = 64,
    ratio: int = 4,
    depth: int = 1,
    batch: int = 1,
) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """Pre-norm encoder blocks with GELU and seeded random weights, and an example input."""
    generator = torch.Generator().manual_seed(SEED)
    model = nn.Sequential(*(Block(dim, heads, ratio * dim) for _ in range(depth)))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear):
                module.weight.normal_(0.0, module.in_features**-0.5, generator=generator)
                module.bias.normal_(0.0, 0.02, generator=generator)
    return model.eval(), (torch.randn(batch, tokens, dim, generator=generator),)


def encoder_block() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """One block, 256 wide, 4 heads, 64 tokens, hidden layer of 1,024."""
    return encoder()


def small_encoder() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """One block, 32 wide, 2 heads, 8 tokens: quick to simulate."""
    return encoder(dim=32, heads=2, tokens=8, ratio=2)
