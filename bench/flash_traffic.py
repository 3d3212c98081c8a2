"""The cocotb side of :mod:`intformer.bench.flash`: traffic on ``flash_tb.sv``, cycles counted."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, RisingEdge

from intformer.sim.runner import bench_options


class _Port:
    """The burst port of the bench's top: commands as fast as they are taken, beats in order."""

    def __init__(self, dut: Any, *, bus: int) -> None:
        self._dut, self._bus = dut, bus
        self.now = 0
        self.offered: list[int] = []  # cycle of each command
        self.beats: list[tuple[int, int]] = []  # cycle and value
        cocotb.start_soon(self._watch())

    async def _watch(self) -> None:
        dut = self._dut
        while True:
            await FallingEdge(dut.clk)
            self.now += 1
            if int(dut.mem__rdata__valid.value):
                self.beats.append((self.now, int(dut.mem__rdata__payload.value)))

    async def command(self, addr: int, beats: int) -> None:
        """Offer a read until it is taken."""
        dut = self._dut
        dut.mem__cmd__valid.value = 1
        dut.mem__cmd__payload.value = addr | (beats - 1) << 32
        self.offered.append(self.now)
        while True:
            await RisingEdge(dut.clk)
            taken = int(dut.mem__cmd__ready.value)
            await FallingEdge(dut.clk)
            if taken:
                dut.mem__cmd__valid.value = 0
                return

    async def run(self, bursts: list[tuple[int, int]], *, waits: bool = False) -> None:
        """All bursts, to the last beat; ``waits``: each after the last beat of the one before."""
        self.offered.clear()
        self.beats.clear()
        total = 0
        for addr, beats in bursts:
            await self.command(addr, beats)
            total += beats
            while waits and len(self.beats) < total:
                await FallingEdge(self._dut.clk)
        while len(self.beats) < total:
            await FallingEdge(self._dut.clk)

    def check(self, bursts: list[tuple[int, int]], content: bytes) -> None:
        """Every beat equals the content of the chip."""
        values = iter(self.beats)
        for addr, beats in bursts:
            for beat in range(beats):
                at = (addr + beat * self._bus) % len(content)
                want = int.from_bytes(content[at : at + self._bus], "little")
                got = next(values)[1]
                assert got == want, f"{got:#x} at {at:#x}, not {want:#x}"


@cocotb.test()
async def traffic(dut: Any) -> None:
    """Linear bursts, with commands ahead and without, and bursts and beats at random."""
    options = bench_options()
    bus, count, offset = options["bus_bytes"], options["bursts"], options["offset"]
    rng = random.Random(options["seed"])
    content = Path("flash.bin").read_bytes()
    content = content[offset:] + content[:offset]
    for name in ("cmd__valid", "cmd__payload", "wdata__valid", "wdata__payload"):
        getattr(dut, f"mem__{name}").value = 0
    dut.mem__rdata__ready.value = 1
    dut.dump.value = 0
    dut.rst.value = 1
    cocotb.start_soon(Clock(dut.clk, options["period_ps"], unit="ps").start())
    for _ in range(3):
        await FallingEdge(dut.clk)
    dut.rst.value = 0
    port = _Port(dut, bus=bus)
    await port.run([(0, 1)])
    figures: dict[str, Any] = {"start_up_cycles": port.now}
    linear = [(at * 16 * bus, 16) for at in range(count)]
    scattered = [(rng.randrange(len(content)) // bus * bus, 16) for _ in range(count)]
    single = [(addr, 1) for addr, _ in scattered]
    for name, bursts, waits in (
        ("linear", linear, False),
        ("linear_one_at_a_time", linear, True),
        ("random", scattered, False),
        ("random_beats", single, True),
    ):
        await port.run(bursts, waits=waits)
        port.check(bursts, content)
        # From the first beat on, so that the first address does not count.
        cycles = port.beats[-1][0] - port.beats[0][0]
        figures[name] = {"beats": len(port.beats) - 1, "cycles": cycles}
        if name == "random_beats":
            waited = [beat[0] - at for beat, at in zip(port.beats, port.offered, strict=True)]
            figures["latency_cycles"] = {"least": min(waited), "most": max(waited)}
    assert int(dut.violations.value) == 0, "the chip was not treated as its data sheet wants"
    Path("figures.json").write_text(json.dumps(figures))
