"""Sipeed Tang Nano 20K: GW2AR-18 with 8 MB of 32-bit SDRAM in its package."""

from __future__ import annotations

from typing import Any

from intformer.boards.board import Board, SdramMemory
from intformer.fpga.devices import gowin
from intformer.hw.external.sdram_chip import CHIPS

__all__ = ["BOARD"]

_ADDRESS = "R14A R13B R14B R15A L16B L17B L16A L17A L15B L15A R12B"
_DATA = (
    "L3A L3B L8A L8B L9A L9B L11A L11B R9B R9A R5B R6A R5A R4B R3B R3A "
    "L39B L39A L35B L35A L30B L30A L20A L18B R17A R16A R16B R17B R18A R18B R44A R44B"
)
"""Where the SDRAM's pins are bonded to: side, row, and which of the two pads there."""


def _places(text: str) -> str:
    return " ".join(f"IO{place}" for place in text.split())


def _platform() -> Any:
    from amaranth.build import Attrs, Clock, Pins, Resource
    from amaranth.vendor import GowinPlatform
    from amaranth_boards.resources import LEDResources, SDRAMResource, UARTResource

    level = Attrs(IO_TYPE="LVCMOS33")

    class TangNano20KPlatform(GowinPlatform):
        part = "GW2AR-LV18QN88C8/I7"
        family = "GW2AR-18C"
        default_clk = "clk27"
        connectors = ()
        resources = (
            Resource("clk27", 0, Pins("4", dir="i"), Clock(27e6), level),
            *LEDResources(pins="15 16 17 18 19 20", invert=True, attrs=level),
            UARTResource(0, rx="70", tx="69", attrs=Attrs(PULL_MODE="UP", IO_TYPE="LVCMOS33")),
            SDRAMResource(
                0,
                clk=_places("R11B"),
                cke=_places("L13A"),
                cs_n=_places("L14B"),
                we_n=_places("L12B"),
                ras_n=_places("L13B"),
                cas_n=_places("L14A"),
                dqm=_places("L12A R11A L18A R15B"),
                ba=_places("R13A R12A"),
                a=_places(_ADDRESS),
                dq=_places(_DATA),
                attrs=level,
            ),
        )

    return TangNano20KPlatform()


BOARD = Board(
    name="tang-nano-20k",
    title="Sipeed Tang Nano 20K",
    device=gowin("GW2AR-18", part="GW2AR-LV18QN88C8/I7", family="GW2A-18C", package="QN88, C8/I7"),
    preset="gowin",
    memory=SdramMemory(chip=CHIPS["GW2AR-18"]),
    oscillator_hz=27_000_000,
    clock_hz=40.5e6,
    baud=1_000_000,
    platform=_platform,
    led=("led", 0, None),
    pack=("-d", "GW2A-18C", "--sspi_as_gpio", "--mspi_as_gpio"),
    flash="openFPGALoader -b tangnano20k {bitstream}",
    host="UART, BL616",
    source="LiteX-Boards, sipeed_tang_nano_20k.py; SDRAM: Apicula's table of bonded pads",
)
