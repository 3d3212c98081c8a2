"""LayerNorm equals the reference for every row, in the stated time."""

import itertools
import random

import cocotb
import numpy as np
import pytest
import streams
from cocotb.triggers import FallingEdge, ReadOnly

from intformer import reference
from intformer.hw.ports import READ_LATENCY
from intformer.hw.row.layernorm import RowLayerNorm
from intformer.sim.runner import bench_options, run_bench

ROW_MAX = 40
LOW, HIGH = -(1 << 15), (1 << 15) - 1
CONSTANTS = ("n", "eps", "zero_point", "lo", "hi")


def random_row(n: int, *, rng: random.Random) -> list[int]:
    """Codes: all equal, all but one equal, at the extremes, small, or anything."""
    kind = rng.randrange(5)
    if kind == 0:
        return [rng.choice([LOW, 0, HIGH])] * n
    if kind == 1:
        row = [rng.choice([LOW, 0, HIGH])] * n
        row[rng.randrange(n)] = rng.choice([LOW, 1, HIGH])
        return row
    if kind == 2:
        return [rng.choice([LOW, HIGH]) for _ in range(n)]
    spread = 2 if kind == 3 else HIGH
    return [rng.randint(-spread - 1, spread) for _ in range(n)]


class Job:
    """Rows with the same parameters, and what becomes of them."""

    def __init__(self, n: int, *, lanes: int, rows: int, rng: random.Random) -> None:
        beats = -(-n // lanes)
        channels = beats * lanes
        self.lanes, self.rng = lanes, rng
        self.gamma = np.array([rng.choice([LOW, HIGH, rng.randint(LOW, HIGH)])] * channels)
        self.gamma[n // 2 :] = rng.randint(LOW, HIGH)
        scale = rng.choice([1, 1 << 12, 1 << 31])
        self.beta = np.array([rng.randint(-scale, scale - 1) for _ in range(channels)])
        self.shift = np.array([rng.choice([2, 24, rng.randint(16, 32), 47]) for _ in self.beta])
        low, high = rng.choice([(-128, 127), (LOW, HIGH), (-100, -3)])
        self.constants = {
            "n": n,
            "eps": rng.choice([0, 0, 1, rng.getrandbits(30), (1 << 40) - 1]),
            "zero_point": rng.choice([0, LOW, HIGH, rng.randint(-128, 127)]),
            "lo": low,
            "hi": high,
        }
        self.rows = [random_row(n, rng=rng) for _ in range(rows)]

    def sent(self) -> list[int]:
        """Beats of all rows; lanes past a row's end hold anything."""
        beats = []
        for row in self.rows:
            for first in range(0, len(row), self.lanes):
                part = row[first : first + self.lanes]
                valid = (1 << len(part)) - 1
                part = part + [self.rng.randint(LOW, HIGH) for _ in range(self.lanes - len(part))]
                last = int(first + self.lanes >= len(row))
                fields = [*((x, 16) for x in part), (valid, self.lanes), (last, 1)]
                beats.append(streams.pack(fields))
        return beats

    def expected(self) -> list[list[int]]:
        n = self.constants["n"]
        limits = {name: value for name, value in self.constants.items() if name != "n"}
        y = reference.layernorm(
            np.array(self.rows),
            gamma=self.gamma[:n],
            beta=self.beta[:n],
            shift=self.shift[:n],
            **limits,
        )
        return y.tolist()

    def received(self, beats: list[int]) -> list[list[int]]:
        """Rows of codes from the beats of the result; ``last`` ends a row."""
        rows, row = [], []
        for beat in beats:
            codes = [beat >> 16 * lane & 0xFFFF for lane in range(self.lanes)]
            row += [code - (code >> 15 << 16) for code in codes]
            if beat >> 16 * self.lanes:
                rows.append(row[: self.constants["n"]])
                row = []
        assert not row, "the last beat is not marked"
        return rows

    def parameters(self, index: int) -> int:
        """The parameter group of beat ``index``; noise for beats that there are not."""
        if index * self.lanes >= len(self.gamma):
            return self.rng.getrandbits(64 * self.lanes)
        word = 0
        for lane in range(self.lanes):
            channel = index * self.lanes + lane
            fields = [(self.beta, 32), (self.gamma, 16), (self.shift, 8)]
            entry = streams.pack([(int(values[channel]), width) for values, width in fields])
            word |= entry << 64 * lane
        return word


class Parameters:
    """Answers ``param_index`` from the present job."""

    def __init__(self, dut) -> None:
        self.dut = dut
        self.job: Job | None = None

    def use(self, job: Job) -> None:
        self.job = job
        for name, value in job.constants.items():
            getattr(self.dut, name).value = value

    async def serve(self) -> None:
        waiting = [0] * READ_LATENCY
        while True:
            self.dut.param_data.value = waiting.pop(0)
            await ReadOnly()
            waiting.append(self.job.parameters(int(self.dut.param_index.value)))
            await FallingEdge(self.dut.clk)


async def begin(dut) -> Parameters:
    inputs = dict.fromkeys(("i__valid", "i__payload", "o__ready", "param_data", *CONSTANTS), 0)
    await streams.start(dut, inputs=inputs)
    return Parameters(dut)


@cocotb.test()
async def equals_reference(dut):
    options = bench_options()
    lanes, seed = options["lanes"], options["seed"]
    rng = random.Random(seed)
    memory = await begin(dut)
    serving = None
    for trial in range(options["count"]):
        n = rng.choice([1, 2, ROW_MAX, rng.randint(1, ROW_MAX)])
        job = Job(n, lanes=lanes, rows=6, rng=rng)
        memory.use(job)
        serving = serving or cocotb.start_soon(memory.serve())
        sent = job.sent()
        received = await streams.transact(
            dut, sends={"i": sent}, receives={"o": len(sent)}, seed=seed, stall=trial % 3 * 0.3
        )
        rows = job.received(received["o"])
        for row, got, expected in zip(job.rows, rows, job.expected(), strict=True):
            assert got == expected, f"{row} with {job.constants}"


@cocotb.test()
async def takes_the_stated_cycles(dut):
    lanes, rng = bench_options()["lanes"], random.Random(2)
    unit = RowLayerNorm(lanes=lanes, row_max=ROW_MAX, multipliers=bench_options()["multipliers"])
    memory = await begin(dut)
    serving = None
    for n in (1, 9, ROW_MAX):
        job = Job(n, lanes=lanes, rows=12, rng=rng)
        memory.use(job)
        serving = serving or cocotb.start_soon(memory.serve())
        driver = cocotb.start_soon(streams.drive(dut, "i", job.sent(), rng=rng))
        ends, cycle = [], 0
        dut.o__ready.value = 1
        while len(ends) < len(job.rows):
            await ReadOnly()
            if int(dut.o__valid.value) and int(dut.o__payload.value) >> 16 * lanes:
                ends.append(cycle)
            cycle += 1
            assert cycle < 5000
            await FallingEdge(dut.clk)
        await driver
        assert ends[0] == unit.timing.latency(n)
        assert {b - a for a, b in itertools.pairwise(ends)} == {unit.timing.row_cycles(n)}


@pytest.mark.parametrize(
    ("simulator", "lanes", "multipliers"),
    [("verilator", 1, "dsp"), ("verilator", 4, "luts"), ("icarus", 2, "luts")],
)
def test_layernorm(simulator: str, lanes: int, multipliers: str) -> None:
    run_bench(
        RowLayerNorm(lanes=lanes, row_max=ROW_MAX, multipliers=multipliers),
        module="test_layernorm",
        simulator=simulator,
        options={
            "lanes": lanes,
            "multipliers": multipliers,
            "count": 24 if simulator == "verilator" else 6,
        },
        seed=31,
    )


@pytest.mark.parametrize(("lanes", "row_max"), [(0, 8), (2, 1)])
def test_refuses(lanes: int, row_max: int) -> None:
    with pytest.raises(ValueError, match=f"not {lanes if not lanes else row_max}"):
        RowLayerNorm(lanes=lanes, row_max=row_max)


def test_refuses_multipliers() -> None:
    with pytest.raises(ValueError, match="multipliers must be dsp or luts, not 'lut'"):
        RowLayerNorm(lanes=1, row_max=8, multipliers="lut")
