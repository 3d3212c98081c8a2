"""Drives a memory behind a burst port from cocotb, and compares it with a NumPy array."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import numpy as np
from cocotb.triggers import FallingEdge, ReadOnly
from numpy.typing import NDArray
from streams import pack

__all__ = ["Burst", "BurstDriver"]

Burst = tuple[int, int, bool]
"""Byte address, beats, write."""


class BurstDriver:
    """The core's side of a burst port whose memory must equal ``memory`` (bytes).

    ``timeline`` lists the cycles in which commands, written beats and read beats were transferred.
    """

    def __init__(
        self,
        dut: Any,
        memory: NDArray[np.uint8],
        *,
        bus_bytes: int,
        rng: random.Random,
        stall: float = 0.0,
    ) -> None:
        self._dut = dut
        self._memory = memory
        self._bus = bus_bytes
        self._rng = rng
        self._stall = stall
        self._expected: deque[tuple[int, int]] = deque()  # address, value
        self._to_write: deque[int] = deque()
        self.timeline: dict[str, list[int]] = {"cmd": [], "wdata": [], "rdata": []}
        self._cycle = 0

    def _take(self, burst: Burst) -> None:
        """A command was taken: what memory does with it, from then on."""
        address, beats, write = burst
        for at in range(address, address + beats * self._bus, self._bus):
            place = slice(at, at + self._bus)
            if write:
                value = self._rng.getrandbits(8 * self._bus)
                data = np.frombuffer(value.to_bytes(self._bus, "little"), dtype=np.uint8)
                self._memory[place] = data
                self._to_write.append(value)
            else:
                value = int.from_bytes(self._memory[place].tobytes(), "little")
                self._expected.append((at, value))

    def _stalls(self) -> bool:
        return self._rng.random() < self._stall

    async def run(self, bursts: list[Burst], *, limit: int = 200_000) -> None:
        """Transfer ``bursts``, in order; return when the last beat has come."""
        dut = self._dut
        waiting = deque(bursts)
        offered = {"cmd": False, "wdata": False}
        while waiting or self._expected or self._to_write:
            if not offered["cmd"] and waiting and not self._stalls():
                address, beats, write = waiting[0]
                fields = [(address, 32), (beats - 1, 8), (int(write), 1)]
                dut.mem__cmd__payload.value = pack(fields)
                offered["cmd"] = True
            if not offered["wdata"] and self._to_write and not self._stalls():
                dut.mem__wdata__payload.value = self._to_write[0]
                offered["wdata"] = True
            for name, valid in offered.items():
                getattr(dut, f"mem__{name}__valid").value = int(valid)
            await ReadOnly()
            takes = {
                name: valid and int(getattr(dut, f"mem__{name}__ready").value)
                for name, valid in offered.items()
            }
            takes["rdata"] = int(dut.mem__rdata__valid.value)
            value = int(dut.mem__rdata__payload.value) if takes["rdata"] else 0
            for name, taken in takes.items():
                if taken:
                    self.timeline[name].append(self._cycle)
            await FallingEdge(dut.clk)
            if takes["rdata"]:
                assert self._expected, f"cycle {self._cycle}: a beat that nobody asked for"
                address, right = self._expected.popleft()
                assert value == right, f"{address:#x}: {value:#x}, not {right:#x}"
            if takes["wdata"]:
                self._to_write.popleft()
                offered["wdata"] = False
            if takes["cmd"]:
                self._take(waiting.popleft())
                offered["cmd"] = False
            self._cycle += 1
            assert self._cycle < limit, f"{len(waiting)} bursts left"
        dut.mem__cmd__valid.value = dut.mem__wdata__valid.value = 0
