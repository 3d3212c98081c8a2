"""FETCH against the column order of the instruction set, and its throughput."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass

import cocotb
import numpy as np
import pytest
import streams
from streams import both_simulators
from unit_port import Commands, Sink, WordMemory, run

from intformer.config import CoreConfig
from intformer.hw.fetch.unit import FetchUnit
from intformer.hw.ports import BURST_MAX, READ_LATENCY
from intformer.isa import Instruction, Op
from intformer.sim.runner import bench_options, run_bench

WORDS = 256
EXT_BYTES = 1 << 14
SHAPES = {
    "4x4": (4, 4, 2, 4),
    "2x2": (2, 2, 1, 4),
    "12x6": (12, 6, 2, 8),
    "10x4": (10, 4, 2, 4),
    "16x8": (16, 8, 4, 4),
    "16x4": (16, 4, 4, 16),
    "6x4": (6, 4, 2, 1),
    "12x6 scales": (12, 6, 2, 4, True),
    "16x16 scales": (16, 16, 2, 4, True),
    "6x2 scales": (6, 2, 2, 16, True),
}
"""Rows, columns, lanes, bytes of a beat; whether there are scales of groups."""

INPUTS = {
    name: 0
    for name in (
        "unit__cmd__valid",
        "unit__cmd__payload",
        "act__req__ready",
        "act__data",
        "mem__cmd__ready",
        "mem__data",
        "mem__valid",
        "columns__ready",
    )
}


def config_of(shape: list[int]) -> CoreConfig:
    rows, cols, lanes, bus, *scales = shape
    return CoreConfig(
        name="test",
        rows=rows,
        cols=cols,
        lanes=lanes,
        bus_bytes=bus,
        group_scales=bool(scales),
    )


@dataclass
class Contents:
    """What the memories hold: ``ext`` bytes, ``words`` of the activation scratchpad."""

    config: CoreConfig
    ext: np.ndarray
    words: np.ndarray

    @classmethod
    def random(cls, config: CoreConfig, *, seed: int) -> Contents:
        gen = np.random.default_rng(seed)
        return cls(
            config,
            gen.integers(0, 256, EXT_BYTES, np.uint8),
            gen.integers(0, 256, (WORDS, config.rows), np.uint8),
        )

    def columns(self, instruction: Instruction) -> list[int]:
        """The columns that the instruction puts into the FIFO, straight from its definition.

        Those of scales without their bytes past ``cols``, which do not matter.
        """
        if instruction.op == Op.FETCH_STREAM:
            return self._stream(instruction)
        cols, columns = self.config.cols, []
        for nt in range(instruction["n_tiles"]):
            for kt in range(instruction["k_tiles"]):
                for c in reversed(range(cols)):
                    row = nt * cols + c
                    word = np.zeros(self.config.rows, np.uint8)
                    if row < instruction["n"]:
                        addr = instruction["base"] + row * instruction["stride"] + kt
                        word = self.words[addr].copy()
                    if kt == instruction["k_tiles"] - 1:
                        word[instruction["k_last"] :] = 0
                    columns.append(int.from_bytes(word.tobytes(), "little"))
        return columns

    def masked(self, column: int) -> int:
        """An entry of the FIFO without what does not matter in it."""
        bits = 8 * self.config.rows
        keep = (1 << 8 * self.config.cols) - 1 | 3 << bits
        return column & keep if column >> bits & 1 else column

    def _stream(self, instruction: Instruction) -> list[int]:
        rows, cols, bus = self.config.rows, self.config.cols, self.config.bus_bytes
        columns, at = [], instruction["ext"]
        for number in range(instruction["columns"]):
            if instruction["scales"] and number % (instruction["group_tiles"] * cols) == 0:
                stored = self.ext[at : at + cols].tobytes()
                columns.append(3 << 8 * rows | int.from_bytes(stored, "little"))
                at += -(-cols // bus) * bus
            used = -(-rows // 2) if instruction["int4"] else rows
            stored = self.ext[at : at + used].tolist()
            if instruction["int4"]:
                nibbles = [nibble for byte in stored for nibble in (byte & 15, byte >> 4)]
                stored = [nibble | 0xF0 if nibble & 8 else nibble for nibble in nibbles][:rows]
            mark = 2 * bool(instruction["scales"]) << 8 * rows
            columns.append(mark | int.from_bytes(bytes(stored), "little"))
            at += -(-used // bus) * bus
        return columns


class ExternalMemory:
    """Answers read bursts in order, each beat at least ``latency`` cycles after its command.

    Checks the commands; ``beats`` are the cycles in which beats were given.
    """

    def __init__(
        self, dut, contents: Contents, *, rng: random.Random, latency: int, stall: float = 0.0
    ) -> None:
        self._dut, self._contents, self._rng = dut, contents, rng
        self._latency, self._stall = latency, stall
        self._queue: deque[tuple[int, int]] = deque()  # cycle, address of each beat
        self._waiting: int | None = None
        self.commands: list[int] = []
        self.beats: list[int] = []

    def drive(self, cycle: int) -> None:
        dut, bus = self._dut, self._contents.config.bus_bytes
        dut.mem__cmd__ready.value = int(self._rng.random() >= self._stall)
        given = bool(self._queue) and self._queue[0][0] <= cycle
        given = given and self._rng.random() >= self._stall
        dut.mem__valid.value = int(given)
        dut.mem__data.value = self._rng.getrandbits(8 * bus)
        if given:
            _, at = self._queue.popleft()
            dut.mem__data.value = int.from_bytes(
                self._contents.ext[at : at + bus].tobytes(), "little"
            )
            self.beats.append(cycle)

    def sample(self, cycle: int) -> None:
        dut, bus = self._dut, self._contents.config.bus_bytes
        payload = int(dut.mem__cmd__payload.value) if int(dut.mem__cmd__valid.value) else None
        assert self._waiting is None or payload == self._waiting, f"changed in cycle {cycle}"
        self._waiting = payload
        if payload is None or not int(dut.mem__cmd__ready.value):
            return
        self._waiting = None
        self.commands.append(cycle)
        addr, beats = payload & 0xFFFFFFFF, (payload >> 32) + 1
        assert addr % bus == 0
        assert beats <= BURST_MAX
        self._queue.extend((cycle + self._latency, addr + bus * beat) for beat in range(beats))


def stream_of(config: CoreConfig, *, rng: random.Random, columns: int | None = None) -> Instruction:
    columns = columns or rng.choice([1, 2, rng.randint(1, 60)])
    int4 = rng.randrange(2)
    size = columns * (config.rows + config.bus_bytes)
    ext = rng.randrange((EXT_BYTES - size) // config.bus_bytes) * config.bus_bytes
    fields = {"ext": ext, "columns": columns, "int4": int4}
    if config.group_scales and rng.random() < 0.7:
        tiles, groups = rng.choice([1, 2, 3]), rng.choice([1, 2, 3])
        fields |= {"group_tiles": tiles, "scales": groups, "columns": groups * tiles * config.cols}
        size = fields["columns"] * (config.rows + config.bus_bytes) + 64 * groups
        ext = rng.randrange((EXT_BYTES - size) // config.bus_bytes) * config.bus_bytes
        fields["ext"] = ext
    return Instruction(Op.FETCH_STREAM, fields)


def act_of(config: CoreConfig, *, rng: random.Random) -> Instruction:
    n_tiles, k_tiles = rng.randint(1, 4), rng.randint(1, 4)
    n = rng.randint(1, n_tiles * config.cols)
    stride = rng.randrange(1 + (WORDS - k_tiles) // n)
    fields = {
        "stride": stride,
        "base": rng.randrange(WORDS - k_tiles - (n - 1) * stride + 1),
        "n": n,
        "n_tiles": n_tiles,
        "k_tiles": k_tiles,
        "k_last": rng.randint(1, config.rows),
    }
    return Instruction(Op.FETCH_ACT, fields)


@dataclass
class Models:
    commands: Commands
    act: WordMemory
    mem: ExternalMemory
    sink: Sink


async def execute(
    dut, contents: Contents, program: list[Instruction], *, rng, latency=32, stalls=(0, 0, 0, 0)
) -> Models:
    """Run a program and check its columns; ``stalls``: commands, scratchpad, memory, columns."""
    models = Models(
        Commands(dut, program, rng=rng, stall=stalls[0]),
        WordMemory(dut, "act", contents.words, rng=rng, stall=stalls[1]),
        ExternalMemory(dut, contents, rng=rng, latency=latency, stall=stalls[2]),
        Sink(dut, "columns", rng=rng, stall=stalls[3]),
    )
    expected = [column for instruction in program for column in contents.columns(instruction)]
    await run(
        dut,
        [models.commands, models.act, models.mem, models.sink],
        until=lambda: models.commands.finished and len(models.sink.values) == len(expected),
        timeout=1000 + len(program) * 200 + len(expected) * 200,
    )
    found = [contents.masked(value) for value in models.sink.values]
    for number, (one, other) in enumerate(zip(found, expected, strict=True)):
        assert one == other, f"column {number} is {one:x}, not {other:x}"
    # The FIFO holds two tiles: done comes when the last column is in it, not much later.
    count = 0
    for instruction, done in zip(program, models.commands.completed, strict=True):
        count += len(contents.columns(instruction))
        assert done < models.sink.taken[count - 1], "done after the column was taken"
    return models


@cocotb.test()
async def random_programs(dut):
    options = bench_options()
    config, rng = config_of(options["shape"]), random.Random(options["seed"])
    dut._log.info("seed %d", options["seed"])
    contents = Contents.random(config, seed=options["seed"])
    await streams.start(dut, inputs=INPUTS)
    for latency, stalls in (
        (32, (0, 0, 0, 0)),
        (1, (0, 0, 0, 0)),
        (20, (0, 0, 0, 0.8)),
        (5, (0.5, 0.5, 0.5, 0.3)),
        (40, (0, 0.9, 0.2, 0)),
    ):
        program = [
            (stream_of if rng.random() < 0.5 else act_of)(config, rng=rng)
            for _ in range(options["count"])
        ]
        await execute(dut, contents, program, rng=rng, latency=latency, stalls=stalls)


@cocotb.test()
async def full_fifo(dut):
    options = bench_options()
    config, rng = config_of(options["shape"]), random.Random(options["seed"])
    contents = Contents.random(config, seed=options["seed"])
    await streams.start(dut, inputs=INPUTS)
    for make in (stream_of, act_of):
        await _fill(dut, contents, [make(config, rng=rng) for _ in range(12)], rng=rng)


async def _fill(dut, contents: Contents, program: list[Instruction], *, rng) -> None:
    """Leave the columns for 400 cycles, then take them all."""
    commands = Commands(dut, program, rng=rng)
    sink = Sink(dut, "columns", rng=rng, stall=2.0)
    act = WordMemory(dut, "act", contents.words, rng=rng)
    mem = ExternalMemory(dut, contents, rng=rng, latency=8)
    models = [commands, act, mem, sink]
    cycles = iter(range(400))
    await run(dut, models, until=lambda: next(cycles) == 399, timeout=400)
    assert not commands.finished
    sink.stall = 0.0
    expected = [column for instruction in program for column in contents.columns(instruction)]
    await run(dut, models, until=lambda: len(sink.values) == len(expected), timeout=9000)
    assert [contents.masked(value) for value in sink.values] == expected


@cocotb.test()
async def one_beat_per_cycle(dut):
    options = bench_options()
    config, rng = config_of(options["shape"]), random.Random(options["seed"])
    contents = Contents.random(config, seed=options["seed"])
    await streams.start(dut, inputs=INPUTS)
    latency = 32
    program = [
        Instruction(Op.FETCH_STREAM, {"ext": 64, "columns": 64, "int4": int4})
        for int4 in (0, 1, 0, 1)
    ]
    models = await execute(dut, contents, program, rng=rng, latency=latency)
    beats = models.mem.beats
    assert beats[-1] - beats[0] == len(beats) - 1, "a gap between beats"
    assert models.mem.commands[0] - models.commands.taken[0] == 4
    # From a beat to its column: three cycles of beat FIFO, one of unpacking, two of column FIFO.
    assert models.sink.taken[-1] - beats[-1] == 6
    assert models.commands.completed[-1] - beats[-1] == 4


@cocotb.test()
async def one_word_per_cycle(dut):
    options = bench_options()
    config, rng = config_of(options["shape"]), random.Random(options["seed"])
    contents = Contents.random(config, seed=options["seed"])
    await streams.start(dut, inputs=INPUTS)
    fields = {"stride": 3, "n": 4 * config.cols, "n_tiles": 4, "k_tiles": 3, "k_last": 1}
    program = [Instruction(Op.FETCH_ACT, {"base": base, **fields}) for base in (0, 7, 20)]
    models = await execute(dut, contents, program, rng=rng)
    taken = models.act.taken
    assert taken[-1] - taken[0] == len(taken) - 1, "a gap between reads"
    assert taken[0] - models.commands.taken[0] == 4
    assert models.commands.completed[-1] - taken[-1] == READ_LATENCY + 1
    assert models.sink.taken[-1] - taken[-1] == READ_LATENCY + 3


def bench(shape: str, *, simulator: str, testcase: str, seed: int, count: int = 12) -> None:
    run_bench(
        FetchUnit(config_of(SHAPES[shape])),
        module="test_fetch",
        simulator=simulator,
        testcase=testcase,
        options={"shape": SHAPES[shape], "count": count},
        seed=seed,
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_random_programs(shape: str) -> None:
    bench(shape, simulator="verilator", testcase="random_programs", seed=21)


@pytest.mark.parametrize("shape", ["4x4", "12x6", "12x6 scales"])
def test_random_programs_icarus(shape: str) -> None:
    bench(shape, simulator="icarus", testcase="random_programs", seed=22, count=6)


@both_simulators
def test_columns_are_kept_when_nobody_takes_them(simulator: str) -> None:
    bench("4x4", simulator=simulator, testcase="full_fifo", seed=23)


def test_stream_takes_one_beat_per_cycle() -> None:
    bench("16x8", simulator="verilator", testcase="one_beat_per_cycle", seed=24)


def test_act_takes_one_word_per_cycle() -> None:
    bench("16x8", simulator="verilator", testcase="one_word_per_cycle", seed=25)
