"""Random and hand-made small graphs: reference == instruction-level simulator == RTL.

``INTFORMER_EXAMPLES`` sets the number of random graphs for the simulator, and
``INTFORMER_RTL_EXAMPLES`` that for each core on RTL (0 leaves only the hand-made graphs).
"""

from __future__ import annotations

import functools
import os

import numpy as np
import pytest
from graphs import CONFIGS, HAND_MADE, core_configs, hand_made, int_graphs, random_inputs
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from intformer.compiler.integer_graph import IntGraph, execute
from intformer.compiler.stationary import STATIONARY_MIN, clip_stationary
from intformer.config import CoreConfig
from intformer.errors import DoesNotFit
from intformer.sim.iss.simulator import Iss
from intformer.sim.verify import verify_levels

backend = pytest.importorskip("intformer.compiler.backend")

EXAMPLES = int(os.environ.get("INTFORMER_EXAMPLES", "60"))
RTL_EXAMPLES = int(os.environ.get("INTFORMER_RTL_EXAMPLES", "3"))
CONFIG_NAMES = [config.name for config in CONFIGS]
SLOW = settings(
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def check_graph(graph: IntGraph, config: CoreConfig, *, seed: int, rtl: bool = False) -> None:
    """Compile and run ``graph``; every tensor must equal the reference at every level."""
    if config.weight_min == STATIONARY_MIN:
        clip_stationary(graph)
    inputs = random_inputs(graph, seed)
    values = execute(graph, inputs)
    program = backend.build_program(graph, config)
    results = {"iss": Iss(program, seed=seed).run(inputs)}
    if rtl:
        results["rtl"] = _simulator(config).run(program, [inputs])[0]
    for report in verify_levels(program, values, results).values():
        report.raise_if_different()
    for name in graph.outputs:
        np.testing.assert_array_equal(results["iss"].outputs[name], values[name])


@functools.cache
def _simulator(config: CoreConfig):
    """One RTL build for each of the few configurations."""
    from intformer.sim.rtl import RtlSimulator

    return RtlSimulator(config)


@pytest.mark.parametrize("config", CONFIGS, ids=CONFIG_NAMES)
@pytest.mark.parametrize("name", HAND_MADE)
def test_hand_made_on_iss(name, config):
    check_graph(hand_made(name), config, seed=1)


@settings(SLOW, max_examples=EXAMPLES)
@given(int_graphs(), core_configs(), st.integers(0, 1000))
def test_random_on_iss(graph, config, seed):
    try:
        check_graph(graph, config, seed=seed)
    except DoesNotFit:
        assume(False)


@pytest.mark.rtl
@pytest.mark.parametrize("config", CONFIGS, ids=CONFIG_NAMES)
@pytest.mark.parametrize("name", HAND_MADE)
def test_hand_made_on_rtl(name, config):
    check_graph(hand_made(name), config, seed=2, rtl=True)


@pytest.mark.rtl
@pytest.mark.skipif(RTL_EXAMPLES == 0, reason="INTFORMER_RTL_EXAMPLES is 0")
@pytest.mark.parametrize("config", CONFIGS, ids=CONFIG_NAMES)
def test_random_on_rtl(config):
    @settings(SLOW, max_examples=RTL_EXAMPLES, database=None, derandomize=True)
    @given(int_graphs(), st.integers(0, 1000))
    def run(graph, seed):
        try:
            check_graph(graph, config, seed=seed, rtl=True)
        except DoesNotFit:
            assume(False)

    run()
