"""Tables of the units' figures, for the terminal and for ``docs/results``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from intformer.bench.cases import ALL_DEVICES
from intformer.fpga.devices import device
from intformer.results import markdown_table

__all__ = ["cost_rows", "error_rows", "markdown", "text_table"]

COST_HEADS = ["Unit", "LUT", "FF", "DSP", "BRAM", "Fmax", "by seed", "Latency", "Per cycle"]
ERROR_HEADS = ["Unit", "Cases", "Worst error, steps", "Correctly rounded"]
ORACLE_HEADS = ["Oracle", "Values", "Differences", "at ties", "ours not nearest", "theirs"]
BESIDE_HEADS = ["Unit", "LUT", "FF", "DSP", "BRAM", "Fmax", *ERROR_HEADS[2:]]
BESIDE_DEVICE = "LFE5U-85F"
BESIDE = {
    "Softmax int8, 4 lanes": "Softmax int8",
    "IBertSoftmax int8, 4 lanes": "I-BERT softmax int8",
    "IVitSoftmax int8, 4 lanes": "I-ViT softmax int8",
    "ItaSoftmax int8, 4 lanes": "ITA softmax int8",
    "SoftermaxLike int8, 4 lanes": "Softermax-like softmax int8",
}
"""Names of cost to names of error."""

Figures = dict[str, Any]


def cost_rows(costs: Figures, name: str) -> list[list[str]]:
    """Rows under :data:`COST_HEADS` of the components that were measured on device ``name``."""
    rows = []
    for case, entry in costs.items():
        if (cost := entry["devices"].get(name)) is None:
            continue
        timing = [entry.get("latency", "–"), entry.get("throughput", "–")]
        if "lut" in cost:
            fmax = f"{cost['fmax_mhz']:.0f}" + ("" if cost["routed"] else " (estimate)")
            cells = [f"{cost[key]:,}" for key in ("lut", "ff", "dsp", "bram")]
            seeds = " / ".join(f"{mhz:.0f}" for mhz in cost["fmax_seeds"].values())
            rows.append([case, *cells, fmax, seeds, *timing])
        else:
            rows.append([case, *["–"] * 4, _reason(cost, name), "–", *timing])
    return rows


def _reason(cost: Figures, device_name: str) -> str:
    """Why there are no figures."""
    if "too_small" in cost:
        return f"does not fit: {cost['too_small'].removeprefix(f'{device_name} is too small: ')}"
    return f"failed: {cost['failed']}"


def error_rows(errors: Figures) -> list[list[str]]:
    """Rows under :data:`ERROR_HEADS`."""
    return [
        [
            case,
            f"{entry['cases']:,}",
            f"{entry['worst_steps']:.4f}",
            _percent(entry["correctly_rounded"]),
        ]
        for case, entry in errors.items()
    ]


def beside_rows(figures: Figures) -> list[list[str]]:
    """Rows under :data:`BESIDE_HEADS`: the softmax units that were measured both ways."""
    rows = []
    for cost_name, error_name in BESIDE.items():
        entry, error = figures["costs"].get(cost_name), figures["errors"].get(error_name)
        cost = entry["devices"].get(BESIDE_DEVICE, {}) if entry else {}
        if "lut" in cost and error:
            cells = [f"{cost[key]:,}" for key in ("lut", "ff", "dsp", "bram")]
            errors = [f"{error['worst_steps']:.2f}", _percent(error["correctly_rounded"])]
            rows.append([cost_name, *cells, f"{cost['fmax_mhz']:.0f}", *errors])
    return rows


def oracle_rows(oracles: Figures) -> list[list[str]]:
    """Rows under :data:`ORACLE_HEADS`."""
    rows = []
    for name, entry in oracles.items():
        if "skipped" in entry:
            rows.append([name, "–", f"not run: {entry['skipped']}", *["–"] * 3])
            continue
        more = [entry.get(key) for key in ("ties", "ours_wrong", "theirs_wrong")]
        counts = [f"{value:,}" if value is not None else "–" for value in more]
        rows.append([name, f"{entry['values']:,}", f"{entry['differences']:,}", *counts])
    return rows


def text_table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Aligned columns: the first to the left, the others to the right."""
    lines = [list(heads), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(line[k]) for line in lines) for k in range(len(heads))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if k == 0 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def markdown(figures: Figures) -> str:
    """The page ``docs/results/units.md``."""
    parts = [
        "# Units: cost and error",
        "`make bench-units`; [what the columns mean](README.md#units).",
    ]
    costs = figures["costs"]
    names = [n for n in ALL_DEVICES if any(n in entry["devices"] for entry in costs.values())]
    for name in names:
        part = device(name)
        parts.append(f"## Cost on the {name}")
        note = f" {part.timing_note[0].upper()}{part.timing_note[1:]}." if part.timing_note else ""
        parts.append(f"{part.part}.{note}")
        parts.append(markdown_table(COST_HEADS, cost_rows(costs, name)))
    if figures["errors"]:
        ours = {name: entry for name, entry in figures["errors"].items() if not entry["rival"]}
        others = {name: entry for name, entry in figures["errors"].items() if entry["rival"]}
        parts += ["## Error against float64", markdown_table(ERROR_HEADS, error_rows(ours))]
        if others:
            parts.append("## Error of others' units")
            parts.append(markdown_table(ERROR_HEADS, error_rows(others)))
    if rows := beside_rows(figures):
        parts += ["## Softmax beside others': cost and error", markdown_table(BESIDE_HEADS, rows)]
    if figures["oracles"]:
        parts.append("## Against others' software")
        parts.append(markdown_table(ORACLE_HEADS, oracle_rows(figures["oracles"])))
    return "\n\n".join(parts) + "\n"


def _percent(share: float) -> str:
    """A share, never rounded up to 100 %."""
    if share == 1:
        return "100 %"
    text = f"{100 * share:.4f}"
    return ("> 99.9999 %" if float(text) == 100 else f"{text} %").replace(".0000", "")
