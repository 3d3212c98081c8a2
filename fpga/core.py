"""A whole core on an FPGA: figures, text and Markdown of them."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from intformer.config import CoreConfig
from intformer.fpga.devices import Device
from intformer.fpga.measure import measure
from intformer.fpga.tools import Progress
from intformer.results import markdown_table

__all__ = ["build_core", "by_block", "describe", "markdown", "share"]

_FIRST = ("LUT4", "FF", "DSP", "BRAM")
"""The first columns of the table."""


def build_core(
    config: CoreConfig,
    *,
    device: Device,
    seeds: Sequence[int],
    target_mhz: float,
    progress: Progress,
    router: str | None = "router1",
    build: Path | None = None,
    limit_s: float | None = None,
) -> dict[str, Any]:
    """Place and route the core of ``config`` alone on ``device``; return the figures.

    Returns
    -------
    dict
        ``resources`` (name to used and available, without the harness), ``fmax_mhz`` (the
        seeds' median), ``fmax_seeds``, ``critical_path`` (of the median seed, from source to
        sink, delays in ns), ``too_small`` (a reason, or None), and what was built: ``config``,
        ``device``, ``part``, ``router``, ``target_mhz``.

    Raises
    ------
    BuildFailed
        If a tool fails.
    """
    from intformer.hw.core import Core

    cost = measure(
        Core(config, target=device.target),
        device=device,
        seeds=seeds,
        target_mhz=target_mhz,
        router=router,
        build=build,
        progress=progress,
        limit_s=limit_s,
    )
    return {
        "config": config.to_dict(),
        "device": device.name,
        "part": device.part,
        "timing_note": device.timing_note,
        "router": router,
        "target_mhz": target_mhz,
        "too_small": cost.too_small,
        "resources": cost.resources,
        "fmax_mhz": cost.fmax_mhz,
        "fmax_seeds": {str(seed): mhz for seed, mhz in cost.fmax.items()},
        "critical_path": cost.path,
    }


def describe(figures: dict[str, Any]) -> str:
    """Readable text of the figures of :func:`build_core`."""
    width = shutil.get_terminal_size().columns
    lines = [f"core {figures['config']['name']} on {figures['device']} ({figures['part']})"]
    if figures["too_small"]:
        return f"{lines[0]}: does not fit: {figures['too_small']}"
    for name, entry in figures["resources"].items():
        lines.append(f"  {name:<6} {entry['used']:>7} of {entry['available']:>7}  {share(entry)}")
    kind = "estimated, not routed" if figures["router"] is None else "routed"
    seeds = ", ".join(f"{mhz:.1f} ({seed})" for seed, mhz in figures["fmax_seeds"].items())
    lines.append(
        f"  Fmax   {figures['fmax_mhz']:.1f} MHz, {kind}, asked for {figures['target_mhz']:g} MHz; "
        f"by seed: {seeds}"
    )
    if figures["timing_note"]:
        lines.append(f"  note: {figures['timing_note']}")
    path = figures["critical_path"]
    if path:
        total = sum(segment["delay_ns"] for segment in path)
        lines.append(f"  critical path, {total:.2f} ns:")
        for segment in by_block(path):
            text = f"    {segment['delay_ns']:6.2f}  {segment['from']} -> {segment['to']}"
            lines.append(text[:width])
    return "\n".join(lines)


def markdown(cores: dict[str, dict[str, Any]]) -> str:
    """A page of the figures of several cores, by name, for ``docs/results``."""
    names = {name: None for figures in cores.values() for name in figures["resources"]}
    used = [name for name in names if any(_uses(c, name) for c in cores.values())]
    heads = [n for n in _FIRST if n in used] + [n for n in used if n not in _FIRST]
    rows, notes = [], []
    for name, figures in cores.items():
        cells = [
            f"{entry['used']:,} ({share(entry).strip()})"
            if (entry := figures["resources"].get(head))
            else "–"
            for head in heads
        ]
        fmax = f"{figures['fmax_mhz']:.1f} MHz" if figures["fmax_mhz"] else "does not fit"
        seeds = " / ".join(f"{mhz:.1f}" for mhz in figures["fmax_seeds"].values()) or "–"
        rows.append([name, figures["device"], *cells, fmax, seeds])
        notes.append(_notes(name, figures))
    table = markdown_table(["Core", "Device", *heads, "Fmax (median)", "by seed"], rows)
    return f"# Whole cores, placed and routed\n\n{table}\n\n" + "\n".join(notes)


def _notes(name: str, figures: dict[str, Any]) -> str:
    """The section of one core: what was built, and its critical path."""
    config = figures["config"]
    built = (
        f"{config['rows']}x{config['cols']}, array `{config['array']}`, multipliers "
        f"`{config['multipliers']}`, structure `{config['structure']}`, {config['lanes']} lanes; "
        f"{figures['device']}, {figures['part']}, {figures['router'] or 'placed only'}, asked for "
        f"{figures['target_mhz']:g} MHz."
    )
    lines = [f"## {name}", "", built]
    if figures["timing_note"]:
        lines.append(f"Note: {figures['timing_note']}.")
    if figures["too_small"]:
        lines.append(f"Does not fit: {figures['too_small']}.")
    path = figures["critical_path"]
    if path:
        total = sum(step["delay_ns"] for step in path)
        lines += ["", f"Critical path, {total:.2f} ns:", ""]
        rows = [
            [f"{step['delay_ns']:.2f}", step["type"], f"`{step['from']}`", f"`{step['to']}`"]
            for step in by_block(path)
        ]
        lines.append(markdown_table(["ns", "Kind", "From", "To"], rows))
    return "\n".join([*lines, ""])


def by_block(path: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The path with all that happens inside one block as one step: carry chains are long."""
    steps: list[dict[str, Any]] = []
    for step in path:
        before = steps[-1] if steps else None
        if before and before["from"] == before["to"] == step["from"] == step["to"]:
            delay = round(before["delay_ns"] + step["delay_ns"], 3)
            steps[-1] = before | {"delay_ns": delay, "type": "inside"}
        else:
            steps.append(step)
    return steps


def _uses(figures: dict[str, Any], name: str) -> bool:
    return bool(figures["resources"].get(name, {"used": 0})["used"])


def share(entry: dict[str, int]) -> str:
    """The share of a resource that is used, as text."""
    return f"{100 * entry['used'] / max(entry['available'], 1):5.1f} %"
