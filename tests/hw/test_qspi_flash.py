"""The flash controller with a model of its chip: every beat equals a NumPy flash's."""

import random

import cocotb
import numpy as np
import pytest
import streams
from cocotb.triggers import ClockCycles, FallingEdge
from flash_bench import (
    Burst,
    NumpyFlash,
    check_bursts,
    check_content,
    run_bursts,
    run_flash,
    settle,
    violations,
)

from intformer.config import CoreConfig
from intformer.hw.external.flash_chip import PAGE, SECTOR
from intformer.hw.external.qspi_flash import IS25LP128, W25Q32JV, W25Q128JV, FlashChip, QspiFlash
from intformer.hw.ports import BURST_MAX
from intformer.sim.flash import flash_bench
from intformer.sim.runner import bench_options

CLOCK_HZ = 1e9 / streams.PERIOD_NS
SIZE = 1 << 15
OFFSET = 2 * SECTOR
CHIPS = {chip.name: chip for chip in (IS25LP128, W25Q32JV)}
PORTS = (
    "mem__cmd__valid",
    "mem__cmd__payload",
    "mem__wdata__valid",
    "mem__wdata__payload",
    "mem__rdata__ready",
    "dump",
)


def config(bus_bytes: int) -> CoreConfig:
    return CoreConfig(name="bench", rows=16, cols=16, lanes=1, bus_bytes=bus_bytes)


def content(seed: int) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, SIZE, dtype=np.uint8).tobytes()


def run(testcase, *, bus_bytes=1, chip=W25Q128JV, seed=1, stall=0.0, simulator="icarus", **knobs):
    bench = flash_bench(
        config(bus_bytes),
        chip=chip,
        offset=OFFSET,
        clock_hz=CLOCK_HZ,
        size=SIZE,
        simulator=simulator,
        **knobs,
    )
    return run_flash(
        bench,
        module="test_qspi_flash",
        testcase=testcase,
        seed=seed,
        options={"bus_bytes": bus_bytes, "stall": stall},
        flash=content(seed),
    )


async def begin(dut) -> tuple[NumpyFlash, random.Random, dict]:
    """Start the DUT; the memory as it is, a source of chance, options of ``run_bursts``."""
    options = bench_options()
    rng = random.Random(options["seed"])
    await streams.start(dut, inputs=dict.fromkeys(PORTS, 0))
    memory = NumpyFlash(SIZE, offset=OFFSET)
    memory.bytes[:] = np.frombuffer(content(options["seed"]), dtype=np.uint8)
    bus, stall = options["bus_bytes"], options["stall"]
    return memory, rng, {"bus_bytes": bus, "stall": stall, "rng": rng}


def random_burst(rng: random.Random, bus: int, *, write: float, after: int) -> Burst:
    """A burst that often begins at ``after``, or near the end of a page or sector."""
    beats = rng.choice([1, 2, BURST_MAX, rng.randrange(1, BURST_MAX + 1)])
    edge = rng.choice([PAGE, SECTOR]) * rng.randrange(1, 5)
    place = rng.choice([after, edge - rng.randrange(0, beats + 1) * bus, rng.randrange(SIZE)])
    addr = place % SIZE // bus * bus
    is_write = rng.random() < write
    return Burst(addr, beats, is_write, rng.randbytes(beats * bus) if is_write else b"")


def random_bursts(memory, rng, bus: int, *, count: int, write: float) -> list[Burst]:
    """Bursts whose writes lose no ones in ``memory`` as it will be by then."""
    ahead = NumpyFlash(SIZE, offset=OFFSET)
    ahead.bytes[:] = memory.bytes
    bursts, after = [], 0
    for _ in range(count):
        burst = random_burst(rng, bus, write=write, after=after)
        if burst.write:
            burst.data = ahead.writable(burst.addr, burst.data)
            ahead.write(burst.addr, burst.data)
        bursts.append(burst)
        after = burst.addr + burst.beats * bus
    return bursts


@cocotb.test()
async def mixed_bursts(dut):
    memory, rng, options = await begin(dut)
    bursts = random_bursts(memory, rng, options["bus_bytes"], count=70, write=0.3)
    await check_bursts(dut, bursts, memory, **options)
    await check_content(dut, memory)
    assert violations(dut) == (0, set())
    assert int(dut.programs.value) > 10 and int(dut.erases.value) > 0


@pytest.mark.parametrize("bus_bytes", [1, 2, 4, 8, 16])
def test_mixed_bursts(bus_bytes):
    run("mixed_bursts", bus_bytes=bus_bytes, seed=bus_bytes, stall=0.02)


