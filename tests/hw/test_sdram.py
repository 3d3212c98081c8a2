"""The SDRAM controller with the model of its chip: equal to NumPy, no rule broken."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import cocotb
import numpy as np
import pytest
import streams
from amaranth.sim import Simulator
from burst_driver import Burst, BurstDriver

from intformer.config import CoreConfig
from intformer.hw import verilog
from intformer.hw.external.sdram import CHIPS, Sdram, SdramChip
from intformer.sim.builds import Bench, build
from intformer.sim.runner import bench_options, run_module
from intformer.sim.sdram import SdramFailed, SdramSimulator, model_source, pair_source

ALLIANCE, ETRON, GOWIN = CHIPS.values()


def name_of(value: Any) -> str:
    """Of a parameter, for the names of tests."""
    return value.name if isinstance(value, SdramChip) else str(value)


def config(bus_bytes: int) -> CoreConfig:
    return CoreConfig(name="bench", rows=4, cols=4, lanes=4, bus_bytes=bus_bytes)


def quick(chip: SdramChip) -> SdramChip:
    """The chip without most of its pause after power-up, and with few rows."""
    return replace(chip, power_up_us=2.0, row_bits=11)


def random_burst(size: int, bus: int, last: Burst, *, rng: random.Random) -> Burst:
    """Often near the last one, or in another row of its bank; some across the ends of rows."""
    beats = rng.choice([1, 1, 2, rng.randrange(1, 17), 16])
    kind = rng.random()
    if kind < 0.3:
        address = last[0] + rng.randrange(-32, 32) * bus
    elif kind < 0.5:
        address = last[0] + rng.randrange(4) * 4096
    else:
        address = rng.randrange(size // bus) * bus
    address = min(max(address, 0), size - beats * bus)
    return address, beats, rng.random() < 0.5


@cocotb.test()
async def equals_numpy(dut):
    options = bench_options()
    size, bus = options["size"], options["bus_bytes"]
    await streams.start(dut, inputs={"mem__cmd__valid": 0, "mem__wdata__valid": 0})
    memory = np.zeros(size, np.uint8)
    for number, stall in enumerate((0.0, 0.5)):
        rng = random.Random(options["seed"] + number)
        bursts = [(0, 16, True)]
        while len(bursts) < options["count"]:
            bursts.append(random_burst(size, bus, bursts[-1], rng=rng))
        bursts.append((0, options["longest"], True))
        driver = BurstDriver(dut, memory, bus_bytes=bus, rng=rng, stall=stall)
        await driver.run(bursts + [(address, beats, False) for address, beats, _ in bursts])
    assert int(dut.violations.value) == 0, f"rules {int(dut.seen.value):#x}"


@pytest.mark.parametrize(
    ("chip", "bus_bytes", "input_registers"),
    [(ALLIANCE, 4, 0), (GOWIN, 1, 1)],
    ids=name_of,
)
def test_equals_numpy(chip, bus_bytes, input_registers):
    chip, core = quick(chip), config(bus_bytes)
    controller = Sdram(core, chip=chip, clock_hz=100e6, read_delay=input_registers)
    bench = Bench(
        sources={
            "controller.sv": verilog.emit(controller, name="controller"),
            "sdram.sv": model_source(),
            "pair.sv": pair_source(core, chip, input_registers=input_registers),
        },
        toplevel="sdram_pair",
    )
    folder = build(bench)
    run_module(
        bench,
        "test_sdram",
        folder=folder,
        run_dir=folder / "runs" / "test_sdram",
        # Reads anywhere would find what was never written: the array holds zeros, as the chip does.
        options={"size": chip.size, "bus_bytes": bus_bytes, "count": 100, "longest": 256},
    )


def simulator(chip: SdramChip, bus_bytes: int, mhz: float, **options: Any) -> SdramSimulator:
    return SdramSimulator(config(bus_bytes), chip=chip, clock_hz=mhz * 1e6, **options)


@pytest.mark.parametrize(
    ("chip", "mhz", "tied"), [(ALLIANCE, 100, False), (ETRON, 66.7, True)], ids=name_of
)
def test_share_of_bandwidth(chip, mhz, tied):
    bench = simulator(quick(chip), 4, mhz, tied=tied)
    for mode, least in (("linear_reads", 0.95), ("linear_writes", 0.95), ("mixed", 0.85)):
        figures = bench.run(mode, commands=1000)
        assert figures.share >= least, mode
        assert figures.violations == 0
    figures = bench.run("random", commands=20_000, stall=0.1)
    assert figures.beats_read > 10_000
    assert figures.beats_written > 10_000


ALL_WIDTHS = [
    (chip, bus_bytes, mhz, input_registers)
    for chip in (ALLIANCE, ETRON)
    for bus_bytes in (1, 2, 4, 8, 16)
    for mhz, input_registers in ((25, 0), (100, 1), (120, 2))
    if bus_bytes <= 4 * chip.data_bytes
]


@pytest.mark.slow
@pytest.mark.parametrize(("chip", "bus_bytes", "mhz", "input_registers"), ALL_WIDTHS, ids=name_of)
def test_all_widths(chip, bus_bytes, mhz, input_registers):
    bench = simulator(quick(chip), bus_bytes, mhz, input_registers=input_registers)
    for seed, stall in ((1, 0.0), (2, 0.2)):
        bench.run("random", commands=50_000, seed=seed, stall=stall)


@pytest.mark.slow
@pytest.mark.parametrize(("chip", "mhz"), [(ALLIANCE, 100), (ETRON, 100), (GOWIN, 54)], ids=name_of)
def test_a_million_commands(chip, mhz):
    figures = simulator(chip, 4, mhz).run("random", commands=1_000_000, seed=7, stall=0.05)
    assert figures.commands == 1_000_000


# The chip on the board is slower than the one that the controller was made for.
SLOWER = {
    "tRCD": {"t_rcd": 45.0},
    "tRP": {"t_rp": 45.0},
    "tRAS": {"t_ras": 150.0},
    "tRC": {"t_rc": 200.0},
    "tRRD": {"t_rrd": 80.0},
    "tRFC": {"t_rfc": 200.0},
    "tWR": {"t_wr": 50.0},
    "refresh": {"refresh_rows": 16384},
}


def run_with_slower_chip(rule: str) -> None:
    chip = replace(quick(ALLIANCE), **SLOWER[rule])
    right = Sdram(config(4), chip=quick(ALLIANCE), clock_hz=100e6)
    with pytest.raises(SdramFailed, match=rf"sdram: \d+ ps: {rule}"):
        simulator(chip, 4, 100, controller=right).run("random", commands=2000)


def test_finds_a_wrong_chip():
    run_with_slower_chip("tRCD")


@pytest.mark.slow
@pytest.mark.parametrize("rule", list(SLOWER))
def test_finds_wrong_timing(rule):
    run_with_slower_chip(rule)


def test_finds_a_wrong_read_delay():
    wrong = Sdram(config(4), chip=quick(ALLIANCE), clock_hz=100e6, read_delay=1)
    with pytest.raises(SdramFailed, match=r"read [0-9a-f]+, not"):
        simulator(quick(ALLIANCE), 4, 100, controller=wrong).run("random", commands=2000)


def test_timing_at_100_mhz():
    timing = ALLIANCE.timing(100e6)
    assert (timing.cas, timing.rcd, timing.rp, timing.ras, timing.rc) == (2, 3, 3, 5, 7)
    assert (timing.rfc, timing.wr, timing.rrd, timing.mrd) == (7, 2, 2, 2)
    assert (timing.refresh, timing.power_up) == (780, 20_000)


def test_rows_are_refreshed_early_enough():
    for chip in CHIPS.values():
        for mhz in (25, 40, 64, 100, 120):
            cycles = chip.refresh_ms * 1e3 * mhz
            # What segments under way can take, several times.
            assert chip.timing(mhz * 1e6).refresh * chip.refresh_rows < cycles - 1000


def test_timing_at_other_clocks():
    assert ALLIANCE.timing(25e6).rfc == 2
    assert ALLIANCE.timing(120e6).cas == 3
    assert ETRON.timing(120e6).rc == 9


@pytest.mark.parametrize(
    ("chip", "bus_bytes", "read_delay"),
    [(ALLIANCE, 2, 0), (ALLIANCE, 4, 1), (ALLIANCE, 8, 0), (ETRON, 4, 2), (ETRON, 1, 0)],
    ids=name_of,
)
def test_read_latency(chip, bus_bytes, read_delay):
    dut = Sdram(config(bus_bytes), chip=quick(chip), clock_hz=100e6, read_delay=read_delay)
    beats = []

    async def read_twice(ctx):
        for _ in range(2):  # the first one opens the row
            ctx.set(dut.mem.cmd.valid, 1)
            await ctx.tick().until(dut.mem.cmd.ready)
            ctx.set(dut.mem.cmd.valid, 0)
            cycles = 0
            while not ctx.get(dut.mem.rdata.valid):
                await ctx.tick()
                cycles += 1
            # `ctx` stands one cycle after that of the transfer.
            beats.append(cycles + 1)
            await ctx.tick().repeat(5)

    simulation = Simulator(dut)
    simulation.add_clock(10e-9)
    simulation.add_testbench(read_twice)
    simulation.run()
    assert beats[1] == dut.read_latency < beats[0]


@pytest.mark.parametrize(
    ("chip", "size", "page"), [(ALLIANCE, 32 << 20, 1024), (ETRON, 8 << 20, 1024)], ids=name_of
)
def test_size(chip, size, page):
    assert chip.size == Sdram(config(4), chip=chip, clock_hz=50e6).size == size
    assert chip.page_bytes == page


def test_clock_too_fast():
    with pytest.raises(ValueError, match=r"at most 142.9 MHz for AS4C16M16SA-7, not 150000000"):
        Sdram(config(4), chip=ALLIANCE, clock_hz=150e6)


def test_clock_too_slow():
    with pytest.raises(ValueError, match=r"at least 8.2 MHz"):
        Sdram(config(4), chip=ALLIANCE, clock_hz=5e6)


def test_bus_too_wide():
    with pytest.raises(ValueError, match=r"at most 8 with AS4C16M16SA-7 \(16 bits\), not 16"):
        Sdram(config(16), chip=ALLIANCE, clock_hz=50e6)


def test_wrong_read_delay():
    with pytest.raises(ValueError, match="read_delay must be from 0 to 7, not 8"):
        Sdram(config(4), chip=ALLIANCE, clock_hz=50e6, read_delay=8)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data_bits": 8}, "data_bits must be 16 or 32, not 8"),
        ({"row_bits": 10}, "row_bits must be from 11 to 13, not 10"),
        ({"col_bits": 11}, "col_bits must be from 8 to 10, not 11"),
        ({"t_ck": ((1, 20.0),)}, "t_ck must be of CAS latencies 2 and 3"),
    ],
)
def test_wrong_chip(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(ALLIANCE, **changes)
