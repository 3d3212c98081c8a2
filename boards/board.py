"""What a board is: its FPGA, its memory, its clock and its pins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from intformer.boards.pll import PllSettings, settle
from intformer.config import CoreConfig, load_config
from intformer.errors import UserError
from intformer.fpga.devices import Device

if TYPE_CHECKING:
    from intformer.hw.external.flash_chip import FlashChip
    from intformer.hw.external.sdram_chip import SdramChip

__all__ = ["BAUD_TOLERANCE", "QUICK_DIVISOR", "Board", "FlashMemory", "OnChipMemory", "SdramMemory"]

BAUD_TOLERANCE = 0.02
"""Largest error of the UART's rate: half a bit in a byte is 5 %, shared by two sides."""

QUICK_DIVISOR = 8
"""Cycles per bit of a virtual board's UART: there is no line that could be too slow."""


@dataclass(frozen=True, kw_only=True)
class SdramMemory:
    """An SDR SDRAM behind the core's burst port.

    Attributes
    ----------
    chip: geometry and timing.
    resource: name and number of the platform's resource with its pins.
    read_delay: cycles that the way to the chip and back adds: a register in each pad, and one more
        if the chip's access time and the pads take over half a period.
    tied: pins of the chip that the board ties to their active level, the data mask to the inactive.
    """

    chip: SdramChip
    resource: tuple[str, int] = ("sdram", 0)
    read_delay: int = 2
    tied: tuple[str, ...] = ()
    kind: str = field(default="sdram", init=False)

    @property
    def size(self) -> int:
        """Bytes."""
        return self.chip.size

    def peak(self, config: CoreConfig, clock_hz: float) -> float:
        """Bytes per second that pass at most."""
        return clock_hz * min(self.chip.data_bits // 8, config.bus_bytes)

    def describe(self) -> str:
        return f"{self.chip.name}, {_bytes(self.size)} SDRAM, {self.chip.data_bits} bits"


@dataclass(frozen=True, kw_only=True)
class FlashMemory:
    """A quad SPI flash that holds program and weights, and block RAM for inputs and outputs.

    Attributes
    ----------
    chip: size and commands.
    offset: byte of the flash at which the program begins; the bitstream is below.
    ram_size: bytes of block RAM for inputs and outputs.
    resource: name and number of the platform's resource with its pins.
    """

    chip: FlashChip
    offset: int
    ram_size: int
    resource: tuple[str, int] = ("spi_flash_4x", 0)
    kind: str = field(default="flash", init=False)

    @property
    def size(self) -> int:
        """Bytes of the flash that programs can take."""
        return self.chip.size - self.offset

    def peak(self, config: CoreConfig, clock_hz: float) -> float:
        """Bytes per second that pass at most: two cycles per flash clock, four bits each."""
        return clock_hz / 4

    def describe(self) -> str:
        return f"{self.chip.name}, {_bytes(self.chip.size)} quad SPI flash"


@dataclass(frozen=True, kw_only=True)
class OnChipMemory:
    """Block RAM alone.

    Attributes
    ----------
    size: bytes.
    """

    size: int
    kind: str = field(default="block RAM", init=False)

    def peak(self, config: CoreConfig, clock_hz: float) -> float:
        """Bytes per second that pass at most."""
        return clock_hz * config.bus_bytes

    def describe(self) -> str:
        return f"{_bytes(self.size)} block RAM"


Memory = SdramMemory | FlashMemory | OnChipMemory


@dataclass(frozen=True, kw_only=True)
class Board:
    """A board that a bitstream can be built for.

    Attributes
    ----------
    name: as on the command line: lower-case letters, digits and hyphens.
    title: as its maker calls it.
    device: the FPGA.
    preset: configuration of the core.
    memory: what is behind the core's burst port.
    oscillator_hz: of the clock at the platform's ``default_clk``.
    clock_hz: of the core, wanted; :attr:`actual_hz` is what the PLL makes.
    baud: of the UART, wanted.
    platform: makes the Amaranth platform, which has the pins; called once per build.
    uart: name and number of the platform's resource with the UART's pins.
    led: resource, number, and the sub-signal if it has several, lit while a program runs.
    pack: further arguments of the packer.
    flash: command that writes ``{bitstream}`` to the board.
    host: how the host is connected.
    source: where the pins are from.
    """

    name: str
    title: str
    device: Device
    preset: str
    memory: Memory
    oscillator_hz: int
    clock_hz: float
    baud: int
    platform: Callable[[], Any]
    flash: str
    host: str
    source: str
    uart: tuple[str, int] = ("uart", 0)
    led: tuple[str, int, str | None] | None = None
    pack: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        error = abs(self.actual_hz / self.divisor - self.baud) / self.baud
        if error > BAUD_TOLERANCE:
            raise UserError(
                f"{self.name}: {self.baud} baud cannot be made from {self.actual_hz / 1e6:g} MHz: "
                f"{100 * error:.1f} % off"
            )

    @property
    def config(self) -> CoreConfig:
        """The core's parameters."""
        return load_config(self.preset)

    @property
    def pll(self) -> PllSettings | None:
        """The PLL's dividers; None if the core takes the oscillator's clock.

        Raises
        ------
        UserError
            If the PLL cannot make ``clock_hz``.
        """
        return settle(self.device.target, input_hz=self.oscillator_hz, wanted_hz=self.clock_hz)

    @property
    def actual_hz(self) -> float:
        """The core's clock."""
        return float(self.pll.output_hz) if self.pll else float(self.oscillator_hz)

    @property
    def divisor(self) -> int:
        """Core cycles per bit of the UART."""
        return round(self.actual_hz / self.baud)

    @property
    def peak_bytes(self) -> float:
        """Bytes per second that the memory moves at most."""
        return self.memory.peak(self.config, self.actual_hz)


def _bytes(count: int) -> str:
    for unit, name in ((1 << 20, "MB"), (1 << 10, "KB")):
        if count >= unit:
            return f"{count / unit:g} {name}"
    return f"{count} bytes"
