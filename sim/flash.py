"""Simulation of the flash controller with a model of its chip: the build, for tests and benches."""

from __future__ import annotations

import math
from importlib import resources

from intformer.config import CoreConfig
from intformer.hw import verilog
from intformer.hw.external.qspi_flash import FlashChip, QspiFlash
from intformer.sim.builds import Bench

__all__ = ["flash_bench", "model_parameters"]


def model_parameters(chip: FlashChip) -> dict[str, int]:
    """Parameters of ``qspi_flash.sv`` that make it ``chip``, its size and busy times apart."""
    command, value = chip.quad_enable or (0x31, 0x02)
    return {
        "DUMMY_CLOCKS": chip.dummy_clocks,
        "QUAD_REGISTER": 2 if command == 0x31 else 1,
        "QUAD_BIT": value.bit_length() - 1,
        "QUAD_ENABLED": int(chip.quad_enable is None),
        "MIN_PERIOD_PS": math.floor(1e12 / chip.max_clock_hz),
        "DESELECT_NS": math.ceil(chip.deselect_ns),
        "WAKE_NS": math.ceil(chip.wake_ns),
    }


def flash_bench(
    config: CoreConfig,
    *,
    chip: FlashChip,
    offset: int,
    clock_hz: float,
    divider: int | None = None,
    pad_registers: int = 0,
    size: int = 1 << 18,
    program_cycles: int = 40,
    erase_cycles: int = 100,
    asleep: bool = True,
    simulator: str = "verilator",
) -> Bench:
    """A :class:`QspiFlash` for ``chip`` with the chip's model, whose ports are the burst port.

    The model holds ``size`` bytes (addresses wrap) and is busy for ``program_cycles`` and
    ``erase_cycles`` core cycles; ``asleep``: it begins in power down.
    """
    controller = QspiFlash(
        config,
        chip=chip,
        offset=offset,
        clock_hz=clock_hz,
        divider=divider,
        read_delay=1 + pad_registers,
    )
    folder = resources.files("intformer.sim")
    return Bench(
        sources={
            "controller.sv": verilog.emit(controller, name="controller"),
            "qspi_flash.sv": (folder / "chips" / "qspi_flash.sv").read_text(encoding="utf-8"),
            "flash_tb.sv": (folder / "flash_tb.sv").read_text(encoding="utf-8"),
        },
        toplevel="flash_tb",
        simulator=simulator,
        parameters={
            "BUS_BYTES": config.bus_bytes,
            "SIZE": size,
            "PROGRAM_CYCLES": program_cycles,
            "ERASE_CYCLES": erase_cycles,
            "ASLEEP": int(asleep),
            "PAD_REGISTERS": pad_registers,
            **model_parameters(chip),
        },
    )
