"""The real core in the bench: the simulators agree, whatever the memory does."""

import numpy as np
import pytest
from handmade import linear_case

from intformer.sim.rtl import RtlSimulator
from intformer.sim.simulators import SIMULATORS

KNOBS = ({}, {"stall": 0.3, "seed": 4}, {"memory_latency": 40, "burst_gap": 7})


@pytest.mark.rtl
def test_simulators_agree_to_the_cycle():
    program, inputs, values = linear_case()
    for knobs in KNOBS:
        first, second = (
            RtlSimulator(program.config, simulator=name, **knobs).run(program, [inputs] * 2)
            for name in SIMULATORS
        )
        for a, b in zip(first, second, strict=True):
            np.testing.assert_array_equal(a.outputs["y"], values["y"])
            assert (a.cycles, a.counters) == (b.cycles, b.counters)
            for column in ("step", "mem", "position", "value", "cycle"):
                np.testing.assert_array_equal(getattr(a.log, column), getattr(b.log, column))


@pytest.mark.rtl
def test_a_slow_memory_costs_cycles_and_nothing_else():
    program, inputs, _ = linear_case()
    runs = [RtlSimulator(program.config, **knobs).run(program, [inputs])[0] for knobs in KNOBS]
    assert runs[0].cycles < min(runs[1].cycles, runs[2].cycles)
    for run in runs[1:]:
        for name in ("array_rows", "read_beats", "write_beats"):
            assert run.counters[name] == runs[0].counters[name]
