"""MATMUL against NumPy: every accumulator after random programs, and the unit's timing."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import cocotb
import numpy as np
import pytest
import streams
from cocotb.triggers import FallingEdge, ReadOnly
from streams import both_simulators
from unit_port import Commands, Source, WordMemory, run

from intformer.config import CoreConfig
from intformer.hw.matmul.unit import MatmulUnit
from intformer.hw.ports import ACC_LATENCY, READ_LATENCY
from intformer.isa import Instruction, Op
from intformer.reference import grouped_matmul, matmul
from intformer.sim.runner import bench_options, run_bench

WORDS = 512
ACC_DEPTH = 64
SHAPES: dict[str, tuple[Any, ...]] = {
    "4x4": (4, 4, 2, "dsp"),
    "2x2": (2, 2, 1, "dsp"),
    "2x2 packed": (2, 2, 1, "dsp_packed"),
    "12x6": (12, 6, 2, "dsp"),
    "16x8 packed": (16, 8, 4, "dsp_packed"),
    "4x12 packed": (4, 12, 4, "dsp_packed"),
    "12x6 luts": (12, 6, 2, "luts"),
    "4x4 scales": (4, 4, 2, "dsp", "dsp"),
    "4x2 scales": (4, 2, 2, "luts", "luts"),
    "16x8 scales": (16, 8, 4, "dsp_packed", "luts"),
}
"""Rows, columns, lanes, array; and what multiplies by scales, if there are any."""
INPUTS = {
    name: 0
    for name in (
        "unit__cmd__valid",
        "unit__cmd__payload",
        "act__req__ready",
        "act__data",
        "columns__valid",
        "columns__payload",
        "acc_addr",
    )
}


def config_of(shape: list[Any]) -> CoreConfig:
    rows, cols, lanes, array, *multipliers = shape
    return CoreConfig(
        name="test",
        rows=rows,
        cols=cols,
        lanes=lanes,
        acc_depth=ACC_DEPTH,
        array=array,
        group_scales=bool(multipliers),
        multipliers=multipliers[0] if multipliers else "dsp",
    )


@dataclass
class Program:
    """MATMUL instructions, their weights ``[k_tiles, cols, rows]``, and the scratchpad.

    ``scales``: for each instruction those of its tiles, ``[k_tiles, cols]``, or ``None``.
    """

    config: CoreConfig
    words: np.ndarray
    instructions: list[Instruction]
    tiles: list[np.ndarray]
    scales: list[np.ndarray | None]

    def columns(self) -> list[int]:
        """The columns in the order in which the unit takes them, scales where they change."""
        bits, entries = 8 * self.config.rows, []
        for tiles, scales in zip(self.tiles, self.scales, strict=True):
            before = None
            for number, tile in enumerate(tiles):
                if scales is not None and scales[number].tolist() != before:
                    before = scales[number].tolist()
                    entries.append(1 << bits | int.from_bytes(bytes(before), "little"))
                mark = (scales is not None) << (bits + 1)
                entries += [mark | int.from_bytes(c.tobytes(), "little") for c in tile[::-1]]
        return entries

    def vectors(self) -> int:
        return sum(i["rows"] * i["k_tiles"] for i in self.instructions)

    def accumulators(self) -> np.ndarray:
        """Expected accumulators; -1 where nothing was written."""
        acc = np.full((ACC_DEPTH, self.config.cols), -1, np.int64)
        for number, instruction in enumerate(self.instructions):
            start = instruction["acc"]
            acc[start : start + instruction["rows"]] = self.sums(number)
        return acc

    def sums(self, number: int) -> np.ndarray:
        instruction, tiles, scales = (
            parts[number] for parts in (self.instructions, self.tiles, self.scales)
        )
        row = np.arange(instruction["rows"])[:, None] * instruction["stride"]
        word = instruction["base"] + row + np.arange(instruction["k_tiles"])
        a = self.words[word].reshape(instruction["rows"], -1)
        b = tiles.transpose(1, 0, 2).reshape(self.config.cols, -1)
        a = a if instruction["unsigned"] else a.view(np.int8)
        return matmul(a, b) if scales is None else grouped_matmul(a, b, scales.T)


def random_codes(rng: random.Random, shape: tuple[int, ...]) -> np.ndarray:
    """Bytes; a quarter of the rows are corner values only."""
    gen = np.random.default_rng(rng.getrandbits(32))
    codes = gen.integers(0, 256, shape, np.uint8)
    corners = np.array([0, 127, 128, 255], np.uint8)[gen.integers(0, 4, shape[:-1])]
    return np.where(gen.random((*shape[:-1], 1)) < 0.25, corners[..., None], codes)


def make_program(
    config: CoreConfig, sizes: list[tuple[int, int]], *, rng: random.Random, unsigned: int | None
) -> Program:
    """A program of one instruction for each ``(rows, k_tiles)``."""
    words = random_codes(rng, (WORDS, config.rows))
    instructions, tiles = [], []
    for rows, k_tiles in sizes:
        stride = rng.randrange(1 + (WORDS - k_tiles) // rows)
        fields = {
            "stride": stride,
            "base": rng.randrange(WORDS - k_tiles - (rows - 1) * stride + 1),
            "rows": rows,
            "k_tiles": k_tiles,
            "acc": rng.randrange(ACC_DEPTH - rows + 1),
            "unsigned": rng.randrange(2) if unsigned is None else unsigned,
        }
        instructions.append(Instruction(Op.MATMUL, fields))
        weights = random_codes(rng, (k_tiles, config.cols, config.rows)).view(np.int8)
        tiles.append(np.maximum(weights, config.weight_min))
    scales = [random_scales(config, k_tiles, rng=rng) for _, k_tiles in sizes]
    return Program(config, words, instructions, tiles, scales)


def random_scales(config: CoreConfig, k_tiles: int, *, rng: random.Random) -> np.ndarray | None:
    """Scales of an instruction's tiles, some of them the same as those of the tile before."""
    if not config.group_scales or rng.random() < 0.3:
        return None
    gen = np.random.default_rng(rng.getrandbits(32))
    scales = gen.integers(0, 256, (k_tiles, config.cols), np.uint8)
    scales = np.where(gen.random(scales.shape) < 0.2, np.uint8(255), scales)
    return np.repeat(scales, rng.choice([1, 1, 2, 3]), axis=0)[:k_tiles]


