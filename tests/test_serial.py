"""The serial core: graphs, models and a stalling memory; every tensor equals the reference."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest
from graphs import HAND_MADE, GraphBuilder, hand_made, int_graphs, random_inputs
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from intformer import api
from intformer.compiler.backend import build_program
from intformer.compiler.integer_graph import IntGraph, execute
from intformer.config import SERIAL_LIMITS, load_config
from intformer.errors import ConfigError, DoesNotFit
from intformer.program import RunResult
from intformer.sim.iss.simulator import Iss
from intformer.sim.rtl import RtlSimulator
from intformer.sim.verify import check

CONFIG = load_config("ice40")


@functools.cache
def simulator(**knobs: float) -> RtlSimulator:
    return RtlSimulator(CONFIG, **knobs)


def run(graph: IntGraph, *, seed: int, **knobs: float) -> RunResult:
    """Run ``graph`` on both simulators and compare every tensor, and the cycles."""
    inputs = random_inputs(graph, seed)
    values = execute(graph, inputs)
    program = build_program(graph, CONFIG)
    result = simulator(**knobs).run(program, [inputs])[0]
    check(program, values, result, level="rtl").raise_if_different()
    model = Iss(program, seed=seed).run(inputs)
    check(program, values, model, level="iss").raise_if_different()
    assert model.counters["array_rows"] == result.counters["array_rows"]
    if not knobs:
        assert model.cycles == pytest.approx(result.cycles, rel=0.05)
    for name in graph.outputs:
        np.testing.assert_array_equal(result.outputs[name], values[name])
    return result


@pytest.mark.rtl
@pytest.mark.parametrize("name", HAND_MADE)
def test_hand_made(name):
    run(hand_made(name), seed=2)


@pytest.mark.rtl
def test_random_graphs():
    @settings(
        deadline=None,
        max_examples=4,
        database=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
    @given(int_graphs(), st.integers(0, 1000))
    def one(graph, seed):
        try:
            run(graph, seed=seed)
        except DoesNotFit:
            assume(False)

    one()


def extremes(b: GraphBuilder) -> IntGraph:
    """Sums, products and shifts at the ends of their ranges."""
    x = b.input((3, 40))
    y = b.linear(x, 12)
    post = b.graph.nodes[-1].post
    post.bias = np.resize([2**30, -(2**30), 0, 12345], 12)
    post.mult = np.resize([32767, -32768, -32768, 1, -1], 12)
    post.shift = np.resize([2, 47, 16, 2, 31, 24, 3], 12)
    post.lo, post.hi, post.zero_point = -128, 127, 9
    z = b.pointwise(x, dtype="int16", residual=x)
    post = b.graph.nodes[-1].post
    post.bias, post.mult, post.shift = (np.array([v]) for v in (-128, -32768, 2))
    post.res_mult, post.res_shift, post.lo, post.hi = -32768, 2, -32768, 32767
    return b.finish(y, z)


@pytest.mark.rtl
def test_extremes():
    run(extremes(GraphBuilder(5)), seed=3)


@pytest.mark.rtl
@pytest.mark.parametrize("codes", ["equal", "zero", "two", "extreme"])
def test_layernorm_of_odd_rows(codes):
    b = GraphBuilder(8)
    x = b.input((4, 24), "int16")
    graph = b.finish(b.layernorm(x, dtype="int16"))
    graph.nodes[-1].eps = 0 if codes in ("equal", "zero") else 1
    rows = {
        "equal": np.full((4, 24), -1234),
        "zero": np.zeros((4, 24)),
        "two": np.resize([1, 0, 0, 0, 0], (4, 24)),
        "extreme": np.resize([32767, -32768], (4, 24)),
    }
    inputs = {x: rows[codes].astype(np.int16)}
    program = build_program(graph, CONFIG)
    result = simulator().run(program, [inputs])[0]
    check(program, execute(graph, inputs), result).raise_if_different()


@pytest.mark.rtl
def test_a_stalling_memory_costs_cycles_and_nothing_else():
    graph = hand_made("linear")
    fast, slow = run(graph, seed=1), run(graph, seed=1, stall=0.3)
    assert fast.cycles < slow.cycles
    assert fast.counters["array_rows"] == slow.counters["array_rows"] > 0


@pytest.mark.parametrize("name", SERIAL_LIMITS)
def test_limits(name):
    _low, high = SERIAL_LIMITS[name]
    with pytest.raises(ConfigError, match=rf"^{name} (of a serial core )?must be"):
        dataclasses.replace(CONFIG, **{name: 2 * max(high, 1)})


def test_verilog_has_the_ports_of_a_core():
    text = api.verilog(CONFIG)
    for port in ("start", "entry", "counter_data", "mem__cmd__payload", "mem__rdata__ready"):
        assert f" {port};" in text
    assert "trace" not in text


@pytest.mark.slow
@pytest.mark.rtl
@pytest.mark.parametrize("weights", ["int8", "int4"])
def test_digits(weights):
    from examples.digits_vit.data import calibration_images, test_split

    images, _ = test_split()
    model = api.compile(
        "examples.digits_vit.model:digits_vit",
        config=CONFIG,
        calibrate={"images": calibration_images()},
        weights=weights,
    )
    report = model.verify({"images": images[:1]}, levels=("iss", "rtl"))
    assert report.ok, report.text()
    assert abs(report.figures()["cycle_model_error"]) < 0.03
