"""ULX3S with an LFE5U-85F: 32 MB of 16-bit SDRAM, USB serial port."""

from __future__ import annotations

from typing import Any

from intformer.boards.board import Board, SdramMemory
from intformer.fpga.devices import ecp5
from intformer.hw.external.sdram_chip import CHIPS

__all__ = ["BOARD"]


def _platform() -> Any:
    from amaranth_boards.ulx3s import ULX3S_85F_Platform

    return ULX3S_85F_Platform(toolchain="Trellis")


BOARD = Board(
    name="ulx3s-85f",
    title="Radiona ULX3S",
    device=ecp5("LFE5U-85F"),
    preset="8x8-packed",
    memory=SdramMemory(chip=CHIPS["AS4C16M16SA-7"]),
    oscillator_hz=25_000_000,
    clock_hz=40e6,
    baud=1_000_000,
    platform=_platform,
    led=("led", 0, None),
    pack=("--compress",),
    flash="openFPGALoader -b ulx3s {bitstream}",
    host="UART, FT231X",
    source="amaranth-boards, ulx3s.py",
)
