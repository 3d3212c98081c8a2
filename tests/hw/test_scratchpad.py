"""The scratchpads and the parameter memory: every port, every cycle, against NumPy."""

import random
from collections import deque

import cocotb
import numpy as np
import pytest
import streams
from cocotb.triggers import FallingEdge, ReadOnly
from models import unpack
from streams import both_simulators, random_bits

from intformer.config import CoreConfig
from intformer.hw.memory.scratchpad import ActScratchpad, MemoryCopy, ParamMemory, WideScratchpad
from intformer.hw.ports import READ_LATENCY
from intformer.isa import Unit
from intformer.sim.runner import bench_options, run_bench

WORDS = 19
NARROW = ["narrow_post_src", "narrow_row", "narrow_move", "narrow_dma"]
READERS = {
    "act": [["wide_matmul", "wide_fetch"], ["narrow_post_res", *NARROW]],
    "wide": [["residual"], NARROW],
}
"""Clients of each copy, in their order."""
WRITERS = {"post": Unit.POST, "row": Unit.ROW, "move": Unit.MOVE, "dma": Unit.DMA}


def config(*, rows: int, lanes: int) -> CoreConfig:
    return CoreConfig(
        name="bench",
        rows=rows,
        cols=rows,
        lanes=lanes,
        act_words=WORDS,
        wide_words=WORDS,
        param_groups=WORDS,
    )


class Request:
    """A client that asks at random and holds its request until it is taken."""

    def __init__(self, dut, name: str, make, *, rng: random.Random, activity: float) -> None:
        self.valid = getattr(dut, f"{name}__valid")
        self.ready = getattr(dut, f"{name}__ready")
        self.payload = getattr(dut, f"{name}__payload")
        self._make = make
        self._rng = rng
        self._activity = activity
        self.value = None

    def drive(self) -> None:
        if self.value is None and self._rng.random() < self._activity:
            self.value = self._make()
        self.valid.value = int(self.value is not None)
        idle = self._rng.getrandbits(len(self.payload))
        self.payload.value = idle if self.value is None else self.value


class Sharing:
    """The clients of a memory port, and who holds its grant."""

    def __init__(self, clients: dict[str, Request]) -> None:
        self.clients = clients
        self._names = list(clients)
        self._strict = self._names[0] == "wide_matmul"
        self._holder: str | None = None

    def take(self) -> tuple[str, int] | None:
        """The request taken in this cycle; checks that it is of the client that holds the grant."""
        ready = [name for name, client in self.clients.items() if int(client.ready.value)]
        assert len(ready) == 1, f"ready: {ready}"
        holder = ready[0]
        assert self._holder in (None, holder), f"{holder} has the grant of {self._holder}"
        asking = [name for name, client in self.clients.items() if client.value is not None]
        wanted = asking if self._strict else [name for name in asking if name != holder]
        idle = self._names[0] if self._strict else holder
        self._holder = wanted[0] if wanted else idle
        if holder not in asking:
            return None
        value, self.clients[holder].value = self.clients[holder].value, None
        return holder, value


class ScratchpadBench:
    """All clients of a scratchpad, and the model of what they see."""

    def __init__(self, dut, kind: str, core: CoreConfig, *, rng: random.Random, activity: float):
        self.dut = dut
        self.rng = rng
        self.lanes = core.lanes
        self.bits = 8 if kind == "act" else 16
        self.groups = core.groups_per_word if kind == "act" else 1
        dtype = np.uint8 if kind == "act" else "<u2"
        self.memory = np.zeros((WORDS, self.groups * core.lanes), dtype)
        options = {"rng": rng, "activity": activity}
        self.readers = [
            {
                name: Request(
                    dut,
                    f"{name}__req",
                    self.random_word if name.startswith("wide_") else self.random_place,
                    **options,
                )
                for name in names
            }
            for names in READERS[kind]
        ]
        self.writers = {
            name: Request(dut, f"write_{name}__req", self.random_item, **options)
            for name in WRITERS
        }
        self._reads = [Sharing(clients) for clients in self.readers]
        self._writes = Sharing(self.writers)
        self.expected = deque([[]] * READ_LATENCY)
        self.traced = None

    def random_word(self) -> int:
        return self.rng.randrange(WORDS)

    def random_place(self) -> int:
        return streams.pack([(self.random_word(), 18), (self.rng.randrange(self.groups), 4)])

    def random_item(self) -> int:
        mask = random_bits(self.lanes, rng=self.rng)
        data = random_bits(self.bits * self.lanes, rng=self.rng)
        place = self.random_place()
        return streams.pack([(place, 22), (mask, self.lanes), (data, self.bits * self.lanes)])

    def drive(self) -> None:
        for clients in (*self.readers, self.writers):
            for client in clients.values():
                client.drive()

    def sample(self) -> None:
        self._check_data()
        self._check_trace()
        reads = []
        for sharing in self._reads:
            taken = sharing.take()
            if taken:
                name, request = taken
                word, sub = unpack(request, [18, 4])
                row = self.memory[word]
                if not name.startswith("wide_"):
                    row = row[sub * self.lanes : (sub + 1) * self.lanes]
                reads.append((name, int.from_bytes(row.tobytes(), "little")))
        self.expected.append(reads)
        if self.traced:  # a write is seen two cycles after it was taken
            self._write(self.traced[1])
        self.traced = self._writes.take()

    def _write(self, item: int) -> None:
        word, sub, *mask = unpack(item, [18, 4, *[1] * self.lanes])
        data = unpack(item >> (22 + self.lanes), [self.bits] * self.lanes)
        for lane in range(self.lanes):
            if mask[lane]:
                self.memory[word, sub * self.lanes + lane] = data[lane]

    def _check_data(self) -> None:
        for name, value in self.expected.popleft():
            data = int(getattr(self.dut, f"{name}__data").value)
            assert data == value, f"{name}: {data:#x}, not {value:#x}"

    def _check_trace(self) -> None:
        valid = int(self.dut.trace__valid.value)
        assert valid == (self.traced is not None)
        if valid:
            name, item = self.traced
            assert int(self.dut.trace__unit.value) == WRITERS[name]
            widths = {"word": 18, "sub": 4, "mask": self.lanes, "data": self.bits * self.lanes}
            for (field, _), value in zip(
                widths.items(), unpack(item, list(widths.values())), strict=True
            ):
                assert int(getattr(self.dut, f"trace__{field}").value) == value, field