@pytest.mark.parametrize("chip", CHIPS)
def test_mixed_bursts_of_chips(chip):
    run("mixed_bursts", chip=CHIPS[chip], seed=21)


def test_mixed_bursts_on_verilator():
    run("mixed_bursts", bus_bytes=2, seed=22, simulator="verilator")


@pytest.mark.parametrize("dummy_clocks", [1, 8])
def test_mixed_bursts_of_a_chip_with_other_dummy_clocks(dummy_clocks):
    chip = FlashChip(
        name="other",
        size=SIZE,
        max_clock_hz=50e6,
        dummy_clocks=dummy_clocks,
        quad_enable=None,
        wake_ns=100,
        deselect_ns=20,
        program_ms=1,
        erase_ms=1,
    )
    run("mixed_bursts", bus_bytes=2, chip=chip, seed=23)


@pytest.mark.parametrize(("divider", "pad_registers"), [(2, 0), (3, 1)])
def test_mixed_bursts_with_slower_clocks(divider, pad_registers):
    run("mixed_bursts", divider=divider, pad_registers=pad_registers, seed=24, stall=0.01)


def test_mixed_bursts_with_registers_in_the_pads():
    run("mixed_bursts", bus_bytes=4, pad_registers=1, seed=25)


@cocotb.test()
async def linear_stream(dut):
    memory, rng, options = await begin(dut)
    bus = options["bus_bytes"]
    step = BURST_MAX * bus
    await check_bursts(dut, [Burst(64, 1)], memory, **options)
    addresses, clocks = int(dut.addresses.value), int(dut.clocks.value)
    bursts = [Burst(64 + bus + at * step, BURST_MAX) for at in range(12)]
    await check_bursts(dut, bursts, memory, **options)
    assert int(dut.addresses.value) == addresses, "an address was given again"
    assert int(dut.clocks.value) - clocks == 2 * 12 * step, "clocks that carried no data"
    # A write at the very place of the next read does not go on with the stream.
    end = bursts[-1].addr + step
    data = memory.writable(end, rng.randbytes(bus))
    await check_bursts(dut, [Burst(end, 1, True, data), Burst(end, 2)], memory, **options)
    assert violations(dut) == (0, set())


@pytest.mark.parametrize(("bus_bytes", "stall"), [(1, 0.5), (4, 0.0)])
def test_linear_bursts_need_no_address(bus_bytes, stall):
    run("linear_stream", bus_bytes=bus_bytes, seed=3, stall=stall)


@cocotb.test()
async def full_rate(dut):
    """From the first beat to the last, no cycle is lost between linear bursts."""
    memory, _rng, options = await begin(dut)
    bus = options["bus_bytes"]
    bursts = [Burst(at * BURST_MAX * bus, BURST_MAX) for at in range(8)]
    task = cocotb.start_soon(check_bursts(dut, bursts, memory, **options))
    cycles = []
    now = 0
    while not task.done():
        await FallingEdge(dut.clk)
        now += 1
        if int(dut.mem__rdata__valid.value):
            cycles.append(now)
    await task
    steps = set(np.diff(cycles).tolist())
    assert steps == {4 * bus}, steps


@pytest.mark.parametrize("bus_bytes", [1, 8])
def test_linear_bursts_lose_no_cycle(bus_bytes):
    run("full_rate", bus_bytes=bus_bytes, seed=4)


