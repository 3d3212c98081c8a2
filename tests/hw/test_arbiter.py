"""The arbiter of external memory: order, routing, priority and throughput."""

import random
from collections import deque

import cocotb
import numpy as np
import pytest
import streams
from models import ExternalBytes, StreamSink, run, unpack
from streams import both_simulators

from intformer.config import CoreConfig
from intformer.hw.memory.arbiter import GrantArbiter, MemoryArbiter
from intformer.hw.ports import BURST_MAX
from intformer.sim.runner import bench_options, run_bench

READERS = ("instructions", "dma_read", "fetch")
CLIENTS = ("instructions", "dma_read", "dma_write", "fetch")
"""In order of priority."""


def config(*, bus_bytes: int) -> CoreConfig:
    return CoreConfig(name="bench", rows=4, cols=4, lanes=2, bus_bytes=bus_bytes)


class Source:
    """Drives the stream ``name`` with ``values``, at random."""

    def __init__(self, dut, name: str, values, *, rng: random.Random, stall: float) -> None:
        self._valid = getattr(dut, f"{name}__valid")
        self._ready = getattr(dut, f"{name}__ready")
        self._payload = getattr(dut, f"{name}__payload")
        self.values = deque(values)
        self._rng = rng
        self._stall = stall
        self.offered = False

    def drive(self) -> None:
        self.offered = bool(self.values) and (self.offered or self._rng.random() >= self._stall)
        self._valid.value = int(self.offered)
        idle = self._rng.getrandbits(len(self._payload))
        self._payload.value = self.values[0] if self.offered else idle

    def sample(self) -> None:
        if self.offered and int(self._ready.value):
            self.values.popleft()
            self.offered = False


class Memory:
    """Strictly in order: a command begins when the one before has ended."""

    def __init__(self, dut, ext: ExternalBytes, *, bus_bytes: int, rng, stall: float, latency: int):
        self._dut = dut
        self._ext = ext
        self._bus = bus_bytes
        self._rng = rng
        self._stall = stall
        self._latency = latency
        self._now = 0
        self._todo: deque[tuple[int, bool, int]] = deque()  # cycle, write, address of a beat
        self._command = StreamSink(dut, "mem__cmd", self._take, rng=rng, stall=stall)
        self._beat = StreamSink(dut, "mem__wdata", self._write, rng=rng, stall=stall)
        self.commands: list[tuple[int, int, bool]] = []
        self.read_cycles: list[int] = []

    @property
    def idle(self) -> bool:
        return not self._todo

    def _take(self, command: int) -> None:
        address, length, write = unpack(command, [32, 8, 1])
        self.commands.append((address, length, bool(write)))
        for beat in range(length + 1):
            item = (self._now + self._latency, bool(write), address + beat * self._bus)
            self._todo.append(item)

    def _write(self, value: int) -> None:
        _, write, address = self._todo.popleft()
        assert write
        self._ext.write(address, beat_bytes(value, self._bus))

    def drive(self) -> None:
        self._command.drive()
        self._beat.drive()
        read = (
            self._todo
            and not self._todo[0][1]
            and self._todo[0][0] <= self._now
            and self._rng.random() >= self._stall
        )
        self._dut.mem__rdata__valid.value = int(bool(read))
        value = self._rng.getrandbits(8 * self._bus)
        if read:
            address = self._todo.popleft()[2]
            value = int.from_bytes(self._ext.read(address, self._bus).tobytes(), "little")
            self.read_cycles.append(self._now)
        self._dut.mem__rdata__payload.value = value

    def sample(self) -> None:
        self._command.sample()
        if int(self._dut.mem__wdata__valid.value):
            assert any(write for _, write, _ in self._todo), "write data before its command"
        self._beat.open = True
        self._beat.sample()
        assert int(self._dut.mem__rdata__ready.value)
        self._now += 1

    def open_writes(self) -> None:
        """Write beats are taken only when their command is the oldest."""
        self._beat.open = bool(self._todo) and self._todo[0][1]


