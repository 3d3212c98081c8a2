"""The command `run --on board`, with a board that computes by the reference."""

import numpy as np
import pytest
from cli_helpers import CORE

import intformer
from intformer.compiler.integer_graph import execute
from intformer.errors import NoAnswer
from intformer.host import device as device_module
from intformer.host.device import DeviceRun, Loaded
from intformer.host.identity import Identity
from intformer.host.protocol import LINK_COUNTERS
from intformer.isa import COUNTERS


class FakeDevice:
    """What the command line uses of a device."""

    offset = 0
    opened: tuple = ()
    retries = 2

    def __init__(self, port: str, *, baud: int) -> None:
        type(self).opened = (port, baud)

    def __enter__(self) -> "FakeDevice":
        return self

    def __exit__(self, *_args: object) -> None:
        pass

    def info(self) -> Identity:
        return Identity.of(CORE, board="fake", clock_hz=50e6, memory_size=1 << 20)

    def load(self, program, *, progress) -> Loaded:
        progress("sending")
        return Loaded(len(program.image), 16, 0.5)

    def run(self, codes) -> DeviceRun:
        outputs = {name: array.copy() for name, array in execute(self.graph, codes).items()}
        for array in outputs.values():
            array.flat[3] += self.offset
        return DeviceRun(outputs, 1000, dict.fromkeys(COUNTERS, 7), 0.01)

    def errors(self) -> dict[str, int]:
        return dict.fromkeys(LINK_COUNTERS, 5)


@pytest.fixture
def board(folder, monkeypatch):
    """The class of the board."""

    class Board(FakeDevice):
        graph = intformer.load(folder / "model").graph

    monkeypatch.setattr(device_module, "Device", Board)
    return Board


@pytest.fixture
def arguments(folder) -> list[object]:
    return ["run", folder / "model", "--input", folder / "x.npz", "--on", "board"]


def test_result_times_and_check(board, arguments, run, folder, tmp_path):
    path = tmp_path / "y.npz"
    text = run(*arguments, "--port", "/dev/ttyX", "--baud", "2000000", "--check", "-o", path)
    assert board.opened == ("/dev/ttyX", 2_000_000)
    assert "cycles per run: 1000" in text
    assert "fake at 50 MHz: 0.020 ms per run, 10.0 ms with the transfers" in text
    assert "16 sent in 0.5 s" in text
    assert "link: 5 frames, 2 sent again, 10 broken, 10 dropped" in text
    assert text.endswith("all equal to the reference\n")
    expected = tmp_path / "expected.npz"
    run(*arguments[:-1], "reference", "-o", expected)
    with np.load(path) as ours, np.load(expected) as theirs:
        assert set(ours) == set(theirs)
        for name in ours:
            assert (ours[name] == theirs[name]).all()


def test_difference_is_a_failure(board, arguments, run):
    board.offset = 1
    text = run(*arguments, "--port", "p", "--check", status=1)
    assert "elements differ from the reference; the first is" in text
    run(*arguments, "--port", "p")  # nobody asked


def test_figures(board, arguments, run, tmp_path):
    import json

    run(*arguments, "--port", "p", "--check", "--json", tmp_path / "f.json")
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["level"] == "board" and figures["board"] == "fake"
    assert figures["equal"] is True
    assert figures["core_seconds_per_run"] == 1000 / 50e6
    assert figures["load"]["sent"] == 16
    assert figures["link"]["retries"] == 2


def test_check_on_other_levels(run, folder):
    text = run("run", folder / "model", "--input", folder / "x.npz", "--on", "iss", "--check")
    assert text.endswith("all equal to the reference\n")


def test_mistakes(arguments, refused, folder):
    assert "--on board needs --port" in refused(*arguments)
    port = ["--port", "/dev/nothing"]
    assert "cannot open /dev/nothing" in refused(*arguments, *port)
    assert "--baud must be positive, not 0" in refused(*arguments, *port, "--baud", "0")
    other = [*arguments[:-1], "iss", *port]
    assert "--port and --baud are for --on board, not --on iss" in refused(*other)


def test_nobody_answers(arguments, run, monkeypatch):
    def nobody(_port: str, *, baud: int) -> None:
        raise NoAnswer(f"no answer at {baud}")

    monkeypatch.setattr(device_module, "Device", nobody)
    run(*arguments, "--port", "p", status=1)
