"""The serial units: reciprocal, square root, normalizer, variance. Exact, in the stated time."""

import itertools
import math
import random

import cocotb
import pytest
import streams
from amaranth.hdl import Elaboratable
from cocotb.triggers import FallingEdge, ReadOnly
from streams import both_simulators

from intformer.hw.row.divide import Reciprocal
from intformer.hw.row.isqrt import SquareRoot
from intformer.hw.row.normalize import Normalizer
from intformer.hw.row.variance import Variance
from intformer.sim.runner import bench_options, run_bench

TAG = 5


def _normalized(width: int, *, rng: random.Random) -> int:
    top = 1 << (width - 1)
    return rng.choice([top, top + 1, 2 * top - 1, top | rng.getrandbits(width - 1)])


def _any_length(width: int, *, rng: random.Random) -> int:
    """A number of random bit length; powers of two, their neighbours and squares are likely."""
    length = rng.randint(0, width)
    value = rng.choice([rng.getrandbits(width) >> (width - length), (1 << length) - 1])
    value = rng.choice([value, math.isqrt(value) ** 2, (value + 1) & (value - 1)])
    return min(value, (1 << width) - 1)


def _normalize(x: int, *, width: int, step: int, count_max: int) -> tuple[int, int]:
    count = 0
    while count < count_max and not x >> (width - step):
        x, count = x << step, count + 1
    return x, count


def _case(dut: Elaboratable, options: dict, rng: random.Random) -> tuple[int, int]:
    """A payload for the unit, and what it makes of it."""
    unit, width, tag = options["unit"], options["width"], (rng.getrandbits(TAG), TAG)
    if unit == "variance":
        total, squares = _sums(options["n"], rng=rng)
        total_bits, square_bits = (dut.i_layout[k].width for k in ("sum", "squares"))
        d = options["n"] * squares - total * total + options["eps"]
        sent = streams.pack([(total, total_bits), (squares, square_bits)])
        return sent, streams.pack([(d, dut.d_bits), (total, total_bits)])
    if unit == "reciprocal":
        x, bits = _normalized(width, rng=rng), options["bits"]
        result = [((1 << (width + bits - 1)) // (x + 1), bits)]
    elif unit == "root":
        x = _any_length(width, rng=rng)
        result = [(math.isqrt(x), width // 2)]
    else:
        x = _any_length(width, rng=rng)
        y, count = _normalize(x, width=width, step=options["step"], count_max=dut.count_max)
        result = [(y, width), (count, dut.count_max.bit_length())]
    return streams.pack([(x, width), tag]), streams.pack([*result, tag])


def _sums(n: int, *, rng: random.Random) -> tuple[int, int]:
    low, high = rng.choice([(-32768, -32768), (-32768, 32767), (32767, 32767), (-2, 2)])
    codes = [rng.randint(low, high) for _ in range(n)]
    return sum(codes), sum(x * x for x in codes)


def _constants(options: dict) -> dict[str, int]:
    """The unit's inputs besides its streams."""
    return {name: options[name] for name in ("n", "eps") if name in options}


def _unit(options: dict) -> Elaboratable:
    unit, width = options["unit"], options["width"]
    if unit == "reciprocal":
        return Reciprocal(width, bits=options["bits"], tag=TAG)
    if unit == "root":
        return SquareRoot(width, tag=TAG)
    if unit == "normalizer":
        return Normalizer(width, step=options["step"], tag=TAG)
    return Variance(row_max=width)


@cocotb.test()
async def computes(dut):
    options = bench_options()
    rng = random.Random(options["seed"])
    unit = _unit(options)
    pairs = [_case(unit, options, rng) for _ in range(options["count"])]
    sent, expected = ([pair[k] for pair in pairs] for k in (0, 1))
    idle = {"i__valid": 0, "i__payload": 0, "o__ready": 0}
    await streams.start(dut, inputs=idle | _constants(options))
    for stall in (0.0, 0.5):
        received = await streams.transact(
            dut, sends={"i": sent}, receives={"o": len(sent)}, seed=options["seed"], stall=stall
        )
        assert received["o"] == expected


@cocotb.test()
async def takes_the_stated_cycles(dut):
    options = bench_options()
    unit = _unit(options)
    sent, _ = _case(unit, options, random.Random(options["seed"]))
    busy = {"i__valid": 1, "i__payload": sent, "o__ready": 1}
    await streams.start(dut, inputs=busy | _constants(options))
    taken, given = [], []
    for cycle in range(4 * unit.interval):
        await ReadOnly()
        if int(dut.i__ready.value):
            taken.append(cycle)
        if int(dut.o__valid.value):
            given.append(cycle)
        await FallingEdge(dut.clk)
    assert given[0] - taken[0] == unit.latency
    assert {b - a for a, b in itertools.pairwise(taken)} == {unit.interval}


CASES = {
    "reciprocal_3": {"unit": "reciprocal", "width": 3, "bits": 4},
    "reciprocal_38": {"unit": "reciprocal", "width": 38, "bits": 35},
    "root_8": {"unit": "root", "width": 8},
    "root_76": {"unit": "root", "width": 76},
    "normalizer_23": {"unit": "normalizer", "width": 23, "step": 1},
    "normalizer_52": {"unit": "normalizer", "width": 52, "step": 2},
    "variance_1": {"unit": "variance", "width": 24, "n": 1, "eps": 0},
    "variance_24": {"unit": "variance", "width": 24, "n": 24, "eps": 12345},
    "variance_1024": {"unit": "variance", "width": 1024, "n": 1024, "eps": (1 << 40) - 1},
}


@both_simulators
@pytest.mark.parametrize("case", CASES)
def test_serial_unit(simulator: str, case: str) -> None:
    options = {**CASES[case], "count": 60}
    run_bench(_unit(options), module="test_divide", simulator=simulator, options=options, seed=5)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Reciprocal(1, bits=18, tag=0), "width must be at least 2, not 1"),
        (lambda: Reciprocal(8, bits=0, tag=0), "bits must be at least 1, not 0"),
        (lambda: SquareRoot(7, tag=0), "width must be even and positive, not 7"),
        (lambda: Normalizer(9, step=2, tag=0), "not 9"),
        (lambda: Variance(row_max=1), "row_max must be at least 2, not 1"),
    ],
)
def test_refuses(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
