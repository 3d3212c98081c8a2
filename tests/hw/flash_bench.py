"""What the tests of the flash share: a NumPy flash, random bursts, the run of a bench."""

from __future__ import annotations

import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import cocotb
import numpy as np
from cocotb.triggers import ClockCycles, FallingEdge, First, ReadOnly, RisingEdge, with_timeout
from numpy.typing import NDArray

from intformer.hw.external.flash_chip import SECTOR
from intformer.sim.builds import Bench, build
from intformer.sim.runner import run_module


@dataclass
class Burst:
    """A burst; ``data`` is what is written, or what is read once it was."""

    addr: int
    beats: int
    write: bool = False
    data: bytes = b""

    @property
    def command(self) -> int:
        return self.addr | (self.beats - 1) << 32 | int(self.write) << 40


class NumpyFlash:
    """Content of a flash: writing clears bits, a sector's first byte erases the sector."""

    def __init__(self, size: int, *, offset: int) -> None:
        self.bytes = np.full(size, 0xFF, dtype=np.uint8)
        self._offset = offset

    def _places(self, addr: int, count: int) -> NDArray[np.int64]:
        return (self._offset + addr + np.arange(count)) % len(self.bytes)

    def read(self, addr: int, count: int) -> bytes:
        return self.bytes[self._places(addr, count)].tobytes()

    def write(self, addr: int, data: bytes) -> None:
        for place, byte in zip(self._places(addr, len(data)), data, strict=True):
            if place % SECTOR == 0:
                self.bytes[place : place + SECTOR] = 0xFF
            self.bytes[place] &= byte

    def writable(self, addr: int, data: bytes) -> bytes:
        """``data`` without the ones that a write there would lose."""
        before = self.bytes.copy()
        self.write(addr, data)
        after = self.read(addr, len(data))
        self.bytes = before
        return after


async def send(dut, name: str, values: list[int], *, rng: random.Random, stall: float) -> None:
    """As :func:`streams.drive`, but asleep while ``ready`` is low: the flash takes its time."""
    valid, ready = getattr(dut, f"{name}__valid"), getattr(dut, f"{name}__ready")
    payload = getattr(dut, f"{name}__payload")
    for value in values:
        if rng.random() < stall:
            valid.value = 0
            payload.value = rng.getrandbits(len(payload))
            await ClockCycles(dut.clk, rng.randrange(1, 80), FallingEdge)
        valid.value = 1
        payload.value = value
        await ReadOnly()
        while not int(ready.value):
            await RisingEdge(ready)
            await FallingEdge(dut.clk)
            await ReadOnly()
        await FallingEdge(dut.clk)
    valid.value = 0


async def receive(dut, count: int) -> list[int]:
    """The next ``count`` read beats, which never come in two cycles running."""
    valid, payload = dut.mem__rdata__valid, dut.mem__rdata__payload
    dut.mem__rdata__ready.value = 1
    beats = []
    for _ in range(count):
        await with_timeout(RisingEdge(valid), 2, "ms")
        await FallingEdge(dut.clk)
        beats.append(int(payload.value))
    return beats


async def run_bursts(
    dut, bursts: list[Burst], *, bus_bytes: int, rng: random.Random, stall: float
) -> list[bytes]:
    """Give the bursts to the port; return what each read, in order."""
    beats = []
    for burst in bursts:
        if burst.write:
            assert len(burst.data) == burst.beats * bus_bytes
            beats += [
                int.from_bytes(burst.data[at : at + bus_bytes], "little")
                for at in range(0, len(burst.data), bus_bytes)
            ]
    reads = [burst for burst in bursts if not burst.write]
    senders = [
        cocotb.start_soon(send(dut, name, values, rng=random.Random(rng.random()), stall=stall))
        for name, values in (
            ("mem__cmd", [burst.command for burst in bursts]),
            ("mem__wdata", beats),
        )
    ]
    try:
        words = await receive(dut, sum(burst.beats for burst in reads))
        for sender in senders:
            await with_timeout(sender, 20, "ms")
    finally:
        for sender in senders:
            sender.cancel()
    data = b"".join(word.to_bytes(bus_bytes, "little") for word in words)
    results, at = [], 0
    for burst in reads:
        results.append(data[at : at + burst.beats * bus_bytes])
        at += burst.beats * bus_bytes
    return results


async def check_bursts(dut, bursts: list[Burst], memory: NumpyFlash, **options) -> None:
    """Run the bursts and compare every beat with ``memory``, which they change."""
    expected = []
    for burst in bursts:
        if burst.write:
            memory.write(burst.addr, burst.data)
        else:
            expected.append(memory.read(burst.addr, burst.beats * options["bus_bytes"]))
    results = await run_bursts(dut, bursts, **options)
    reads = [burst for burst in bursts if not burst.write]
    for burst, got, want in zip(reads, results, expected, strict=True):
        assert got == want, f"{burst.beats} beats at {burst.addr:#x}: {got.hex()}, not {want.hex()}"


def violations(dut) -> tuple[int, set[int]]:
    """How many, and of which kinds (see ``qspi_flash.sv``)."""
    kinds = int(dut.kinds.value)
    return int(dut.violations.value), {k for k in range(32) if kinds >> k & 1}


async def settle(dut, cycles: int) -> None:
    """Let the cycles pass; no read beat may come."""
    if cycles:
        first = await First(RisingEdge(dut.mem__rdata__valid), ClockCycles(dut.clk, cycles))
        assert isinstance(first, ClockCycles), "a read beat that nobody asked for"
        await FallingEdge(dut.clk)


async def check_content(dut, memory: NumpyFlash) -> None:
    """The chip, once it is no longer busy, holds what ``memory`` does: every byte."""
    await ClockCycles(dut.clk, 200)
    dut.dump.value = 1
    await FallingEdge(dut.clk)
    dut.dump.value = 0
    await FallingEdge(dut.clk)
    lines = Path("dump.hex").read_text().splitlines()
    data = "".join(line for line in lines if line[0] not in "/@")  # the others hold addresses
    content = np.frombuffer(bytes.fromhex(data), dtype=np.uint8)
    np.testing.assert_array_equal(content, memory.bytes)


def run_flash(
    bench: Bench, *, module: str, testcase: str, seed: int, options: dict, flash: bytes = b""
) -> str:
    """Build and run ``testcase``; the chip holds ``flash`` from address 0 on. Returns the log."""
    folder = build(bench)
    run_dir = folder / "runs" / f"{testcase}-{seed}-{os.getpid()}"
    run_dir.mkdir(parents=True)
    (run_dir / "flash.bin").write_bytes(flash)
    run_module(
        bench,
        module,
        folder=folder,
        run_dir=run_dir,
        testcase=testcase,
        plusargs=["+flash=flash.bin"],
        options=options,
        seed=seed,
    )
    log = (run_dir / "run.log").read_text()
    shutil.rmtree(run_dir)
    return log
