"""ONNX models that cannot be mapped: every node by name, and clean messages for broken files."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import onnx
import pytest
from onnx_models import floats, ints, write

import intformer
from intformer.cli import main
from intformer.compiler.frontend import onnx as frontend
from intformer.errors import UnsupportedModel, UserError

X = {"x": (2, 4, 8)}


def test_lists_every_node_with_its_name(tmp_path) -> None:
    nodes = [
        ("MatMul", "x w", "a"),
        ("CumSum", "a axis", "b"),
        ("Softmax", "b", "c", {"axis": 1}),
        ("Mystery", "c", "d"),
        ("Relu", "d", "e"),
        ("Einsum", "e", "y", {"equation": "abc->ab"}),
    ]
    constants = {"w": floats(8, 8), "axis": np.array(1, np.int64)}
    path = write(tmp_path / "x.onnx", nodes, X, ["y"], constants)
    with pytest.raises(UnsupportedModel) as caught:
        frontend.load(path)
    message = str(caught.value)
    assert "3 operations" in message  # the softmax cannot be judged: its input is unknown
    for op in ("CumSum in node cumsum_1", "Mystery in node mystery_3", "Einsum in node einsum_5"):
        assert op in message
    assert message.count("why:") == message.count("instead:") == 3


REFUSED: dict[str, tuple[list[tuple[Any, ...]], dict[str, Any], dict[str, Any], str]] = {
    "softmax_axis": ([("Softmax", "x", "y", {"axis": 1})], X, {}, "softmax over axis 1"),
    "convolution": (
        [("Conv", "x w", "y")],
        {"x": (1, 2, 4, 4, 4)},
        {"w": floats(4, 2, 3, 3, 3)},
        "convolves over 3 axes",
    ),
    "large_kernel": (
        [("Conv", "x w", "y", {"strides": [2, 2]})],
        {"x": (1, 2, 4, 2)},
        {"w": floats(4, 2, 3, 3)},
        "larger than the padded image",
    ),
    "divides": ([("Div", "x x", "y")], X, {}, "divides by a computed tensor"),
    "erf": ([("Erf", "x", "y")], X, {}, "no part of a GELU"),
    "power": ([("Pow", "x p", "y")], X, {"p": np.float32(1.5)}, "a power"),
    "clip": ([("Clip", "x low", "y")], X, {"low": np.float32(-1)}, "clips to -1..inf"),
    "backwards": (
        [("Slice", "x s e a t", "y")],
        X,
        {"s": ints(-1), "e": ints(-9), "a": ints(1), "t": ints(-1)},
        "step -1",
    ),
    "norm_axes": (
        [("LayerNormalization", "x g", "y", {"axis": 1})],
        X,
        {"g": floats(4, 8)},
        "normalizes over 2 axes",
    ),
    "mask_elsewhere": (
        [("Where", "k x low", "w"), ("Relu", "w", "y")],
        {"x": (2, 4, 8), "k": ((2, 1, 8), "bool")},
        {"low": np.float32(-np.inf)},
        "straight into a softmax",
    ),
    "big_vocabulary": (
        [("Gather", "t i", "y")],
        {"i": ((2, 3), "int")},
        {"t": np.zeros((40000, 2), np.float32)},
        "40000 rows",
    ),
    "shapes": ([("Add", "x c", "y")], X, {"c": floats(3)}, "do not fit"),
    "ids_and_mask": (
        [
            ("Gather", "t i", "g"),
            ("Squeeze", "g last", "s"),
            ("Cast", "i", "b", {"to": 9}),
            ("Where", "b s low", "w"),
            ("Softmax", "w", "y"),
        ],
        {"i": ((2, 8), "int")},
        {"t": floats(5, 1), "low": np.float32(-np.inf), "last": ints(-1)},
        "as ids and as a mask",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case, tmp_path) -> None:
    nodes, inputs, constants, message = REFUSED[case]
    path = write(tmp_path / "x.onnx", nodes, inputs, ["y"], constants)
    with pytest.raises(UserError, match=message.replace("(", r"\(").replace(")", r"\)")):
        frontend.load(path)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x08\x12"])
def test_damaged_file(content, tmp_path, capsys) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(content)
    assert main(["compile", str(path), "-o", str(tmp_path / "out"), "--config", "tiny"]) == 2
    message = capsys.readouterr().err
    assert "x.onnx as an ONNX model" in message and "Traceback" not in message
    assert not (tmp_path / "out").exists()


def test_missing_parts(tmp_path) -> None:
    with pytest.raises(UserError, match=r"no such model: .*missing\.onnx"):
        intformer.compile(tmp_path / "missing.onnx", config="tiny")
    path = write(tmp_path / "x.onnx", [("Relu", "z", "y")], X, ["y"])
    with pytest.raises(UserError, match="'relu_0' reads 'z', which nothing makes"):
        frontend.load(path)
    path = write(tmp_path / "x.onnx", [("Relu", "x", "y")], {"x": (2, "length", 8)}, ["y"])
    with pytest.raises(UserError, match=r"axis 1 of input 'x' is dynamic \(length\)"):
        frontend.load(path)
    path = write(tmp_path / "x.onnx", [("MatMul", "x w", "y")], X, ["y"], {"w": floats(8, 8)})
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="x.data", size_threshold=0)
    (tmp_path / "x.data").unlink()
    with pytest.raises(UserError, match=r"x\.onnx as an ONNX model: .*x\.data"):
        frontend.load(path)


def test_without_onnx(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match=r"needs onnx .*pip install"):
        frontend.load(tmp_path / "x.onnx")
