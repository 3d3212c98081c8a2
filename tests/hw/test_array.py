"""The systolic array and its processing element against NumPy."""

from __future__ import annotations

import random

import cocotb
import numpy as np
import pytest
import streams
from cocotb.triggers import FallingEdge, ReadOnly
from streams import both_simulators

from intformer.config import CoreConfig
from intformer.hw.matmul.array import ProcessingElement, SystolicArray, psum_width
from intformer.sim.runner import bench_options, run_bench

SHAPES = {"4x4": (4, 4, 2), "2x2": (2, 2, 1), "6x12": (6, 12, 2), "16x8": (16, 8, 4)}


def config_of(shape: list[int]) -> CoreConfig:
    rows, cols, lanes = shape
    return CoreConfig(name="test", rows=rows, cols=cols, lanes=lanes)


def random_matrix(rng: random.Random, shape: tuple[int, ...], low: int, high: int) -> np.ndarray:
    """Integers from ``low`` to ``high``; in a third of the cases only these two."""
    gen = np.random.default_rng(rng.getrandbits(32))
    if rng.random() < 0.33:
        return gen.choice([low, high], shape)
    return gen.integers(low, high + 1, shape)


def pack(values: np.ndarray, bits: int) -> int:
    return streams.pack([(int(value), bits) for value in values])


def unpack(word: int, bits: int, count: int) -> list[int]:
    half, mask = 1 << (bits - 1), (1 << bits) - 1
    return [((word >> bits * i & mask) ^ half) - half for i in range(count)]


class Schedule:
    """What enters the array in each cycle, and what must leave it.

    Tiles follow each other as fast as the array allows, with random gaps: the first shift comes
    ``cols - 1`` cycles after the switch before, the switch any time after the last shift.
    """

    def __init__(self, config: CoreConfig, *, tiles: int, rng: random.Random) -> None:
        rows, cols = config.rows, config.cols
        self.shifts: dict[int, np.ndarray] = {}
        self.vectors: dict[int, np.ndarray] = {}
        self.switches: set[int] = set()
        self.sums: dict[int, np.ndarray] = {}
        now, switched, weights = 0, 1 - cols, np.zeros((cols, rows), np.int64)
        for _ in range(tiles):
            tile = random_matrix(rng, (cols, rows), -128, 127)
            free = switched + cols - 1
            for column in tile[::-1]:
                free += rng.choice([0, 0, rng.randrange(3)])
                self.shifts[free] = column
                free += 1
            start = max(free, now) + rng.choice([0, rng.randrange(4)])
            for cycle in range(now, start):  # the old tile stays in use until then
                self._feed(cycle, weights, rows, rng)
            weights, switched, now = tile, start, start
            self.switches.add(start)
            for _ in range(rng.choice([1, 1, 3, 3 * cols])):
                self._feed(now, weights, rows, rng)
                now += 1
        self.cycles = now

    def _feed(self, cycle: int, weights: np.ndarray, rows: int, rng: random.Random) -> None:
        low, high = rng.choice([(-128, 127), (0, 255)])
        vector = random_matrix(rng, (rows,), low, high)
        self.vectors[cycle] = vector
        self.sums[cycle] = weights @ vector


@cocotb.test()
async def tiles(dut):
    options = bench_options()
    config, latency = config_of(options["shape"]), options["latency"]
    rng = random.Random(options["seed"])
    dut._log.info("seed %d", options["seed"])
    await streams.start(dut, inputs={"a": 0, "w": 0, "switch": 0, "shift": 0})
    schedule = Schedule(config, tiles=40, rng=rng)
    first = min(schedule.switches)  # before it the weights are undefined
    bits = psum_width(config.rows)
    for cycle in range(schedule.cycles + latency + config.cols):
        vector, column = schedule.vectors.get(cycle), schedule.shifts.get(cycle)
        dut.a.value = rng.getrandbits(len(dut.a)) if vector is None else pack(vector, 9)
        dut.w.value = rng.getrandbits(len(dut.w)) if column is None else pack(column, 8)
        dut.shift.value = int(column is not None)
        dut.switch.value = int(cycle in schedule.switches)
        await ReadOnly()
        word = int(dut.psum.value) if cycle - latency >= first + config.cols else 0
        for index, value in enumerate(unpack(word, bits, config.cols)):
            entered = cycle - latency - index
            if entered >= first + config.cols and entered in schedule.sums:
                expected = int(schedule.sums[entered][index])
                assert value == expected, f"cycle {cycle}, column {index}"
        await FallingEdge(dut.clk)


@cocotb.test()
async def corner_products(dut):
    """Every pair of corner operands, with the partial sum at both ends of its range."""
    above = bench_options()["above"]
    await streams.start(dut, inputs=dict.fromkeys(("a", "w", "switch", "shift", "psum"), 0))
    for weight in (-128, -127, -1, 0, 1, 127):
        for activation in (-128, -1, 0, 1, 127, 128, 255):
            for psum in (-above * 255 * 128, above * 255 * 127):
                dut.w.value = weight & 0xFF
                dut.a.value = activation & 0x1FF
                dut.psum.value = psum & ((1 << psum_width(above)) - 1)
                # The weight enters the shadow register, then, with `switch`, the multiplier;
                # activation, product and sum are one register each.
                for shift, switch in ((1, 0), (0, 1), (0, 0), (0, 0)):
                    dut.shift.value, dut.switch.value = shift, switch
                    await FallingEdge(dut.clk)
                assert dut.psum_out.value.to_signed() == psum + weight * activation


@pytest.mark.parametrize("rows", [1, 2, 3, 16, 64])
def test_psum_width_is_just_enough(rows: int) -> None:
    low, high = -255 * 128 * rows, 255 * 127 * rows
    bits = psum_width(rows)
    assert -(1 << (bits - 1)) <= low
    assert high < 1 << (bits - 1)
    assert low < -(1 << (bits - 2))


@pytest.mark.parametrize("shape", SHAPES)
def test_tiles(shape: str) -> None:
    _tiles(shape, simulator="verilator", seed=31)


@pytest.mark.parametrize("shape", ["4x4", "6x12"])
def test_tiles_icarus(shape: str) -> None:
    _tiles(shape, simulator="icarus", seed=32)


def _tiles(shape: str, *, simulator: str, seed: int) -> None:
    array = SystolicArray(config_of(SHAPES[shape]))
    run_bench(
        array,
        module="test_array",
        simulator=simulator,
        testcase="tiles",
        options={"shape": SHAPES[shape], "latency": array.latency},
        seed=seed,
    )


@both_simulators
@pytest.mark.parametrize("above", [1, 7])
def test_corner_products(above: int, simulator: str) -> None:
    run_bench(
        ProcessingElement(above=above),
        module="test_array",
        simulator=simulator,
        testcase="corner_products",
        options={"above": above},
    )
