"""Small PyTorch models for what encoder and vision architectures are made of."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from op_models import IDS, QKV, Case, fn, sdpa
from torch import nn

X = (2, 6, 12)
MASK = torch.tensor([[1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0]])
"""As tokenizers make it: whole numbers."""


def _fixed(*shape: int) -> torch.Tensor:
    return torch.sin(1.3 * torch.arange(math.prod(shape))).reshape(shape)


def _linear(inputs: int = 12, outputs: int = 12) -> nn.Linear:
    torch.manual_seed(4)
    return nn.Linear(inputs, outputs)


def _conv(**kwargs: int) -> nn.Conv1d:
    torch.manual_seed(7)
    return nn.Conv1d(12, 10, **kwargs)  # type: ignore[arg-type]


def _rms(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """RMSNorm as T5 spells it out."""
    return weight * (x * torch.rsqrt(x.to(torch.float32).pow(2).mean(-1, keepdim=True) + 1e-6))


def _gelu_new(x: torch.Tensor) -> torch.Tensor:
    inner = math.sqrt(2.0 / math.pi) * (x + 0.044715 * torch.pow(x, 3.0))
    return 0.5 * x * (1.0 + torch.tanh(inner))


def _scores(x: torch.Tensor) -> torch.Tensor:
    return 0.2 * x @ x.transpose(1, 2)


def _inverted(mask: torch.Tensor) -> torch.Tensor:
    """An attention mask as older models make it: 0, or the most negative number."""
    wide = mask[:, None, :].to(torch.float32)
    return (1.0 - wide) * torch.finfo(torch.float32).min


def _windows(x: torch.Tensor, size: int) -> torch.Tensor:
    batch, height, width, channels = x.shape
    x = x.view(batch, height // size, size, width // size, size, channels)
    return x.transpose(2, 3).reshape(-1, size * size, channels)


def _shifted(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Attention in shifted windows, with a position bias and a mask of -100, as in Swin."""
    w = _windows(torch.roll(x, shifts=(-1, -1), dims=(1, 2)), 2)
    scores = _scores(m.fc(w)) + _fixed(4, 4)  # type: ignore[operator]
    mask = torch.zeros(4, 4, 4).masked_fill(torch.arange(64).reshape(4, 4, 4) % 7 == 3, -100.0)
    scores = scores.view(1, 4, 4, 4) + mask.unsqueeze(0)
    return F.softmax(scores.view(-1, 4, 4), -1) @ w


def _positions(m: nn.Module, ids: torch.Tensor) -> torch.Tensor:
    """Position ids from token ids, as in RoBERTa."""
    mask = ids.ne(0).int()
    places = torch.cumsum(mask, dim=1).type_as(mask) * mask
    return m.table(places.long() + 2)  # type: ignore[operator]


def _table() -> nn.Embedding:
    torch.manual_seed(8)
    return nn.Embedding(30, 12)


def _rotate(x: torch.Tensor) -> torch.Tensor:
    half = x.shape[-1] // 2
    return torch.cat((-x[..., half:], x[..., :half]), dim=-1)


