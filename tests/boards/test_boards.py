"""The boards themselves: registry, pins, clocks, and what does not fit them."""

import dataclasses

import pytest
from graphs import hand_made

from intformer.boards import all_boards, find_board
from intformer.boards.board import BAUD_TOLERANCE, OnChipMemory, SdramMemory
from intformer.boards.command import board_figures, describe_board
from intformer.boards.system import System, check_program, image_of
from intformer.cli import main
from intformer.compiler.backend import build_program
from intformer.errors import DoesNotFit, UserError

NAMES = ["colorlight-i9", "icebreaker", "orangecrab-25f", "tang-nano-20k", "ulx3s-85f"]


def test_every_board_of_the_folder_is_found():
    assert list(all_boards()) == NAMES


def test_unknown_board_lists_those_there_are(capsys):
    with pytest.raises(UserError, match=f"board must be one of {', '.join(NAMES)}, not 'arty'"):
        find_board("arty")
    assert main(["bitstream", "--board", "arty", "-o", "build/x"]) == 2
    assert "not 'arty'" in capsys.readouterr().err


@pytest.mark.parametrize("name", NAMES)
def test_clock_and_baud_rate_are_made(name):
    board = find_board(name)
    assert board.actual_hz == pytest.approx(board.clock_hz, rel=1e-3)
    assert abs(board.actual_hz / board.divisor / board.baud - 1) <= BAUD_TOLERANCE


@pytest.mark.parametrize("name", NAMES)
def test_memory_keeps_to_the_chips_clock(name):
    board = find_board(name)
    if isinstance(board.memory, SdramMemory):
        assert board.memory.chip.timing(board.actual_hz).cas == 2
        # Data are taken half a period after the chip's edge, 10.5 ns with pads and access time.
        assert 0.5e9 / board.actual_hz > 10.5
    System(board)


@pytest.mark.parametrize("name", NAMES)
def test_table_of_boards(name, capsys):
    board = find_board(name)
    text = describe_board(board, board_figures(board))
    for part in (board.name, board.device.name, board.preset, "MB/s peak", f"{name}.BIT"):
        assert part in text


def test_boards_command(capsys):
    assert main(["boards"]) == 0
    out = capsys.readouterr().out
    assert all(f"{name}: " in out for name in NAMES)


def test_baud_rate_that_the_clock_cannot_make():
    with pytest.raises(UserError, match=r"3000000 baud cannot be made from 20\.25 MHz: 3\.6 % off"):
        dataclasses.replace(find_board("icebreaker"), baud=3_000_000)


def test_program_of_another_core_is_refused():
    board = find_board("icebreaker")
    program = build_program(hand_made("linear"), find_board("colorlight-i9").config)
    with pytest.raises(UserError, match=r"for the core tiny; icebreaker has ice40: .*--config"):
        check_program(board, program)


def test_program_that_is_too_large_is_refused():
    board = find_board("orangecrab-25f")
    small = dataclasses.replace(board, memory=OnChipMemory(size=256))
    program = build_program(hand_made("linear"), board.config)
    with pytest.raises(DoesNotFit, match="has 256 bytes of memory, the model needs "):
        image_of(small, program)


def test_embedding_needs_block_ram():
    board = find_board("ulx3s-85f")
    program = build_program(hand_made("linear"), board.config)
    with pytest.raises(UserError, match="keeps models in its sdram, not in the bitstream"):
        image_of(board, program)


def test_embed_needs_a_model(capsys):
    assert main(["bitstream", "--board", "icebreaker", "-o", "build/x", "--embed"]) == 2
    assert "--embed needs the folder OUT" in capsys.readouterr().err


@pytest.mark.parametrize("name", NAMES)
def test_platform_has_the_pins(name):
    pytest.importorskip("amaranth_boards")
    board = find_board(name)
    platform = board.platform()
    assert platform.default_clk_frequency == board.oscillator_hz
    uart = platform.request(*board.uart, dir="-")
    assert len(uart.rx) == len(uart.tx) == 1
    if isinstance(board.memory, SdramMemory):
        pads, chip = platform.request(*board.memory.resource, dir="-"), board.memory.chip
        assert len(pads.dq) == chip.data_bits
        assert len(pads.a) == chip.row_bits
        for pin in ("clk_en", "cs", "dqm"):
            assert hasattr(pads, pin) == (pin not in board.memory.tied)


def test_tang_nano_sdram_is_where_apicula_says():
    """The pads that the SDRAM in the package is bonded to, from the tools' own table."""
    apycula = pytest.importorskip("apycula")
    from pathlib import Path

    from apycula import chipdb

    folder = Path(apycula.__file__).parent
    table = chipdb.load_chipdb(str(folder / "GW2A-18C.msgpack.xz")).sip_cst["GW2AR-18C"]["QFN88"]
    place = {
        name: f"IO{'L' if col == 0 else 'R'}{row + 1}{pad}" for name, row, col, pad, _ in table
    }
    pads = find_board("tang-nano-20k").platform().request("sdram", 0, dir="-")

    def places(port):
        return [entry.name for entry in port.io.metadata]

    single = {"clk": "clk", "clk_en": "cke", "cs": "cs_n", "we": "wen_n", "ras": "ras_n"}
    for ours, theirs in (single | {"cas": "cas_n"}).items():
        assert places(getattr(pads, ours)) == [place[f"O_sdram_{theirs}"]]
    for ours, theirs in {"a": "O_sdram_addr", "ba": "O_sdram_ba", "dqm": "O_sdram_dqm"}.items():
        port = places(getattr(pads, ours))
        assert port == [place[f"{theirs}[{k}]"] for k in range(len(port))]
    assert places(pads.dq) == [place[f"IO_sdram_dq[{k}]"] for k in range(32)]
