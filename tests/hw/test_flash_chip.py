"""The model of the flash chip does what a chip does, and bites: every rule broken on purpose."""

from importlib import resources
from pathlib import Path

import cocotb
import numpy as np
import pytest
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, Timer
from flash_bench import run_flash

from intformer.sim.builds import Bench

SIZE = 1 << 15
CONTENT = np.random.default_rng(9).integers(0, 256, SIZE, dtype=np.uint8).tobytes()

KINDS = (
    "UNKNOWN",
    "WHILE_ASLEEP",
    "WHILE_BUSY",
    "NOT_ENABLED",
    "NOT_QUAD",
    "CONTENTION",
    "TOO_FAST",
    "DESELECT",
    "CUT_OFF",
    "PAGE_WRAP",
    "FLOATING",
    "WAKING",
    "SETUP",
    "HOLD",
    "NOT_ERASED",
)
"""In the order of their numbers in ``qspi_flash.sv``."""


class Host:
    """Drives the pins of the chip, one edge after the other."""

    def __init__(self, dut) -> None:
        self.dut = dut
        self.half = 10  # ns

    async def begin(self, *, wake: bool = True, quad: bool = True) -> None:
        dut = self.dut
        dut.cs_n.value, dut.sck.value, dut.io_i.value, dut.io_i_oe.value = 1, 0, 15, 0
        dut.dump.value = 0
        cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
        await Timer(100, "ns")
        if wake:
            await self.command(0xAB)
            await Timer(3100, "ns")
        if quad:
            await self.command(0x50)
            await self.command(0x31, 0x02)

    async def select(self) -> None:
        self.dut.cs_n.value = 0
        await Timer(10, "ns")

    async def deselect(self, *, ns: int = 60) -> None:
        self.dut.io_i_oe.value = 0
        await Timer(5, "ns")
        self.dut.cs_n.value = 1
        await Timer(ns, "ns")

    async def clock(self) -> int:
        """One clock; what the chip has on the lines when it rises."""
        await Timer(self.half, "ns")
        lines = int(self.dut.io_o.value)
        self.dut.sck.value = 1
        await Timer(self.half, "ns")
        self.dut.sck.value = 0
        return lines

    async def put(self, *data: int, quad: bool = False, bits: int = 8) -> None:
        for byte in data:
            for at in range(7, 7 - bits, -4 if quad else -1):
                nibble = byte >> at - 3 & 15 if quad else byte >> at & 1 | 12
                self.dut.io_i.value = nibble
                self.dut.io_i_oe.value = 15 if quad else 13
                await self.clock()

    async def get(self, count: int, *, quad: bool = False) -> bytes:
        self.dut.io_i_oe.value = 0 if quad else 13
        data = []
        for _ in range(count):
            byte = 0
            for _ in range(2 if quad else 8):
                lines = await self.clock()
                byte = byte << 4 | lines if quad else byte << 1 | lines >> 1 & 1
            data.append(byte)
        return bytes(data)

    async def command(self, *data: int, ns: int = 60) -> None:
        await self.select()
        await self.put(*data)
        await self.deselect(ns=ns)

    async def read(self, *command: int, count: int, wait: int = 0) -> bytes:
        await self.select()
        await self.put(*command)
        for _ in range(wait):
            await self.clock()
        data = await self.get(count)
        await self.deselect()
        return data

    async def quad_read(self, address: int, count: int, *, mode: int, continuous: bool) -> bytes:
        await self.select()
        if not continuous:
            await self.put(0xEB)
        await self.put(*address.to_bytes(3, "big"), mode, quad=True)
        self.dut.io_i_oe.value = 0
        for _ in range(4):
            await self.clock()
        data = await self.get(count, quad=True)
        await self.deselect()
        return data

    async def recover(self) -> None:
        """Back to a chip that is awake, idle and quad enabled, and knows of no violation."""
        self.half = 10
        await Timer(4, "us")
        await self.command(0xAB)
        await Timer(3100, "ns")
        for command in ((0x04,), (0x50,), (0x31, 0x02)):
            await self.command(*command)
        self.dut.kinds.value = 0
        await Timer(10, "ns")

    async def ready(self) -> None:
        while (await self.read(0x05, count=1))[0] & 1:
            pass

    def kinds(self) -> set[str]:
        value = int(self.dut.kinds.value)
        return {name for k, name in enumerate(KINDS) if value >> k & 1}


