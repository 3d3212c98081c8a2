"""Fixtures of the command line's tests: a compiled model, and how commands are run."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from cli_helpers import toml

from intformer.cli import main


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """A configuration, samples and a compiled model; tests do not change them."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "core.toml").write_text(toml())
    rng = np.random.default_rng(1)
    np.savez(folder / "data.npz", x=rng.standard_normal((16, 6)).astype(np.float32))
    np.savez(folder / "x.npz", x=rng.standard_normal((3, 6)).astype(np.float32))
    arguments = ["compile", "cli_models:small", "-o", str(folder / "model")]
    arguments += ["--config", str(folder / "core.toml"), "--calibrate", str(folder / "data.npz")]
    assert main([*arguments, "--json", str(folder / "compile.json")]) == 0
    return folder


@pytest.fixture
def run(capsys):
    """Runs one command; returns its standard output."""

    def run(*arguments: object, status: int = 0) -> str:
        got = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert got == status, captured.err
        return captured.out

    return run


@pytest.fixture
def refused(capsys):
    """Runs a command that fails with one clean message; returns the message."""

    def refused(*arguments: object, status: int = 2) -> str:
        assert main([str(argument) for argument in arguments]) == status
        captured = capsys.readouterr()
        # Lines of progress may come first.
        message = re.sub(r"(?m)^\[ *\d+\.\d s\] .*\n", "", captured.err)
        assert message.startswith("intformer: ")
        assert message.count("intformer: ") == 1
        assert "Traceback" not in captured.err and "Warning" not in captured.err
        return message

    return refused


@pytest.fixture
def out(tmp_path) -> Path:
    """A place for output in a folder of its own, where leftovers would show."""
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "made"
