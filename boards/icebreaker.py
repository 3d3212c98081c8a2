"""iCEBreaker: iCE40UP5K, model in the flash that also holds the bitstream."""

from __future__ import annotations

from typing import Any

from intformer.boards.board import Board, FlashMemory
from intformer.fpga.devices import device
from intformer.hw.external.flash_chip import W25Q128JV

__all__ = ["BOARD"]


def _platform() -> Any:
    from amaranth.build import Attrs
    from amaranth_boards.icebreaker import ICEBreakerPlatform
    from amaranth_boards.resources import SPIFlashResources

    platform = ICEBreakerPlatform()
    # As the platform's own, with pull-ups: nobody drives the lines between commands.
    flash = SPIFlashResources(
        1,
        cs_n="16",
        clk="15",
        copi="14",
        cipo="17",
        wp_n="12",
        hold_n="13",
        attrs=Attrs(IO_STANDARD="SB_LVCMOS", PULLUP=1),
    )
    platform.add_resources(flash)
    return platform


BOARD = Board(
    name="icebreaker",
    title="1BitSquared iCEBreaker",
    device=device("iCE40UP5K"),
    preset="ice40",
    # The bitstream takes 104,090 bytes from 0 on.
    memory=FlashMemory(chip=W25Q128JV, offset=1 << 20, ram_size=512, resource=("spi_flash_4x", 1)),
    oscillator_hz=12_000_000,
    clock_hz=20.25e6,
    baud=1_000_000,
    platform=_platform,
    led=("led_g", 0, None),
    # Without icepack's last command, which would put the flash to sleep.
    pack=("-s",),
    flash="iceprog {bitstream}",
    host="UART, FT2232H, second port",
    source="amaranth-boards, icebreaker.py",
)
