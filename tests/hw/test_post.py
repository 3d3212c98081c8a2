"""The epilogue unit writes what the reference says, every code, in the stated time."""

import random

import cocotb
import models
import post_bench
import pytest
import streams
from streams import both_simulators

from intformer.config import CoreConfig
from intformer.hw.post.unit import PostUnit
from intformer.isa import Mem, Op
from intformer.sim.runner import bench_options, run_bench

SHAPES = [(3, 2, 1), (6, 4, 2), (12, 6, 2), (12, 8, 4), (4, 4, 4)]
"""Rows, columns and lanes of the cores under test."""
LARGE_RESIDUAL = {
    "res_en": 1,
    "res_mem": Mem.WIDE,
    "res_sub": 0,
    "res_mult": -32768,
    "res_shift": 2,
}
"""Fields of an instruction whose residual reaches its largest term."""


def _config(
    rows: int,
    cols: int,
    lanes: int,
    multipliers: str = "dsp",
    functions: int = 0,
    row_scales: int = 0,
) -> CoreConfig:
    return CoreConfig(
        name="bench",
        rows=rows,
        cols=cols,
        lanes=lanes,
        acc_depth=256,
        param_groups=64,
        multipliers=multipliers,
        functions=functions,
        row_scales=row_scales,
    )


class _StallMeter:
    """Counts the cycles with ``stall``."""

    def __init__(self, dut) -> None:
        self._dut = dut
        self.cycles = 0

    def drive(self) -> None:
        pass

    def sample(self) -> None:
        self.cycles += int(self._dut.unit__stall.value)


async def _begin(dut) -> tuple[post_bench.PostCases, random.Random]:
    options = bench_options()
    dut._log.info("seed %d", options["seed"])
    rng = random.Random(options["seed"])
    config = _config(*options["shape"])
    memories = post_bench.Memories(config, seed=options["seed"])
    await streams.start(dut, inputs=dict.fromkeys(post_bench.inputs(config), 0))
    return post_bench.PostCases(memories, rng=rng), rng


async def _execute(dut, cases, *, rng, stall: float) -> tuple[list[int], int]:
    """Run all instructions, check after each; return the cycles of each and those stalled."""
    unit = models.UnitModel(dut, cases.instructions, rng=rng, stall=stall, on_done=cases.check)
    meter = _StallMeter(dut)
    around = post_bench.ports(dut, cases.memories, rng=rng, stall=stall)
    await models.run(dut, [*around, unit, meter], until=lambda: unit.finished, limit=200_000)
    return unit.cycles, meter.cycles


@cocotb.test()
async def executes(dut):
    cases, rng = await _begin(dut)
    config = cases.memories.config
    for trial in range(bench_options()["count"]):
        op = (Op.POST_ACC, Op.POST_MEM)[trial % 2]
        longest = config.cols if op == Op.POST_ACC else 5 * config.rows
        n = rng.choice([1, config.lanes, longest, rng.randint(1, longest), rng.randint(1, longest)])
        forced = LARGE_RESIDUAL if trial % 8 == 0 else {}
        if config.functions and trial % 4 < 2:
            forced = forced | {"function_en": 1, "table_en": 0}
        cases.add(op=op, rows=rng.choice([1, 2, 3, 7]), n=n, **forced)
    _cycles, stalled = await _execute(dut, cases, rng=rng, stall=bench_options()["stall"])
    assert bool(stalled) == (bench_options()["stall"] > 0)


@cocotb.test()
async def takes_the_stated_cycles(dut):
    cases, rng = await _begin(dut)
    config = cases.memories.config
    for rows, n in ((1, 1), (3, config.cols), (30, config.cols - 1), (1, 2)):
        for op in (Op.POST_ACC, Op.POST_MEM):
            for residual in (0, 1):
                for src_mem in (Mem.ACT, Mem.WIDE):
                    place = {"src_mem": src_mem, "src_sub": 0}
                    cases.add(op=op, rows=rows, n=n, res_en=residual, **place)
    stored = {"src_mem": Mem.ACT, "src_stride": 1, "res_mem": Mem.ACT, "res_stride": 1}
    cases.add(op=Op.POST_MEM, rows=6, n=60, res_en=1, **stored)
    cycles, stalled = await _execute(dut, cases, rng=rng, stall=0.0)
    unit = PostUnit(config)
    for found, ins in zip(cycles, cases.instructions, strict=True):
        stated = unit.instruction_cycles(
            config,
            ins.op,
            groups=ins["rows"] * ins["groups"],
            residual=bool(ins["res_en"]),
            factors=config.row_scales and ins.op == Op.POST_ACC and ins["src_mem"] == Mem.WIDE,
        )
        assert found == stated, f"{ins}: {found} cycles, not {stated}"
    assert stalled == 0


def _executes(
    shape: tuple, *, stall: float, count: int, seed: int, simulator: str = "verilator"
) -> None:
    run_bench(
        PostUnit(_config(*shape)),
        module="test_post",
        simulator=simulator,
        testcase="executes",
        options={"shape": shape, "stall": stall, "count": count},
        seed=seed,
    )


@both_simulators
@pytest.mark.parametrize("stall", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_executes(simulator: str, shape: tuple[int, int, int], stall: float) -> None:
    count = 32 if simulator == "verilator" else 10
    _executes(shape, stall=stall, count=count, seed=31, simulator=simulator)


@pytest.mark.parametrize("testcase", ["executes", "takes_the_stated_cycles"])
def test_multiplies_in_luts(testcase: str) -> None:
    shape = (6, 4, 2, "luts")
    run_bench(
        PostUnit(_config(*shape)),
        module="test_post",
        testcase=testcase,
        options={"shape": shape, "stall": 0.3, "count": 32},
        seed=33,
    )


@pytest.mark.parametrize(
    ("shape", "stall"),
    [((4, 4, 2, "dsp", 1), 0.0), ((4, 4, 2, "dsp", 1), 0.8), ((6, 4, 1, "luts", 2), 0.3)],
    ids=str,
)
def test_applies_functions(shape: tuple, stall: float) -> None:
    _executes(shape, stall=stall, count=48, seed=34)


def test_applies_functions_on_icarus() -> None:
    _executes((4, 4, 2, "dsp", 2), stall=0.2, count=12, seed=35, simulator="icarus")


@pytest.mark.parametrize(
    ("shape", "stall"),
    [
        ((3, 2, 1, "dsp", 0, 64), 0.0),
        ((6, 4, 2, "dsp", 0, 64), 0.0),
        ((6, 4, 2, "dsp", 0, 64), 0.3),
        ((12, 8, 4, "luts", 0, 64), 0.8),
        ((4, 4, 2, "dsp", 1, 64), 0.3),
    ],
    ids=str,
)
def test_applies_factors(shape: tuple, stall: float) -> None:
    _executes(shape, stall=stall, count=64, seed=36)


def test_applies_factors_on_icarus() -> None:
    _executes((4, 4, 2, "dsp", 0, 64), stall=0.2, count=12, seed=37, simulator="icarus")


STATED = [
    *SHAPES,
    (4, 4, 2, "dsp", 1),
    (4, 4, 2, "luts", 2),
    (4, 4, 4, "dsp", 0, 64),
    (6, 4, 2, "luts", 0, 64),
    (6, 6, 1, "dsp", 1, 64),
]


@pytest.mark.parametrize("shape", STATED, ids=str)
def test_takes_the_stated_cycles(shape: tuple) -> None:
    run_bench(
        PostUnit(_config(*shape)),
        module="test_post",
        testcase="takes_the_stated_cycles",
        options={"shape": shape},
        seed=32,
    )
