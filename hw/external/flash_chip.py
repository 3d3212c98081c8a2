"""Serial NOR flash chips: what a controller has to know of them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["IS25LP128", "PAGE", "SECTOR", "W25Q32JV", "W25Q128JV", "FlashChip"]

PAGE = 256
"""Bytes that one program command can write, at most."""
SECTOR = 4096
"""Bytes that one erase command sets to 0xFF."""


@dataclass(frozen=True, kw_only=True)
class FlashChip:
    """A quad SPI flash with 24 address bits; figures from its data sheet.

    Attributes
    ----------
    name: as its maker calls it.
    size: bytes; a power of two, at most 16 MiB.
    max_clock_hz: highest clock of 0xEB, the quad I/O fast read.
    dummy_clocks: of 0xEB between the mode bits and the first data, from 1 to 8.
    quad_enable: the command and the byte that set the quad enable bit in a status register, given
        after 0x50 (so that it lasts until power goes); None for chips that need none.
    wake_ns: from the release of power down (0xAB) to the next command.
    deselect_ns: chip select high between any two commands.
    program_ms, erase_ms: of a page and of a sector, at most; for time-outs.
    """

    name: str
    size: int
    max_clock_hz: float
    dummy_clocks: int = 4
    quad_enable: tuple[int, int] | None
    wake_ns: float
    deselect_ns: float
    program_ms: float
    erase_ms: float

    def __post_init__(self) -> None:
        size = self.size
        if size < SECTOR or size > 1 << 24 or size & (size - 1):
            raise ValueError(f"size must be a power of two from 4 KiB to 16 MiB, not {size!r}")
        if not 1 <= self.dummy_clocks <= 8:
            raise ValueError(f"dummy_clocks must be from 1 to 8, not {self.dummy_clocks!r}")


W25Q128JV = FlashChip(
    name="W25Q128JV",
    size=16 << 20,
    # 133 from 3.0 V on.
    max_clock_hz=104e6,
    # Status register 2, bit 1. In the variants ending in Q it is always 1, which does no harm.
    quad_enable=(0x31, 0x02),
    wake_ns=3000,
    deselect_ns=50,
    program_ms=3,
    erase_ms=400,
)
"""On the iCEBreaker."""

W25Q32JV = FlashChip(
    name="W25Q32JV",
    size=4 << 20,
    max_clock_hz=104e6,
    quad_enable=(0x31, 0x02),
    wake_ns=3000,
    deselect_ns=50,
    program_ms=3,
    erase_ms=400,
)

IS25LP128 = FlashChip(
    name="IS25LP128",
    size=16 << 20,
    # With the 6 clocks (mode bits included) that it has after power on.
    max_clock_hz=104e6,
    # The status register, bit 6.
    quad_enable=(0x01, 0x40),
    # Between the sizes and generations of the family 3 to 5 us, and 7 to 50 ns: the longest.
    wake_ns=5000,
    deselect_ns=50,
    program_ms=1,
    erase_ms=300,
)
