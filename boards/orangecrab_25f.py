"""OrangeCrab with an LFE5U-25F: everything on the chip, the model in the bitstream."""

from __future__ import annotations

from typing import Any

from intformer.boards.board import Board, OnChipMemory
from intformer.fpga.devices import ecp5

__all__ = ["BOARD"]


def _platform() -> Any:
    from amaranth.build import Attrs
    from amaranth_boards.orangecrab_r0_2 import OrangeCrabR0_2_25FPlatform
    from amaranth_boards.resources import UARTResource

    platform = OrangeCrabR0_2_25FPlatform(toolchain="Trellis")
    # Pins RX (0) and TX (1) of the Feather header, for a USB serial adapter of 3.3 V.
    attributes = Attrs(IO_TYPE="LVCMOS33", PULLMODE="UP")
    uart = UARTResource(0, rx="0", tx="1", conn=("io", 0), attrs=attributes)
    platform.add_resources([uart])
    return platform


BOARD = Board(
    name="orangecrab-25f",
    title="OrangeCrab r0.2.1",
    device=ecp5("LFE5U-25F", package="CSFBGA285", speed=8),
    preset="orangecrab-25f",
    # 36 of 56 block RAMs.
    memory=OnChipMemory(size=72 << 10),
    oscillator_hz=48_000_000,
    clock_hz=60e6,
    baud=1_000_000,
    platform=_platform,
    led=("rgb_led", 0, "g"),
    pack=("--compress", "--freq", "38.8"),
    flash="dfu-suffix -v 1209 -p 5af0 -a {bitstream} && dfu-util -a 0 -D {bitstream}",
    host="UART at the header, pins 0 (in) and 1 (out)",
    source="amaranth-boards, orangecrab_r0_2.py",
)
