"""The overlay between a NumPy memory below and its block RAM: every beat, in order."""

import random
from collections import deque

import cocotb
import numpy as np
import pytest
import streams
from cocotb.triggers import FallingEdge, ReadOnly

from intformer.config import CoreConfig
from intformer.hw.external.overlay import Overlay
from intformer.hw.ports import BURST_MAX
from intformer.sim.runner import bench_options, run_bench

LOWER = 2048
RAM = 1024


def config(bus_bytes: int) -> CoreConfig:
    return CoreConfig(name="bench", rows=16, cols=16, lanes=1, bus_bytes=bus_bytes)


class LowerMemory:
    """What is below: takes commands and beats when it likes, answers in order."""

    def __init__(self, dut, content: np.ndarray, *, bus: int, rng: random.Random, stall: float):
        self._dut, self.content, self._bus = dut, content, bus
        self._rng, self._stall = rng, stall
        self._reads: deque[int] = deque()
        self._writes: deque[int] = deque()
        self.commands = 0
        self.queued = 0  # most reads that waited for an answer

    def drive(self) -> None:
        rng, dut = self._rng, self._dut
        # One direction at a time: a read sees the writes before it.
        dut.lower__cmd__ready.value = int(rng.random() >= self._stall and not self._writes)
        dut.lower__wdata__ready.value = int(rng.random() >= self._stall and bool(self._writes))
        answers = bool(self._reads) and rng.random() >= self._stall
        dut.lower__rdata__valid.value = int(answers)
        value = rng.getrandbits(8 * self._bus)
        if answers:
            at = self._reads.popleft()
            value = int.from_bytes(self.content[at : at + self._bus].tobytes(), "little")
        dut.lower__rdata__payload.value = value

    def sample(self) -> None:
        dut, bus = self._dut, self._bus
        if int(dut.lower__rdata__valid.value):
            assert int(dut.lower__rdata__ready.value), "a beat from below was not taken"
        if int(dut.lower__wdata__valid.value) and int(dut.lower__wdata__ready.value):
            at = self._writes.popleft()
            data = int(dut.lower__wdata__payload.value).to_bytes(bus, "little")
            self.content[at : at + bus] = np.frombuffer(data, dtype=np.uint8)
        if int(dut.lower__cmd__valid.value) and int(dut.lower__cmd__ready.value):
            self.commands += 1
            command = int(dut.lower__cmd__payload.value)
            addr, beats, write = command & 0xFFFFFFFF, (command >> 32 & 0xFF) + 1, command >> 40
            places = [addr % LOWER + bus * beat for beat in range(beats)]
            (self._writes if write else self._reads).extend(place % LOWER for place in places)
            self.queued = max(self.queued, len(self._reads))


class Reference:
    """The two memories as one."""

    def __init__(self, lower: np.ndarray, *, base: int, bus: int) -> None:
        self.lower, self.ram = lower.copy(), np.zeros(RAM, dtype=np.uint8)
        self.base, self.bus = base, bus

    def places(self, addr: int, beats: int) -> tuple[np.ndarray, np.ndarray]:
        memory, at = (self.ram, addr - self.base) if addr >= self.base else (self.lower, addr)
        return memory, (at + np.arange(beats * self.bus)) % len(memory)


async def run_overlay(dut, bursts, *, reference: Reference, rng, stall: float) -> LowerMemory:
    """Give ``(addr, beats, data or None)`` to the port and compare what is read."""
    bus = reference.bus
    below = LowerMemory(dut, reference.lower.copy(), bus=bus, rng=rng, stall=stall)
    commands, beats, expected = [], [], []
    for addr, count, data in bursts:
        memory, places = reference.places(addr, count)
        commands.append(addr | (count - 1) << 32 | int(data is not None) << 40)
        values = memory[places].tobytes() if data is None else data
        if data is not None:
            memory[places] = np.frombuffer(data, dtype=np.uint8)
        (expected if data is None else beats).extend(
            int.from_bytes(values[at : at + bus], "little") for at in range(0, len(values), bus)
        )
    senders = [
        cocotb.start_soon(
            streams.drive(dut, name, values, rng=random.Random(rng.random()), stall=stall)
        )
        for name, values in (("mem__cmd", commands), ("mem__wdata", beats))
    ]
    dut.mem__rdata__ready.value = 1
    received, quiet = [], 0
    while len(received) < len(expected) or not all(sender.done() for sender in senders):
        below.drive()
        await ReadOnly()
        quiet += 1
        if int(dut.mem__rdata__valid.value):
            received.append(int(dut.mem__rdata__payload.value))
            at = len(received) - 1
            assert received[at] == expected[at], f"beat {at} of {len(expected)}"
            quiet = 0
        below.sample()
        assert quiet < 3000, f"{len(received)} of {len(expected)} beats, then none"
        await FallingEdge(dut.clk)
    for _ in range(8):
        below.drive()
        await ReadOnly()
        assert not int(dut.mem__rdata__valid.value), "a beat that nobody asked for"
        below.sample()
        await FallingEdge(dut.clk)
    np.testing.assert_array_equal(below.content, reference.lower)
    return below


