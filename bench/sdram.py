"""Bandwidth and rules of the SDRAM controller: ``python -m intformer.bench.sdram``.

Each chip at its board's clock and bus: share of the pins' bandwidth for weight streams and other
traffic; and random commands, of which each read beat, the whole content at the
end, and every rule of the chip's data sheet are checked. Then the controller is placed and routed
alone. The figures go to ``docs/results/sdram.{json,md}``; a run of one part replaces that part.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from dataclasses import dataclass
from typing import Any

from intformer.bench.units import kept
from intformer.cli import Progress
from intformer.config import CoreConfig
from intformer.fpga.devices import device
from intformer.fpga.measure import measure
from intformer.hw.external.sdram import CHIPS, Sdram
from intformer.results import markdown_table, record
from intformer.sim.sdram import RULES, SdramSimulator

__all__ = ["CASES", "SdramCase", "main"]

STREAMS = ("linear_reads", "linear_writes", "mixed", "random_reads", "single_reads")
COSTS = (
    ("AS4C16M16SA-7", 4, 120e6, "LFE5U-85F"),
    ("EM638325-7", 4, 120e6, "LFE5U-25F"),
    ("GW2AR-18", 1, 60e6, "GW2A-18"),
)
"""Chip, bytes of the bus, clock that its timing is for, device."""
COST_SEEDS = (1, 2, 3)
COST_MHZ = 150.0


@dataclass(frozen=True, kw_only=True)
class SdramCase:
    """A controller in front of a chip.

    Attributes
    ----------
    board: whose chip it is.
    chip: a name in :data:`intformer.hw.external.sdram.CHIPS`.
    bus_bytes, mhz: of the core.
    registers: in the pads, on the way in; more of them only delay.
    tied: whether the board ties the chip's select and masks.
    """

    board: str
    chip: str
    bus_bytes: int
    mhz: float
    registers: int = 1
    tied: bool = False

    @property
    def name(self) -> str:
        """Of the case in the results."""
        return f"{self.chip}, {self.bus_bytes} bytes, {self.mhz:g} MHz"

    def config(self) -> CoreConfig:
        """A configuration with this bus."""
        return CoreConfig(name="bench", rows=4, cols=4, lanes=4, bus_bytes=self.bus_bytes)


CASES = (
    SdramCase(board="ULX3S", chip="AS4C16M16SA-7", bus_bytes=4, mhz=40),
    SdramCase(board="Colorlight i9", chip="EM638325-7", bus_bytes=4, mhz=40, tied=True),
    SdramCase(board="Tang Nano 20K", chip="GW2AR-18", bus_bytes=1, mhz=40.5),
)
"""What `make bench-sdram` measures; each board's own bus and clock."""
COST = "cost"


def measure_case(
    case: SdramCase, *, bursts: int, commands: int, seed: int, progress: Progress
) -> dict[str, Any]:
    """The figures of one case.

    Raises
    ------
    SdramFailed
        If a word was wrong or a rule was broken.
    """
    bench = SdramSimulator(
        case.config(),
        chip=CHIPS[case.chip],
        clock_hz=case.mhz * 1e6,
        input_registers=case.registers,
        tied=case.tied,
    )
    figures: dict[str, Any] = dataclasses.asdict(case)
    figures["seed"] = seed
    figures["timing"] = dataclasses.asdict(CHIPS[case.chip].timing(case.mhz * 1e6))
    figures["streams"] = {}
    for mode in STREAMS:
        progress(f"{case.name}: {mode}")
        figures["streams"][mode] = dataclasses.asdict(bench.run(mode, commands=bursts, seed=seed))
    progress(f"{case.name}: {commands} random commands")
    figures["random"] = dataclasses.asdict(
        bench.run("random", commands=commands, seed=seed, stall=0.05)
    )
    return figures


def measure_costs(progress: Progress) -> list[dict[str, Any]]:
    """The controller alone on its devices."""
    costs = []
    for chip, bus_bytes, clock_hz, name in COSTS:
        config = SdramCase(board="", chip=chip, bus_bytes=bus_bytes, mhz=clock_hz / 1e6).config()
        cost = measure(
            Sdram(config, chip=CHIPS[chip], clock_hz=clock_hz, read_delay=1),
            device=device(name),
            seeds=COST_SEEDS,
            target_mhz=COST_MHZ,
            progress=progress,
        )
        costs.append(
            {
                "chip": chip,
                "bus_bytes": bus_bytes,
                "device": name,
                "resources": cost.resources,
                "fmax": {str(seed): mhz for seed, mhz in cost.fmax.items()},
                "fmax_mhz": cost.fmax_mhz,
            }
        )
    return costs


