"""The serial core, its program in flash and its tensors in the overlay, equals the reference."""

import random
from importlib import resources
from pathlib import Path

import cocotb
import numpy as np
import pytest
import streams
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped
from cocotb.triggers import FallingEdge, First, RisingEdge, Timer
from flash_bench import Burst, run_flash, send
from graphs import hand_made, random_inputs

from intformer.compiler.backend import build_program
from intformer.compiler.integer_graph import execute
from intformer.config import load_config
from intformer.hw import verilog
from intformer.hw.core import Core
from intformer.hw.external.flash_chip import SECTOR
from intformer.hw.external.overlay import Overlay
from intformer.hw.external.qspi_flash import W25Q128JV, FlashPins, QspiFlash
from intformer.hw.ports import BURST_MAX, BurstPort
from intformer.sim.builds import Bench

CONFIG = load_config("ice40")
OFFSET = 4 * SECTOR
RAM = 8192


class FlashMemory(wiring.Component):
    """The memory of an iCE40 board: an overlay over the flash."""

    def __init__(self) -> None:
        super().__init__({"mem": In(BurstPort(CONFIG)), "base": In(32), "pins": Out(FlashPins())})

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.overlay = overlay = Overlay(CONFIG, ram_size=RAM, address_bits=24)
        m.submodules.flash = flash = QspiFlash(
            CONFIG, chip=W25Q128JV, offset=OFFSET, clock_hz=1e9 / streams.PERIOD_NS
        )
        connect(m, flipped(self.mem), overlay.mem)
        connect(m, overlay.lower, flash.mem)
        connect(m, flash.pins, flipped(self.pins))
        m.d.comb += overlay.base.eq(self.base)
        return m


async def host_write(dut, addr: int, data: bytes) -> None:
    bursts = [
        Burst(addr + at, len(data[at : at + BURST_MAX]), True)
        for at in range(0, len(data), BURST_MAX)
    ]
    rng = random.Random(1)
    task = cocotb.start_soon(send(dut, "mem__wdata", list(data), rng=rng, stall=0))
    await send(dut, "mem__cmd", [burst.command for burst in bursts], rng=rng, stall=0)
    await task


async def host_read(dut, addr: int, count: int) -> bytes:
    received = bytearray()

    async def watch() -> None:
        while len(received) < count:
            await FallingEdge(dut.clk)
            if int(dut.mem__rdata__valid.value):
                received.append(int(dut.mem__rdata__payload.value))

    task = cocotb.start_soon(watch())
    bursts = [Burst(addr + at, min(BURST_MAX, count - at)) for at in range(0, count, BURST_MAX)]
    commands = [burst.command for burst in bursts]
    await send(dut, "mem__cmd", commands, rng=random.Random(1), stall=0)
    await task
    return bytes(received)


def model():
    """The graph, its program, and where its tensors begin: what is below is only read."""
    graph = hand_made("linear")
    program = build_program(graph, CONFIG)
    return graph, program, len(program.image)


@cocotb.test()
async def runs(dut):
    """Inputs in, start, outputs out; twice."""
    graph, program, base = model()
    names = ("cmd__valid", "cmd__payload", "wdata__valid", "wdata__payload", "rdata__ready")
    inputs = {f"mem__{name}": 0 for name in names}
    inputs |= {"dump": 0, "start": 0, "entry": program.entry, "base": base}
    await streams.start(dut, inputs=inputs)
    for seed in (1, 2):
        codes = random_inputs(graph, seed)
        for tensor in program.inputs:
            await host_write(dut, tensor.address, tensor.pack(codes[tensor.name]))
        await FallingEdge(dut.clk)
        dut.start.value = 1
        await FallingEdge(dut.clk)
        dut.start.value = 0
        ended = await First(RisingEdge(dut.done), RisingEdge(dut.error), Timer(40, "ms"))
        assert not isinstance(ended, Timer), "the core did not finish"
        assert not int(dut.error.value)
        for _ in range(4):
            await FallingEdge(dut.clk)
        values = execute(graph, codes)
        for tensor in program.outputs:
            data = await host_read(dut, tensor.address, tensor.size)
            np.testing.assert_array_equal(tensor.unpack(data), values[tensor.name])
    assert int(dut.violations.value) == 0
    assert int(dut.programs.value) == int(dut.erases.value) == 0, "the flash was written"


@pytest.mark.rtl
def test_a_model_in_flash_equals_the_reference():
    _graph, program, base = model()
    assert program.memory_bytes - base <= RAM
    folder = resources.files("intformer.sim")
    bench = Bench(
        sources={
            "core.sv": verilog.emit(Core(CONFIG), name="core"),
            "memory.sv": verilog.emit(FlashMemory(), name="memory"),
            "qspi_flash.sv": (folder / "chips" / "qspi_flash.sv").read_text(),
            "flash_core_tb.sv": (Path(__file__).parent / "flash_core_tb.sv").read_text(),
        },
        toplevel="flash_core_tb",
        simulator="icarus",
    )
    run_flash(
        bench,
        module="test_flash_core",
        testcase="runs",
        seed=1,
        options={},
        flash=b"\xff" * OFFSET + np.asarray(program.image, dtype=np.uint8).tobytes(),
    )
