"""What the commands of the command line do."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cli_models
import numpy as np
import pytest
import torch
from cli_helpers import CORE, left_by

import intformer
from intformer import verification
from intformer.compiler.integer_graph import execute

HERE = Path(__file__).parent


def test_compile_reports_figures(folder):
    figures = json.loads((folder / "compile.json").read_text())
    assert figures["macs"] == 2 * (6 * 9 + 9 * 5)
    assert figures["config"] == CORE.to_dict()
    assert figures["expected_cycles"] > 0
    assert sum(op["macs"] for op in figures["ops"]) == figures["macs"]
    assert sorted(path.name for path in (folder / "model").iterdir()) == [
        "graph.json",
        "graph.safetensors",
        "manifest.json",
        "program.json",
        "program.safetensors",
    ]


def test_compile_archive_equals_factory(folder, out, run, tmp_path):
    module, inputs = cli_models.small()
    torch.export.save(torch.export.export(module, inputs), tmp_path / "small.pt2")
    config, data = folder / "core.toml", folder / "data.npz"
    text = run(
        "compile", tmp_path / "small.pt2", "-o", out, "--config", config, "--calibrate", data
    )
    assert f"written: {out}" in text
    assert left_by(out) == ["made"]
    same = "program.safetensors"
    assert (out / same).read_bytes() == (folder / "model" / same).read_bytes()


def test_compile_int4_without_calibration(folder, out, run):
    config = folder / "core.toml"
    text = run("compile", "cli_models:small", "-o", out, "--config", config, "--weights", "int4")
    assert "random" in text
    assert intformer.load(out).graph.meta["weights"] == "int4"


def test_compile_with_overrides_and_precision(folder, out, run, tmp_path):
    overrides = tmp_path / "over.toml"
    overrides.write_text('[second]\noperand = "int16"\nweights = "int4"\n')
    options = ["--config", folder / "core.toml", "--calibrate", folder / "data.npz"]
    run("compile", "cli_models:small", "-o", out, *options, "--overrides", overrides)
    text = run("info", out, "--precision")
    assert re.search(r"second\S* +MatMul +int16 +int4 +int16 +round", text)
    assert re.search(r"relu\S* +MatMul +int16 +int8 +int8 +round", text)
    model = intformer.load(out)
    chosen = {"operand": "int16", "scales": "static", "weights": "int4"}
    assert model.graph.meta["overrides"] == {"second": chosen}
    x = np.load(folder / "x.npz")["x"]
    assert model.verify({"x": x}, levels=("iss",)).ok


@pytest.mark.parametrize("level", ["reference", "iss", pytest.param("rtl", marks=pytest.mark.rtl)])
def test_run(folder, out, run, level):
    model, data = folder / "model", folder / "x.npz"
    figures = out.with_suffix(".json")
    text = run("run", model, "--input", data, "--on", level, "-o", out, "--json", figures)
    with np.load(out) as made:
        name, codes = sorted(made.files)
        assert codes == f"{name}.codes"
        outputs, codes = made[name], made[codes]
    module, _ = cli_models.small()
    with np.load(data) as arrays, torch.no_grad():
        expected = module(torch.from_numpy(arrays["x"])).numpy()
    assert outputs.shape == expected.shape == (3, 5)
    # Post-training quantization to 8 bits: a few steps of the coarsest code.
    np.testing.assert_allclose(outputs, expected, atol=0.1)
    reference = intformer.load(model).run({"x": np.load(data)["x"]})
    np.testing.assert_array_equal(codes, reference.codes[name])
    assert f"{name}: 3 samples of shape (5,)" in text
    numbers = json.loads(figures.read_text())
    assert numbers["samples"] == 3 and numbers["level"] == level
    assert ("cycles_per_run" in numbers) == ("cycles per run" in text) == (level != "reference")


def test_run_prints_without_output_file(folder, run):
    text = run("run", folder / "model", "--input", folder / "x.npz")
    assert text.count("[") >= 3


@pytest.mark.rtl
def test_verify_all_levels(folder, run, tmp_path):
    figures = tmp_path / "verify.json"
    text = run("verify", folder / "model", "--input", folder / "x.npz", "--json", figures)
    assert text.count("all equal to the reference") == 2
    numbers = json.loads(figures.read_text())
    assert numbers["mismatches"] == 0 and set(numbers["levels"]) == {"iss", "rtl"}
    assert numbers["levels"]["rtl"]["runs"] == 2
    assert numbers["elements_compared"] > 0
    assert abs(numbers["cycle_model_error"]) < 0.1


def test_verify_reports_mismatch(folder, run, tmp_path, monkeypatch):
    """Exit status 1, and the place of the first difference."""
    exact = execute

    def spoiled(graph, inputs):
        values = exact(graph, inputs)
        first = graph.nodes[0].output
        values[first] = values[first].copy()
        values[first][1, 2] += 1
        return values

    monkeypatch.setattr(verification, "execute", spoiled)
    figures = tmp_path / "verify.json"
    arguments = [folder / "model", "--input", folder / "x.npz", "--on", "iss", "--json", figures]
    text = run("verify", *arguments, status=1)
    place = (
        r"element \[1, 2\]: wrong, expected -?\d+, got -?\d+; step \d+ \(LAYERNORM, .* cycle \d+"
    )
    assert re.search(rf"2 runs DIFFER\n *first: run 0, tensor '\S+' {place}", text)
    numbers = json.loads(figures.read_text())
    assert numbers["mismatches"] == 2
    assert re.search(place, numbers["levels"]["iss"]["first_mismatch"])


def test_verilog(folder, out, run):
    text = run("verilog", "--config", folder / "core.toml", "-o", out)
    assert "module core" in text
    made = out.read_text()
    assert made.startswith("// ") and "\nmodule core(" in made
    assert "MULT18X18D" not in made
    run("verilog", "--config", folder / "core.toml", "-o", out, "--target", "ecp5")
    assert "MULT18X18D" in out.read_text()
    assert left_by(out) == ["made"]


def test_info_of_model_and_steps(folder, run, tmp_path):
    figures = tmp_path / "figures.json"
    text = run("info", folder / "model", "--steps", "--json", figures)
    for word in ("r4c4", "LAYERNORM", "MATMUL", "external memory", "MACs", "roofline", "norm"):
        assert word in text
    assert json.loads(figures.read_text()) == json.loads((folder / "compile.json").read_text())


@pytest.mark.parametrize("config", ["tiny", "8x8", "16x8", "16x16", "core.toml"])
def test_info_of_config(folder, run, tmp_path, config):
    subject = folder / config if config.endswith(".toml") else config
    figures = tmp_path / "figures.json"
    text = run("info", subject, "--json", figures)
    numbers = json.loads(figures.read_text())
    assert numbers["macs_per_cycle"] == numbers["rows"] * numbers["cols"]
    assert f"core {numbers['name']}" in text


def test_api_is_the_same(folder):
    module, inputs = cli_models.small()
    model = intformer.compile(
        module, inputs, config=folder / "core.toml", calibrate=folder / "data.npz"
    )
    other = intformer.load(folder / "model")
    np.testing.assert_array_equal(model.program.image, other.program.image)


def test_subprocess_from_another_folder(folder, tmp_path):
    """The working directory is importable, and the exit status arrives."""
    command = [sys.executable, "-m", "intformer.cli", "compile"]
    shutil.copy(HERE / "cli_models.py", tmp_path / "their_models.py")
    common = ["--config", str(folder / "core.toml"), "-o", "model"]
    for model, status in (("their_models:small", 0), ("their_models:big", 2)):
        done = subprocess.run(
            [*command, model, *common], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == status, done.stderr
    assert done.stderr.splitlines() == ["intformer: module 'their_models' has no function 'big'"]
    assert (tmp_path / "model" / "manifest.json").exists()
