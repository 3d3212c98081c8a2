"""Figures of a run."""

from __future__ import annotations

from handmade import linear_case

from intformer.isa import Op
from intformer.sim.iss.simulator import Iss
from intformer.sim.iss.timing import StepTiming
from intformer.sim.report import format_report, overlap, report, roofline, side_by_side


def test_report_of_linear_layer():
    made, inputs, _ = linear_case()
    result = Iss(made).run(inputs)
    figures = report(made, result, macs=5 * 7 * 6, timeline=result.timeline)
    assert figures["utilization"]["utilization"] == 210 / (16 * result.cycles)
    assert figures["utilization"]["fed"] == 20 / result.cycles
    units = figures["unit"]
    assert units["MATMUL"]["busy"] == result.counters["matmul_busy"]
    text = format_report(figures)
    assert "bound by the memory" in text and "POST_ACC" in text


def test_roofline_counts_beats():
    made, _, _ = linear_case()
    roof = roofline(made)
    # instructions, weights, parameters, input, output
    assert roof["memory"] == 9 * 8 + 16 + 12 + 10 + 10
    assert roof["compute"] == 20 and roof["array"] == 32


def test_overlap():
    steps = [
        StepTiming(0, Op.LOAD, "a", 0, start=0, end=10),
        StepTiming(1, Op.MATMUL, "b", 0, start=5, end=15),
        StepTiming(2, Op.MATMUL, "b", 0, start=10, end=20),
    ]
    assert overlap(steps) == {"busy": 25, "any": 20, "average": 1.25, "shared": 0.25}


def test_deviation_from_rtl():
    made, inputs, _ = linear_case()
    result = Iss(made).run(inputs)
    assert side_by_side({"iss": result, "rtl": result})["deviation"] == {"iss": 0.0}