def area(address: int, count: int) -> bytes:
    return CONTENT[address : address + count]


@cocotb.test()
async def works(dut):
    """All commands, used as they should be."""
    host = Host(dut)
    await host.begin()
    assert await host.read(0x9F, count=3) == b"\xef\x40\x18"
    assert await host.read(0x35, count=2) == b"\x02\x02"
    assert await host.read(0x03, 0, 0x12, 0x34, count=5) == area(0x1234, 5)
    assert await host.read(0x0B, 0, 0x12, 0x34, count=5, wait=8) == area(0x1234, 5)
    assert await host.quad_read(0x777, 9, mode=0xA0, continuous=False) == area(0x777, 9)
    assert await host.quad_read(0x42, 3, mode=0xA5, continuous=True) == area(0x42, 3)
    assert await host.quad_read(0x43, 3, mode=0xFF, continuous=True) == area(0x43, 3)
    # No longer continuous. Now erase, program over what was erased, read back.
    await host.command(0x06)
    assert await host.read(0x05, count=1) == b"\x02"
    await host.command(0x20, 0, 0x1F, 0xFF)
    assert await host.read(0x05, count=1) == b"\x01"
    await host.ready()
    assert await host.read(0x03, 0, 0x0F, 0xFE, count=6) == area(0xFFE, 2) + b"\xff" * 4
    await host.command(0x06)
    await host.command(0x02, 0, 0x10, 0xFC, 1, 2, 3, 4)
    await host.ready()
    await host.command(0x06)
    await host.select()
    await host.put(0x32, 0, 0x11, 0x00)
    await host.put(5, 6, quad=True)
    await host.deselect()
    await host.ready()
    assert await host.read(0x03, 0, 0x10, 0xFB, count=8) == b"\xff\1\2\3\4\5\6\xff"
    # Bits that are zero may be programmed again.
    await host.command(0x06)
    await host.command(0x02, 0, 0x11, 0x00, 4)
    await host.ready()
    assert await host.read(0x03, 0, 0x11, 0x00, count=1) == b"\x04"
    # Without the latch nothing is written; asleep it is cleared by 04 before.
    await host.command(0x06)
    await host.command(0x04)
    assert await host.read(0x05, count=1) == b"\x00"
    await host.command(0xB9)
    await host.command(0xAB)
    await Timer(3, "us")
    assert await host.read(0x03, 0, 0x40, 0, count=2) == area(0x4000, 2)
    assert host.kinds() == set()
    assert int(dut.violations.value) == 0


async def unknown(host: Host) -> None:
    await host.command(0x77)


async def while_asleep(host: Host) -> None:
    await host.command(0xB9)
    await host.command(0x06)


async def while_busy(host: Host) -> None:
    await host.command(0x06)
    await host.command(0x20, 0, 0x20, 0)
    await host.command(0x06)


async def not_enabled(host: Host) -> None:
    await host.command(0x20, 0, 0, 0)
    assert await host.read(0x03, 0, 0, 0, count=4) == area(0, 4), "erased without the latch"


async def status_not_enabled(host: Host) -> None:
    await host.command(0x31, 0)
    assert await host.read(0x35, count=1) == b"\x02", "written without the latch"


async def contention(host: Host) -> None:
    await host.select()
    await host.put(0x03, 0, 0, 0)
    host.dut.io_i_oe.value = 2
    await host.clock()
    await host.deselect()


async def quad_contention(host: Host) -> None:
    """The lines are still driven when the chip begins to."""
    await host.select()
    await host.put(0xEB)
    await host.put(0, 0, 0, 0xFF, quad=True)
    for _ in range(5):
        await host.clock()
    await host.deselect()


async def too_fast(host: Host) -> None:
    host.half = 4
    await host.command(0x06)


async def deselect(host: Host) -> None:
    await host.command(0x06, ns=20)
    await host.command(0x04)


async def cut_off(host: Host) -> None:
    await host.select()
    await host.put(0x06, bits=7)
    await host.deselect()


async def cut_off_address(host: Host) -> None:
    await host.command(0x06)
    await host.command(0x20, 0, 0)
    assert await host.read(0x03, 0, 0, 0, count=4) == area(0, 4), "erased without an address"


