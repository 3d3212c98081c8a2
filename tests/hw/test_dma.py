"""The DMA unit: LOAD, STORE and GATHER of any size against NumPy."""

import random

import cocotb
import numpy as np
import pytest
import streams
from models import BurstModel, ExternalBytes, ReadPortModel, StreamSink, UnitModel, run, unpack
from streams import both_simulators

from intformer.config import CoreConfig
from intformer.function_layout import TABLE_STRIDE
from intformer.hw.dma.unit import DmaUnit
from intformer.hw.ports import BURST_MAX, READ_LATENCY
from intformer.isa import Instruction, Mem, Op
from intformer.sim.runner import bench_options, run_bench

ACT_WORDS, WIDE_WORDS, PARAM_GROUPS, TABLES = 64, 48, 16, 2
IDS = 40
"""First word of the ids of a GATHER; its rows end before."""


def config(*, rows: int, lanes: int, bus_bytes: int, functions: int = 0) -> CoreConfig:
    return CoreConfig(
        name="bench",
        rows=rows,
        cols=rows,
        lanes=lanes,
        bus_bytes=bus_bytes,
        act_words=ACT_WORDS,
        wide_words=WIDE_WORDS,
        param_groups=PARAM_GROUPS,
        functions=functions,
    )


class State:
    """All memories: each on-chip one as an array of the bytes of its entries."""

    def __init__(self, core: CoreConfig, *, seed: int) -> None:
        rng = np.random.default_rng(seed)
        lanes = core.lanes
        shapes = {
            Mem.ACT: (ACT_WORDS * core.groups_per_word, lanes),
            Mem.WIDE: (WIDE_WORDS, 2 * lanes),
            Mem.PARAM: (PARAM_GROUPS, 8 * lanes),
            Mem.EXP: (256 * TABLES, 4),
            Mem.TABLE: (256 * TABLES, 1),
            Mem.FUNCTION: (TABLE_STRIDE * core.functions, 8),
        }
        self.core = core
        self.chip = {mem: rng.integers(0, 256, s, dtype=np.uint8) for mem, s in shapes.items()}
        self.chip[Mem.EXP][:, 2:] = 0
        self.ext = ExternalBytes(seed=seed)

    def first_entry(self, mem: Mem, addr: int) -> int:
        """Number of the entry at which ``addr`` stands."""
        scale = {
            Mem.ACT: self.core.groups_per_word,
            Mem.EXP: 256,
            Mem.TABLE: 256,
            Mem.FUNCTION: TABLE_STRIDE,
        }
        return addr * scale.get(mem, 1)

    def _fill(self, mem: Mem, first: int, data: np.ndarray) -> None:
        entries = data.reshape(-1, self.chip[mem].shape[1]).copy()
        if mem == Mem.EXP:  # 24 bits are kept
            entries[:, 3] = 0
        self.chip[mem][first : first + len(entries)] = entries

    def apply(self, ins: Instruction) -> None:
        """The reference: what ``ins`` does."""
        mem = Mem(ins["mem"])
        size = self.chip[mem].shape[1]
        first = self.first_entry(mem, ins["addr"])
        if ins.op == Op.LOAD:
            self._fill(mem, first, self.ext.read(ins["ext"], ins["count"] * size))
        elif ins.op == Op.STORE:
            data = self.chip[mem][first : first + ins["count"]].ravel()
            padded = np.zeros(-(-data.size // self.core.bus_bytes) * self.core.bus_bytes, np.uint8)
            padded[: data.size] = data
            self.ext.write(ins["ext"], padded)
        else:
            ids = self.chip[Mem.WIDE].ravel().view("<u2")[ins["idx"] * self.core.lanes :]
            for j, row in enumerate(ids[: ins["n"]].tolist()):
                data = self.ext.read(ins["ext"] + row * ins["ext_stride"], ins["row_groups"] * size)
                self._fill(mem, self.first_entry(mem, ins["addr"] + j * ins["stride"]), data)

    def check_equal(self, other: "State", *, what: str) -> None:
        for mem in Mem:
            assert np.array_equal(self.chip[mem], other.chip[mem]), f"{mem.name} after {what}"
        assert np.array_equal(self.ext.bytes, other.ext.bytes), f"external memory after {what}"


def random_instruction(state: State, *, rng: random.Random) -> Instruction:
    core = state.core
    op = rng.choice([Op.LOAD, Op.LOAD, Op.STORE, Op.GATHER])
    loads = [mem for mem in Mem if mem is not Mem.FUNCTION or core.functions]
    mem = rng.choice(loads if op == Op.LOAD else [Mem.ACT, Mem.WIDE])
    tables = {Mem.EXP: TABLES, Mem.TABLE: TABLES, Mem.FUNCTION: core.functions}
    addr = rng.randrange(tables.get(mem, 12))
    room = len(state.chip[mem]) - state.first_entry(mem, addr)
    ext = rng.getrandbits(32) // core.bus_bytes * core.bus_bytes
    fields = {"mem": int(mem), "addr": addr, "ext": ext}
    if op != Op.GATHER:
        count = rng.choice([1, 2, 3, rng.randrange(1, 40), rng.randrange(1, room + 1)])
        return Instruction(op, fields | {"count": min(count, room)})
    per_word = state.first_entry(mem, 1)
    n = rng.randrange(1, 7)
    stride = rng.randrange(0, 5)
    row_groups = rng.randrange(1, per_word * rng.randrange(1, 9) + 1)
    ext_stride = rng.randrange(0, 0x10000) // core.bus_bytes * core.bus_bytes
    idx = rng.randrange(IDS, WIDE_WORDS - n + 1)
    return Instruction(
        op,
        fields
        | {
            "stride": stride,
            "idx": idx,
            "n": n,
            "row_groups": row_groups,
            "ext_stride": ext_stride,
        },
    )


def surround(
    dut, state: State, *, rng: random.Random, stall: float, memory_stall: float, latency: int
) -> list:
    """Models of the memories around the unit, holding ``state``."""
    core, chip = state.core, state.chip
    lanes = core.lanes

    def entry(mem: Mem, word: int, sub: int) -> int:
        assert sub < (core.groups_per_word if mem == Mem.ACT else 1)
        return state.first_entry(mem, word) + sub

    def store(mem: Mem, index: int, value: int) -> None:
        chip[mem][index] = np.frombuffer(value.to_bytes(chip[mem].shape[1], "little"), np.uint8)

    def lane_groups(mem: Mem, bits: int):
        def take(item: int) -> None:
            word, sub, mask, value = unpack(item, [18, 4, lanes, bits * lanes])
            assert mask == (1 << lanes) - 1
            store(mem, entry(mem, word, sub), value)

        return take

    def tables(mem: Mem, bits: int):
        def take(item: int) -> None:
            table, index, value = unpack(item, [2, 8, bits])
            store(mem, 256 * table + index, value)

        return take

    def functions(item: int) -> None:
        table, index, value = unpack(item, [2, 10, 64])
        store(Mem.FUNCTION, TABLE_STRIDE * table + index, value)

    def params(item: int) -> None:
        store(Mem.PARAM, *unpack(item, [12, 64 * lanes]))

    def reader(mem: Mem):
        def read(request: int) -> int:
            return int.from_bytes(
                chip[mem][entry(mem, *unpack(request, [18, 4]))].tobytes(), "little"
            )

        return read

    options = {"rng": rng, "stall": stall}
    return [
        BurstModel(
            dut,
            state.ext,
            bus_bytes=core.bus_bytes,
            latency=latency,
            rng=rng,
            stall=memory_stall,
        ),
        ReadPortModel(dut, "act_read", reader(Mem.ACT), **options),
        ReadPortModel(dut, "wide_read", reader(Mem.WIDE), **options),
        StreamSink(dut, "act_write__req", lane_groups(Mem.ACT, 8), **options),
        StreamSink(dut, "wide_write__req", lane_groups(Mem.WIDE, 16), **options),
        StreamSink(dut, "param_write", params, rng=rng, stall=0),
        StreamSink(dut, "exp_write", tables(Mem.EXP, 24), rng=rng, stall=0),
        StreamSink(dut, "table_write", tables(Mem.TABLE, 8), rng=rng, stall=0),
        *(
            StreamSink(dut, "function_write", functions, rng=rng, stall=0)
            for _ in range(bool(core.functions))
        ),
    ]


async def run_instructions(
    dut, core, instructions, *, seed, stall, memory_stall=0.0, latency=1
) -> list[int]:
    """Run on DUT and reference; compare all memories at every ``done``; return the cycles."""
    rng = random.Random(seed)
    state, expected = State(core, seed=seed), State(core, seed=seed)
    models = surround(dut, state, rng=rng, stall=stall, memory_stall=memory_stall, latency=latency)

    def on_done(number: int) -> None:
        expected.apply(instructions[number])
        state.check_equal(expected, what=str(instructions[number]))

    unit = UnitModel(dut, instructions, rng=rng, stall=stall, on_done=on_done)
    await run(dut, [unit, *models], until=lambda: unit.finished, limit=400_000)
    return unit.cycles


@cocotb.test()
async def equals_numpy(dut):
    options = bench_options()
    core = config(**options["core"])
    await streams.start(dut, inputs={"unit__cmd__valid": 0, "mem_read__valid": 0})
    for number, (stall, memory_stall) in enumerate(STALLS):
        seed = options["seed"] + number
        dut._log.info("seed %d, stalls %.1f and %.1f", seed, stall, memory_stall)
        rng = random.Random(seed)
        state = State(core, seed=seed)
        instructions = [random_instruction(state, rng=rng) for _ in range(options["count"])]
        await run_instructions(
            dut,
            core,
            instructions,
            seed=seed,
            stall=stall,
            memory_stall=memory_stall,
            latency=rng.choice([1, 4, 30]),
        )


STALLS = [(0.0, 0.0), (0.3, 0.3), (0.9, 0.0), (0.0, 0.9)]
"""Of the on-chip memories and of external memory."""


def expected_cycles(core: CoreConfig, ins: Instruction, *, latency: int) -> int:
    """From the cycle in which ``ins`` is taken to ``done``, if nothing is in the way.

    ``latency``: from a read command to its first beat. A write beat can follow its command in
    the next cycle.
    """
    entry = ENTRY_BYTES[Mem(ins["mem"])](core.lanes)
    groups = ins["row_groups"] if ins.op == Op.GATHER else ins["count"]
    beats = -(-groups * entry // core.bus_bytes)
    if ins.op == Op.LOAD:
        pipeline = 15 if ins["mem"] in (Mem.ACT, Mem.WIDE) else 13
        return pipeline + latency + max(beats, groups)
    if ins.op == Op.STORE:
        end = 0
        for first in range(0, beats, BURST_MAX):  # a burst begins when all its beats are there
            burst = min(beats - first, BURST_MAX)
            ready = 8 + READ_LATENCY + (first + burst) * max(core.bus_bytes // entry, 1)
            end = max(end, ready) + burst
        return end + 2
    end = 0
    for row in range(ins["n"]):
        address = 7 + READ_LATENCY + 4 * row + (READ_LATENCY + 1) * (row // core.lanes)
        # What is left of a row's last beat takes its time, too, before the next row.
        rest = groups if row == ins["n"] - 1 else beats * max(core.bus_bytes // entry, 1)
        end = max(end, address + 10 + latency) + max(beats, rest)
    return end


ENTRY_BYTES = {
    Mem.ACT: lambda lanes: lanes,
    Mem.WIDE: lambda lanes: 2 * lanes,
    Mem.PARAM: lambda lanes: 8 * lanes,
    Mem.EXP: lambda _: 4,
    Mem.TABLE: lambda _: 1,
    Mem.FUNCTION: lambda _: 8,
}


@cocotb.test()
async def cycles(dut):
    options = bench_options()
    core, seed = config(**options["core"]), options["seed"]
    rng = random.Random(seed)
    dut._log.info("seed %d", seed)
    await streams.start(dut, inputs={"unit__cmd__valid": 0, "mem_read__valid": 0})
    state = State(core, seed=seed)
    for latency in (1, 7):
        instructions = [random_instruction(state, rng=rng) for _ in range(options["count"])]
        measured = await run_instructions(
            dut, core, instructions, seed=seed, stall=0.0, latency=latency
        )
        for ins, number in zip(instructions, measured, strict=True):
            assert number == expected_cycles(core, ins, latency=latency), f"{number}: {ins}"


CORES = [
    {"rows": 12, "lanes": 2, "bus_bytes": 1},
    {"rows": 12, "lanes": 4, "bus_bytes": 4},
    {"rows": 12, "lanes": 4, "bus_bytes": 8},
    {"rows": 4, "lanes": 1, "bus_bytes": 2},
    {"rows": 4, "lanes": 1, "bus_bytes": 16},
    {"rows": 16, "lanes": 4, "bus_bytes": 2},
    {"rows": 4, "lanes": 2, "bus_bytes": 4, "functions": 2},
    {"rows": 4, "lanes": 2, "bus_bytes": 16, "functions": 1},
]


@both_simulators
@pytest.mark.parametrize("core", CORES, ids=lambda core: "-".join(map(str, core.values())))
def test_dma_equals_numpy(simulator: str, core: dict[str, int]) -> None:
    run_bench(
        DmaUnit(config(**core)),
        module="test_dma",
        testcase="equals_numpy",
        simulator=simulator,
        options={"core": core, "seed": 11, "count": 40 if simulator == "verilator" else 12},
    )


@both_simulators
@pytest.mark.parametrize("core", CORES[:4], ids=lambda core: "-".join(map(str, core.values())))
def test_dma_cycles(simulator: str, core: dict[str, int]) -> None:
    run_bench(
        DmaUnit(config(**core)),
        module="test_dma",
        testcase="cycles",
        simulator=simulator,
        options={"core": core, "seed": 3, "count": 40 if simulator == "verilator" else 10},
    )