@cocotb.test()
async def loading(dut):
    """Linear writes from a sector's beginning need nothing else, whatever was there."""
    memory, rng, options = await begin(dut)
    bus = options["bus_bytes"]
    first, size = SECTOR, SECTOR + PAGE + 5 * bus
    data = rng.randbytes(size)
    bursts, at = [], 0
    while at < size:
        beats = min(rng.choice([1, 7, BURST_MAX, 200]), (size - at) // bus)
        bursts.append(Burst(first + at, beats, True, data[at : at + beats * bus]))
        at += beats * bus
    await check_bursts(dut, bursts, memory, **options)
    assert memory.read(first, size) == data
    await check_bursts(dut, [Burst(first, 256)], memory, **options)
    await check_content(dut, memory)
    assert int(dut.erases.value) == 2
    assert violations(dut) == (0, set())


def test_linear_loading():
    run("loading", bus_bytes=2, seed=5, program_cycles=5, erase_cycles=9)


@cocotb.test()
async def only_clears(dut):
    """Away from a sector's first byte a write clears bits, and the model says so."""
    memory, rng, options = await begin(dut)
    at = SECTOR + 512
    bursts = [Burst(at, 8, True, rng.randbytes(8)), Burst(at - 8, 24)]
    await check_bursts(dut, bursts, memory, **options)
    assert violations(dut)[1] == {14}


def test_writes_elsewhere_only_clear_bits():
    assert "programs ones over zeros" in run("only_clears", seed=6)


@cocotb.test()
async def warm_resets(dut):
    """Reset at any time; then all is as it was, and what was written whole is there."""
    memory, rng, options = await begin(dut)
    bus = options["bus_bytes"]
    for round_ in range(16):
        reads = [Burst(rng.randrange(SIZE) // bus * bus, BURST_MAX) for _ in range(6)]
        if round_ % 2:
            task = cocotb.start_soon(run_bursts(dut, reads, **options))
        else:
            await check_bursts(dut, reads[:2], memory, **options)
            task = cocotb.start_soon(run_bursts(dut, reads, **options))
        await ClockCycles(dut.clk, rng.randrange(1, 600), FallingEdge)
        task.cancel()
        await reset(dut)
        await settle(dut, rng.choice([0, 3, 900]))
    await check_bursts(dut, [Burst(0, 256)], memory, **options)
    assert violations(dut)[1] <= {8}, "more than commands that a reset cut off"


async def reset(dut) -> None:
    """A reset of one to three cycles; the core is reset, too."""
    for name in PORTS:
        getattr(dut, name).value = 0
    dut.rst.value = 1
    for _ in range(1 + random.randrange(3)):
        await FallingEdge(dut.clk)
    dut.rst.value = 0


def test_warm_reset_during_reads():
    run("warm_resets", bus_bytes=2, seed=7)


@cocotb.test()
async def reset_in_a_write(dut):
    """Reset while the chip programs or erases: the controller waits, and the rest is untouched."""
    memory, rng, options = await begin(dut)
    for _round in range(6):
        data = rng.randbytes(BURST_MAX)
        write = Burst(3 * SECTOR, BURST_MAX, True, data)
        task = cocotb.start_soon(run_bursts(dut, [write], **options))
        await ClockCycles(dut.clk, rng.randrange(700, 2000), FallingEdge)
        task.cancel()
        await reset(dut)
        # The sector holds the burst, or the beginning of it, or what was there; nothing else moved.
        other = [Burst(3 * SECTOR - 64, 64), Burst(4 * SECTOR, 64)]
        await check_bursts(dut, other, memory, **options)
    await check_bursts(dut, [write, Burst(3 * SECTOR - 16, 64)], memory, **options)
    assert violations(dut)[1] <= {8}, "only bytes that reset cut off"


def test_warm_reset_during_writes():
    run("reset_in_a_write", seed=8, program_cycles=600, erase_cycles=900)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"offset": 100}, "offset must be a multiple of 4096"),
        ({"offset": 16 << 20}, "offset must be"),
        ({"offset": -4096}, "offset must be"),
        ({"clock_hz": 0}, "clock_hz must be positive, not 0"),
        ({"clock_hz": 300e6, "divider": 1}, "divider must be at least 2"),
        ({"read_delay": 5}, "read_delay must be from 0 to 4, not 5"),
    ],
)
def test_wrong_arguments(options, message):
    arguments = {"chip": W25Q128JV, "offset": 0, "clock_hz": 24e6} | options
    with pytest.raises(ValueError, match=message):
        QspiFlash(config(1), **arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"size": 3 << 20}, "size must be a power of two"),
        ({"size": 32 << 20}, "size must be"),
        ({"dummy_clocks": 0}, "dummy_clocks must be from 1 to 8, not 0"),
    ],
)
def test_wrong_chips(changes, message):
    arguments = {
        "name": "x",
        "size": 1 << 20,
        "max_clock_hz": 1e8,
        "quad_enable": None,
        "wake_ns": 0,
        "deselect_ns": 0,
        "program_ms": 1,
        "erase_ms": 1,
    }
    with pytest.raises(ValueError, match=message):
        FlashChip(**arguments | changes)


def test_the_divider_keeps_the_chip_within_its_clock():
    for clock_hz, divider in ((24e6, 1), (150e6, 1), (209e6, 2), (310e6, 2), (500e6, 4)):
        flash = QspiFlash(config(1), chip=W25Q128JV, offset=0, clock_hz=clock_hz)
        assert flash.clock_divider == 2 * divider
        assert flash.byte_cycles == 4 * divider
