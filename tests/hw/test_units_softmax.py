"""Softmax equals its reference, row by row, in the stated time."""

import itertools
import random

import cocotb
import numpy as np
import pytest
import streams
from cocotb.triggers import FallingEdge, ReadOnly

from intformer import reference
from intformer.hw.units.softmax import Softmax
from intformer.sim.runner import bench_options, run_bench

ROW_MAX = 40
CASES = {
    "int8": {"lanes": 3, "scale": 1 / 16},
    "int8 with predicates": {"lanes": 2, "scale": 0.1, "predicates": True},
    "int16": {"lanes": 2, "scale": 1 / 2048, "input": "int16"},
    "int16 coarse": {"lanes": 1, "scale": 1 / 8, "input": "int16"},
    "int32": {"lanes": 2, "scale": 1e-6, "input": "int32", "predicates": True},
}


def unit_of(case: str) -> Softmax:
    return Softmax(row_max=ROW_MAX, **CASES[case])


def random_row(n: int, *, bits: int, scale: float, rng: random.Random) -> list[int]:
    """Codes: over the whole range, near to each other, or the same."""
    top = (1 << (bits - 1)) - 1
    spread = rng.choice([top, 0, 1, min(round(20 / scale), top), min(round(3 / scale), top)])
    centre = rng.choice([0, top, -top - 1, rng.randint(-top, top)])
    return [min(max(centre + rng.randint(-spread - 1, spread), -top - 1), top) for _ in range(n)]


def pack(layout, row: list[dict]) -> list[int]:
    return [layout.const(beat).as_value().value for beat in row]


def beats_of(values: list[int], lanes: int, fill: int) -> list[list[int]]:
    padded = [*values, *[fill] * (-len(values) % lanes)]
    return [padded[k : k + lanes] for k in range(0, len(padded), lanes)]


def make_rows(unit: Softmax, case: str, *, count: int, rng: random.Random) -> tuple[list, ...]:
    """Payloads at ``i`` and ``rows``, and what comes at ``o``."""
    bits, lanes = {"int8": 8, "int16": 16, "int32": 32}[case.split()[0]], unit.throughput
    sent, rows, expected = [], [], []
    for _ in range(count):
        n = rng.choice([1, lanes, ROW_MAX, rng.randint(1, ROW_MAX)])
        x = random_row(n, bits=bits, scale=CASES[case]["scale"], rng=rng)
        chance = rng.choice([0.0, 0.5, 1.0, 1.0])
        kept = [int(rng.random() < chance) for _ in range(n)]
        row = {
            "length": rng.choice([0, n, ROW_MAX, rng.randint(0, n)]),
            "causal": rng.randrange(2),
            "position": rng.choice([-1, -ROW_MAX, n - 1, ROW_MAX - 1, rng.randint(-3, n)]),
        }
        parts = zip(beats_of(x, lanes, 77), beats_of(kept, lanes, 0), strict=True)
        beats = [
            {"x": part, "keep": sum(k << lane for lane, k in enumerate(keep)), "last": 0}
            for part, keep in parts
        ]
        beats[-1]["last"] = 1
        sent += pack(unit.i.payload.shape(), beats)
        keep = np.array(kept, bool)
        if CASES[case].get("predicates"):
            rows += pack(unit.rows.payload.shape(), [row])
            keep &= reference.softmax_keep(n, **row)
        p = beats_of(unit.reference(np.array(x), keep=keep).tolist(), lanes, 0)
        results = [{"p": part, "last": int(k == len(p) - 1)} for k, part in enumerate(p)]
        expected += pack(unit.o.payload.shape(), results)
    return sent, rows, expected


async def begin(dut, case: str) -> dict[str, int]:
    ports = {"i": 0}
    if CASES[case].get("predicates"):
        ports["rows"] = 0
    inputs = {f"{name}__{what}": 0 for name in ports for what in ("valid", "payload")}
    await streams.start(dut, inputs={**inputs, "o__ready": 0})
    return ports


@cocotb.test()
async def equals_reference(dut):
    options = bench_options()
    case, seed = options["case"], options["seed"]
    rng = random.Random(seed)
    unit = unit_of(case)
    sent, rows, expected = make_rows(unit, case, count=options["count"], rng=rng)
    ports = await begin(dut, case)
    sends = {"i": sent, "rows": rows} if "rows" in ports else {"i": sent}
    for stall in (0.0, 0.4):
        received = await streams.transact(
            dut, sends=sends, receives={"o": len(expected)}, seed=seed, stall=stall
        )
        assert received["o"] == expected


@cocotb.test()
async def takes_the_stated_cycles(dut):
    case = bench_options()["case"]
    unit, rng = unit_of(case), random.Random(2)
    ports = await begin(dut, case)
    lanes = unit.throughput
    for n in (lanes, 2 * lanes + 1, ROW_MAX):
        beats = -(-n // lanes)
        row = [{"x": [3] * lanes, "keep": 1, "last": int(k == beats - 1)} for k in range(beats)]
        sent = pack(unit.i.payload.shape(), row) * 30
        drivers = [cocotb.start_soon(streams.drive(dut, "i", sent, rng=rng))]
        if "rows" in ports:
            keep = pack(unit.rows.payload.shape(), [{"length": n, "causal": 0, "position": 0}])
            drivers.append(cocotb.start_soon(streams.drive(dut, "rows", keep * 30, rng=rng)))
        taken, given, cycle = [], [], 0
        dut.o__ready.value = 1
        while len(given) < 30 * beats:
            await ReadOnly()
            if int(dut.i__valid.value) and int(dut.i__ready.value):
                taken.append(cycle)
            if int(dut.o__valid.value):
                given.append(cycle)
            cycle += 1
            assert cycle < 5000
            await FallingEdge(dut.clk)
        for driver in drivers:
            await driver
        assert given[0] - taken[beats - 1] == unit.row_latency(n)
        starts = given[::beats]
        assert {b - a for a, b in itertools.pairwise(starts)} == {unit.row_cycles(n)} == {beats}
    assert unit.latency == unit.row_latency(1)


@pytest.mark.parametrize("case", CASES)
def test_softmax(case: str) -> None:
    run_bench(
        unit_of(case),
        module="test_units_softmax",
        options={"case": case, "count": 150},
        seed=41,
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lanes": 0}, "lanes must be an integer from 1 to 64, not 0"),
        ({"row_max": 1}, "row_max must be an integer from 2 to 65536, not 1"),
        ({"scale": 0.0}, "scale must be positive and finite, not 0.0"),
        ({"input": "int4"}, "input must be one of 'int8', 'int16', 'int32', not 'int4'"),
    ],
)
def test_refuses(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Softmax(**{"lanes": 2, "row_max": 8, "scale": 0.1, **options})
