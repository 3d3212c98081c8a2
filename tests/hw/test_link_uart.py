"""UART and SPI, bit by bit."""

import random

import cocotb
import pytest
import streams
from cocotb.triggers import FallingEdge
from streams import both_simulators

from intformer.host.protocol import FLAG
from intformer.hw.link.spi import SpiTarget
from intformer.hw.link.uart import Uart
from intformer.sim.runner import bench_options, run_bench


class Line:
    """Bit-bangs ``rx``, listens to ``tx``, counts ``framing`` and ``overrun``."""

    def __init__(self, dut, divisor: float) -> None:
        self.dut, self.divisor = dut, divisor
        self.framing = self.overrun = 0
        self.sent_by_dut: list[int] = []
        cocotb.start_soon(self._watch())
        cocotb.start_soon(self._listen())

    async def bit(self, value: int, share: float = 1.0) -> None:
        self.dut.rx.value = value
        self._debt = getattr(self, "_debt", 0.0) + self.divisor * share
        while self._debt >= 1:
            self._debt -= 1
            await FallingEdge(self.dut.clk)

    async def send(self, byte: int, *, stop: int = 1) -> None:
        for value in (0, *((byte >> i) & 1 for i in range(8)), stop):
            await self.bit(value)

    async def _watch(self) -> None:
        while True:
            await FallingEdge(self.dut.clk)
            self.framing += int(self.dut.framing.value)
            self.overrun += int(self.dut.overrun.value)

    async def _listen(self) -> None:
        dut, divisor = self.dut, round(self.divisor)
        while True:
            await FallingEdge(dut.clk)
            if int(dut.tx.value):
                continue
            for _ in range(divisor // 2):
                await FallingEdge(dut.clk)
            assert not int(dut.tx.value)
            byte = 0
            for i in range(8):
                for _ in range(divisor):
                    await FallingEdge(dut.clk)
                byte |= int(dut.tx.value) << i
            for _ in range(divisor):
                await FallingEdge(dut.clk)
            assert int(dut.tx.value), "no stop bit"
            self.sent_by_dut.append(byte)


async def begin(dut, divisor: float) -> Line:
    await streams.start(dut, inputs={"rx": 1, "i__valid": 0, "o__ready": 0})
    line = Line(dut, divisor)
    await line.bit(1, 3)
    return line


@cocotb.test()
async def both_directions(dut):
    """Full duplex, back to back, with clocks that differ."""
    divisor = bench_options()["divisor"]
    for off in (0.0, 0.03, -0.03) if divisor >= 8 else (0.0,):
        rng = random.Random(f"{divisor} {off}")
        line = await begin(dut, divisor)
        line.divisor = divisor * (1 + off)
        data = [0x00, 0xFF, 0x55, 0xAA, *rng.randbytes(20)]
        answer = [0x00, 0xFF, *rng.randbytes(20)]
        received = cocotb.start_soon(streams.collect(dut, "o", len(data), rng=rng))
        cocotb.start_soon(streams.drive(dut, "i", answer, rng=rng))
        for byte in data:
            await line.send(byte)
        assert await received == data
        while len(line.sent_by_dut) < len(answer):
            await FallingEdge(dut.clk)
        assert line.sent_by_dut == answer
        assert (line.framing, line.overrun) == (0, 0)


@cocotb.test()
async def errors(dut):
    """Missing stop bits, a break, noise, and bytes that nobody takes."""
    divisor = bench_options()["divisor"]
    line = await begin(dut, divisor)
    rng = random.Random(4)
    received = cocotb.start_soon(streams.collect(dut, "o", 2, rng=rng))
    await line.send(0x12, stop=0)
    await line.bit(1, 2)
    await line.send(0x34)
    await line.bit(0, 40)  # a break is one error
    await line.bit(1, 2)
    await line.bit(0, 0.25)  # too short for a start bit
    await line.bit(1, 12)
    await line.send(0x56)
    assert await received == [0x34, 0x56]
    assert (line.framing, line.overrun) == (2, 0)
    dut.o__ready.value = 0
    for byte in (0x78, 0x9A, 0xBC):
        await line.send(byte)
    await line.bit(1, 2)
    assert (line.framing, line.overrun) == (2, 2)
    assert await streams.collect(dut, "o", 1, rng=rng) == [0x78]


@both_simulators
@pytest.mark.parametrize("divisor", [4, 13])
def test_uart(simulator: str, divisor: int) -> None:
    run_bench(
        Uart(divisor=divisor),
        module="test_link_uart",
        testcase="both_directions",
        simulator=simulator,
        options={"divisor": divisor},
    )


@pytest.mark.parametrize("divisor", [4, 13])
def test_uart_errors(divisor: int) -> None:
    run_bench(
        Uart(divisor=divisor),
        module="test_link_uart",
        testcase="errors",
        simulator="icarus",
        options={"divisor": divisor},
    )


@pytest.mark.parametrize("divisor", [3, 1 << 16, 8.0])
def test_divisor_is_checked(divisor) -> None:
    with pytest.raises(ValueError, match="divisor must be from 4 to 65535, not"):
        Uart(divisor=divisor)


async def spi_bytes(dut, data, *, half: int, cut: int = 8) -> list[int]:
    """One selection: send ``data``, return what came back; ``cut`` bits of the last byte."""
    dut.cs.value = 1
    got = []
    for index, byte in enumerate(data):
        value = 0
        for i in range(8 if index < len(data) - 1 else cut):
            dut.copi.value = (byte >> (7 - i)) & 1
            for _ in range(half):
                await FallingEdge(dut.clk)
            value = (value << 1) | int(dut.cipo.value)
            dut.sck.value = 1
            for _ in range(half):
                await FallingEdge(dut.clk)
            dut.sck.value = 0
        got.append(value)
    for _ in range(half):
        await FallingEdge(dut.clk)
    dut.cs.value = 0
    for _ in range(4 * half):
        await FallingEdge(dut.clk)
    return got


@cocotb.test()
async def spi(dut):
    inputs = {"sck": 0, "cs": 0, "copi": 0, "i__valid": 0, "o__ready": 0}
    await streams.start(dut, inputs=inputs)
    for half in (4, 7):
        rng = random.Random(half)
        data, answer = list(rng.randbytes(30)), list(rng.randbytes(20))
        received = cocotb.start_soon(streams.collect(dut, "o", 30 + 2, rng=rng))
        cocotb.start_soon(streams.drive(dut, "i", answer, rng=rng))
        await FallingEdge(dut.clk)
        # The byte that is cut is dropped, here and there.
        got = await spi_bytes(dut, [*data[:9], 0x3C], half=half, cut=5)
        got[9:] = []
        assert got == answer[:9]
        got = await spi_bytes(dut, data[9:], half=half)
        assert got == [*answer[10:], *[FLAG] * (21 - 10)]
        got = await spi_bytes(dut, [1, 2], half=half)
        assert got == [FLAG, FLAG]
        assert await received == [*data, 1, 2]


@both_simulators
def test_spi(simulator: str) -> None:
    run_bench(SpiTarget(), module="test_link_uart", testcase="spi", simulator=simulator)
