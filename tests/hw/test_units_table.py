"""TableFunction equals its reference on every code, and its figures hold."""

import math
import random

import cocotb
import numpy as np
import pytest
import unit_bench
from proofs import Flow, StreamProof, prove

from intformer.hw.units.functions import FUNCTIONS, RANGES, real_codes
from intformer.hw.units.table import TableFunction
from intformer.sim.runner import bench_options, run_bench

CASES = {
    "8 bits": {
        "function": "gelu",
        "x_scale": 1 / 16,
        "y_scale": 1 / 30,
        "x_zero_point": 5,
        "y_type": "uint8",
        "y_zero_point": 7,
        "lanes": 3,
    },
    "16 bits": {
        "function": "hard_swish",
        "x_scale": 0.000173,
        "y_scale": 0.0001,
        "y_zero_point": -20,
        "x_type": "int16",
        "y_type": "int16",
        "lanes": 2,
    },
    "16 bits unsigned": {
        "function": "exp",
        "x_scale": 1 / 4096,
        "y_scale": 1 / 65536,
        "x_zero_point": 65535,
        "x_type": "uint16",
        "y_type": "uint16",
        "lanes": 1,
    },
}


def exact_codes(unit: TableFunction) -> np.ndarray:
    """The real number that each input code should give."""
    return np.clip(real_codes(unit.function, unit.x, unit.y), *RANGES[unit.y.type])


def every_code(unit: TableFunction) -> np.ndarray:
    low, high = RANGES[unit.x.type]
    return np.arange(low, high + 1)


@cocotb.test()
async def equals_reference(dut):
    options = bench_options()
    unit = TableFunction(**CASES[options["case"]])
    low, high = RANGES[unit.x.type]
    rng = random.Random(options["seed"])
    x = unit_bench.codes(low, high, options["count"] * unit.lanes, rng=rng)
    if isinstance(unit.table, np.ndarray) or options["every"]:
        x += list(range(low, high + 1)) * unit.lanes
    else:
        x += [p + low + k for p in unit.table.breaks for k in (-1, 0, 1)] * 2
    x = np.array(x[: len(x) // unit.lanes * unit.lanes]).reshape(-1, unit.lanes)
    sent = unit_bench.pack_beats(unit.i.payload.shape(), x.tolist())
    expected = unit_bench.pack_beats(unit.o.payload.shape(), unit.reference(x).tolist())
    await unit_bench.check(dut, sent, expected, latency=unit.latency, seed=options["seed"])


@pytest.mark.parametrize("case", CASES)
def test_equals_reference(case: str) -> None:
    unit = TableFunction(**CASES[case])
    assert unit.throughput == unit.lanes
    options = {"case": case, "count": 1500, "every": False}
    run_bench(unit, module="test_units_table", options=options, seed=11)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["16 bits", "16 bits unsigned"])
def test_equals_reference_on_every_code(case: str) -> None:
    options = {"case": case, "count": 1000, "every": True}
    unit = TableFunction(**CASES[case])
    run_bench(unit, module="test_units_table", options=options, seed=12, optimize="-O2")


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("types", [("int8", "int8"), ("uint8", "int8"), ("int8", "uint8")])
def test_8_bits_are_correctly_rounded(function: str, types: tuple[str, str]) -> None:
    zero = 128 if types[0] == "uint8" else 0
    unit = TableFunction(
        function,
        x_scale=1 / 24,
        y_scale=1 / 40,
        x_type=types[0],
        y_type=types[1],
        x_zero_point=zero,
        y_zero_point=3,
    )
    x = every_code(unit)
    assert np.abs(unit.reference(x) - exact_codes(unit)).max() <= 0.5


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("x_scale", [1 / 4096, 0.000173, 3 / 32000])
def test_16_bits_are_within_a_twentieth_of_a_step_of_correct(function: str, x_scale: float) -> None:
    bounded = function in ("sigmoid", "tanh", "exp")
    unit = TableFunction(
        function,
        x_scale=x_scale,
        y_scale=1 / 32768 if bounded else x_scale,
        x_type="int16",
        y_type="int16",
    )
    assert np.abs(unit.reference(every_code(unit)) - exact_codes(unit)).max() <= 0.55


def test_takes_python_functions() -> None:
    unit = TableFunction(math.cos, x_scale=1 / 32, y_scale=1 / 127)
    assert unit.reference([0, 101, -101]).tolist() == [127, -127, -127]


def test_function_that_is_not_a_number() -> None:
    with pytest.raises(ValueError, match="function is not a number at 0"):
        TableFunction(lambda x: math.nan if x == 0 else x, x_scale=1, y_scale=1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"function": "relu"}, "function must be callable or one of gelu, .* not 'relu'"),
        ({"x_scale": 0.0}, "x_scale must be positive and finite, not 0.0"),
        ({"y_scale": float("inf")}, "y_scale must be"),
        ({"x_type": "int4"}, "x_type must be one of 'int8', .* not 'int4'"),
        ({"y_type": "int16"}, "y_type must be one of 'int8', 'uint8', not 'int16'"),
        ({"y_zero_point": 128}, "y_zero_point must be an integer from -128 to 127, not 128"),
        ({"lanes": 0}, "lanes must be an integer from 1 to 64, not 0"),
    ],
)
def test_refuses(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TableFunction(**{"function": "gelu", "x_scale": 0.1, "y_scale": 0.1, **wrong})


def test_obeys_the_stream_rules() -> None:
    unit = TableFunction("tanh", x_scale=1 / 32, y_scale=1 / 127)
    prove(StreamProof(unit, [Flow(capacity=8, bound=8)]), depth=14, solver="minisat")
