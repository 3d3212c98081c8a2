"""A small MobileViT for the 8x8 images of handwritten digits.

Convolutions find local features, a MobileViT block (Mehta and Rastegari, 2021) relates all pixels
of a feature map: it unfolds the map into 2x2 patches, and pixels at the same place of every
patch attend to each other. ``digits_mobilevit`` is the factory that the compiler calls.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["DigitsMobileViT", "InvertedResidual", "MobileViTBlock", "digits_mobilevit"]

WEIGHTS = Path(__file__).with_name("weights.safetensors")


class ConvNorm(nn.Sequential):
    """Convolution, batch normalization and, unless told otherwise, SiLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        activation: bool = True,
    ) -> None:
        conv = nn.Conv2d(
            inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=False
        )
        super().__init__(conv, nn.BatchNorm2d(outputs), *([nn.SiLU()] if activation else []))


class InvertedResidual(nn.Module):
    """Widen, filter each channel by a 3x3 kernel, narrow; plus the input where shapes allow."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, expand: int = 2) -> None:
        super().__init__()
        hidden = expand * inputs
        self.adds = stride == 1 and inputs == outputs
        self.layers = nn.Sequential(
            ConvNorm(inputs, hidden),
            ConvNorm(hidden, hidden, kernel=3, stride=stride, groups=hidden),
            ConvNorm(hidden, outputs, activation=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        return x + y if self.adds else y


class TransformerLayer(nn.Module):
    """Pre-norm encoder layer with a SiLU feed-forward network."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, dim = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(batch, tokens, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v)
        x = x + self.proj(y.transpose(1, 2).reshape(batch, tokens, dim))
        return x + self.fc2(F.silu(self.fc1(self.norm2(x))))


class MobileViTBlock(nn.Module):
    """Local features by convolution, global ones by a transformer over unfolded patches."""

    def __init__(
        self, channels: int, dim: int, *, depth: int, heads: int, hidden: int, patch: int = 2
    ) -> None:
        super().__init__()
        self.patch = patch
        self.local = ConvNorm(channels, channels, kernel=3)
        self.widen = nn.Conv2d(channels, dim, 1, bias=False)
        self.layers = nn.Sequential(*(TransformerLayer(dim, heads, hidden) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        self.narrow = ConvNorm(dim, channels)
        self.fuse = ConvNorm(2 * channels, channels, kernel=3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.widen(self.local(x))
        batch, dim, height, width = y.shape
        rows, columns, p = height // self.patch, width // self.patch, self.patch
        y = y.reshape(batch, dim, rows, p, columns, p).permute(0, 3, 5, 2, 4, 1)
        y = y.reshape(batch * p * p, rows * columns, dim)  # one sequence per place in a patch
        y = self.norm(self.layers(y))
        y = y.reshape(batch, p, p, rows, columns, dim).permute(0, 5, 3, 1, 4, 2)
        y = self.narrow(y.reshape(batch, dim, height, width))
        return self.fuse(torch.cat((x, y), dim=1))


class DigitsMobileViT(nn.Module):
    """Images ``[batch, 1, 8, 8]``, pixels 0 to 1, to logits ``[batch, 10]``."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            ConvNorm(1, 16, kernel=3),
            InvertedResidual(16, 16),
            InvertedResidual(16, 32, stride=2),
            MobileViTBlock(32, 48, depth=2, heads=4, hidden=96),
            ConvNorm(32, 64),
        )
        self.head = nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images).mean(dim=(2, 3)))


def digits_mobilevit() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The trained model and an example input of one image."""
    from safetensors.torch import load_file

    model = DigitsMobileViT()
    model.load_state_dict(load_file(WEIGHTS))
    return model.eval(), (torch.zeros(1, 1, 8, 8),)
