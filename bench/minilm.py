"""all-MiniLM-L6-v2 on the core: ``python -m intformer.bench.minilm --accuracy``.

Each section measures one thing and keeps its figures in ``docs/results/minilm.json``, beside those
of the other sections; ``minilm.md`` shows them all.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from intformer.bench import minilm_accuracy, minilm_run
from intformer.errors import IntformerError
from intformer.results import RESULTS, provenance, record

__all__ = ["SECTIONS", "Section", "main"]

NAME = "minilm"


@dataclass(frozen=True)
class Section:
    """A part of the bench.

    ``measure`` makes figures, JSON data with ``"ok"``, from the command's arguments and a function
    that takes lines of progress; ``report`` makes Markdown of them.
    """

    help: str
    measure: Callable[[argparse.Namespace, Callable[[str], None]], dict[str, Any]]
    report: Callable[[dict[str, Any]], str]


def _accuracy(args: argparse.Namespace, progress: Callable[[str], None]) -> dict[str, Any]:
    """The schemes that are asked for, beside those that were measured on as many sentences."""
    names = args.scheme or list(minilm_accuracy.SCHEMES)
    figures = minilm_accuracy.measure(names, args.sentences, progress)
    for scheme in figures["schemes"].values():
        scheme["commit"] = provenance()["commit"]
    before = _kept().get("accuracy", {})
    if before.get("sentences") == args.sentences:
        both = before["schemes"] | figures["schemes"]
        figures["schemes"] = {n: both[n] for n in minilm_accuracy.SCHEMES if n in both}
    return figures


SECTIONS = {
    "accuracy": Section(
        "cosine of sentence embeddings, integers against float",
        _accuracy,
        minilm_accuracy.report,
    ),
    "equality": Section(
        "every tensor on simulator and RTL equal to the reference",
        lambda _args, progress: minilm_run.equality(progress),
        minilm_run.report_equality,
    ),
    "cycles": Section(
        "share of the array's peak, cycles by op, causes of idle cycles",
        lambda _args, progress: minilm_run.cycles(progress),
        minilm_run.report_cycles,
    ),
}


def main(argv: list[str] | None = None) -> int:
    """Measure the sections that are asked for (all, if none is); 1 if one falls short."""
    parser = argparse.ArgumentParser(prog="python -m intformer.bench.minilm", description=__doc__)
    for name, section in SECTIONS.items():
        parser.add_argument(f"--{name}", action="store_true", help=section.help)
    parser.add_argument("--sentences", type=int, default=312, metavar="N", help="default: 312")
    parser.add_argument(
        "--scheme",
        action="append",
        choices=list(minilm_accuracy.SCHEMES),
        help="of the accuracy (default: all)",
    )
    parser.add_argument("--dry-run", action="store_true", help="do not write docs/results")
    args = parser.parse_args(argv)
    names = [name for name in SECTIONS if getattr(args, name)] or list(SECTIONS)
    start = time.monotonic()

    def progress(text: str) -> None:
        print(f"[{time.monotonic() - start:6.1f} s] {text}", file=sys.stderr, flush=True)

    try:
        fresh = {
            name: SECTIONS[name].measure(args, progress)
            | {k: v for k, v in provenance().items() if k in ("commit", "date")}
            for name in names
        }
    except IntformerError as error:
        print(f"minilm: {error}", file=sys.stderr)
        return 1
    for name in names:
        print(SECTIONS[name].report(fresh[name]))
    if not args.dry_run:
        figures = _kept() | fresh
        parts = [SECTIONS[n].report(figures[n]) for n in SECTIONS if n in figures]
        record(NAME, figures, "# all-MiniLM-L6-v2\n\n" + "\n".join(parts))
    return 0 if all(fresh[name]["ok"] for name in names) else 1


def _kept() -> dict[str, Any]:
    """Figures of sections that were measured before."""
    path = RESULTS / f"{NAME}.json"
    if not path.is_file():
        return {}
    figures = json.loads(path.read_text("utf-8"))
    return {name: part for name, part in figures.items() if name in SECTIONS}


if __name__ == "__main__":
    sys.exit(main())
