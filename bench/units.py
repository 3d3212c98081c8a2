"""Measure the catalogue's units, compare with kept figures, show them as tables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from intformer.bench.cases import ErrorCase
from intformer.errors import UserError
from intformer.fpga.tools import Progress
from intformer.results import RESULTS

__all__ = ["Worse", "compare", "kept", "measure_errors", "measure_oracles", "merge", "of_catalogue"]

SEED = 1
FMAX_NOISE = 0.08
"""Share by which Fmax moves from seed to seed: a smaller loss is not reported."""

Figures = dict[str, Any]
Worse = dict[str, list[str]]


def measure_errors(
    cases: Sequence[ErrorCase], *, full: bool, progress: Progress, jobs: int = 1
) -> dict[str, Figures]:
    """Error figures of ``cases`` by name; on ``full`` with the full number of inputs."""
    figures = {}
    with ProcessPoolExecutor(jobs) as pool:
        results = pool.map(_errors, [case.name for case in cases], [full] * len(cases))
        for case, result in zip(cases, results, strict=True):
            progress(f"{case.name}: {result['cases']:,} cases")
            figures[case.name] = {
                "unit": case.unit,
                "configuration": case.configuration,
                "rival": case.rival,
                "seed": SEED,
                **result,
            }
    return figures


def _errors(name: str, full: bool) -> Figures:
    """Run one case, in a process of its own: by name, as functions do not travel."""
    from intformer.bench.catalog import ERRORS

    (case,) = (case for case in ERRORS if case.name == name)
    return case.measure(case.full if full else case.quick, SEED)


def measure_oracles(progress: Progress) -> dict[str, Figures]:
    """Counts of differences to others' software; those not installed say so."""
    from intformer.bench.catalog import ORACLES

    figures: dict[str, Figures] = {}
    for case in ORACLES:
        progress(case.name)
        try:
            figures[case.name] = case.compare()
        except UserError as error:
            figures[case.name] = {"skipped": str(error)}
    return figures


def kept(name: str = "units") -> Figures:
    """The figures in ``docs/results``; empty if there are none."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def merge(old: Figures, new: Figures) -> Figures:
    """``old`` with what ``new`` measured again."""
    costs = {name: dict(entry) for name, entry in old.get("costs", {}).items()}
    for name, entry in new.get("costs", {}).items():
        devices = costs.get(name, {}).get("devices", {}) | entry["devices"]
        costs[name] = entry | {"devices": devices}
    return {
        "costs": costs,
        "errors": old.get("errors", {}) | new.get("errors", {}),
        "oracles": old.get("oracles", {}) | new.get("oracles", {}),
    }


def of_catalogue(figures: Figures) -> Figures:
    """``figures`` in the catalogue's order, without what it no longer holds."""
    from intformer.bench.catalog import COSTS, ERRORS, ORACLES

    names: dict[str, Sequence[Any]] = {"costs": COSTS, "errors": ERRORS, "oracles": ORACLES}
    return {
        section: {c.name: figures[section][c.name] for c in cases if c.name in figures[section]}
        for section, cases in names.items()
    }


def compare(old: Figures, new: Figures) -> Worse:
    """What of ``new`` is worse than ``old``: lines under ``errors`` and under ``costs``.

    Only what both hold is compared, and only like with like: errors over the same number of
    cases, clocks that were both routed or both estimated.
    """
    worse: Worse = {"errors": [], "costs": []}
    for name, entry in new.get("errors", {}).items():
        before = old.get("errors", {}).get(name)
        if before is None or before["cases"] != entry["cases"]:
            continue
        if entry["worst_steps"] > before["worst_steps"] + 1e-9:
            worse["errors"].append(
                f"{name}: worst error {before['worst_steps']:.4f} -> {entry['worst_steps']:.4f}"
            )
        if entry["correctly_rounded"] < before["correctly_rounded"]:
            worse["errors"].append(
                f"{name}: correctly rounded {before['correctly_rounded']:.6%} -> "
                f"{entry['correctly_rounded']:.6%}"
            )
    for name, entry in new.get("oracles", {}).items():
        before = old.get("oracles", {}).get(name, {})
        if entry.get("differences", 0) > before.get("differences", entry.get("differences", 0)):
            worse["errors"].append(
                f"{name}: differences {before['differences']} -> {entry['differences']}"
            )
    for name, entry in new.get("costs", {}).items():
        for device, cost in entry["devices"].items():
            before = old.get("costs", {}).get(name, {}).get("devices", {}).get(device)
            if before is not None:
                worse["costs"] += [f"{name} on {device}: {t}" for t in _cost_losses(before, cost)]
    return worse


def _cost_losses(before: Figures, cost: Figures) -> list[str]:
    if "lut" not in before:
        return []
    if "lut" not in cost:
        return [cost.get("too_small") or cost["failed"]]
    lines = [
        f"{key.upper()} {before[key]} -> {cost[key]}"
        for key in ("lut", "dsp", "bram")
        if cost[key] > before[key]
    ]
    if (
        cost["routed"] == before["routed"]
        and cost["fmax_mhz"] < (1 - FMAX_NOISE) * before["fmax_mhz"]
    ):
        lines.append(f"Fmax {before['fmax_mhz']:.1f} -> {cost['fmax_mhz']:.1f} MHz")
    return lines
