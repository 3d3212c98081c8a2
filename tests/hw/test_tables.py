"""The tables answer every lane with what was written last, ``READ_LATENCY`` cycles later."""

import random

import cocotb
import numpy as np
import pytest
import streams
from cocotb.triggers import FallingEdge, ReadOnly
from post_bench import Memories, random_function
from streams import both_simulators

from intformer.config import CoreConfig
from intformer.function_layout import pack_function
from intformer.hw.memory.functions import FunctionTables
from intformer.hw.memory.tables import ActivationTables, ExpTables, LaneTables
from intformer.hw.ports import READ_LATENCY
from intformer.sim.runner import bench_options, run_bench

ENTRIES = 256
ADDRESS_BITS = 10
WRITE = ("write__valid", "write__payload")


def _addresses(options: dict, written: list[int], rng: random.Random) -> list[int]:
    """An address for each lane, of an entry that was written; often a recent one."""
    recent = written[-4:]
    return [rng.choice(rng.choice([written, recent])) for _ in range(options["lanes"])]


def _entries(vector: int, *, lanes: int, bits: int) -> list[int]:
    return [vector >> bits * lane & ((1 << bits) - 1) for lane in range(lanes)]


def _writes(options: dict, rng: random.Random) -> list[tuple[int, int]]:
    """Every address once in random order, then some again."""
    size = ENTRIES * options["tables"]
    order = [*rng.sample(range(size), size), *rng.choices(range(size), k=size)]
    return [(address, streams.random_bits(options["bits"], rng=rng)) for address in order]


@cocotb.test()
async def answers(dut):
    options = bench_options()
    dut._log.info("seed %d", options["seed"])
    rng = random.Random(options["seed"])
    lanes, bits = options["lanes"], options["bits"]
    inputs = ("addr", "write__valid", "write__payload")
    await streams.start(dut, inputs=dict.fromkeys(inputs, 0))
    writes = _writes(options, rng)
    contents: dict[int, int] = {}
    coming: list[list[int] | None] = [None] * READ_LATENCY
    while writes or any(coming):
        write = writes.pop() if writes and rng.random() < 0.7 else None
        reads = _addresses(options, list(contents), rng) if contents and writes else None
        index, value = write or (rng.randrange(ENTRIES), rng.getrandbits(bits))
        dut.write__valid.value = int(write is not None)
        dut.write__payload.value = index // ENTRIES | index % ENTRIES << 2 | value << ADDRESS_BITS
        dut.addr.value = sum(
            (a % ENTRIES | a // ENTRIES << 8) << ADDRESS_BITS * lane
            for lane, a in enumerate(reads or [0] * lanes)
        )
        await ReadOnly()
        assert int(dut.write__ready.value) == 1
        expected = coming.pop(0)
        if expected is not None:
            assert _entries(int(dut.data.value), lanes=lanes, bits=bits) == expected
        # A write is seen by the addresses of its own cycle and later ones.
        if write is not None:
            contents[index] = value
        coming.append([contents[a] for a in reads] if reads else None)
        await FallingEdge(dut.clk)


def _run(design: LaneTables, *, simulator: str, lanes: int, tables: int, bits: int) -> None:
    run_bench(
        design,
        module="test_tables",
        simulator=simulator,
        testcase="answers",
        options={"lanes": lanes, "tables": tables, "bits": bits},
        seed=41,
    )


@both_simulators
@pytest.mark.parametrize(("lanes", "tables", "bits"), [(1, 1, 8), (2, 4, 24), (4, 3, 5)])
def test_answers(simulator: str, lanes: int, tables: int, bits: int) -> None:
    design = LaneTables(lanes=lanes, tables=tables, bits=bits)
    _run(design, simulator=simulator, lanes=lanes, tables=tables, bits=bits)


@pytest.mark.parametrize(("kind", "tables", "bits"), [(ExpTables, 3, 24), (ActivationTables, 2, 8)])
def test_tables_of_a_core(kind: type[LaneTables], tables: int, bits: int) -> None:
    config = CoreConfig(name="bench", rows=4, cols=4, lanes=2, exp_tables=3, act_tables=2)
    _run(kind(config), simulator="verilator", lanes=2, tables=tables, bits=bits)


@cocotb.test()
async def answers_segments(dut):
    """The tables of functions: segments of every lane, and the limits of the chosen table."""
    options = bench_options()
    dut._log.info("seed %d", options["seed"])
    rng = random.Random(options["seed"])
    lanes, tables = options["lanes"], options["tables"]
    await streams.start(dut, inputs=dict.fromkeys(("addr", "table", *WRITE), 0))
    gen = np.random.default_rng(options["seed"])
    functions = [random_function(gen) for _ in range(tables)]
    entries = [np.frombuffer(pack_function(f), "<u8").tolist() for f in functions]
    for table, words in enumerate(entries):
        for index, word in enumerate(words):
            dut.write__valid.value = 1
            dut.write__payload.value = table | index << 2 | word << 12
            await FallingEdge(dut.clk)
            assert int(dut.write__ready.value) == 1
    dut.write__valid.value = 0
    # As POST's bench packs them.
    config = CoreConfig(name="b", rows=4, cols=4, lanes=lanes, functions=tables)
    memories = Memories(config, seed=0)
    memories.functions = functions
    for table in (*range(tables), *range(tables)):
        dut.table.value = table
        await FallingEdge(dut.clk)
        assert int(dut.limits.value) == memories.limits(table)
    coming: list[list[int] | None] = [None] * READ_LATENCY
    for _ in range(2000):
        reads = [(rng.randrange(tables), rng.randrange(512)) for _ in range(lanes)]
        dut.addr.value = sum((k | t << 9) << 11 * lane for lane, (t, k) in enumerate(reads))
        coming.append([entries[t][k] for t, k in reads])
        await ReadOnly()
        expected = coming.pop(0)
        if expected is not None:
            assert _entries(int(dut.data.value), lanes=lanes, bits=64) == expected
        await FallingEdge(dut.clk)


@both_simulators
@pytest.mark.parametrize(("lanes", "tables"), [(1, 1), (2, 3), (4, 4)])
def test_tables_of_functions(simulator: str, lanes: int, tables: int) -> None:
    config = CoreConfig(name="bench", rows=4, cols=4, lanes=lanes, functions=tables)
    run_bench(
        FunctionTables(config),
        module="test_tables",
        simulator=simulator,
        testcase="answers_segments",
        options={"lanes": lanes, "tables": tables},
        seed=42,
    )


def test_no_tables_of_functions() -> None:
    with pytest.raises(ValueError, match="functions must be at least 1, not 0"):
        FunctionTables(CoreConfig(name="bench", rows=4, cols=4, lanes=1))


@pytest.mark.parametrize("tables", [0, 5])
def test_init_wrong_tables(tables: int) -> None:
    with pytest.raises(ValueError, match=f"tables must be from 1 to 4, not {tables}"):
        LaneTables(lanes=1, tables=tables, bits=8)
