"""What cannot be compiled is refused by name, all of it at once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from op_models import fn
from torch import nn

from intformer.compiler.frontend import torch_export
from intformer.errors import UnsupportedModel, UserError


class Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(1, 4, 3, padding=1)
        self.fc = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        y = torch.cumsum(self.fc(y), -1)
        return F.softmax(y * y, dim=1)


def test_lists_every_operation_with_its_place() -> None:
    with pytest.raises(UnsupportedModel) as caught:
        torch_export.load((Odd(), (torch.zeros(1, 1, 8, 8),)))
    message = str(caught.value)
    assert "4 operations" in message
    ops = ("conv_transpose2d.input", "cumsum.default", "mul.Tensor", "softmax.int")
    for op in (f"aten.{name}" for name in ops):
        assert op in message
    assert "module conv" in message
    assert re.search(r"test_frontend_unsupported\.py:\d+", message)
    assert message.count("why:") == message.count("instead:") == 4


QKV = [(1, 2, 4, 8)] * 3
REFUSED = {
    "layer_norm_two_axes": (lambda m, x: F.layer_norm(x, (4, 8)), [(2, 4, 8)], "2 axes"),
    "position_bias": (
        lambda m, q, k, v, b: F.scaled_dot_product_attention(q, k, v, attn_mask=b),
        [*QKV, (4, 4)],
        "boolean mask",
    ),
    "masked_without_softmax": (
        lambda m, x: torch.relu(x.masked_fill(torch.eye(4).bool(), float("-inf"))),
        [(4, 4)],
        "softmax",
    ),
    "fill_with_number": (lambda m, x: x.masked_fill(torch.eye(4).bool(), 1.0), [(4, 4)], "fills"),
    "scale_by_zero": (lambda m, x: x * 0.0, [(4, 4)], "scales by 0"),
    "divide": (lambda m, x, y: x / y, [(4, 4), (4, 4)], "divides"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    function, shapes, words = REFUSED[name]
    with pytest.raises(UnsupportedModel, match=words):
        torch_export.load(fn(function, *shapes))


def test_archive_round_trip(tmp_path: Path) -> None:
    module, inputs = fn(lambda m, x: m.fc(x), (2, 12), fc=nn.Linear(12, 3))
    torch.export.save(torch.export.export(module, inputs), tmp_path / "model.pt2")
    assert torch_export.load(tmp_path / "model.pt2").inputs == ["inputs_0"]


def test_bad_archives(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such model archive"):
        torch_export.load(tmp_path / "none.pt2")
    (tmp_path / "bad.pt2").write_bytes(b"not a model")
    with pytest.raises(UserError, match=r"cannot read .*bad\.pt2"):
        torch_export.load(tmp_path / "bad.pt2")


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("nothing", "archive"),
        ("no.such.module:f", "cannot import"),
        ("math:no_function", "has no function"),
        ("math:sqrt", "failed"),
        ("os:getcwd", "must give"),
    ],
)
def test_bad_factories(spec: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        torch_export.load(spec)


def test_stateful_model() -> None:
    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("count", torch.zeros(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.count.add_(1.0)
            return x + self.count

    with pytest.raises(UserError, match="state"):
        torch_export.load((Counter(), (torch.zeros(3),)))
