"""The systolic array in all formats against NumPy."""

from __future__ import annotations

import random
from typing import Any

import cocotb
import numpy as np
import pytest
import streams
from cocotb.triggers import FallingEdge, ReadOnly
from multiplier_models import multiplier_model

from intformer.hw import verilog
from intformer.hw.matmul.array import SystolicArray
from intformer.sim.runner import bench_options, run_bench


def array_of(options: dict[str, Any]) -> SystolicArray:
    """The array that ``options`` describe."""
    return SystolicArray(**{k: v for k, v in options.items() if k != "seed"})


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
    with the switch before, the switch ``load_latency`` cycles or more after the last shift.
    """

    def __init__(self, array: SystolicArray, *, tiles: int, rng: random.Random) -> None:
        rows, cols = array.shape.rows, array.shape.cols
        self._format = form = array.shape.format
        self.shifts: dict[int, np.ndarray] = {}
        self.vectors: dict[int, np.ndarray] = {}
        self.switches: set[int] = set()
        self.sums: dict[int, np.ndarray] = {}
        now, switched, weights = 0, 0, np.zeros((cols, rows), np.int64)
        for _ in range(tiles):
            tile = random_matrix(rng, (cols, rows), form.weight_min, form.weight_max)
            free = switched
            for column in tile[::-1]:
                free += rng.choice([0, 0, rng.randrange(3)])
                self.shifts[free] = column
                free += 1
            free += array.load_latency - 1
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
        top = self._format.activation_max
        low, high = rng.choice([(-128, 127), (0, top), (-128, top)])
        low, high = max(low, self._format.activation_min), min(high, top)
        vector = random_matrix(rng, (rows, self._format.vectors), low, high)
        self.vectors[cycle] = vector
        self.sums[cycle] = weights @ vector


@cocotb.test()
async def tiles(dut):
    options = bench_options()
    array = array_of(options)
    rng = random.Random(options["seed"])
    dut._log.info("seed %d", options["seed"])
    await streams.start(dut, inputs={"a": 0, "w": 0, "switch": 0, "shift": 0})
    schedule = Schedule(array, tiles=40, rng=rng)
    first = min(schedule.switches)  # before it the weights are undefined
    bits, vectors = array.psum_shape.width, array.shape.format.vectors
    checked = 0
    for cycle in range(schedule.cycles + array.latency + array.shape.cols):
        vector, column = schedule.vectors.get(cycle), schedule.shifts.get(cycle)
        a_bits, w_bits = array.shape.format.activation_bits, array.shape.format.weight_bits
        dut.a.value = rng.getrandbits(len(dut.a)) if vector is None else pack(vector.flat, a_bits)
        dut.w.value = rng.getrandbits(len(dut.w)) if column is None else pack(column, w_bits)
        dut.shift.value = int(column is not None)
        dut.switch.value = int(cycle in schedule.switches)
        await ReadOnly()
        word = int(dut.psum.value) if cycle - array.latency >= first + array.shape.cols else 0
        for index, value in enumerate(unpack(word, bits, array.shape.cols * vectors)):
            entered = cycle - array.latency - array.delay(index // vectors)
            if entered >= first + array.shape.cols and entered in schedule.sums:
                expected = int(schedule.sums[entered].flat[index])
                assert value == expected, f"cycle {cycle}, sum {index}"
                checked += 1
        await FallingEdge(dut.clk)
    assert checked > 20 * array.shape.cols


def _tiles(
    options: dict[str, Any],
    *,
    simulator: str = "verilator",
    seed: int,
    design: str | None = None,
) -> None:
    run_bench(
        design or array_of(options),
        module="test_array",
        simulator=simulator,
        testcase="tiles",
        options=options,
        seed=seed,
    )


CASES = {
    "int8": {"rows": 11, "cols": 3, "format": "int8"},
    "int8_packed": {"rows": 11, "cols": 4, "format": "int8_packed"},
    "int8_packed, smallest": {"rows": 1, "cols": 2, "format": "int8_packed"},
    "int8_packed, int8": {"rows": 9, "cols": 2, "format": "int8_packed", "activation_bits": 8},
    "int8_packed, ice40": {"rows": 9, "cols": 2, "format": "int8_dual"},
    "w4a8_packed": {"rows": 10, "cols": 4, "format": "w4a8_packed"},
    "w4a8_packed, int8": {"rows": 11, "cols": 2, "format": "w4a8_packed", "activation_bits": 8},
    "w4a4_packed": {"rows": 9, "cols": 4, "format": "w4a4_packed"},
    "int8_luts": {"rows": 9, "cols": 2, "format": "int8_luts"},
    "int4_luts": {"rows": 5, "cols": 3, "format": "int4_luts"},
}


@pytest.mark.parametrize("case", CASES)
def test_tiles(case: str) -> None:
    _tiles(CASES[case], seed=31)


@pytest.mark.parametrize("case", ["int8_packed", "w4a8_packed"])
def test_tiles_icarus(case: str) -> None:
    _tiles(CASES[case], simulator="icarus", seed=32)


@pytest.mark.parametrize(
    ("target", "form"), [("ecp5", "w4a8_packed"), ("ice40", "int8_packed"), ("gowin", "int8")]
)
def test_tiles_on_primitives(target: str, form: str) -> None:
    """With a family's multiplier blocks the array does the same, in the same cycles."""
    options = {"rows": 2, "cols": 2, "format": form, "target": target}
    text = verilog.emit(array_of(options), name="dut") + multiplier_model(target)
    _tiles(options, design=text, seed=33)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rows": 0}, "rows must be from 1 to 64, not 0"),
        ({"cols": 65}, "cols must be from 1 to 64, not 65"),
        ({"cols": 5}, "cols must be even for format int8_packed, not 5"),
        ({"format": "int3"}, "format must be one of int8, "),
        ({"activation_bits": 10}, "activation_bits must be 8 or 9, not 10"),
        ({"target": "virtex"}, "target must be one of "),
    ],
)
def test_wrong_arguments(changed: dict[str, Any], message: str) -> None:
    arguments = {"rows": 4, "cols": 4, "format": "int8_packed"} | changed
    with pytest.raises(ValueError, match=message):
        SystolicArray(**arguments)


@pytest.mark.parametrize("form", ["int8", "int8_packed", "w4a8_packed"])
@pytest.mark.parametrize("rows", [1, 2, 3, 16, 64])
def test_psum_is_just_wide_enough(form: str, rows: int) -> None:
    array = SystolicArray(rows=rows, cols=2, format=form)
    kind = array.shape.format
    low = kind.activation_max * kind.weight_min * rows
    bits = array.psum_shape.width
    assert -(1 << (bits - 1)) <= low < -(1 << (bits - 2))
