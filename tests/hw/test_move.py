"""The MOVE unit against NumPy: any loops, strides and lanes."""

import random

import cocotb
import numpy as np
import pytest
import streams
from models import ReadPortModel, StreamSink, UnitModel, run, unpack
from streams import both_simulators

from intformer.config import CoreConfig
from intformer.hw.move.unit import MoveUnit
from intformer.hw.ports import READ_LATENCY
from intformer.isa import Instruction, Mem, Op
from intformer.sim.runner import bench_options, run_bench

WORDS = 96
CYCLES_BESIDE_ELEMENTS = READ_LATENCY + 7
"""From the cycle in which a MOVE is taken to ``done``, less one per element."""


def config(*, rows: int, lanes: int) -> CoreConfig:
    return CoreConfig(name="bench", rows=rows, cols=rows, lanes=lanes)


def radix(core: CoreConfig, mem: int) -> int:
    return core.rows if mem == Mem.ACT else core.lanes


def positions(core: CoreConfig, ins: Instruction, operand: str) -> np.ndarray:
    """Element positions of ``src`` or ``dst``, in the order of the loops."""
    width = radix(core, ins["mem"])
    place = np.array(ins[operand] * width + ins[f"{operand}_lane"])
    for axis in range(3):
        name = f"{operand[0]}{axis}"
        step = ins[name] * width + ins[f"{name}_lane"]
        place = place[..., None] + step * np.arange(ins[f"n{axis}"])
    return place.ravel() % (width << 18)


def reference(core: CoreConfig, chip: dict[Mem, np.ndarray], ins: Instruction) -> None:
    memory = chip[Mem(ins["mem"])]
    memory[positions(core, ins, "dst")] = memory[positions(core, ins, "src")].copy()


def random_loops(core: CoreConfig, mem: Mem, operand: str, counts: list[int], *, rng, low, high):
    """Fields of one operand such that every position has a word in ``low..high-1``."""
    width = radix(core, mem)
    while True:
        fields = {operand: rng.randrange(low, high), f"{operand}_lane": rng.randrange(width)}
        for axis in range(3):
            name = f"{operand[0]}{axis}"
            fields |= {name: rng.randrange(-6, 7), f"{name}_lane": rng.randrange(width)}
        counted = {f"n{axis}": count for axis, count in enumerate(counts)}
        words = positions(
            core, Instruction(Op.MOVE, {"mem": int(mem), **fields, **counted}), operand
        )
        if words.min() >= low * width and words.max() < high * width:
            return fields


def random_move(core: CoreConfig, *, rng: random.Random) -> Instruction:
    """A MOVE from one half of a memory to the other."""
    mem = rng.choice([Mem.ACT, Mem.WIDE])
    counts = [rng.choice([1, 2, 3, rng.randrange(1, 9)]) for _ in range(3)]
    source_first = rng.random() < 0.5
    halves = [(0, WORDS // 2), (WORDS // 2, WORDS)]
    if not source_first:
        halves.reverse()
    fields = {"mem": int(mem)} | {f"n{axis}": count for axis, count in enumerate(counts)}
    for operand, (low, high) in zip(("src", "dst"), halves, strict=True):
        fields |= random_loops(core, mem, operand, counts, rng=rng, low=low, high=high)
    return Instruction(Op.MOVE, fields)


def surround(dut, core: CoreConfig, chip: dict[Mem, np.ndarray], *, rng, stall: float) -> list:
    """Models of the scratchpads around the unit, holding ``chip``."""
    lanes = core.lanes

    def first(mem: Mem, word: int, sub: int) -> int:
        assert sub < radix(core, mem) // lanes, f"lane group {sub} of {mem.name}"
        return word * radix(core, mem) + sub * lanes

    def reader(mem: Mem):
        def read(request: int) -> int:
            start = first(mem, *unpack(request, [18, 4]))
            return int.from_bytes(chip[mem][start : start + lanes].tobytes(), "little")

        return read

    def writer(mem: Mem, bits: int):
        def write(item: int) -> None:
            word, sub, mask, *data = unpack(item, [18, 4, lanes, *[bits] * lanes])
            assert mask and mask & (mask - 1) == 0, f"mask {mask:b}"
            lane = mask.bit_length() - 1
            chip[mem][first(mem, word, sub) + lane] = data[lane]

        return write

    options = {"rng": rng, "stall": stall}
    return [
        ReadPortModel(dut, "act_read", reader(Mem.ACT), **options),
        ReadPortModel(dut, "wide_read", reader(Mem.WIDE), **options),
        StreamSink(dut, "act_write__req", writer(Mem.ACT, 8), **options),
        StreamSink(dut, "wide_write__req", writer(Mem.WIDE, 16), **options),
    ]


async def run_moves(dut, core, moves, *, seed: int, stall: float) -> list[int]:
    """Run on DUT and reference; compare both memories at every ``done``; return the cycles."""
    rng = random.Random(seed)
    values = np.random.default_rng(seed)
    chip = {
        Mem.ACT: values.integers(0, 1 << 8, WORDS * core.rows, dtype=np.uint8),
        Mem.WIDE: values.integers(0, 1 << 16, WORDS * core.lanes).astype("<u2"),
    }
    expected = {mem: memory.copy() for mem, memory in chip.items()}
    models = surround(dut, core, chip, rng=rng, stall=stall)

    def on_done(number: int) -> None:
        reference(core, expected, moves[number])
        for mem, memory in chip.items():
            wrong = np.flatnonzero(memory != expected[mem])
            assert not wrong.size, f"{mem.name} elements {wrong[:8]} after {moves[number]}"

    unit = UnitModel(dut, moves, rng=rng, stall=stall, on_done=on_done)
    await run(dut, [unit, *models], until=lambda: unit.finished, limit=200_000)
    return unit.cycles


@cocotb.test()
async def equals_numpy(dut):
    options = bench_options()
    core = config(**options["core"])
    await streams.start(dut, inputs={"unit__cmd__valid": 0})
    for stall in (0.0, 0.3, 0.8):
        seed = options["seed"] + int(10 * stall)
        dut._log.info("seed %d, stall %.1f", seed, stall)
        rng = random.Random(seed)
        moves = [random_move(core, rng=rng) for _ in range(options["count"])]
        cycles = await run_moves(dut, core, moves, seed=seed, stall=stall)
        if stall == 0:
            elements = [ins["n0"] * ins["n1"] * ins["n2"] for ins in moves]
            assert [c - CYCLES_BESIDE_ELEMENTS for c in cycles] == elements


CORES = [
    {"rows": 12, "lanes": 2},
    {"rows": 12, "lanes": 4},
    {"rows": 4, "lanes": 1},
    {"rows": 16, "lanes": 4},
    {"rows": 64, "lanes": 16},
]


@both_simulators
@pytest.mark.parametrize("core", CORES, ids=lambda core: "-".join(map(str, core.values())))
def test_move_equals_numpy(simulator: str, core: dict[str, int]) -> None:
    run_bench(
        MoveUnit(config(**core)),
        module="test_move",
        testcase="equals_numpy",
        simulator=simulator,
        options={"core": core, "seed": 5, "count": 25 if simulator == "verilator" else 8},
    )
