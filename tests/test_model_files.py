"""Compiled-model folders: round trip, and refusal of everything else."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from graphs import CONFIGS, HAND_MADE, hand_made, random_inputs

from intformer.compiler.backend import build_program
from intformer.compiler.integer_graph import execute
from intformer.errors import FormatError, UserError
from intformer.model import CompiledModel
from intformer.sim.iss.simulator import Iss

FILES = ("manifest.json", "program.json", "program.safetensors", "graph.json", "graph.safetensors")


def compiled(name: str = "attention") -> CompiledModel:
    graph = hand_made(name)
    return CompiledModel(graph=graph, program=build_program(graph, CONFIGS[0]))


@pytest.fixture
def saved(tmp_path):
    compiled().save(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("name", HAND_MADE)
def test_round_trip(name, tmp_path):
    model = compiled(name)
    model.save(tmp_path / "model")
    loaded = CompiledModel.load(tmp_path / "model")
    assert loaded.config == model.config
    assert loaded.program.steps == model.program.steps
    assert loaded.program.inputs == model.program.inputs
    assert loaded.program.outputs == model.program.outputs
    assert loaded.program.regions == model.program.regions
    assert list(loaded.program.productions) == list(model.program.productions)
    np.testing.assert_array_equal(loaded.program.image, model.program.image)
    inputs = random_inputs(model.graph, 3)
    expected, values = execute(model.graph, inputs), execute(loaded.graph, inputs)
    assert expected.keys() == values.keys()
    result = Iss(loaded.program).run(inputs)
    for tensor in model.graph.outputs:
        np.testing.assert_array_equal(values[tensor], expected[tensor])
        np.testing.assert_array_equal(result.outputs[tensor], expected[tensor])


def test_same_model_same_bytes(tmp_path):
    for name in ("a", "b"):
        compiled().save(tmp_path / name)
    for file in FILES:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize("file", FILES)
def test_missing_file(saved, file):
    (saved / file).unlink()
    with pytest.raises(FormatError, match=file):
        CompiledModel.load(saved)


@pytest.mark.parametrize("file", FILES)
def test_truncated_file_names_place(saved, file):
    data = (saved / file).read_bytes()
    (saved / file).write_bytes(data[: len(data) // 2])
    with pytest.raises(FormatError, match=rf"{file}.*byte \d+"):
        CompiledModel.load(saved)


@pytest.mark.parametrize("file", FILES[1:])
def test_changed_file(saved, file):
    data = bytearray((saved / file).read_bytes())
    data[len(data) // 2] ^= 1
    (saved / file).write_bytes(data)
    with pytest.raises(FormatError, match=f"{file}.*SHA-256"):
        CompiledModel.load(saved)


def test_other_version(saved):
    manifest = json.loads((saved / "manifest.json").read_text())
    manifest["version"] = 99
    (saved / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(FormatError, match="version 99"):
        CompiledModel.load(saved)


@pytest.mark.parametrize("content", ["[]", "{}", '{"format": "other"}', "not json"])
def test_foreign_manifest(saved, content):
    (saved / "manifest.json").write_text(content)
    with pytest.raises(FormatError, match=r"manifest\.json"):
        CompiledModel.load(saved)


def test_not_a_folder(tmp_path):
    with pytest.raises(FormatError, match="nothing"):
        CompiledModel.load(tmp_path / "nothing")


def test_save_replaces_a_model_and_leaves_nothing_else(saved):
    compiled("linear").save(saved)
    assert [p.name for p in saved.parent.iterdir()] == ["model"]
    assert len(CompiledModel.load(saved).graph.nodes) == 1


def test_save_refuses_foreign_targets(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("folder", "file"):
        with pytest.raises(UserError, match="left alone"):
            compiled().save(tmp_path / name)
    assert (tmp_path / "folder" / "notes.txt").read_text() == "mine"


def test_failed_save_leaves_nothing(tmp_path, monkeypatch):
    model = compiled()
    monkeypatch.setattr(CompiledModel, "_write", lambda self, folder: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model.save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_load_needs_no_torch(saved):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        f"from intformer.model import CompiledModel; CompiledModel.load({str(saved)!r})"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
