"""Verification of a compiled model over samples: every level against the reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from intformer.compiler.integer_graph import execute
from intformer.errors import UserError
from intformer.program import RunResult
from intformer.running import collect_output, encode_samples, run_levels

if TYPE_CHECKING:
    from intformer.model import CompiledModel
    from intformer.running import RunOutput
    from intformer.sim.verify import Report

__all__ = ["LevelResult", "VerifyReport", "verify_model"]

Array = NDArray[Any]
Progress = Callable[[str], None]


@dataclass
class LevelResult:
    """One level: a comparison per run, real outputs (samples first), cycles per run, counters."""

    reports: list[Report]
    outputs: dict[str, Array]
    cycles: list[int]
    counters: dict[str, int]

    @property
    def ok(self) -> bool:
        """Whether every tensor of every run is equal to the reference."""
        return all(report.ok for report in self.reports)


@dataclass
class VerifyReport:
    """The comparison of all levels with the reference."""

    macs: int
    macs_per_cycle: int
    config: str
    levels: dict[str, LevelResult] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing differs on any level."""
        return all(level.ok for level in self.levels.values())

    def level(self, name: str) -> LevelResult:
        """The result of level ``"iss"`` or ``"rtl"``."""
        return self.levels[name]

    def utilization(self, name: str) -> float:
        """Share of the array's peak: MACs of the model per cycle over MACs per cycle."""
        return self.macs / (float(np.mean(self.levels[name].cycles)) * self.macs_per_cycle)

    def figures(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        figures: dict[str, Any] = {
            "config": self.config,
            "macs_per_run": self.macs,
            "macs_per_cycle": self.macs_per_cycle,
            "tensors_compared": 0,
            "elements_compared": 0,
            "mismatches": 0,
            "levels": {},
        }
        for name, level in self.levels.items():
            entry = {
                "runs": len(level.reports),
                "tensors_compared": sum(r.tensors for r in level.reports),
                "elements_compared": sum(r.elements for r in level.reports),
                "mismatches": sum(r.mismatches for r in level.reports),
                "cycles_per_run": float(np.mean(level.cycles)),
                "utilization": round(self.utilization(name), 4),
                "counters": level.counters,
                "first_mismatch": next(
                    (str(r.first) for r in level.reports if r.first is not None), None
                ),
            }
            figures["levels"][name] = entry
            for key in ("tensors_compared", "elements_compared", "mismatches"):
                figures[key] += entry[key]
        last = next(reversed(figures["levels"].values()))
        figures["cycles_per_run"] = last["cycles_per_run"]
        figures["utilization"] = last["utilization"]
        if {"iss", "rtl"} <= set(self.levels):
            iss, rtl = (np.sum(self.levels[name].cycles) for name in ("iss", "rtl"))
            figures["cycle_model_error"] = round(float(iss / rtl - 1), 4)
        return figures

    def text(self) -> str:
        """A short readable summary; names the first difference of each level that differs."""
        lines = []
        for name, level in self.levels.items():
            bad = [(i, r) for i, r in enumerate(level.reports) if not r.ok]
            runs = len(level.reports)
            what = (
                f"{sum(r.tensors for r in level.reports)} tensors, "
                f"{sum(r.elements for r in level.reports)} elements in {runs} runs"
            )
            verdict = "all equal to the reference" if not bad else f"{len(bad)} runs DIFFER"
            lines.append(f"{name:<4} {what}: {verdict}")
            if bad:
                run, report = bad[0]
                lines.append(f"     first: run {run}, {report.first}")
            lines.append(
                f"     {np.mean(level.cycles):.0f} cycles per run on the {self.config} core, "
                f"{self.utilization(name):.1%} of the array's {self.macs_per_cycle} MACs per cycle"
            )
        figures = self.figures()
        if "cycle_model_error" in figures:
            lines.append(f"cycle model (iss) against RTL: {figures['cycle_model_error']:+.1%}")
        return "\n".join(lines)


def verify_model(
    model: CompiledModel,
    arrays: Mapping[str, Array],
    *,
    levels: tuple[str, ...] = ("iss", "rtl"),
    simulator: str = "verilator",
    progress: Progress | None = None,
) -> VerifyReport:
    """Run samples on the reference and on ``levels``; compare every tensor, element for element.

    Raises
    ------
    UserError
        If the arrays do not fit the model or a level is unknown.
    """
    from intformer.sim.verify import check

    unknown = [level for level in levels if level not in ("iss", "rtl")]
    if unknown or not levels:
        raise UserError(f"levels to verify are iss and rtl, not {', '.join(unknown) or 'nothing'}")
    samples = encode_samples(model.graph, arrays)
    expected = [execute(model.graph, codes) for codes in samples.runs]
    report = VerifyReport(model.graph.macs(), model.config.macs_per_cycle, model.config.name)
    for level in levels:
        results: list[RunResult] = run_levels(
            model, samples.runs, level, simulator=simulator, progress=progress
        )
        output: RunOutput = collect_output(model.graph, results, samples)
        reports = [
            check(model.program, values, result, level=level)
            for values, result in zip(expected, results, strict=True)
        ]
        report.levels[level] = LevelResult(reports, output.outputs, output.cycles, output.counters)
    return report
