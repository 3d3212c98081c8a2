"""Block RAM behind a burst port against a NumPy array."""

from __future__ import annotations

import random

import cocotb
import numpy as np
import pytest
import streams
from burst_driver import Burst, BurstDriver
from streams import both_simulators

from intformer.config import CoreConfig
from intformer.hw.external.block_ram import BlockRam
from intformer.sim.runner import bench_options, run_bench

INPUTS = {"mem__cmd__valid": 0, "mem__wdata__valid": 0, "mem__rdata__ready": 1}


def config(bus_bytes: int) -> CoreConfig:
    return CoreConfig(name="bench", rows=4, cols=4, lanes=4, bus_bytes=bus_bytes)


def content(size: int) -> bytes:
    """Initial content: all but the last bytes of a memory."""
    return np.random.default_rng(5).integers(0, 256, size - 5, dtype=np.uint8).tobytes()


def random_burst(size: int, bus: int, *, rng: random.Random) -> Burst:
    depth = size // bus
    beats = rng.choice([1, 1, 2, 3, rng.randrange(1, 17), min(depth, 256)])
    return rng.randrange(depth - beats + 1) * bus, beats, rng.random() < 0.5


@cocotb.test()
async def equals_numpy(dut):
    size, bus = (bench_options()[name] for name in ("size", "bus_bytes"))
    await streams.start(dut, inputs=INPUTS)
    memory = np.zeros(size, np.uint8)
    memory[: size - 5] = np.frombuffer(content(size), np.uint8)
    for number, stall in enumerate((0.0, 0.5)):
        rng = random.Random(bench_options()["seed"] + number)
        bursts = [random_burst(size, bus, rng=rng) for _ in range(120)]
        whole = [(at, 1, False) for at in range(0, size, bus)]
        driver = BurstDriver(dut, memory, bus_bytes=bus, rng=rng, stall=stall)
        await driver.run(whole + bursts + whole)


@cocotb.test()
async def one_beat_per_cycle(dut):
    size, bus = (bench_options()[name] for name in ("size", "bus_bytes"))
    await streams.start(dut, inputs=INPUTS)
    memory = np.zeros(size, np.uint8)
    rng = random.Random(1)
    step = 16 * bus
    driver = BurstDriver(dut, memory, bus_bytes=bus, rng=rng)
    await driver.run([(at, 16, True) for at in range(0, size - step + 1, step)])
    await driver.run([(at, 16, False) for at in range(0, size - step + 1, step)])
    for name in ("wdata", "rdata"):
        cycles = driver.timeline[name]
        assert cycles == list(range(cycles[0], cycles[0] + len(cycles)))
    first_read = driver.timeline["cmd"][len(driver.timeline["cmd"]) // 2]
    assert driver.timeline["rdata"][0] == first_read + 3


@both_simulators
@pytest.mark.parametrize(("size", "bus_bytes"), [(512, 4), (96, 1), (1024, 16)])
def test_block_ram(simulator, size, bus_bytes):
    run_bench(
        BlockRam(config(bus_bytes), size=size, init=content(size)),
        module="test_block_ram",
        simulator=simulator,
        options={"size": size, "bus_bytes": bus_bytes},
    )


def test_size():
    assert BlockRam(config(4), size=1024).size == 1024


@pytest.mark.parametrize("size", [0, -4, 3, 1026])
def test_wrong_size(size):
    with pytest.raises(ValueError, match=f"positive multiple of bus_bytes \\(4\\), not {size}"):
        BlockRam(config(4), size=size)


def test_init_too_long():
    with pytest.raises(ValueError, match=r"at most size \(8\) bytes, not 9"):
        BlockRam(config(4), size=8, init=bytes(9))