class Gate:
    """Runs before the memory model in every cycle."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    def drive(self) -> None:
        self._memory.open_writes()

    def sample(self) -> None:
        pass


class Receiver:
    """Notes the beats that a read client gets."""

    def __init__(self, dut, name: str) -> None:
        self._valid = getattr(dut, f"{name}__valid")
        self._data = getattr(dut, f"{name}__data")
        self.beats: list[int] = []

    def drive(self) -> None:
        pass

    def sample(self) -> None:
        if int(self._valid.value):
            self.beats.append(int(self._data.value))


def beat_bytes(value: int, count: int):
    return np.frombuffer(value.to_bytes(count, "little"), np.uint8)


async def reset(dut) -> None:
    inputs = {f"{name}__cmd__valid": 0 for name in CLIENTS}
    await streams.start(
        dut,
        inputs=inputs | {"dma_write__data__valid": 0, "mem__cmd__ready": 0, "mem__rdata__valid": 0},
    )


def random_commands(count: int, *, bus_bytes: int, region: int, rng) -> list[tuple[int, int]]:
    """Address and length of bursts within 16 KiB from ``region`` on."""
    return [
        (
            region + rng.randrange(0, (1 << 14) - BURST_MAX * bus_bytes, bus_bytes),
            rng.choice([0, BURST_MAX - 1, rng.randrange(BURST_MAX)]),
        )
        for _ in range(count)
    ]


async def run_commands(dut, commands, *, bus_bytes, seed, stall, latency=2):
    """Run lists of commands per client; check all data; return the memory model."""
    rng = random.Random(seed)
    ext, expected = ExternalBytes(seed=seed), ExternalBytes(seed=seed)
    memory = Memory(dut, ext, bus_bytes=bus_bytes, rng=rng, stall=stall, latency=latency)
    sources = [
        Source(
            dut,
            f"{name}__cmd",
            [streams.pack([(address, 32), (length, 8)]) for address, length in commands[name]],
            rng=rng,
            stall=stall,
        )
        for name in CLIENTS
    ]
    beats = [
        (address + beat * bus_bytes, rng.getrandbits(8 * bus_bytes))
        for address, length in commands["dma_write"]
        for beat in range(length + 1)
    ]
    data = Source(dut, "dma_write__data", [v for _, v in beats], rng=rng, stall=stall)
    receivers = {name: Receiver(dut, name) for name in READERS}
    models = [*sources, data, Gate(memory), memory, *receivers.values()]

    wanted = {
        name: [
            int.from_bytes(expected.read(address + b * bus_bytes, bus_bytes).tobytes(), "little")
            for address, length in commands[name]
            for b in range(length + 1)
        ]
        for name in READERS
    }

    def finished() -> bool:
        left = any(source.values for source in (*sources, data))
        got = all(len(receivers[name].beats) >= len(wanted[name]) for name in READERS)
        return not left and memory.idle and got

    await run(dut, models, until=finished, limit=200_000)
    for name in READERS:
        assert receivers[name].beats == wanted[name], name
    for address, value in beats:
        expected.write(address, beat_bytes(value, bus_bytes))
    assert (ext.bytes == expected.bytes).all()
    for name in CLIENTS:
        mine = [(a, n) for a, n, w in memory.commands if (a, n) in commands[name]]
        assert mine == commands[name], f"commands of {name} out of order"
    return memory


@cocotb.test()
async def random_traffic(dut):
    options = bench_options()
    bus_bytes = options["bus_bytes"]
    await reset(dut)
    for stall in (0.0, 0.4, 0.8):
        seed = options["seed"] + int(10 * stall)
        dut._log.info("seed %d, stall %.1f", seed, stall)
        rng = random.Random(seed)
        commands = {
            name: random_commands(
                options["count"], bus_bytes=bus_bytes, region=number << 14, rng=rng
            )
            for number, name in enumerate(CLIENTS)
        }
        for latency in (1, 20):
            await run_commands(
                dut, commands, bus_bytes=bus_bytes, seed=seed, stall=stall, latency=latency
            )


@cocotb.test()
async def priority(dut):
    """All ask at once, all the time: a client is served when those before it have finished."""
    await reset(dut)
    commands = {name: [(n << 14, 0)] * 3 for n, name in enumerate(CLIENTS)}
    memory = await run_commands(dut, commands, bus_bytes=4, seed=1, stall=0.0)
    assert [a >> 14 for a, _, _ in memory.commands] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert [w for _, _, w in memory.commands] == [False] * 6 + [True] * 3 + [False] * 3


@cocotb.test()
async def one_beat_per_cycle(dut):
    """A linear stream of whole bursts keeps memory busy in every cycle."""
    await reset(dut)
    for latency in (1, 40):
        commands = {name: [] for name in CLIENTS}
        commands["fetch"] = [(n * BURST_MAX * 4, BURST_MAX - 1) for n in range(20)]
        memory = await run_commands(dut, commands, bus_bytes=4, seed=2, stall=0.0, latency=latency)
        first = memory.read_cycles[0]
        assert memory.read_cycles == list(range(first, first + 20 * BURST_MAX))


@both_simulators
@pytest.mark.parametrize("bus_bytes", [1, 4, 8])
def test_random_traffic(simulator: str, bus_bytes: int) -> None:
    run_bench(
        MemoryArbiter(config(bus_bytes=bus_bytes)),
        module="test_arbiter",
        testcase="random_traffic",
        simulator=simulator,
        options={"bus_bytes": bus_bytes, "seed": 8, "count": 20},
    )


@both_simulators
@pytest.mark.parametrize("testcase", ["priority", "one_beat_per_cycle"])
def test_order_and_rate(simulator: str, testcase: str) -> None:
    run_bench(
        MemoryArbiter(config(bus_bytes=4)),
        module="test_arbiter",
        testcase=testcase,
        simulator=simulator,
    )


def test_grant_arbiter_refuses_one_client() -> None:
    with pytest.raises(ValueError, match="at least 2, not 1"):
        GrantArbiter(8, clients=1)
