"""A small vision transformer for the 8x8 images of handwritten digits.

Patches of 2x2 pixels make 16 tokens; two pre-norm encoder blocks; the mean over the tokens
feeds the classifier. ``digits_vit`` is the factory that the compiler calls.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Block", "DigitsViT", "digits_vit", "digits_vit_batch"]

WEIGHTS = Path(__file__).with_name("weights.safetensors")


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, dim = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(batch, tokens, dim))


class Block(nn.Module):
    """Pre-norm encoder block."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)
        self.gelu = nn.GELU()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.fc2(self.gelu(self.fc1(self.norm2(x))))


class DigitsViT(nn.Module):
    """Images ``[batch, 1, 8, 8]``, pixels 0 to 1, to logits ``[batch, 10]``."""

    def __init__(
        self, *, dim: int = 64, depth: int = 2, heads: int = 4, hidden: int = 128, patch: int = 2
    ) -> None:
        super().__init__()
        tokens = (8 // patch) ** 2
        self.patch = nn.Conv2d(1, dim, kernel_size=patch, stride=patch)
        self.position = nn.Parameter(0.02 * torch.randn(1, tokens, dim))
        self.blocks = nn.Sequential(*(Block(dim, heads, hidden) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = self.patch(images).flatten(2).transpose(1, 2) + self.position
        return self.head(self.norm(self.blocks(x)).mean(dim=1))


def digits_vit() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The trained model and an example input of one image."""
    from safetensors.torch import load_file

    model = DigitsViT()
    model.load_state_dict(load_file(WEIGHTS))
    return model.eval(), (torch.zeros(1, 1, 8, 8),)


def digits_vit_batch() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The same for four images at once: the linear layers' weights are streamed once for all."""
    model, _ = digits_vit()
    return model, (torch.zeros(4, 1, 8, 8),)