def markdown(figures: dict[str, Any]) -> str:
    """The figures as tables."""
    lines = [
        "# SDRAM controller",
        "",
        "`make bench-sdram`: the controller with a model of its chip, in Verilator. Share of the",
        "pins' bandwidth (of the bus, where that is narrower than the chip), refresh included.",
        "",
    ]
    heads = ["Board", "Chip", "Bus", "MHz", "CAS", "Weights", "Writes", "3 reads, 1 write"]
    heads += ["Reads anywhere, 16 beats", "1 beat"]
    rows = []
    for case in figures["cases"].values():
        shares = [f"{100 * case['streams'][mode]['share']:.1f}%" for mode in STREAMS]
        width = f"{8 * case['bus_bytes']} bits"
        start = [case["board"], case["chip"], width, f"{case['mhz']:g}", case["timing"]["cas"]]
        rows.append([*start, *shares])
    lines += [markdown_table(heads, rows), ""]
    lines += [
        "Random commands: 1 to 256 beats, a half of them writes, at places that are near, far or",
        "in another row of the same bank, with pauses. Each beat that is read is compared, and all",
        "of the chip's content at the end: a run with a wrong one has no figures.",
        f"{len(RULES)} rules of the chip are checked in every cycle.",
        "",
    ]
    heads = ["Chip", "Bus", "MHz", "Seed", "Commands", "Beats read", "Beats written", "Cycles"]
    heads += ["Rules broken"]
    rows = []
    for case in figures["cases"].values():
        run = case["random"]
        counts = [run[key] for key in ("commands", "beats_read", "beats_written", "cycles")]
        start = [case["chip"], f"{8 * case['bus_bytes']} bits", f"{case['mhz']:g}", case["seed"]]
        rows.append([*start, *(f"{count:,}" for count in counts), run["violations"]])
    lines += [markdown_table(heads, rows), ""]
    if figures.get("costs"):
        seeds = ", ".join(str(seed) for seed in COST_SEEDS)
        lines += [
            f"Placed and routed, nextpnr asked for {COST_MHZ:g} MHz, median of seeds {seeds}.",
            "LUT4 counts the distributed RAM of the write buffer.",
            "",
        ]
        heads = ["Chip", "Bus", "Device", "LUT4", "FF", "BRAM", "Fmax", "By seed"]
        rows = [
            [
                cost["chip"],
                f"{8 * cost['bus_bytes']} bits",
                cost["device"],
                *(
                    cost["resources"].get(key, {"used": 0})["used"]
                    for key in ("LUT4", "FF", "BRAM")
                ),
                f"{cost['fmax_mhz']:.1f} MHz",
                " / ".join(f"{mhz:.1f}" for mhz in cost["fmax"].values()),
            ]
            for cost in figures["costs"]
        ]
        lines += [markdown_table(heads, rows), ""]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Measure and keep; the exit status is 1 if a word was wrong or a rule was broken."""
    parser = argparse.ArgumentParser(prog="python -m intformer.bench.sdram", description=__doc__)
    parser.add_argument("--commands", type=int, default=1_000_000, help="random commands")
    parser.add_argument("--bursts", type=int, default=5_000, help="bursts of each stream")
    parser.add_argument("--seed", type=int, default=1)
    names = [case.name for case in CASES]
    parser.add_argument("--only", metavar="NAME", nargs="+", choices=[*names, COST])
    parser.add_argument("--dry", action="store_true", help="do not keep the figures")
    args = parser.parse_args(argv)
    progress = Progress()
    figures = {key: kept("sdram").get(key, {}) for key in ("cases", "costs")}
    for part in args.only or [*names, COST]:
        if part == COST:
            figures["costs"] = measure_costs(progress)
        else:
            (case,) = (case for case in CASES if case.name == part)
            figures["cases"][part] = measure_case(
                case, bursts=args.bursts, commands=args.commands, seed=args.seed, progress=progress
            )
        figures["cases"] = {n: figures["cases"][n] for n in names if n in figures["cases"]}
        text = markdown(figures)
        if not args.dry:
            record("sdram", figures, text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