async def cut_off_data(host: Host) -> None:
    await host.command(0x06)
    await host.select()
    await host.put(0x02, 0, 0, 0)
    await host.put(0, bits=5)
    await host.deselect()
    assert await host.read(0x03, 0, 0, 0, count=4) == area(0, 4), "programmed a part of a byte"


async def page_wrap(host: Host) -> None:
    await host.command(0x06)
    await host.command(0x20, 0, 0x30, 0)
    await host.ready()
    await host.command(0x06)
    await host.command(0x02, 0, 0x30, 0xFE, 1, 2, 3, 4)
    await host.ready()
    assert await host.read(0x03, 0, 0x30, 0xFE, count=3) == b"\1\2\xff"
    assert await host.read(0x03, 0, 0x30, 0, count=3) == b"\3\4\xff"


async def floating(host: Host) -> None:
    await host.select()
    await host.put(0xEB)
    host.dut.io_i_oe.value = 0b0111
    for _ in range(6):
        await host.clock()
    await host.deselect()


async def waking(host: Host) -> None:
    await host.command(0xB9)
    await host.command(0xAB)
    await host.command(0x06)


async def setup(host: Host) -> None:
    await host.select()
    await host.put(0x06, bits=7)
    host.dut.io_i.value = 13
    await Timer(host.half - 1, "ns")
    host.dut.io_i.value = 12
    await Timer(1, "ns")
    host.dut.sck.value = 1
    await Timer(host.half, "ns")
    host.dut.sck.value = 0
    await host.deselect()


async def not_erased(host: Host) -> None:
    await host.command(0x06)
    await host.command(0x02, 0, 0, 0, 0xFF ^ CONTENT[0])
    await host.ready()
    assert await host.read(0x03, 0, 0, 0, count=2) == b"\0" + area(1, 1)


async def not_quad(host: Host) -> None:
    await host.command(0x50)
    await host.command(0x31, 0)
    assert await host.quad_read(0, 1, mode=0xFF, continuous=False) == area(0, 1)


async def hold(host: Host) -> None:
    await host.command(0x50)
    await host.command(0x31, 0)
    await host.select()
    host.dut.io_i_oe.value = 15
    host.dut.io_i.value = 0
    await host.clock()
    await host.put(0x06 << 1, bits=7)  # the rest of 06, with IO3 high
    await host.deselect()


BREACHES = {
    "UNKNOWN": (unknown,),
    "WHILE_ASLEEP": (while_asleep,),
    "WHILE_BUSY": (while_busy,),
    "NOT_ENABLED": (not_enabled, status_not_enabled),
    "NOT_QUAD": (not_quad,),
    "CONTENTION": (contention, quad_contention),
    "TOO_FAST": (too_fast,),
    "DESELECT": (deselect,),
    "CUT_OFF": (cut_off, cut_off_address, cut_off_data),
    "PAGE_WRAP": (page_wrap,),
    "FLOATING": (floating,),
    "WAKING": (waking,),
    "SETUP": (setup,),
    "HOLD": (hold,),
    "NOT_ERASED": (not_erased,),
}


@cocotb.test()
async def bites(dut):
    """Each breach gives its own kind of violation and no other."""
    host = Host(dut)
    await host.begin()
    for kind, breaches in BREACHES.items():
        for breach in breaches:
            assert host.kinds() == set(), f"before {breach.__name__}"
            await breach(host)
            await ClockCycles(dut.clk, 2)
            assert host.kinds() == {kind}, breach.__name__
            await host.recover()


def run(testcase: str, *, simulator: str = "icarus") -> str:
    source = resources.files("intformer.sim") / "chips" / "qspi_flash.sv"
    bench = Bench(
        sources={"qspi_flash.sv": Path(str(source)).read_text()},
        toplevel="qspi_flash",
        simulator=simulator,
        parameters={"SIZE": SIZE, "PROGRAM_CYCLES": 100, "ERASE_CYCLES": 300},
    )
    return run_flash(
        bench,
        module="test_flash_chip",
        testcase=testcase,
        seed=1,
        options={},
        flash=CONTENT,
    )


@pytest.mark.parametrize("simulator", ["icarus", "verilator"])
def test_proper_use(simulator):
    run("works", simulator=simulator)


def test_breaches_are_told():
    assert set(BREACHES) == set(KINDS)
    log = run("bites")
    for words in ("unknown command", "in power down", "is busy", "without quad enable", "holds"):
        assert words in log
