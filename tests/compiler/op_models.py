"""Small PyTorch models, one for each operation that the frontend takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from intformer.compiler.frontend import torch_export
from intformer.compiler.graph import Graph

Case = tuple[nn.Module, tuple[torch.Tensor, ...]]


class Fn(nn.Module):
    """A module from a function of the inputs, with optional submodules."""

    def __init__(self, function: Callable[..., Any], **modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.function(self, *inputs)


def fn(function: Callable[..., Any], *shapes: tuple[int, ...], **modules: nn.Module) -> Case:
    """Module and random inputs, floats unless a shape is given as a tensor."""
    generator = torch.Generator().manual_seed(1)
    inputs = tuple(
        s if isinstance(s, torch.Tensor) else torch.randn(*s, generator=generator) for s in shapes
    )
    return Fn(function, **modules).eval(), inputs


def _mask(rows: int = 6, columns: int = 6) -> torch.Tensor:
    """Irregular, with something kept in every row; the frontend folds it."""
    places = torch.arange(rows * columns).reshape(rows, columns)
    return (places * 7 % 5 < 3) | (places % columns == 0)


def _additive(keep: torch.Tensor) -> torch.Tensor:
    return torch.zeros(keep.shape).masked_fill(~keep, float("-inf"))


def _linear(inputs: int = 12, outputs: int = 20, bias: bool = True) -> nn.Linear:
    torch.manual_seed(4)
    return nn.Linear(inputs, outputs, bias=bias)


def _norm(n: int = 12) -> nn.LayerNorm:
    torch.manual_seed(5)
    norm = nn.LayerNorm(n)
    nn.init.normal_(norm.weight, 1.0, 0.3)
    nn.init.normal_(norm.bias, 0.0, 0.5)
    return norm


def _constant(*shape: int) -> torch.Tensor:
    """Made of operations on constants, which the frontend folds."""
    return torch.sin(1.7 * torch.arange(math.prod(shape))).reshape(shape) + 0.1


def _conv(**kwargs: Any) -> nn.Conv2d:
    torch.manual_seed(7)
    return nn.Conv2d(3, 10, **kwargs)


def _embedding() -> nn.Embedding:
    torch.manual_seed(8)
    return nn.Embedding(30, 12)


IDS = torch.tensor([[1, 5, 29, 0, 7], [3, 3, 2, 28, 9]])
X = (2, 6, 12)
QKV = [(2, 3, 6, 8)] * 3
sdpa = F.scaled_dot_product_attention

CASES: dict[str, Callable[[], Case]] = {
    "linear": lambda: fn(lambda m, x: m.fc(x), X, fc=_linear()),
    "linear_no_bias": lambda: fn(lambda m, x: m.fc(x), X, fc=_linear(bias=False)),
    "linear_2d": lambda: fn(lambda m, x: m.fc(x), (5, 12), fc=_linear()),
    "linear_1d": lambda: fn(lambda m, x: m.fc(x), (12,), fc=_linear()),
    "linear_relu": lambda: fn(lambda m, x: F.relu(m.fc(x)), X, fc=_linear()),
    "linear_gelu": lambda: fn(lambda m, x: F.gelu(m.fc(x)), X, fc=_linear()),
    "linear_gelu_tanh": lambda: fn(
        lambda m, x: F.gelu(m.fc(x), approximate="tanh"), X, fc=_linear()
    ),
    "linear_scale_gelu": lambda: fn(lambda m, x: F.gelu(m.fc(x) * -1.5), X, fc=_linear()),
    "linear_residual": lambda: fn(lambda m, x: x + m.fc(x), X, fc=_linear(12, 12)),
    "linear_residual_gelu": lambda: fn(lambda m, x: F.gelu(x + m.fc(x)), X, fc=_linear(12, 12)),
    "linear_minus_residual": lambda: fn(lambda m, x: m.fc(x) - 2 * x, X, fc=_linear(12, 12)),
    "linear_vector": lambda: fn(lambda m, x: m.fc(x) * _constant(20), X, fc=_linear()),
    "matmul_constant": lambda: fn(lambda m, x: x @ _constant(12, 7), X),
    "constant_matmul": lambda: fn(lambda m, x: _constant(5, 6) @ x, X),
    "addmm": lambda: fn(lambda m, x: torch.addmm(_constant(7), x, _constant(12, 7)), (6, 12)),
    "matmul": lambda: fn(lambda m, x, y: x @ y, X, (2, 12, 9)),
    "matmul_broadcast": lambda: fn(lambda m, x, y: x @ y, (2, 3, 6, 8), (1, 3, 8, 5)),
    "matmul_transposed": lambda: fn(lambda m, x, y: x @ y.transpose(1, 2), X, (2, 9, 12)),
    "bmm": lambda: fn(lambda m, x, y: torch.bmm(x, y), X, (2, 12, 9)),
    "matmul_vector": lambda: fn(lambda m, x, y: x @ y, X, (12,)),
    "add": lambda: fn(lambda m, x, y: x + y, X, X),
    "add_alpha": lambda: fn(lambda m, x, y: torch.add(x, y, alpha=-0.5), X, X),
    "add_number": lambda: fn(lambda m, x: x + 1.5, X),
    "add_constant": lambda: fn(lambda m, x: x + _constant(6, 12), X),
    "add_broadcast": lambda: fn(lambda m, x, y: x + y, X, (2, 1, 12)),
    "add_broadcast_both": lambda: fn(lambda m, x, y: x + y, (2, 1, 12), (1, 6, 12)),
    "add_bigger_constant": lambda: fn(lambda m, x: x + _constant(3, 2, 6, 12), X),
    "constant_plus_linear": lambda: fn(lambda m, x: _constant(6, 20) - m.fc(x), X, fc=_linear()),
    "add_self": lambda: fn(lambda m, x: x + x, X),
    "rsub": lambda: fn(lambda m, x: 1.0 - x, X),
    "mul": lambda: fn(lambda m, x: x * 0.25, X),
    "div": lambda: fn(lambda m, x: x / 3.0, X),
    "mul_vector": lambda: fn(lambda m, x: x * _constant(12), X),
    "relu": lambda: fn(lambda m, x: F.relu(x), X),
    "gelu": lambda: fn(lambda m, x: F.gelu(x), X),
    "silu": lambda: fn(lambda m, x: F.silu(x), X),
    "sigmoid": lambda: fn(lambda m, x: torch.sigmoid(x), X),
    "tanh": lambda: fn(lambda m, x: torch.tanh(x), X),
    "softmax": lambda: fn(lambda m, x: F.softmax(3 * x, -1), X),
    "softmax_plus": lambda: fn(lambda m, x: F.softmax(x, -1) + x, X),
    "softmax_gelu": lambda: fn(lambda m, x: F.gelu(4 * F.softmax(x, -1)), X),
    "softmax_second": lambda: fn(lambda m, x: x @ F.softmax(x, -1).transpose(1, 2), X),
    "softmax_cat": lambda: fn(lambda m, x: torch.cat([F.softmax(x, -1), x], -1), X),
    "masked_softmax": lambda: fn(
        lambda m, x: F.softmax(x.masked_fill(~_mask(), float("-inf")), -1), (2, 6, 6)
    ),
    "where_softmax": lambda: fn(
        lambda m, x: F.softmax(torch.where(_mask(), x, torch.tensor(-1e9)), -1), (2, 6, 6)
    ),
    "added_mask_softmax": lambda: fn(lambda m, x: F.softmax(x + _additive(_mask()), -1), (2, 6, 6)),
    "masked_by_input": lambda: fn(
        lambda m, x, k: F.softmax(x.masked_fill(~k, float("-inf")), -1), (2, 6, 6), _mask()
    ),
    "layer_norm": lambda: fn(lambda m, x: m.norm(x), X, norm=_norm()),
    "layer_norm_relu": lambda: fn(lambda m, x: F.relu(m.norm(x)), X, norm=_norm()),
    "embedding_gelu": lambda: fn(lambda m, i: F.gelu(m.table(i)), IDS, table=_embedding()),
    "mul_vector_gelu": lambda: fn(lambda m, x: F.gelu(x * _constant(12)), X),
    "view_relu": lambda: fn(lambda m, x: F.relu(m.fc(x).transpose(1, 2)), X, fc=_linear()),
    "relu_gelu": lambda: fn(lambda m, x: F.gelu(F.relu(m.fc(x))), X, fc=_linear()),
    "gelu_sum": lambda: fn(lambda m, x: F.gelu(m.fc(x)) + x, X, fc=_linear(12, 12)),
    "shared_product": lambda: fn(lambda m, x: (y := m.fc(x)) + F.gelu(y), X, fc=_linear(12, 12)),
    "sum_of_products": lambda: fn(
        lambda m, x: m.fc(x) + m.fd(x), X, fc=_linear(12, 12), fd=_linear(12, 12)
    ),
    "layer_norm_plain": lambda: fn(lambda m, x: F.layer_norm(x, (12,)), X),
    "layer_norm_residual": lambda: fn(
        lambda m, x: (h := m.norm(x)) + m.fc(h), X, norm=_norm(), fc=_linear(12, 12)
    ),
    "layer_norm_linear": lambda: fn(lambda m, x: m.fc(m.norm(x)), X, norm=_norm(), fc=_linear()),
    "mean_tokens": lambda: fn(lambda m, x: x.mean(1), X),
    "mean_tokens_keep": lambda: fn(lambda m, x: x.mean(1, keepdim=True), X),
    "mean_last": lambda: fn(lambda m, x: x.mean(-1), X),
    "mean_first": lambda: fn(lambda m, x: x.mean(0), X),
    "mean_two": lambda: fn(lambda m, x: x.mean((1, 2)), (2, 3, 4, 12)),
    "patches": lambda: fn(
        lambda m, x: m.conv(x).flatten(2).transpose(1, 2),
        (2, 3, 8, 12),
        conv=_conv(kernel_size=(2, 4), stride=(2, 4)),
    ),
    "patches_cropped": lambda: fn(
        lambda m, x: m.conv(x), (2, 3, 9, 7), conv=_conv(kernel_size=2, stride=2, bias=False)
    ),
    "embedding": lambda: fn(lambda m, i: m.table(i), IDS, table=_embedding()),
    "embedding_positions": lambda: fn(
        lambda m, i: m.table(i) + m.table(torch.arange(5)), IDS, table=_embedding()
    ),
    "reshape": lambda: fn(lambda m, x: x.reshape(2, 6, 3, 4).flatten(0, 1), X),
    "permute": lambda: fn(lambda m, x: x.permute(2, 0, 1), X),
    "slice": lambda: fn(lambda m, x: x[:, 1:5:2, 3:], X),
    "select": lambda: fn(lambda m, x: x[:, -1], X),
    "unbind": lambda: fn(lambda m, x: x.unbind(1)[2], X),
    "split": lambda: fn(lambda m, x: x.split(5, -1)[1], X),
    "cat": lambda: fn(lambda m, x, y: torch.cat([x, 2 * y, _constant(2, 1, 12)], 1), X, X),
    "cat_relu": lambda: fn(lambda m, x, y: torch.cat([x.relu(), y.sigmoid()], 2), X, X),
    "stack": lambda: fn(lambda m, x, y: torch.stack([x, y], 1), X, X),
    "expand": lambda: fn(lambda m, x: x.unsqueeze(1).expand(-1, 3, -1, -1), X),
    "repeat": lambda: fn(lambda m, x: x.repeat(1, 2, 3), X),
    "class_token": lambda: fn(
        lambda m, x: torch.cat([_constant(1, 1, 12).expand(2, -1, -1), x], 1)[:, 0:4], X
    ),
    "chunk_linear": lambda: fn(
        lambda m, x: (p := m.fc(x).chunk(2, -1))[0] @ p[1].transpose(1, 2), X, fc=_linear()
    ),
    "dropout": lambda: fn(lambda m, x: m.drop(x), X, drop=nn.Dropout(0.5)),
    "sdpa": lambda: fn(lambda m, q, k, v: sdpa(q, k, v), *QKV),
    "sdpa_scale": lambda: fn(lambda m, q, k, v: sdpa(q, k, v, scale=0.7), *QKV),
    "sdpa_causal": lambda: fn(lambda m, q, k, v: sdpa(q, k, v, is_causal=True), *QKV),
    "sdpa_mask": lambda: fn(lambda m, q, k, v: sdpa(q, k, v, attn_mask=_mask()), *QKV),
    "sdpa_tril": lambda: fn(
        lambda m, q, k, v: sdpa(q, k, v, attn_mask=torch.ones(6, 6).tril(2).bool()), *QKV
    ),
    "sdpa_float_mask": lambda: fn(
        lambda m, q, k, v: sdpa(q, k, v, attn_mask=_additive(_mask())), *QKV
    ),
    "sdpa_mask_input": lambda: fn(
        lambda m, q, k, v, keep: sdpa(q, k, v, attn_mask=keep), *QKV, _mask()
    ),
    "sdpa_padding_input": lambda: fn(
        lambda m, q, k, v, keep: sdpa(q, k, v, attn_mask=keep[:, None, None, :]), *QKV, _mask(2, 6)
    ),
    "sdpa_grouped": lambda: fn(
        lambda m, q, k, v: sdpa(q, k, v, enable_gqa=True),
        (2, 4, 6, 8),
        (2, 2, 5, 8),
        (2, 2, 5, 8),
    ),
    "two_outputs": lambda: fn(lambda m, x: (m.fc(x), x.relu()), X, fc=_linear()),
}


@cache
def load_case(name: str) -> tuple[nn.Module, tuple[torch.Tensor, ...], Graph]:
    """Module, inputs and float graph of a case."""
    module, inputs = CASES[name]()
    return module, inputs, torch_export.load((module, inputs))


def numpy_inputs(graph: Any, inputs: tuple[torch.Tensor, ...]) -> dict[str, np.ndarray]:
    """Example inputs by name."""
    return {n: x.numpy() for n, x in zip(graph.inputs, inputs, strict=True)}


def torch_outputs(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> list[np.ndarray]:
    """Outputs of the model itself."""
    with torch.no_grad():
        result = module(*inputs)
    return [r.numpy() for r in (result if isinstance(result, tuple) else (result,))]