class LastRow:
    """Reads an instruction's last accumulator row in the cycle after its ``done``.

    Not if the next instruction writes it too: that one may be on its way.
    """

    def __init__(self, dut, program: Program, commands: Commands) -> None:
        self._dut, self._program, self._commands = dut, program, commands
        self._reads: list[tuple[int, int]] = []
        self.checked = 0

    def drive(self, cycle: int) -> None:
        completed = self._commands.completed
        if completed and completed[-1] == cycle - 1:
            number = len(completed) - 1
            instruction = self._program.instructions[number]
            self._dut.acc_addr.value = instruction["acc"] + instruction["rows"] - 1
            self._reads.append((cycle + READ_LATENCY, number))

    def sample(self, cycle: int) -> None:
        if self._reads and self._reads[0][0] == cycle:
            _, number = self._reads.pop(0)
            self.checked += 1
            program = self._program
            instruction = program.instructions[number]
            last = instruction["acc"] + instruction["rows"] - 1
            for later in program.instructions[number + 1 : number + 2]:
                if later["acc"] <= last < later["acc"] + later["rows"]:
                    return
            expected = program.sums(number)[-1]
            found = row_of(self._dut, program.config)
            assert found.tolist() == expected.tolist(), f"last row of instruction {number}"


def row_of(dut, config: CoreConfig) -> np.ndarray:
    word = int(dut.acc_data.value).to_bytes(4 * config.cols, "little")
    return np.frombuffer(word, "<i4").astype(np.int64)


async def check_accumulators(dut, program: Program) -> None:
    expected = program.accumulators()
    for addr in range(ACC_DEPTH + ACC_LATENCY):
        dut.acc_addr.value = addr % ACC_DEPTH
        await ReadOnly()
        row = addr - ACC_LATENCY
        if row >= 0 and (expected[row] != -1).any():
            assert row_of(dut, program.config).tolist() == expected[row].tolist(), f"row {row}"
        await FallingEdge(dut.clk)