CASES: dict[str, Callable[[], Case]] = {
    "quick_gelu": lambda: fn(lambda m, x: x * torch.sigmoid(1.702 * x), X),
    "gelu_spelled_out": lambda: fn(lambda m, x: _gelu_new(m.fc(x)), X, fc=_linear()),
    "gelu_by_erf": lambda: fn(lambda m, x: x * 0.5 * (1 + torch.erf(x / math.sqrt(2))), X),
    "hard_sigmoid": lambda: fn(lambda m, x: F.hardsigmoid(2 * x), X),
    "relu6": lambda: fn(lambda m, x: F.relu6(4 * x), X),
    "clamp": lambda: fn(lambda m, x: x.clamp(-0.5, 1.0), X),
    "leaky_relu": lambda: fn(lambda m, x: F.leaky_relu(x, 0.2), X),
    "elu": lambda: fn(lambda m, x: F.elu(x, 0.7), X),
    "mish": lambda: fn(lambda m, x: F.mish(x), X),
    "softplus": lambda: fn(lambda m, x: F.softplus(x, beta=2.0), X),
    "square": lambda: fn(lambda m, x: x * x, X),
    "two_tables_in_one": lambda: fn(lambda m, x: torch.tanh(F.gelu(x) * 2 + 0.5), X),
    "gated": lambda: fn(lambda m, x, y: F.gelu(x) * y, X, X),
    "gated_small": lambda: fn(lambda m, x, y: F.silu(x) * (0.01 * y), X, X),
    "product_broadcast": lambda: fn(lambda m, x, y: x * y, X, (2, 6, 1)),
    "quotient": lambda: fn(lambda m, x, y: x / (2.0 + torch.sigmoid(y)), X, X),
    "times_mask": lambda: fn(lambda m, x, k: x * k.unsqueeze(2), X, MASK),
    "times_constants": lambda: fn(lambda m, x: x * _fixed(6, 12), X),
    "times_channel": lambda: fn(lambda m, x: x * _fixed(6, 1), X),
    "rotary": lambda: fn(lambda m, x: x * _fixed(6, 12) + _rotate(x) * _fixed(1, 6, 12), X),
    "rms_norm": lambda: fn(lambda m, x: F.rms_norm(x, (12,), _fixed(12), 1e-5), X),
    "rms_norm_spelled_out": lambda: fn(lambda m, x: m.fc(_rms(x, _fixed(12))), X, fc=_linear()),
    "norm_and_vectors": lambda: fn(
        lambda m, x: F.layer_norm(x, (12,)) * _fixed(12) + _fixed(12) + 1, X
    ),
    "add_zeros": lambda: fn(lambda m, x: x + torch.zeros(6, 12), X),
    "position_bias": lambda: fn(lambda m, x: F.softmax(_scores(x) + _fixed(6, 6), -1), X),
    "sdpa_bias": lambda: fn(
        lambda m, q, k, v: sdpa(q, k, v, attn_mask=_fixed(1, 3, 6, 6), scale=0.4), *QKV
    ),
    "sdpa_bias_and_mask": lambda: fn(
        lambda m, q, k, v: sdpa(
            q, k, v, attn_mask=_fixed(6, 6).masked_fill(~torch.ones(6, 6).tril().bool(), -1e9)
        ),
        *QKV,
    ),
    "sdpa_computed_bias": lambda: fn(
        lambda m, q, k, v: sdpa(q, k, v, attn_mask=0.3 * (q @ k.transpose(2, 3))), *QKV
    ),
    "mask_of_numbers": lambda: fn(
        lambda m, x, k: F.softmax(_scores(x) + _inverted(k), -1), X, MASK
    ),
    "mask_of_bool": lambda: fn(
        lambda m, x, k: F.softmax(_scores(x) + _inverted(k), -1), X, MASK.bool()
    ),
    "mask_filled": lambda: fn(
        lambda m, x, k: F.softmax(
            _scores(x) + (i := 1.0 - k[:, None, :].float()).masked_fill(i.bool(), -1e30), -1
        ),
        X,
        MASK,
    ),
    "mask_where": lambda: fn(
        lambda m, x, k: F.softmax(
            _scores(x) + torch.where(k[:, None, :] > 0, torch.tensor(0.0), torch.tensor(-1e30)), -1
        ),
        X,
        MASK,
    ),
    "mask_and_bias": lambda: fn(
        lambda m, x, k: F.softmax(_scores(x) + (_fixed(1, 6, 6) + _inverted(k)), -1), X, MASK
    ),
    "mask_and_causal": lambda: fn(
        lambda m, x, k: F.softmax(
            _scores(x).masked_fill(~(k[:, None, :].bool() & torch.ones(6, 6).tril().bool()), -1e30),
            -1,
        ),
        X,
        MASK,
    ),
    "masks_outer": lambda: fn(
        lambda m, x, k: (
            F.softmax(_scores(x).masked_fill(~(k[:, None, :] * k[:, :, None]).bool(), -1e30), -1)
            * k[:, :, None]
        ),
        X,
        torch.ones_like(MASK),
    ),
    "sdpa_number_mask": lambda: fn(
        lambda m, q, k, v, keep: sdpa(q, k, v, attn_mask=keep[:, None, None, :].bool()), *QKV, MASK
    ),
    "shifted_windows": lambda: fn(_shifted, (1, 4, 4, 12), fc=_linear()),
    "position_ids": lambda: fn(
        _positions, torch.tensor([[5, 3, 9, 0], [7, 0, 0, 0]]), table=_table()
    ),
    "embedding_uniform_gather": lambda: fn(
        lambda m, i: m.table(i) + m.table(torch.zeros(2, 30).long().gather(1, i)),
        IDS,
        table=_table(),
    ),
    "gather": lambda: fn(
        lambda m, x: torch.gather(x, 2, torch.arange(6).flip(0).expand(2, 6, 6)), X
    ),
    "index": lambda: fn(lambda m, x: x[:, torch.tensor([4, 0, 0, 5])], X),
    "index_two": lambda: fn(
        lambda m, x: x[torch.arange(2)[:, None], torch.tensor([[1, 2], [0, 5]])], X
    ),
    "index_select": lambda: fn(lambda m, x: x.index_select(2, torch.tensor([3, 1])), X),
    "flip": lambda: fn(lambda m, x: m.fc(x.flip(1)), X, fc=_linear()),
    "roll": lambda: fn(lambda m, x: torch.roll(x, 2, 1), X),
    "unfold": lambda: fn(lambda m, x: x.unfold(1, 3, 2), X),
    "pixel_shuffle": lambda: fn(lambda m, x: F.pixel_shuffle(x, 2), (1, 8, 2, 3)),
    "pixel_unshuffle": lambda: fn(lambda m, x: F.pixel_unshuffle(x, 2), (1, 2, 4, 6)),
    "pad": lambda: fn(lambda m, x: F.pad(x, (1, 2, 0, 3)), X),
    "pad_and_cut": lambda: fn(lambda m, x: F.pad(x, (-1, 2, 3, -2), value=0.5), X),
    "conv1d": lambda: fn(lambda m, x: m.conv(x), (2, 12, 9), conv=_conv(kernel_size=3, padding=1)),
    "conv1d_stride": lambda: fn(
        lambda m, x: F.gelu(m.conv(x)),
        (1, 12, 9),
        conv=_conv(kernel_size=3, stride=2, padding=1, dilation=2),
    ),
    "conv1d_unbatched": lambda: fn(
        lambda m, x: m.conv(x), (12, 8), conv=_conv(kernel_size=2, stride=2)
    ),
    "bmm_constants": lambda: fn(lambda m, x: torch.bmm(x, _fixed(2, 12, 5)), X),
    "adaptive_pool": lambda: fn(lambda m, x: F.adaptive_avg_pool1d(x, 4), X),
    "sum": lambda: fn(lambda m, x: x.sum((1, 2)), X),
    "bilinear": lambda: fn(
        lambda m, x: F.interpolate(x, size=(5, 6), mode="bilinear", align_corners=False),
        (1, 3, 4, 4),
    ),
    "nearest": lambda: fn(lambda m, x: F.interpolate(x, scale_factor=2), (1, 3, 3, 2)),
    "unused_operation": lambda: fn(lambda m, x: (torch.cumprod(x, 1), x.relu())[1], X),
}
