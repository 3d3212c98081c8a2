"""Models of what stands around a unit: memories, write ports, the sequencer.

A model has ``drive``, called after the falling edge to set inputs, and ``sample``, called when all
has settled; :func:`run` calls them cycle by cycle.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from cocotb.triggers import FallingEdge, ReadOnly

from intformer.hw.ports import BURST_MAX, READ_LATENCY
from intformer.isa import HEADER_BITS, Instruction

__all__ = [
    "BurstModel",
    "ExternalBytes",
    "ReadPortModel",
    "StreamSink",
    "UnitModel",
    "run",
    "unpack",
]


async def run(dut: Any, models: Sequence[Any], *, until: Callable[[], bool], limit: int) -> int:
    """Step all ``models`` until ``until()``; return the cycles. Fails after ``limit`` cycles."""
    cycles = 0
    while not until():
        for model in models:
            model.drive()
        await ReadOnly()
        for model in models:
            model.sample()
        await FallingEdge(dut.clk)
        cycles += 1
        assert cycles < limit, f"not finished after {limit} cycles"
    return cycles


def unpack(word: int, widths: Sequence[int]) -> list[int]:
    """Inverse of ``streams.pack`` for unsigned members."""
    values = []
    for width in widths:
        values.append(word & ((1 << width) - 1))
        word >>= width
    return values


class StreamSink:
    """Takes what comes out of the stream ``name`` and hands it to ``take``.

    ``take`` returns nothing, or ``False`` to refuse. Checks that ``valid`` and the payload hold
    until the transfer.
    """

    def __init__(
        self, dut: Any, name: str, take: Callable[[int], None], *, rng: random.Random, stall: float
    ) -> None:
        self._name = name
        self._valid = getattr(dut, f"{name}__valid")
        self._ready = getattr(dut, f"{name}__ready")
        self._payload = getattr(dut, f"{name}__payload")
        self._take = take
        self._rng = rng
        self.stall = stall
        self._held: int | None = None
        self.open = True
        """Low: refuse everything."""

    def drive(self) -> None:
        self._taking = self.open and self._rng.random() >= self.stall
        self._ready.value = int(self._taking)

    def sample(self) -> None:
        value = int(self._payload.value) if int(self._valid.value) else None
        assert self._held is None or value == self._held, (
            f"{self._name} changed from {self._held} to {value} before it was taken"
        )
        self._held = None if self._taking else value
        if self._taking and value is not None:
            self._take(value)


class ReadPortModel:
    """A scratchpad's read port: ``read`` gives the data of a request, as an integer."""

    def __init__(
        self, dut: Any, name: str, read: Callable[[int], int], *, rng: random.Random, stall: float
    ) -> None:
        self.requests = StreamSink(dut, f"{name}__req", self._take, rng=rng, stall=stall)
        self._data = getattr(dut, f"{name}__data")
        self._read = read
        self._rng = rng
        self._coming: deque[int | None] = deque([None] * READ_LATENCY)

    def _take(self, request: int) -> None:
        self._coming[-1] = self._read(request)

    def drive(self) -> None:
        self.requests.drive()
        value = self._coming.popleft()
        self._data.value = self._rng.getrandbits(len(self._data)) if value is None else value
        self._coming.append(None)

    def sample(self) -> None:
        self.requests.sample()


class ExternalBytes:
    """External memory of 64 KiB; higher address bits are mixed in, so that all of them count."""

    def __init__(self, *, seed: int) -> None:
        self.bytes = np.random.default_rng(seed).integers(0, 256, 1 << 16, dtype=np.uint8)

    def _index(self, address: int, count: int) -> np.ndarray:
        addresses = (address + np.arange(count)) & 0xFFFFFFFF
        return (addresses ^ (addresses >> 16) * 0x2F35) & 0xFFFF

    def read(self, address: int, count: int) -> np.ndarray:
        return self.bytes[self._index(address, count)]

    def write(self, address: int, data: np.ndarray) -> None:
        self.bytes[self._index(address, data.size)] = data


