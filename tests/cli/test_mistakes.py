"""What the command line refuses: one clean message, the right status, nothing left behind."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import left_by, toml

from intformer.cli import main
from intformer.errors import BuildFailed


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("cli_models", "must be a .pt2 archive, module.path:factory"),
        ("no_such_module:small", "cannot import 'no_such_module'"),
        ("cli_models:missing", "no function 'missing'"),
        ("cli_models:NOT_CALLABLE", "no function 'NOT_CALLABLE'"),
        ("cli_models:broken", "RuntimeError: the weights are on the moon"),
        ("cli_models:no_module", "must give a torch.nn.Module"),
        ("missing.pt2", "no such model archive: missing.pt2"),
        (":small", "module.path:factory"),
        ("cli_models:", "module.path:factory"),
    ],
)
def test_wrong_model(refused, out, model, message):
    assert message in refused("compile", model, "-o", out, "--config", "tiny")
    assert left_by(out) == []


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 cut off"])
def test_damaged_archive(refused, out, tmp_path, content):
    (tmp_path / "x.pt2").write_bytes(content)
    message = refused("compile", tmp_path / "x.pt2", "-o", out, "--config", "tiny")
    assert "x.pt2 as a torch.export archive" in message
    assert left_by(out) == []


CONFIGS_REFUSED = {
    "not_toml": ("rows = = 4", "not valid TOML"),
    "unknown": (toml(colls=4), "unknown parameter 'colls'; allowed are name, rows, cols"),
    "missing": ("rows = 4\ncols = 4\n", "parameter 'lanes' is missing"),
    "range": (toml(rows=3), "rows must be a multiple of lanes (2) from 2 to 64, not 3"),
    "power": (toml(lanes=3), "lanes must be a power of two from 1 to 16, not 3"),
    "type": (toml(act_words="many"), "act_words must be an integer, not 'many'"),
    "negative": (toml(row_max=-1), "row_max must be from 8 to 1024, not -1"),
}


@pytest.mark.parametrize("name", CONFIGS_REFUSED)
@pytest.mark.parametrize("command", ["compile", "verilog", "info"])
def test_wrong_config(refused, out, tmp_path, command, name):
    text, expected = CONFIGS_REFUSED[name]
    path = tmp_path / "bad.toml"
    path.write_text(text)
    arguments: dict[str, list[object]] = {
        "compile": ["cli_models:small", "-o", out, "--config", path],
        "verilog": ["-o", out, "--config", path],
        "info": [path],
    }
    message = refused(command, *arguments[command])
    assert "bad.toml" in message and expected in message
    assert left_by(out) == []


def test_no_such_config(refused, out):
    message = refused("verilog", "--config", "9x9", "-o", out)
    assert "no configuration preset '9x9'; presets are 16x16, 16x8, 8x8, 8x8-packed, " in message
    message = refused("verilog", "--config", "missing.toml", "-o", out)
    assert "cannot read configuration missing.toml: No such file" in message
    assert left_by(out) == []


def test_unsupported_operations_are_all_listed(refused, out):
    message = refused("compile", "cli_models:unsupported", "-o", out, "--config", "tiny")
    for op, place in (
        ("conv_transpose2d", "conv"),
        ("adaptive_max_pool2d", "pool"),
        ("cumprod", None),
    ):
        where = f"in module {place}" if place else "in the top module"
        assert re.search(rf"aten\.{op}\S* {where} \(\S*cli_models\.py:\d+\)", message), message
    assert "3 operations" in message
    assert message.count("why:") == message.count("instead:") == 3
    assert left_by(out) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '[third]\nweights = "int4"',
            "no layer matches the override 'third'; modules of the model",
        ),
        ("[second]\nbits = 4", "override 'second': unknown setting 'bits'"),
        ("second = 4", "over.toml: 'second' must be a table"),
        ("[second", "over.toml is not TOML"),
    ],
)
def test_wrong_overrides(folder, refused, out, tmp_path, text, message):
    path = tmp_path / "over.toml"
    path.write_text(text)
    config = folder / "core.toml"
    arguments = ["compile", "cli_models:small", "-o", out, "--config", config, "--overrides", path]
    assert message in refused(*arguments)
    assert left_by(out) == []


def test_functions_need_a_core_that_has_them(refused, out):
    arguments = ["compile", "examples.encoder:small_encoder", "-o", out, "--config", "tiny"]
    message = refused(*arguments, "--activations", "mixed")
    assert "a function of int16 codes, but the core 'tiny' holds no functions" in message


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        ("wide", {}, r"act scratchpad has \d+ words; the model needs \d+.*raise act_words to"),
        ("wide", {"act_words": 1 << 16}, r"wide scratchpad has \d+ words.*raise wide_words to"),
        ("normed", {"param_groups": 4}, r"parameter memory has 4 groups.*raise param_groups to"),
        ("long_rows", {"act_words": 8192}, r"rows of 256 elements, this one has 2000.*row_max"),
    ],
)
def test_model_too_large(refused, out, tmp_path, model, changes, message):
    path = tmp_path / "core.toml"
    path.write_text(toml(**changes))
    assert re.search(
        message, refused("compile", f"cli_models:{model}", "-o", out, "--config", path)
    )
    assert left_by(out) == []


ARRAYS_REFUSED = {
    "shape": ({"x": np.zeros((3, 7))}, r"'x' must have shape \('samples', 6\), not \(3, 7\)"),
    "scalar": ({"x": np.zeros(())}, r"'x' must have shape \('samples', 6\), not \(\)"),
    "rank": ({"x": np.zeros(6)}, r"'x' must have shape \('samples', 6\), not \(6,\)"),
    "nan": ({"x": np.full((3, 6), np.nan)}, "'x' holds values that are not finite"),
    "text": ({"x": np.full((3, 6), "a")}, "'x' must be numeric, not <U1"),
    "complex": ({"x": np.zeros((3, 6), complex)}, "'x' must be numeric, not complex128"),
    "names": ({"y": np.zeros((3, 6)), "z": np.zeros(2)}, "exactly the model's inputs x, not y, z"),
    "none": ({"x": np.zeros((0, 6))}, "input 'x' has no samples"),
    "pickle": ({"x": np.array([[{}] * 6], object)}, "cannot read arrays from .*bad.npz"),
}


@pytest.mark.parametrize("name", ARRAYS_REFUSED)
@pytest.mark.parametrize("command", ["run", "verify"])
def test_wrong_arrays(folder, refused, tmp_path, command, name):
    arrays, expected = ARRAYS_REFUSED[name]
    path = tmp_path / "bad.npz"
    np.savez(path, **arrays)  # type: ignore[arg-type]
    message = refused(command, folder / "model", "--input", path)
    assert re.search(expected, message) and "bad.npz" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--on", "netlist"], "level netlist needs a device, for example iCE40UP5K"),
        (["--device", "iCE40UP5K"], r"a device \(iCE40UP5K\) goes with level netlist only"),
        (["--on", "netlist", "--device", "X"], "device must be one of LFE5U-25F, .*, not 'X'"),
        (
            ["--on", "netlist", "--device", "GW2A-18"],
            "no simulation models of GW2A-18's cells, only of LFE5U-25F, .*, iCE40UP5K",
        ),
    ],
)
def test_wrong_device_of_a_netlist(folder, refused, arguments, message):
    model, data = folder / "model", folder / "x.npz"
    assert re.search(message, refused("verify", model, "--input", data, *arguments))


@pytest.mark.parametrize("name", ARRAYS_REFUSED)
def test_wrong_calibration(folder, refused, out, tmp_path, name):
    path = tmp_path / "bad.npz"
    np.savez(path, **ARRAYS_REFUSED[name][0])  # type: ignore[arg-type]
    config = folder / "core.toml"
    arguments = ["compile", "cli_models:small", "-o", out, "--config", config, "--calibrate", path]
    assert "bad.npz" in refused(*arguments)
    assert left_by(out) == []


@pytest.mark.parametrize("content", [None, b"", b"text", b"PK\x03\x04 cut off"])
def test_unreadable_arrays(folder, refused, tmp_path, content):
    path = tmp_path / "x.npz"
    if content is not None:
        path.write_bytes(content)
    message = refused("run", folder / "model", "--input", path)
    assert message.startswith(f"intformer: cannot read arrays from {path}: ")


def test_inputs_with_different_numbers_of_samples(refused, run, out, tmp_path):
    run("compile", "cli_models:two_inputs", "-o", out, "--config", "tiny")
    path = tmp_path / "x.npz"
    np.savez(path, left=np.zeros((3, 4)), right=np.zeros((2, 4)))
    assert "give different numbers of runs" in refused("run", out, "--input", path)
    np.savez(path, left=np.zeros((3, 4)))
    message = refused("run", out, "--input", path)
    assert "exactly the model's inputs left, right, not left" in message


def test_output_is_something_else(folder, refused, tmp_path):
    file, other = tmp_path / "file", tmp_path / "other"
    file.write_text("mine")
    other.mkdir()
    (other / "notes").write_text("mine")
    for path in (file, other):
        common = ["-o", path, "--config", folder / "core.toml"]
        message = refused("compile", "cli_models:small", *common)
        assert f"{path} exists and is not a compiled model" in message
    assert file.read_text() == (other / "notes").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "other"]
    for arguments in (
        ["verilog", "--config", folder / "core.toml", "-o", other],
        ["run", folder / "model", "--input", folder / "x.npz", "-o", other],
        ["info", "tiny", "--json", other],
        ["info", "tiny", "--json", file / "below"],
    ):
        assert "cannot write" in refused(*arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "other"]


def test_not_a_compiled_model(folder, refused, tmp_path):
    for path in (tmp_path / "missing", tmp_path):
        for command in ("run", "verify"):
            message = refused(command, path, "--input", folder / "x.npz")
            assert f"{path} is not a compiled model" in message
    assert "is not a compiled model" in refused("info", tmp_path)


def damage(model: Path, what: str) -> str:
    """Spoil a compiled model; returns the name of the file that the message must hold."""
    manifest = model / "manifest.json"
    if what == "version":
        text = json.loads(manifest.read_text())
        manifest.write_text(json.dumps({**text, "version": 99}))
        return "manifest.json: format version 99"
    if what == "foreign":
        manifest.write_text('{"format": "something-else", "version": 1}')
        return "manifest.json: not the manifest of a compiled model"
    if what == "unlisted":
        text = json.loads(manifest.read_text())
        del text["files"]["graph.json"]
        manifest.write_text(json.dumps(text))
        return "manifest.json: does not list graph.json"
    if what == "missing":
        (model / "program.json").unlink()
        return "program.json: the file is missing"
    path = model / "program.safetensors"
    data = path.read_bytes()
    if what == "truncated":
        path.write_bytes(data[:100])
        return f"program.safetensors: truncated: it ends at byte 100 instead of {len(data)}"
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    return "program.safetensors: changed since it was written"


@pytest.mark.parametrize(
    "what", ["version", "foreign", "unlisted", "missing", "truncated", "edited"]
)
def test_damaged_model(folder, refused, tmp_path, what):
    model = tmp_path / "model"
    shutil.copytree(folder / "model", model)
    expected = damage(model, what)
    message = refused("run", model, "--input", folder / "x.npz")
    assert expected in message and str(model) in message
    assert refused("info", model) == message


def test_usage_errors(capsys):
    for arguments in ([], ["compile"], ["run", "x", "--input", "y", "--on", "moon"], ["fly"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
        assert "usage: intformer" in capsys.readouterr().err


# Failures that are not the user's


def test_failed_build_has_status_1(folder, refused, monkeypatch, out):
    from intformer.hw import verilog

    def fail(*_: object, **__: object) -> str:
        raise BuildFailed("yosys exited with 1: no reason")

    monkeypatch.setattr(verilog, "emit", fail)
    message = refused("verilog", "--config", folder / "core.toml", "-o", out, status=1)
    assert message == "intformer: yosys exited with 1: no reason\n"
    assert left_by(out) == []


def test_interrupted_compile_leaves_nothing(folder, refused, monkeypatch, out):
    from intformer.model import CompiledModel

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(CompiledModel, "_write", interrupt)
    config = folder / "core.toml"
    refused("compile", "cli_models:small", "-o", out, "--config", config, status=1)
    assert left_by(out) == []


def test_closed_pipe_is_quiet(folder):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "intformer.cli", "info", str(folder / "model"), "--steps"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert done.stderr == ""
