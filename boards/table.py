"""The bitstreams of all boards: ``python -m intformer.boards.table [--only NAME ...]``.

They are left in ``build/boards``, their figures in ``docs/results/boards.{json,md}``; a run of some
boards replaces those boards' figures only. A board whose memory is block RAM gets the model of
``--embed NAME=OUT``, if there is one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from intformer.bench.units import kept
from intformer.boards import all_boards, find_board
from intformer.boards.bitstream import build_bitstream
from intformer.boards.command import describe_bitstream
from intformer.cli import Progress
from intformer.errors import IntformerError, UserError
from intformer.fpga.core import share
from intformer.results import markdown_table, record

__all__ = ["main", "markdown"]

_NAMES = ("LUT4", "FF", "DSP", "DSP9", "DSP18", "BRAM", "SPRAM")


def main(argv: list[str] | None = None) -> int:
    """Build the boards; the exit status is 1 if one fails."""
    parser = argparse.ArgumentParser(prog="python -m intformer.boards.table", description=__doc__)
    parser.add_argument("--only", metavar="NAME", nargs="+", choices=list(all_boards()))
    parser.add_argument("--seeds", type=int, default=1, metavar="N")
    parser.add_argument("--jobs", type=int, metavar="N", help="placements at a time")
    parser.add_argument("--embed", metavar="NAME=OUT", action="append", default=[])
    parser.add_argument("--build", metavar="DIR", type=Path, default=Path("build/boards"))
    parser.add_argument("--dry", action="store_true", help="do not keep the figures")
    args = parser.parse_args(argv)
    models = dict(pair.split("=", 1) for pair in args.embed if "=" in pair)
    ok = len(models) == len(args.embed)
    if not ok:
        parser.error("--embed takes NAME=OUT")
    for name in args.only or all_boards():
        try:
            figures = _build(name, args, model=models.get(name))
        except IntformerError as error:
            print(f"{name}: {error}", file=sys.stderr)
            ok = False
            continue
        print(describe_bitstream(figures))
        if not args.dry:
            boards = kept("boards").get("boards", {}) | {name: figures}
            ordered = {key: boards[key] for key in all_boards() if key in boards}
            record("boards", {"boards": ordered}, markdown(ordered))
    return 0 if ok else 1


def _build(name: str, args: argparse.Namespace, *, model: str | None) -> dict[str, Any]:
    from intformer import api

    if args.seeds < 1:
        raise UserError(f"--seeds must be at least 1, not {args.seeds}")
    return build_bitstream(
        find_board(name),
        out=args.build,
        program=api.load(model).program if model else None,
        seeds=range(1, args.seeds + 1),
        jobs=args.jobs,
        progress=Progress(),
    )


def markdown(boards: dict[str, dict[str, Any]]) -> str:
    """A page of the figures of several boards, by name, for ``docs/results``."""
    heads = [
        name
        for name in _NAMES
        if any(figures["resources"].get(name, {}).get("used") for figures in boards.values())
    ]
    rows, notes = [], []
    for name, figures in boards.items():
        cells = [
            f"{entry['used']:,} ({share(entry).strip()})"
            if (entry := figures["resources"].get(head))
            else "–"
            for head in heads
        ]
        seconds = sum(figures["seconds"].values())
        rows.append(
            [
                f"`{name}`",
                f"{figures['device']}, {figures['part']}",
                f"`{figures['preset']}`",
                *cells,
                f"{figures['clock_mhz']:g}",
                f"{figures['fmax_mhz']:.1f} ({figures['seed']})",
                f"{seconds / 60:.1f} min",
            ]
        )
        versions = ", ".join(f"{tool} {version}" for tool, version in figures["versions"].items())
        inside = "; a model is in the block RAM" if figures["embedded"] else ""
        notes.append(f"- `{name}`: {figures['memory']}{inside}; {versions}.")
        if figures["timing_note"]:
            notes.append(f"  Note: {figures['timing_note']}.")
    columns = ["Board", "Device", "Core", *heads, "Clock, MHz", "Fmax, MHz (seed)", "Build (wall)"]
    table = markdown_table(columns, rows)
    return f"# Bitstreams\n\n`make boards`.\n\n{table}\n\n" + "\n".join(notes)


if __name__ == "__main__":
    sys.exit(main())
