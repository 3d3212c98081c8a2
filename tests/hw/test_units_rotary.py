"""RotaryEmbedding equals the reference, in the stated time."""

import random
from typing import Any

import cocotb
import numpy as np
import pytest
import streams
import unit_bench

from intformer import reference
from intformer.hw.units.functions import RANGES
from intformer.hw.units.rotary import RotaryEmbedding, rotary_angles
from intformer.sim.runner import bench_options, run_bench

CASES: dict[str, dict[str, Any]] = {
    "interleaved": {"dim": 12, "positions": 9, "lanes": 4, "fraction": 20},
    "halves": {"dim": 12, "positions": 9, "pairs": "halves", "x_type": "int8", "lanes": 2},
    "halves in a beat": {"dim": 4, "positions": 5, "pairs": "halves", "lanes": 2},
}


@cocotb.test()
async def equals_reference(dut):
    options = bench_options()
    rng = random.Random(options["seed"])
    case = CASES[options["case"]]
    unit = RotaryEmbedding(**case)
    dim, halves = case["dim"], case.get("pairs") == "halves"
    low, high = RANGES[case.get("x_type", "int16")]
    cos, sin = rotary_angles(dim=dim, positions=case["positions"], fraction=unit.fraction)
    sent, expected = [], []
    for _ in range(options["rows"]):
        position = rng.randrange(case["positions"])
        x = np.array(unit_bench.codes(low, high, dim, rng=rng))
        angle = {"cos": cos[position], "sin": sin[position], "fraction": unit.fraction}
        y = reference.rotary(x, **angle, halves=halves, lo=low, hi=high)
        parts = (part.reshape(-1, unit.lanes).tolist() for part in (x, y))
        ends = [0] * (dim // unit.lanes - 1) + [1]
        for left, right, last in zip(*parts, ends, strict=True):
            sent.append({"x": left, "position": position, "last": last})
            expected.append({"y": right, "last": last})
    words = unit_bench.pack_beats(unit.i.payload.shape(), sent)
    right = unit_bench.pack_beats(unit.o.payload.shape(), expected)
    await streams.start(dut, inputs={"i__valid": 0, "i__payload": 0, "o__ready": 0})
    taken, given = await unit_bench.timing(dut, words, count=len(words))
    beats = unit.row_cycles(dim)
    assert taken == list(range(taken[0], taken[0] + len(words))), "the input waited"
    wait = beats - 1 if halves else 0
    assert given == [cycle + wait + unit.latency for cycle in taken]
    for stall in (0.0, 0.4):
        received = await streams.transact(
            dut, sends={"i": words}, receives={"o": len(right)}, seed=options["seed"], stall=stall
        )
        assert received["o"] == right


@pytest.mark.parametrize("case", CASES)
def test_rotary(case: str) -> None:
    unit = RotaryEmbedding(**CASES[case])
    assert unit.throughput == unit.lanes
    run_bench(unit, module="test_units_rotary", options={"case": case, "rows": 150}, seed=6)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_rotary_for_long(case: str) -> None:
    options = {"case": case, "rows": 2000}
    unit = RotaryEmbedding(**CASES[case])
    run_bench(unit, module="test_units_rotary", options=options, seed=7, optimize="-O2")


def test_turns_by_a_right_angle() -> None:
    one, zero = np.array([1 << 16]), np.array([0])
    turned = reference.rotary(np.array([-128, 5]), cos=zero, sin=one, halves=False, lo=-128, hi=127)
    assert turned.tolist() == [-5, -128]
    turned = reference.rotary(np.array([5, -128]), cos=zero, sin=one, halves=True, lo=-128, hi=127)
    assert turned.tolist() == [127, 5]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dim": 1}, "dim must be an integer from 2 to 4096, not 1"),
        ({"dim": 7, "lanes": 1, "pairs": "halves"}, "dim must be even, not 7"),
        ({"positions": 0}, "positions must be an integer from 1 to 65536, not 0"),
        ({"pairs": "both"}, "pairs must be one of 'interleaved', 'halves', not 'both'"),
        ({"base": 1.0}, "base must be above 1 and finite, not 1.0"),
        ({"x_type": "uint8"}, "x_type must be one of 'int8', 'int16', not 'uint8'"),
        ({"lanes": 3}, "lanes must be an even divisor of dim, 8, not 3"),
        ({"lanes": 8, "pairs": "halves"}, "lanes must be a divisor of dim / 2, 8, not 8"),
    ],
)
def test_refuses(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RotaryEmbedding(**{"dim": 8, "positions": 4, **wrong})
