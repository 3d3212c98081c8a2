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

__all__ = ["LEVELS", "LevelResult", "VerifyReport", "verify_model"]

LEVELS = ("iss", "rtl", "netlist")
"""What can be compared with the reference."""

Array = NDArray[Any]
Progress = Callable[[str], None]


@dataclass
class LevelResult:
    """One level: a comparison per run, real outputs (samples first), cycles per run, counters.

    ``timing`` is what differs from the RTL in time, by run, on a level that must be equal to it
    in every cycle: the netlist.
    """

    reports: list[Report]
    outputs: dict[str, Array]
    cycles: list[int]
    counters: dict[str, int]
    timing: dict[int, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether every tensor of every run is equal to the reference, and the timing right."""
        return all(report.ok for report in self.reports) and not self.timing


@dataclass
class VerifyReport:
    """The comparison of all levels with the reference."""

    macs: int
    macs_per_cycle: int
    config: str
    device: str | None = None
    levels: dict[str, LevelResult] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing differs on any level."""
        return all(level.ok for level in self.levels.values())

    def level(self, name: str) -> LevelResult:
        """The result of level ``"iss"``, ``"rtl"`` or ``"netlist"``."""
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
        if "netlist" in self.levels:
            figures["device"] = self.device
            figures["netlist_timing_differences"] = len(self.levels["netlist"].timing)
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
        if "netlist" in self.levels:
            timing = self.levels["netlist"].timing
            verdict = "cycles, counters and the time of every write equal"
            if timing:
                run, text = next(iter(timing.items()))
                verdict = f"{len(timing)} runs DIFFER; first: run {run}, {text}"
            lines.append(f"netlist for {self.device} against RTL: {verdict}")
        return "\n".join(lines)


def verify_model(
    model: CompiledModel,
    arrays: Mapping[str, Array],
    *,
    levels: tuple[str, ...] = ("iss", "rtl"),
    simulator: str = "verilator",
    device: str | None = None,
    progress: Progress | None = None,
) -> VerifyReport:
    """Run samples on the reference and on ``levels``; compare every tensor, element for element.

    Level ``netlist`` is the core synthesized for ``device``. It is also compared with the RTL,
    which therefore runs before it: cycles, counters and every write must be equal.

    Raises
    ------
    UserError
        If the arrays do not fit the model, a level is unknown, or the netlist has no device, or
        one without models of its cells.
    DeviceTooSmall
        If the device cannot hold the core.
    """
    from intformer.sim.verify import check, timing_difference

    unknown = [level for level in levels if level not in LEVELS]
    if unknown or not levels:
        names = f"{', '.join(LEVELS[:-1])} and {LEVELS[-1]}"
        raise UserError(f"levels to verify are {names}, not {', '.join(unknown) or 'nothing'}")
    levels = _with_rtl(levels, device)
    if "netlist" in levels and device is not None:
        from intformer.sim.netlist import NetlistSimulator

        # What does not fit shows before anything runs.
        NetlistSimulator(model.config, device=device).netlist(progress=progress)
    samples = encode_samples(model.graph, arrays)
    expected = [execute(model.graph, codes) for codes in samples.runs]
    report = VerifyReport(
        model.graph.macs(), model.config.macs_per_cycle, model.config.name, device
    )
    rtl: list[RunResult] = []
    for level in levels:
        results: list[RunResult] = run_levels(
            model, samples.runs, level, simulator=simulator, device=device, progress=progress
        )
        output: RunOutput = collect_output(model.graph, results, samples)
        reports = [
            check(model.program, values, result, level=level)
            for values, result in zip(expected, results, strict=True)
        ]
        result = LevelResult(reports, output.outputs, output.cycles, output.counters)
        if level == "rtl":
            rtl = results
        if level == "netlist":
            found = [timing_difference(a, b) for a, b in zip(results, rtl, strict=True)]
            result.timing = {run: text for run, text in enumerate(found) if text}
        report.levels[level] = result
    return report


def _with_rtl(levels: tuple[str, ...], device: str | None) -> tuple[str, ...]:
    """``levels``, with the RTL before a netlist; refuse a netlist that cannot be made, early."""
    if "netlist" not in levels:
        if device is not None:
            raise UserError(f"a device ({device}) goes with level netlist only")
        return levels
    from intformer.sim.netlist import simulated_device

    if device is None:
        raise UserError("level netlist needs a device, for example iCE40UP5K or LFE5U-25F")
    simulated_device(device)
    others = [level for level in levels if level not in ("rtl", "netlist")]
    return (*others, "rtl", "netlist")
