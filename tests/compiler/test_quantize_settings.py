"""Schemes, overrides by module path, and the TOML file that holds them."""

from __future__ import annotations

from pathlib import Path

import pytest

from intformer.compiler import graph as fg
from intformer.compiler.quantize.settings import Settings, module_path, read_overrides
from intformer.errors import UserError


def node(path: str) -> fg.Node:
    return fg.Node(f"{path}/linear", [], "y", f"{path} model.py:3")


def test_module_path() -> None:
    assert module_path(node("encoder.layer.0")) == "encoder.layer.0"
    assert module_path(fg.Node("add", [], "y", "model.py:3")) == ""


def test_overrides_by_pattern_later_ones_win() -> None:
    settings = Settings(
        "int4-g32",
        "mixed",
        {
            "encoder.*": {"weights": "int8"},
            "*.1.*": {"weights": "int4", "operand": "int16"},
            "head": {"activations": "int8"},
        },
    )
    assert settings.at(node("encoder.0.up")).weights == "int8"
    assert settings.at(node("encoder.0.up")).operand == "auto"
    assert settings.at(node("encoder.1.up")).weights == "int4"
    assert settings.at(node("encoder.1.up")).operand == "int16"
    assert settings.at(node("pooler")).weights == "int4-g32"
    head = settings.at(node("head"))
    assert (head.norm, head.operand, head.function) == ("shared", "int8", "int8")
    assert head.weights == "int4-g32"


def test_token_scales_and_int16_operands_exclude_each_other() -> None:
    def kind(settings: Settings, path: str = "a") -> tuple[str, str]:
        layer = settings.at(node(path))
        return layer.operand, layer.scales

    assert kind(Settings(activations="token")) == ("int8", "token")
    assert kind(Settings(activations="mixed")) == ("auto", "static")
    both = [("int8", "token"), ("int16", "static")]
    tables = ({"scales": "token"}, {"operand": "int16"})
    for scheme in ("int8", "mixed", "token"):
        for table, want in zip(tables, both, strict=True):
            assert kind(Settings(activations=scheme, overrides={"a": table})) == want
    later = Settings(overrides={"*": tables[1], "a": tables[0]})
    assert (kind(later), kind(later, "b")) == tuple(both)
    later = Settings(overrides={"*": tables[0], "a": tables[1]})
    assert (kind(later, "b"), kind(later)) == tuple(both)
    scheme = {"activations": "token", "operand": "int16"}
    assert kind(Settings(overrides={"a": scheme})) == both[1]
    assert kind(Settings(activations="token", overrides={"a": {"activations": "mixed"}})) == (
        "auto",
        "static",
    )
    auto = Settings(activations="mixed", overrides={"a": {"operand": "auto", "scales": "token"}})
    assert kind(auto) == both[0]


def test_groups_are_solved() -> None:
    def solver(settings: Settings) -> str:
        return settings.at(node("b")).solver

    assert solver(Settings("int4-g32")) == "gptq"
    assert solver(Settings("int4")) == "round"
    assert solver(Settings("int4", "mixed")) == "gptq"
    assert solver(Settings("int8", "mixed")) == "round"
    assert solver(Settings("int4", "mixed", {"b": {"weights": "int8"}})) == "round"
    settings = Settings(overrides={"a": {"weights": "int4-g128"}})
    assert settings.at(node("a")).solver == "gptq"
    assert settings.at(node("b")).solver == "round"
    assert settings.needs_rows
    assert not Settings().needs_rows


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"weights": "int2"}, "one of int8, int4, int4-g32, int4-g128, not 'int2'"),
        ({"activations": "w8"}, "one of int8, mixed, token, not 'w8'"),
        ({"overrides": {"a": {"bits": 4}}}, "'a': unknown setting 'bits'; settings: activations"),
        ({"overrides": {"a": {"weights": "int3"}}}, "'a': weights must be one of int8, int4"),
        ({"overrides": {"a": {"operand": 16}}}, "'a': operand must be one of int8, int16, auto"),
        ({"overrides": {"a": {"scales": "row"}}}, "'a': scales must be one of static, token, not"),
        (
            {"overrides": {"a": {"scales": "token", "operand": "int16"}}},
            "'a': with scales = .token. the operand is int8; an int16 operand needs scales = .stat",
        ),
        ({"overrides": {"a": {"smoothing": 2}}}, "'a': smoothing must be 0 to 1, or search, not 2"),
        ({"overrides": {"a": {"headroom": True}}}, "'a': headroom must be 1 to 1024, not True"),
        ({"overrides": {"a": {"activations": "x"}}}, "'a': activations must be one of int8, mixed"),
    ],
)
def test_bad_settings(kwargs, message: str) -> None:
    with pytest.raises(UserError, match=message):
        Settings(**kwargs)


def test_a_pattern_that_matches_nothing_is_refused() -> None:
    graph = fg.Graph(nodes=[node("encoder.0"), node("encoder.1")])
    Settings(overrides={"*.1": {"weights": "int4"}}).check_used(graph)
    with pytest.raises(UserError, match=r"matches the override 'decoder.*encoder.0, encoder.1"):
        Settings(overrides={"decoder.*": {"weights": "int4"}}).check_used(graph)


def test_overrides_file(tmp_path: Path) -> None:
    path = tmp_path / "over.toml"
    path.write_text('["layer.*.output"]\noperand = "int16"\n[head]\nweights = "int8"\n')
    assert read_overrides(path) == {
        "layer.*.output": {"operand": "int16"},
        "head": {"weights": "int8"},
    }
    path.write_text('head = "int8"')
    with pytest.raises(UserError, match=r"over.toml: 'head' must be a table"):
        read_overrides(path)
    path.write_text("[head")
    with pytest.raises(UserError, match=r"over.toml is not TOML"):
        read_overrides(path)
    with pytest.raises(UserError, match="cannot read"):
        read_overrides(tmp_path / "none.toml")
