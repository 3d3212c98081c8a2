"""Softmax equals the reference for every row, in the stated time."""

import itertools
import random

import cocotb
import numpy as np
import pytest
import streams
from cocotb.triggers import FallingEdge, ReadOnly
from streams import both_simulators

from intformer import reference
from intformer.hw.row.softmax import RowSoftmax
from intformer.sim.runner import bench_options, run_bench

ROW_MAX = 24
EXP_LATENCY = 2
CORNER_ROWS = (
    [-128] * ROW_MAX,
    [127] * ROW_MAX,
    [-128] * (ROW_MAX - 1) + [127],
    [127] + [-128] * (ROW_MAX - 1),
    [0, 0],
    [5],
)


def exp_table() -> np.ndarray:
    """Entries of a fast decay: from the largest to several zeros."""
    return np.floor((2**reference.EXP_BITS - 1) * np.exp(-np.arange(256) / 6)).astype(np.int64)


def random_row(n: int, *, rng: random.Random) -> tuple[list[int], list[bool]]:
    """Codes, and which are kept: some rows have ties, some keep nothing or a prefix."""
    low, high = rng.choice([(-128, 127), (-128, -127), (126, 127), (-3, 3)])
    codes = [rng.randint(low, high) for _ in range(n)]
    chance = rng.choice([0.0, 0.5, 1.0, 1.0])
    kept = [rng.random() < chance for _ in range(n)]
    if rng.random() < 0.3:
        prefix = rng.randint(0, n)
        kept = [j < prefix for j in range(n)]
    return codes, kept


def pack_row(codes: list[int], kept: list[bool], *, lanes: int, rng: random.Random) -> list[int]:
    """Beats of a row; lanes past its end hold anything."""
    beats = []
    for first in range(0, len(codes), lanes):
        part = codes[first : first + lanes]
        keep = sum(int(k) << lane for lane, k in enumerate(kept[first : first + lanes]))
        part = part + [rng.randint(-128, 127) for _ in range(lanes - len(part))]
        last = int(first + lanes >= len(codes))
        beats.append(streams.pack([*((x, 8) for x in part), (keep, lanes), (last, 1)]))
    return beats


def expected_row(codes: list[int], kept: list[bool], *, lanes: int) -> list[int]:
    """Beats of the result: 0 past the row's end."""
    codes, kept = np.array(codes), np.array(kept)
    p = reference.softmax(codes, exp_table=exp_table(), keep=kept)
    p = np.pad(p, (0, -len(codes) % lanes)).reshape(-1, lanes)
    return [
        streams.pack([*((int(v), 8) for v in beat), (int(k == len(p) - 1), 1)])
        for k, beat in enumerate(p)
    ]


async def serve_tables(dut, *, lanes: int) -> None:
    """Answer ``index``."""
    entries, rng = [int(v) for v in exp_table()], random.Random(1)
    waiting = [0] * EXP_LATENCY
    while True:
        dut.exp.value = waiting.pop(0)
        await ReadOnly()
        word, value = 0, dut.index.value
        # Nobody waits for the answer to an undefined address.
        addresses = int(value) if value.is_resolvable else rng.getrandbits(len(value))
        for lane in range(lanes):
            word |= entries[addresses >> 8 * lane & 0xFF] << reference.EXP_BITS * lane
        waiting.append(word)
        await FallingEdge(dut.clk)


async def begin(dut, *, lanes: int) -> None:
    inputs = {"i__valid": 0, "i__payload": 0, "o__ready": 0, "exp": 0}
    await streams.start(dut, inputs=inputs)
    cocotb.start_soon(serve_tables(dut, lanes=lanes))


@cocotb.test()
async def equals_reference(dut):
    options = bench_options()
    lanes, seed = options["lanes"], options["seed"]
    rng = random.Random(seed)
    await begin(dut, lanes=lanes)
    rows = [(list(codes), [True] * len(codes)) for codes in CORNER_ROWS]
    rows += [random_row(rng.randint(1, ROW_MAX), rng=rng) for _ in range(options["count"])]
    sent, expected = [], []
    for codes, kept in rows:
        sent += pack_row(codes, kept, lanes=lanes, rng=rng)
        expected += expected_row(codes, kept, lanes=lanes)
    for stall in (0.0, 0.4):
        received = await streams.transact(
            dut, sends={"i": sent}, receives={"o": len(expected)}, seed=seed, stall=stall
        )
        assert received["o"] == expected


@cocotb.test()
async def takes_the_stated_cycles(dut):
    lanes = bench_options()["lanes"]
    unit, rng = RowSoftmax(lanes=lanes, row_max=ROW_MAX, exp_latency=EXP_LATENCY), random.Random(2)
    await begin(dut, lanes=lanes)
    for n in (1, 7, ROW_MAX):
        sent = pack_row([3] * n, [True] * n, lanes=lanes, rng=rng) * 40
        driver = cocotb.start_soon(streams.drive(dut, "i", sent, rng=rng))
        ends, cycle = [], 0
        dut.o__ready.value = 1
        while len(ends) < 40:
            await ReadOnly()
            if int(dut.o__valid.value) and int(dut.o__payload.value) >> 8 * lanes:
                ends.append(cycle)
            cycle += 1
            assert cycle < 5000
            await FallingEdge(dut.clk)
        await driver
        assert ends[0] == unit.timing.latency(n)
        assert {b - a for a, b in itertools.pairwise(ends)} == {unit.timing.row_cycles(n)}


@both_simulators
@pytest.mark.parametrize("lanes", [1, 4])
def test_softmax(simulator: str, lanes: int) -> None:
    run_bench(
        RowSoftmax(lanes=lanes, row_max=ROW_MAX, exp_latency=EXP_LATENCY),
        module="test_softmax",
        simulator=simulator,
        options={"lanes": lanes, "count": 60 if simulator == "verilator" else 20},
        seed=21,
    )


@pytest.mark.parametrize(("lanes", "row_max"), [(0, 8), (2, 1)])
def test_refuses(lanes: int, row_max: int) -> None:
    with pytest.raises(ValueError, match=f"not {lanes if not lanes else row_max}"):
        RowSoftmax(lanes=lanes, row_max=row_max, exp_latency=EXP_LATENCY)