async def execute(dut, program: Program, *, rng, stalls=(0.0, 0.0, 0.0)):
    """Run a program; return the models of its command port and of the scratchpad."""
    commands = Commands(dut, program.instructions, rng=rng, stall=stalls[0])
    columns = Source(dut, "columns", program.columns(), rng=rng, stall=stalls[1])
    act = WordMemory(dut, "act", program.words, rng=rng, stall=stalls[2])
    last = LastRow(dut, program, commands)
    count = len(program.instructions)
    await run(
        dut,
        [last, commands, columns, act],
        until=lambda: commands.finished and last.checked == count,
        timeout=60 * (program.vectors() + len(program.columns())) + 200,
    )
    assert columns.done
    assert len(act.taken) == program.vectors()
    await check_accumulators(dut, program)
    return commands, act


def ends(program: Program, act: WordMemory) -> list[int]:
    """Cycles in which the last vector of each instruction was asked for."""
    counts = np.cumsum([i["rows"] * i["k_tiles"] for i in program.instructions])
    return [act.taken[count - 1] for count in counts]


@cocotb.test()
async def random_programs(dut):
    options = bench_options()
    config, rng = config_of(options["shape"]), random.Random(options["seed"])
    dut._log.info("seed %d", options["seed"])
    await streams.start(dut, inputs=INPUTS)
    for stalls in ((0, 0, 0), (0, 0.6, 0), (0, 0, 0.5), (0.7, 0.2, 0.2), (0, 0.1, 0.9)):
        sizes = [
            (rng.choice([1, 2, 3, 4, 5, rng.randint(1, 40)]), rng.randint(1, 5))
            for _ in range(options["count"])
        ]
        program = make_program(config, sizes, rng=rng, unsigned=None)
        commands, act = await execute(dut, program, rng=rng, stalls=stalls)
        latency = options["latency"]
        assert commands.completed == [cycle + latency for cycle in ends(program, act)]


@cocotb.test()
async def busy_every_cycle(dut):
    options = bench_options()
    config, rng = config_of(options["shape"]), random.Random(options["seed"])
    await streams.start(dut, inputs=INPUTS)
    program = make_program(config, [(64, 8)] * 4, rng=rng, unsigned=0)
    commands, act = await execute(dut, program, rng=rng)
    vectors = 64 * 8 * 4
    assert act.taken[-1] - act.taken[0] == vectors - 1
    # From the first column to the first switch: cols transfers, and nothing else.
    assert act.taken[0] - commands.taken[0] == config.cols
    assert commands.completed[-1] - commands.taken[0] == (
        config.cols + vectors - 1 + options["latency"]
    )
    assert commands.stalled == config.cols - 2


@cocotb.test()
async def smallest_tile_period(dut):
    options = bench_options()
    config, rng = config_of(options["shape"]), random.Random(options["seed"])
    await streams.start(dut, inputs=INPUTS)
    for rows in (1, 2, 3, 4, 5):
        program = make_program(config, [(rows, 4), (rows, 4)], rng=rng, unsigned=1)
        program.scales = [None, None]
        _, act = await execute(dut, program, rng=rng)
        starts = act.taken[::rows]
        hazard = rows + 3 if rows < 4 else rows
        period = max(rows, options["tile_period"], hazard)
        assert np.diff(starts).tolist() == [period] * 7


def bench(shape: str, *, simulator: str, testcase: str, seed: int, count: int = 12) -> None:
    unit = MatmulUnit(config_of(SHAPES[shape]))
    run_bench(
        unit,
        module="test_matmul",
        simulator=simulator,
        testcase=testcase,
        options={
            "shape": SHAPES[shape],
            "count": count,
            "latency": unit.timing.latency,
            "tile_period": unit.timing.tile_period,
        },
        seed=seed,
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_random_programs(shape: str) -> None:
    bench(shape, simulator="verilator", testcase="random_programs", seed=11)


@pytest.mark.parametrize("shape", ["4x4", "12x6", "4x4 scales"])
def test_random_programs_icarus(shape: str) -> None:
    bench(shape, simulator="icarus", testcase="random_programs", seed=12, count=4)


def test_array_is_busy_every_cycle() -> None:
    bench("16x8 packed", simulator="verilator", testcase="busy_every_cycle", seed=13)


@both_simulators
@pytest.mark.parametrize("shape", ["2x2 packed", "4x4"])
def test_smallest_tile_period(shape: str, simulator: str) -> None:
    bench(shape, simulator=simulator, testcase="smallest_tile_period", seed=14)
