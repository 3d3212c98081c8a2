"""The trained digits ViT on boards in simulation, through the serial port, against the reference.

``make bench-boards`` runs this: for each board it compiles the model for the board's core, starts
the virtual board, runs ``intformer run --on board`` against it, twice, and keeps what came out in
``docs/results/virtual-boards.{json,md}``. The second run must find the model on the device.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import intformer
from examples.digits_vit.data import calibration_images, test_split
from intformer import cli
from intformer.bench.units import kept
from intformer.boards import all_boards, find_board
from intformer.boards.board import OnChipMemory
from intformer.boards.virtual import VirtualBoard, build_virtual_board
from intformer.cli import Progress
from intformer.errors import Mismatch
from intformer.results import markdown_table, record

MODEL = "examples.digits_vit.model:digits_vit"
BOARDS = ("ulx3s-85f", "icebreaker", "orangecrab-25f")
SEED = 0


def main(argv: list[str] | None = None) -> int:
    """Run the boards; exit status 1 if a result differs from the reference."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=list(all_boards()))
    parser.add_argument("--images", type=int, default=4, help="images to run (default: 4)")
    parser.add_argument("--optimize", default="-O3", help="option of the C++ compiler")
    parser.add_argument("--dry", action="store_true", help="do not keep the figures")
    args = parser.parse_args(argv)
    for name in args.only or BOARDS:
        with tempfile.TemporaryDirectory() as folder:
            figures = run_digits(
                name, Path(folder), images=args.images, optimize=args.optimize, progress=Progress()
            )
        print(json.dumps({name: figures}, indent=2))
        if not args.dry:
            boards = kept("virtual-boards").get("boards", {}) | {name: figures}
            ordered = {key: boards[key] for key in all_boards() if key in boards}
            record("virtual-boards", {"boards": ordered, "seed": SEED}, markdown(ordered))
    return 0


def run_digits(
    name: str, folder: Path, *, images: int, optimize: str, progress: Progress
) -> dict[str, Any]:
    """Run the model on the virtual board ``name``; returns its figures.

    Raises
    ------
    Mismatch
        If an output differs from the reference, the second run sends the model again, or the core's
        cycle counter disagrees with the cycles that were told.
    """
    board = find_board(name)
    samples, _labels = test_split()
    chosen = np.random.default_rng(SEED).permutation(len(samples))[:images]
    weights = "int4" if isinstance(board.memory, OnChipMemory) else "int8"
    progress(f"{name}: compile for {board.preset}, weights {weights}")
    model = intformer.compile(
        MODEL, config=board.preset, calibrate={"images": calibration_images()}, weights=weights
    )
    model.save(folder / "model")
    np.savez(folder / "x.npz", images=samples[chosen])
    embedded = model.program if isinstance(board.memory, OnChipMemory) else None
    progress(f"{name}: build the simulation")
    built = build_virtual_board(board, program=embedded, optimize=optimize)
    start = time.monotonic()
    with VirtualBoard(built) as virtual:
        first = _run(virtual.port, folder)
        second = _run(virtual.port, folder)
    assert virtual.cycles is not None
    if second["load"]["sent"] or (embedded is not None and first["load"]["sent"]):
        raise Mismatch(f"{name}: the model was sent though it was there")
    counted = first["counters"]["cycles"] + second["counters"]["cycles"]
    # The parallel core is busy for a cycle before it counts: `start` goes through a register.
    if board.config.structure == "parallel":
        counted += 2 * images
    if counted != virtual.busy_cycles:
        raise Mismatch(f"{name}: counted {counted} cycles, {virtual.busy_cycles} were simulated")
    return {
        "core": board.preset,
        "memory": board.memory.describe(),
        "weights": weights,
        "images": images,
        "equal": True,
        "image_bytes": first["load"]["size"],
        "sent_first": first["load"]["sent"],
        "sent_second": second["load"]["sent"],
        "cycles_per_run": [first["cycles_per_run"], second["cycles_per_run"]],
        "clock_mhz": board.actual_hz / 1e6,
        "ms_per_run": 1e3 * first["cycles_per_run"] / board.actual_hz,
        "simulated_cycles": virtual.cycles,
        "cycles_per_second": round(virtual.cycles / (time.monotonic() - start)),
    }


def _run(port: str, folder: Path) -> dict[str, Any]:
    """Figures of ``intformer run --on board``, as a user gives it."""
    command = ["run", str(folder / "model"), "--input", str(folder / "x.npz"), "--on", "board"]
    command += ["--port", port, "--check", "--json", str(folder / "run.json")]
    if cli.main(command):
        raise Mismatch("`intformer run --on board --check` failed")
    figures: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return figures


def markdown(boards: dict[str, dict[str, Any]]) -> str:
    """The page for ``docs/results``."""
    rows = [
        [
            f"`{name}`",
            f"`{run['core']}`",
            run["memory"],
            run["weights"],
            run["images"],
            "yes" if run["equal"] else "no",
            f"{run['cycles_per_run'][0]:,.0f}",
            f"{run['ms_per_run']:.2f}",
            f"{run['image_bytes']:,}",
            f"{run['sent_first']:,} / {run['sent_second']:,}",
        ]
        for name, run in boards.items()
    ]
    heads = [
        *("Board", "Core", "Memory", "Weights", "Images", "Equal to the reference"),
        *(
            "Cycles per image",
            "ms at the board's clock",
            "Image, bytes",
            "Sent, first / second run",
        ),
    ]
    return (
        "# The digits ViT on boards in simulation\n\n`make bench-boards`: `intformer run --on "
        "board` against [virtual boards](../boards.md#a-board-without-the-board).\n\n"
        f"{markdown_table(heads, rows)}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
