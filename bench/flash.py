"""Bandwidth of the flash controller: ``python -m intformer.bench.flash``.

The controller's RTL reads from the model of its chip, in simulation; every beat is compared. The
figures go to ``docs/results/flash.{json,md}``.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intformer.config import CoreConfig
from intformer.hw.external.qspi_flash import W25Q128JV, FlashChip, least_divider
from intformer.results import markdown_table, record
from intformer.sim.builds import build
from intformer.sim.flash import flash_bench
from intformer.sim.runner import run_module
from intformer.sim.simulators import SIMULATORS

__all__ = ["CASES", "FlashCase", "main", "markdown", "measure"]

_OFFSET = 1 << 14
_SIZE = 1 << 17
_SEED = 1


@dataclass(frozen=True, kw_only=True)
class FlashCase:
    """A controller: its bus, chip and clock."""

    bus_bytes: int
    clock_hz: float
    chip: FlashChip = W25Q128JV

    def config(self) -> CoreConfig:
        """A configuration with that bus."""
        return CoreConfig(name="flash", rows=16, cols=16, lanes=1, bus_bytes=self.bus_bytes)


CASES = {
    "icebreaker": FlashCase(bus_bytes=1, clock_hz=24e6),
    "4 bytes, 50 MHz": FlashCase(bus_bytes=4, clock_hz=50e6),
    "4 bytes, 100 MHz": FlashCase(bus_bytes=4, clock_hz=100e6),
}
"""What `make bench-flash` measures, by name."""


def measure(case: FlashCase, *, bursts: int, simulator: str = "verilator") -> dict[str, Any]:
    """Simulate ``bursts`` bursts of each kind of traffic.

    Returns
    -------
    dict
        ``pin_bytes_per_second``; per kind of traffic ``beats``, ``cycles``, ``share`` (of the pins'
        bandwidth) and ``bytes_per_second``; ``latency_cycles`` of a random beat, ``least`` and
        ``most``; ``start_up_cycles`` from reset to the first beat.

    Raises
    ------
    AssertionError
        If a beat was wrong or the chip was not treated as its data sheet wants.
    BuildFailed
        If the simulator is missing.
    """
    spi_cycles = 2 * least_divider(case.chip, case.clock_hz)
    byte_cycles = 2 * spi_cycles
    bench = flash_bench(
        case.config(),
        chip=case.chip,
        offset=_OFFSET,
        clock_hz=case.clock_hz,
        size=_SIZE,
        simulator=simulator,
    )
    folder = build(bench)
    (folder / "runs").mkdir(exist_ok=True)
    run_dir = Path(tempfile.mkdtemp(dir=folder / "runs"))
    (run_dir / "flash.bin").write_bytes(random.Random(_SEED).randbytes(_SIZE))
    run_module(
        bench,
        "intformer.bench.flash_traffic",
        folder=folder,
        run_dir=run_dir,
        plusargs=["+flash=flash.bin"],
        options={
            "bus_bytes": case.bus_bytes,
            "bursts": bursts,
            "offset": _OFFSET,
            # An even number: the clock is high for half of it.
            "period_ps": 2 * round(5e11 / case.clock_hz),
        },
        seed=_SEED,
    )
    figures = json.loads((run_dir / "figures.json").read_text())
    shutil.rmtree(run_dir)
    for name in ("linear", "linear_one_at_a_time", "random", "random_beats"):
        kind = figures[name]
        sent = kind["beats"] * case.bus_bytes
        kind["share"] = sent * byte_cycles / kind["cycles"]
        kind["bytes_per_second"] = sent / kind["cycles"] * case.clock_hz
    return {
        "chip": case.chip.name,
        "bus_bytes": case.bus_bytes,
        "clock_hz": case.clock_hz,
        "bursts": bursts,
        "seed": _SEED,
        "spi_clock_hz": case.clock_hz / spi_cycles,
        "pin_bytes_per_second": case.clock_hz / byte_cycles,
        **figures,
    }


def markdown(cases: dict[str, dict[str, Any]]) -> str:
    """The page of the figures of :func:`measure`, by name."""

    def cell(kind: dict[str, Any]) -> str:
        return f"{kind['share']:.1%} ({kind['bytes_per_second'] / 1e6:.2f})"

    rows = [
        (
            name,
            case["chip"],
            case["bus_bytes"],
            f"{case['clock_hz'] / 1e6:g} / {case['spi_clock_hz'] / 1e6:g}",
            f"{case['pin_bytes_per_second'] / 1e6:g}",
            cell(case["linear"]),
            cell(case["linear_one_at_a_time"]),
            cell(case["random"]),
            f"{case['latency_cycles']['least']} to {case['latency_cycles']['most']}",
            case["start_up_cycles"],
        )
        for name, case in cases.items()
    ]
    heads = [
        "Case",
        "Chip",
        "Bus, bytes",
        "Core / SPI clock, MHz",
        "Pins, MB/s",
        "Linear",
        "Linear, one at a time",
        "Random",
        "First beat, cycles",
        "Start-up, cycles",
    ]
    return f"""# QSPI flash

Share of the pins' bandwidth (four lines, every clock), and MB/s, of read bursts of 16 beats:
*linear* with the next command there before the burst ends, as the core gives them; *one at a time*
with each command after the last beat before it; *random* addresses. *First beat*: of a read
elsewhere, from the cycle in which the command is offered. RTL of the controller against the model
of the chip; every beat was compared, and no rule of the chip was violated.

{markdown_table(heads, rows)}
"""


def main(argv: list[str] | None = None) -> int:
    """Measure all cases and keep the figures."""
    parser = argparse.ArgumentParser(prog="python -m intformer.bench.flash", description=__doc__)
    parser.add_argument("--bursts", type=int, default=60, help="bursts of each kind (60)")
    parser.add_argument("--simulator", choices=SIMULATORS, default=SIMULATORS[0])
    parser.add_argument("--dry", action="store_true", help="do not keep the figures")
    args = parser.parse_args(argv)
    cases = {
        name: measure(case, bursts=args.bursts, simulator=args.simulator)
        for name, case in CASES.items()
    }
    page = markdown(cases)
    print(page)
    if not args.dry:
        record("flash", {"cases": cases}, page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