@cocotb.test()
async def scratchpad(dut):
    options = bench_options()
    core = config(**options["core"])
    bench = None
    for activity in (0.2, 0.6, 1.0):
        seed = options["seed"] + int(10 * activity)
        dut._log.info("seed %d, activity %.1f", seed, activity)
        rng = random.Random(seed)
        held = None if bench is None else bench.memory
        bench = ScratchpadBench(dut, options["kind"], core, rng=rng, activity=activity)
        if held is None:
            await streams.start(dut, inputs=idle_inputs(bench))
        else:
            bench.memory = held
        for _ in range(options["cycles"]):
            bench.drive()
            await ReadOnly()
            bench.sample()
            await FallingEdge(dut.clk)
        await drain(dut, bench)


def idle_inputs(bench: ScratchpadBench) -> dict[str, int]:
    readers = [f"{name}__req__valid" for clients in bench.readers for name in clients]
    return dict.fromkeys([*readers, *(f"write_{name}__req__valid" for name in WRITERS)], 0)


async def drain(dut, bench: ScratchpadBench) -> None:
    """Let every request be taken and every response arrive."""
    for clients in (*bench.readers, bench.writers):
        for client in clients.values():
            client._activity = 0
    for _ in range(16):
        bench.drive()
        await ReadOnly()
        bench.sample()
        await FallingEdge(dut.clk)


@cocotb.test()
async def parameters(dut):
    options = bench_options()
    seed, width = options["seed"], 64 * options["core"]["lanes"]
    dut._log.info("seed %d", seed)
    rng = random.Random(seed)
    await streams.start(dut, inputs={"write__valid": 0, "post__addr": 0, "row__addr": 0})
    memory = [0] * WORDS
    expected = deque([{}] * READ_LATENCY)
    for _ in range(options["cycles"]):
        valid, addr, value = rng.random() < 0.5, rng.randrange(WORDS), random_bits(width, rng=rng)
        reads = {name: rng.randrange(WORDS) for name in ("post", "row")}
        dut.write__valid.value = int(valid)
        dut.write__payload.value = streams.pack([(addr, 12), (value, width)])
        for name, read in reads.items():
            getattr(dut, f"{name}__addr").value = read
        await ReadOnly()
        assert int(dut.write__ready.value)
        for name, data in expected.popleft().items():
            assert int(getattr(dut, f"{name}__data").value) == data, name
        # What is being written cannot be read in the same cycle.
        sure = {name: read for name, read in reads.items() if not (valid and read == addr)}
        expected.append({name: memory[read] for name, read in sure.items()})
        if valid:
            memory[addr] = value
        await FallingEdge(dut.clk)


CORES = [{"rows": 12, "lanes": 2}, {"rows": 12, "lanes": 4}, {"rows": 4, "lanes": 1}]
cores = pytest.mark.parametrize("core", CORES, ids=lambda core: "-".join(map(str, core.values())))


@both_simulators
@cores
@pytest.mark.parametrize("kind", ["act", "wide"])
def test_scratchpad(simulator: str, core: dict[str, int], kind: str) -> None:
    design = {"act": ActScratchpad, "wide": WideScratchpad}[kind]
    run_bench(
        design(config(**core)),
        module="test_scratchpad",
        testcase="scratchpad",
        simulator=simulator,
        options={"core": core, "kind": kind, "seed": 21, "cycles": 300},
    )


@both_simulators
@cores
def test_parameters(simulator: str, core: dict[str, int]) -> None:
    run_bench(
        ParamMemory(config(**core)),
        module="test_scratchpad",
        testcase="parameters",
        simulator=simulator,
        options={"core": core, "seed": 4, "cycles": 300},
    )


def test_memory_copy_refuses_widths() -> None:
    with pytest.raises(ValueError, match=r"groups \(5\).*not 32"):
        MemoryCopy(32, depth=16, groups=5, granularity=8)