class BurstModel:
    """External memory behind a ``ReadBurstPort`` and a ``WriteBurstPort`` of the DUT.

    Commands are carried out in the order in which they are taken. Read beats come ``latency``
    cycles after their command at the earliest.
    """

    def __init__(
        self,
        dut: Any,
        memory: ExternalBytes,
        *,
        bus_bytes: int,
        rng: random.Random,
        stall: float,
        latency: int = 1,
    ) -> None:
        self._dut = dut
        self._memory = memory
        self._bus = bus_bytes
        self._rng = rng
        self._latency = latency
        self.stall = stall
        self._now = 0
        self._beats: deque[tuple[int, int]] = deque()  # cycle, value
        self._writes: deque[int] = deque()  # addresses of the beats to come
        self._sinks = [
            StreamSink(dut, "mem_read__cmd", self._read, rng=rng, stall=stall),
            StreamSink(dut, "mem_write__cmd", self._write, rng=rng, stall=stall),
            StreamSink(dut, "mem_write__data", self._write_beat, rng=rng, stall=stall),
        ]

    def _addresses(self, command: int) -> list[int]:
        address, length = unpack(command, [32, 8])
        assert address % self._bus == 0, f"burst at {address:#x} is not aligned"
        assert length < BURST_MAX, f"burst of {length + 1} beats"
        return [address + beat * self._bus for beat in range(length + 1)]

    def _read(self, command: int) -> None:
        for address in self._addresses(command):
            value = int.from_bytes(self._memory.read(address, self._bus).tobytes(), "little")
            self._beats.append((self._now + self._latency, value))

    def _write(self, command: int) -> None:
        self._writes.extend(self._addresses(command))

    def _write_beat(self, value: int) -> None:
        data = np.frombuffer(value.to_bytes(self._bus, "little"), dtype=np.uint8)
        self._memory.write(self._writes.popleft(), data)

    def drive(self) -> None:
        self._sinks[2].open = bool(self._writes)
        for sink in self._sinks:
            sink.drive()
        due = self._beats and self._beats[0][0] <= self._now
        valid = bool(due) and self._rng.random() >= self.stall
        self._dut.mem_read__valid.value = int(valid)
        bits = 8 * self._bus
        value = self._beats.popleft()[1] if valid else self._rng.getrandbits(bits)
        self._dut.mem_read__data.value = value

    def sample(self) -> None:
        for sink in self._sinks:
            sink.sample()
        self._now += 1


class UnitModel:
    """The sequencer's side of a unit: sends instructions, calls ``on_done`` for each ``done``.

    ``cycles[i]``: from the cycle in which instruction ``i`` was taken to its ``done``.
    """

    def __init__(
        self,
        dut: Any,
        instructions: Sequence[Instruction],
        *,
        rng: random.Random,
        stall: float,
        on_done: Callable[[int], None],
    ) -> None:
        self._dut = dut
        self._instructions = list(instructions)
        self._rng = rng
        self._stall = stall
        self._on_done = on_done
        self._sent = 0
        self._now = 0
        self._presented = False
        self._taken_at: list[int] = []
        self.cycles: list[int] = []

    @property
    def finished(self) -> bool:
        return len(self.cycles) == len(self._instructions)

    def drive(self) -> None:
        rest = self._sent < len(self._instructions)
        self._presented = rest and (self._presented or self._rng.random() >= self._stall)
        self._dut.unit__cmd__valid.value = int(self._presented)
        if self._presented:
            word = int.from_bytes(self._instructions[self._sent].encode(), "little")
            value = (word & 0xF) | (word >> HEADER_BITS) << 4
        else:
            value = self._rng.getrandbits(236)
        self._dut.unit__cmd__payload.value = value

    def sample(self) -> None:
        busy = self._sent > len(self.cycles)
        assert int(self._dut.unit__busy.value) == busy, "busy does not tell of an instruction held"
        if int(self._dut.unit__done.value):
            number = len(self.cycles)
            assert busy, "done without an instruction"
            self.cycles.append(self._now - self._taken_at[number])
            self._on_done(number)
        if self._presented and int(self._dut.unit__cmd__ready.value):
            self._taken_at.append(self._now)
            self._sent += 1
            self._presented = False
        self._now += 1
