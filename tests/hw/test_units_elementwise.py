"""ElementwiseAdd and ElementwiseMultiply equal the reference for every operand."""

import random
from typing import Any

import cocotb
import numpy as np
import pytest
import streams
import unit_bench
from proofs import Flow, StreamProof, prove

from intformer import reference
from intformer.hw.units.elementwise import ElementwiseAdd, ElementwiseMultiply
from intformer.hw.units.functions import RANGES
from intformer.sim.runner import bench_options, run_bench

CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "add": (ElementwiseAdd, {"a_type": "uint8", "lanes": 2}),
    "add wide": (ElementwiseAdd, {"a_type": "int16", "b_type": "int8", "o_type": "int16"}),
    "multiply": (ElementwiseMultiply, {"b_type": "uint8", "o_type": "uint8", "lanes": 2}),
    "multiply wide": (
        ElementwiseMultiply,
        {"a_type": "int16", "b_type": "int16", "o_type": "int16"},
    ),
}
MULTIPLIERS = (-32768, 32767, 0, 1, -1)


def setting(unit: Any, ranges: dict[str, tuple[int, int]], *, rng: random.Random) -> dict[str, int]:
    """Multipliers, shift and zero points."""
    values = {
        name: rng.choice([rng.choice(MULTIPLIERS), rng.randint(-32768, 32767)])
        for name in (("a_mult", "b_mult") if isinstance(unit, ElementwiseAdd) else ("mult",))
    }
    values["shift"] = rng.choice([2, 62, rng.randint(14, 18), rng.randint(10, 40)])
    for name, (low, high) in ranges.items():
        prefix = "" if name == "o" else f"{name}_"
        values[f"{prefix}zero_point"] = rng.choice([0, low, high, rng.randint(low, high)])
    return values


@cocotb.test()
async def equals_reference(dut):
    options = bench_options()
    rng = random.Random(options["seed"])
    kind, arguments = CASES[options["case"]]
    unit = kind(**arguments)
    function = (
        reference.elementwise_add if kind is ElementwiseAdd else reference.elementwise_multiply
    )
    ranges = {name: RANGES[arguments.get(f"{name}_type", "int8")] for name in ("a", "b", "o")}
    low, high = ranges["o"]
    for number in range(options["settings"]):
        inputs = setting(unit, ranges, rng=rng)
        count = options["count"]
        a, b = (
            np.array(unit_bench.codes(*ranges[name], count * unit.lanes, rng=rng)).reshape(
                -1, unit.lanes
            )
            for name in ("a", "b")
        )
        y = function(a, b, **inputs, lo=low, hi=high)
        beats = [
            {"a": left, "b": right} for left, right in zip(a.tolist(), b.tolist(), strict=True)
        ]
        sent = unit_bench.pack_beats(unit.i.payload.shape(), beats)
        expected = unit_bench.pack_beats(unit.o.payload.shape(), y.tolist())
        begin = {"i__valid": 0, "i__payload": 0, "o__ready": 0, **inputs}
        await streams.start(dut, inputs=begin)
        await unit_bench.check_running(dut, sent, expected, latency=unit.latency, seed=number)


@pytest.mark.parametrize("case", CASES)
def test_equals_reference(case: str) -> None:
    kind, arguments = CASES[case]
    unit = kind(**arguments)
    assert unit.throughput == unit.lanes
    run_bench(
        unit,
        module="test_units_elementwise",
        options={"case": case, "settings": 12, "count": 150},
        seed=8,
    )


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_equals_reference_for_long(case: str) -> None:
    kind, arguments = CASES[case]
    run_bench(
        kind(**arguments),
        module="test_units_elementwise",
        options={"case": case, "settings": 100, "count": 300},
        seed=9,
        optimize="-O2",
    )


@pytest.mark.slow  # the quick proof of what all these units share is TableFunction's
@pytest.mark.parametrize("kind", [ElementwiseAdd, ElementwiseMultiply])
def test_obeys_the_stream_rules(kind: Any) -> None:
    prove(StreamProof(kind(), [Flow(capacity=16, bound=16)]), depth=18, solver="minisat")


def test_add_rounds_once() -> None:
    halves = {"a_mult": 2, "b_mult": 2, "shift": 2, "lo": -128, "hi": 127}
    y = reference.elementwise_add(np.array([1, 1, -1]), np.array([2, 0, 0]), **halves)
    assert y.tolist() == [2, 1, 0]


@pytest.mark.parametrize("kind", [ElementwiseAdd, ElementwiseMultiply])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"a_type": "int32"}, "a_type must be one of 'int8', 'uint8', 'int16', not 'int32'"),
        ({"b_type": 8}, "b_type must be one of"),
        ({"o_type": "int4"}, "o_type must be one of"),
        ({"lanes": 65}, "lanes must be an integer from 1 to 64, not 65"),
    ],
)
def test_refuses(kind: Any, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**wrong)
