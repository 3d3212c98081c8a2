"""What maps where, without compiling."""

from __future__ import annotations

import json

import pytest
import torch
import torch.nn.functional as F
from encoder_models import CASES
from op_models import fn
from torch import nn

from intformer import cli
from intformer.compiler.frontend.coverage import coverage, describe_coverage


def _units(figures: dict) -> dict[str, str]:
    return {row["op"].removeprefix("aten."): row["unit"] for row in figures["rows"]}


def test_units() -> None:
    def forward(m: nn.Module, x: torch.Tensor) -> torch.Tensor:
        h = F.gelu(m.fc(x)) + torch.arange(12) * 0.5  # type: ignore[operator]
        q = h.view(2, 6, 2, 6).transpose(1, 2)
        return F.scaled_dot_product_attention(q, q, q)

    torch.manual_seed(0)
    figures = coverage(fn(forward, (2, 6, 12), fc=nn.Linear(12, 12)))
    units = _units(figures)
    assert figures["unsupported"] == 0
    assert units["linear.default"] == "array"
    assert units["gelu.default"] == units["add.Tensor"] == "POST"
    assert units["view.default"] == units["transpose.int"] == "view"
    assert units["scaled_dot_product_attention.default"] == "array + ROW"
    assert units["arange.default"] == units["mul.Tensor"] == "folded"


def test_parts_of_a_norm() -> None:
    rows = coverage(CASES["rms_norm_spelled_out"]())["rows"]
    assert {"rsqrt", "pow", "mean"} <= {
        row["op"].split(".")[1] for row in rows if row["unit"] == "merged"
    }
    assert any(row["unit"] == "ROW" for row in rows)


class Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(8, 8) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = torch.cumprod(layer(x), -1)
        return F.relu(x)


def odd() -> tuple[nn.Module, tuple[torch.Tensor, ...]]:
    return Odd(), (torch.zeros(2, 8),)


def test_unsupported_and_layers() -> None:
    figures = coverage(odd())
    assert (figures["operations"], figures["unsupported"]) == (7, 3)
    by_op = {row["op"]: row for row in figures["rows"]}
    assert by_op["aten.linear.default"]["path"] == "layers.*"
    assert by_op["aten.linear.default"]["count"] == 3
    assert by_op["aten.linear.default"]["unit"] == "array"
    assert by_op["aten.cumprod.default"]["unit"] == "NO"
    text = describe_coverage(figures)
    assert "why: the core has no such operation" in text
    assert "4 of 7 operations map" in text


@pytest.mark.parametrize(("name", "status"), [("odd", 1), ("good", 0)])
def test_command(name: str, status: int, tmp_path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    (tmp_path / f"coverage_{name}.py").write_text(
        "import torch\n"
        "def good():\n    return torch.nn.Linear(4, 4), (torch.zeros(2, 4),)\n"
        "class M(torch.nn.Module):\n    def forward(self, x):\n        return x.cumprod(0)\n"
        "def odd():\n    return M(), (torch.zeros(2, 4),)\n"
    )
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "figures.json"
    model = f"coverage_{name}:{name}"
    assert cli.main(["info", "--coverage", model, "--json", str(out)]) == status
    assert model in capsys.readouterr().out
    assert json.loads(out.read_text())["unsupported"] == status