async def begin(dut) -> tuple[Reference, random.Random, dict]:
    options = bench_options()
    rng = random.Random(options["seed"])
    inputs = {
        "mem__cmd__valid": 0,
        "mem__cmd__payload": 0,
        "mem__wdata__valid": 0,
        "mem__wdata__payload": 0,
        "mem__rdata__ready": 0,
        "lower__cmd__ready": 0,
        "lower__wdata__ready": 0,
        "lower__rdata__valid": 0,
        "lower__rdata__payload": 0,
        "base": options["base"],
    }
    await streams.start(dut, inputs=inputs)
    lower = np.frombuffer(rng.randbytes(LOWER), dtype=np.uint8)
    reference = Reference(lower, base=options["base"], bus=options["bus_bytes"])
    return reference, rng, {"stall": options["stall"], "rng": rng, "reference": reference}


@cocotb.test()
async def mixed_bursts(dut):
    reference, rng, options = await begin(dut)
    base, bus = reference.base, reference.bus
    # The RAM is written first: what it holds at power on is nobody's business.
    step = BURST_MAX * bus
    bursts = [(base + at, BURST_MAX, rng.randbytes(step)) for at in range(0, RAM, step)]
    for _ in range(150):
        beats = rng.choice([1, 2, BURST_MAX, rng.randrange(1, BURST_MAX + 1)])
        # Near the base, over it, over the RAM's end, and anywhere.
        place = rng.choice(
            [
                base - rng.randrange(4 * bus),
                base + rng.randrange(RAM),
                base + RAM - bus,
                max(0, base - rng.randrange(1, LOWER)),
            ]
        )
        data = rng.randbytes(beats * bus) if rng.random() < 0.4 else None
        bursts.append((place // bus * bus, beats, data))
    below = await run_overlay(dut, bursts, **options)
    assert below.commands > 20


@cocotb.test()
async def reads_follow(dut):
    """Reads from below are passed on while beats of those before are to come."""
    _reference, _rng, options = await begin(dut)
    bursts = [(at * 16, 16, None) for at in range(20)]
    below = await run_overlay(dut, bursts, **options)
    assert below.queued > 17


def run(testcase, *, bus_bytes, stall, seed, base=0x10000, simulator="icarus", **arguments):
    run_bench(
        Overlay(config(bus_bytes), ram_size=RAM, **arguments),
        module="test_overlay",
        simulator=simulator,
        testcase=testcase,
        options={"bus_bytes": bus_bytes, "stall": stall, "base": base},
        seed=seed,
    )


@pytest.mark.parametrize(
    ("bus_bytes", "stall"), [(1, 0.0), (1, 0.4), (2, 0.4), (4, 0.0), (8, 0.4), (16, 0.2)]
)
def test_mixed_bursts(bus_bytes, stall):
    run("mixed_bursts", bus_bytes=bus_bytes, stall=stall, seed=bus_bytes)


def test_mixed_bursts_on_verilator():
    run("mixed_bursts", bus_bytes=1, stall=0.2, seed=31, simulator="verilator")


@pytest.mark.parametrize(("base", "address_bits"), [(0xFFFC00, 24), (1 << 31, 32)])
def test_bases(base, address_bits):
    run("mixed_bursts", bus_bytes=1, stall=0.1, seed=5, base=base, address_bits=address_bits)


def test_reads_below_follow_each_other():
    run("reads_follow", bus_bytes=1, stall=0.5, seed=6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ram_size": 1000}, "ram_size must be a power of two from 8 on, not 1000"),
        ({"ram_size": 4}, "ram_size must be a power of two from 8 on, not 4"),
        ({"ram_size": 1024, "address_bits": 9}, "address_bits must be from 10 to 32, not 9"),
        ({"ram_size": 1024, "address_bits": 33}, "address_bits must be from 10 to 32, not 33"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Overlay(config(4), **arguments)
