"""Colorlight i9 v7.2 on its extension board: LFE5U-45F, 8 MB of 32-bit SDRAM."""

from __future__ import annotations

from typing import Any

from intformer.boards.board import Board, SdramMemory
from intformer.fpga.devices import ecp5
from intformer.hw.external.sdram_chip import CHIPS

__all__ = ["BOARD"]


def _platform() -> Any:
    from amaranth.build import Attrs, Clock, Pins, PinsN, Resource
    from amaranth.vendor import LatticeECP5Platform
    from amaranth_boards.resources import SDRAMResource, UARTResource

    level = Attrs(IO_TYPE="LVCMOS33")

    class ColorlightI9Platform(LatticeECP5Platform):
        device = "LFE5U-45F"
        package = "BG381"
        speed = "6"
        default_clk = "clk25"
        connectors = ()
        resources = (
            Resource("clk25", 0, Pins("P3", dir="i"), Clock(25e6), level),
            Resource("led", 0, PinsN("L2", dir="o"), level),
            # The USB bridge of the extension board.
            UARTResource(0, rx="H18", tx="J17", attrs=level),
            # Clock enable, chip select and data mask are tied on the module.
            SDRAMResource(
                0,
                clk="B9",
                we_n="A10",
                ras_n="B10",
                cas_n="A9",
                ba="B11 C8",
                a="B13 C14 A16 A17 B16 B15 A14 A13 A12 A11 B12",
                dq="B6 A5 A6 A7 C7 B8 B5 A8 D8 D7 E8 D6 C6 D5 E7 C5 "
                "C10 D9 E11 D11 C11 D12 E9 C12 E14 C15 E13 D15 E12 B17 D14 D13",
                attrs=Attrs(PULLMODE="NONE", SLEWRATE="FAST", IO_TYPE="LVCMOS33"),
            ),
        )

    return ColorlightI9Platform(toolchain="Trellis")


BOARD = Board(
    name="colorlight-i9",
    title="Colorlight i9 v7.2",
    device=ecp5("LFE5U-45F"),
    preset="tiny",
    memory=SdramMemory(chip=CHIPS["EM638325-7"], tied=("clk_en", "cs", "dqm")),
    oscillator_hz=25_000_000,
    clock_hz=40e6,
    baud=1_000_000,
    platform=_platform,
    led=("led", 0, None),
    pack=("--compress",),
    flash="openFPGALoader -b colorlight-i9 {bitstream}",
    host="UART, extension board",
    source="github.com/wuxx/Colorlight-FPGA-Projects, colorlight_i9_v7.2.md; UART: LiteX-Boards",
)
