"""Cycle-by-cycle models of what surrounds a unit: command port, word memory, columns.

A model has ``drive``, called after the falling edge of a cycle, and ``sample``, called when the
unit's outputs of that cycle have settled.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from cocotb.triggers import FallingEdge, ReadOnly

from intformer.hw.ports import READ_LATENCY
from intformer.isa import HEADER_BITS, Instruction

__all__ = ["Commands", "Model", "Sink", "Source", "WordMemory", "command", "run"]


class Model(Protocol):
    """What :func:`run` calls in every cycle."""

    def drive(self, cycle: int) -> None: ...

    def sample(self, cycle: int) -> None: ...


def command(instruction: Instruction) -> int:
    """The payload of a unit's command stream."""
    word = int.from_bytes(instruction.encode(), "little")
    return word >> HEADER_BITS << 4 | word & 0xF


async def run(dut: Any, models: Sequence[Model], *, until: Any, timeout: int) -> int:
    """Step ``models`` until ``until()`` holds; return the number of cycles."""
    for cycle in range(timeout):
        for model in models:
            model.drive(cycle)
        await ReadOnly()
        for model in models:
            model.sample(cycle)
        await FallingEdge(dut.clk)
        if until():
            return cycle + 1
    raise AssertionError(f"not finished after {timeout} cycles")


class Source:
    """Sends ``values`` into the stream ``name``; ``taken`` are the cycles of the transfers."""

    def __init__(
        self, dut: Any, name: str, values: Sequence[int], *, rng: random.Random, stall: float = 0.0
    ) -> None:
        self._valid, self._ready, self._payload = (
            getattr(dut, f"{name}__{part}") for part in ("valid", "ready", "payload")
        )
        self._values, self._rng, self._stall = list(values), rng, stall
        self._offered = False
        self.taken: list[int] = []

    @property
    def done(self) -> bool:
        return len(self.taken) == len(self._values)

    def drive(self, cycle: int) -> None:
        self._offered |= not self.done and self._rng.random() >= self._stall
        self._valid.value = int(self._offered)
        noise = self._rng.getrandbits(len(self._payload))
        self._payload.value = self._values[len(self.taken)] if self._offered else noise

    def sample(self, cycle: int) -> None:
        if self._offered and int(self._ready.value):
            self.taken.append(cycle)
            self._offered = False


class Commands(Source):
    """Sends instructions into ``unit`` and notes the cycles of its ``done``.

    Checks that ``busy`` is high exactly while an instruction is held, and ``stall`` only then.
    """

    def __init__(
        self,
        dut: Any,
        instructions: Sequence[Instruction],
        *,
        rng: random.Random,
        stall: float = 0.0,
    ) -> None:
        super().__init__(dut, "unit__cmd", [command(i) for i in instructions], rng=rng, stall=stall)
        self._dut = dut
        self.completed: list[int] = []
        self.stalled = 0

    @property
    def finished(self) -> bool:
        return len(self.completed) == len(self._values)

    def sample(self, cycle: int) -> None:
        held = len(self.taken) > len(self.completed)
        assert int(self._dut.unit__busy.value) == held, f"busy in cycle {cycle}"
        stall = int(self._dut.unit__stall.value)
        assert held or not stall, f"stall without an instruction in cycle {cycle}"
        self.stalled += stall
        if int(self._dut.unit__done.value):
            assert held, f"done without an instruction in cycle {cycle}"
            self.completed.append(cycle)
        super().sample(cycle)


class WordMemory:
    """Answers a wide read port from ``words`` (``[depth, rows]`` bytes).

    ``taken`` are the cycles of the requests. Data that nobody asked for is random.
    """

    def __init__(
        self, dut: Any, name: str, words: np.ndarray, *, rng: random.Random, stall: float = 0.0
    ) -> None:
        self._valid, self._ready, self._addr = (
            getattr(dut, f"{name}__req__{part}") for part in ("valid", "ready", "payload")
        )
        self._data = getattr(dut, f"{name}__data")
        self._words, self._rng, self._stall = words, rng, stall
        self._answers: deque[int | None] = deque([None] * READ_LATENCY)
        self._waiting: int | None = None
        self.taken: list[int] = []

    def drive(self, cycle: int) -> None:
        self._ready.value = int(self._rng.random() >= self._stall)
        answer = self._answers.popleft()
        self._data.value = self._rng.getrandbits(len(self._data)) if answer is None else answer

    def sample(self, cycle: int) -> None:
        answer = None
        addr = int(self._addr.value) if int(self._valid.value) else None
        assert self._waiting is None or addr == self._waiting, f"request changed in cycle {cycle}"
        self._waiting = addr
        if addr is not None and int(self._ready.value):
            self.taken.append(cycle)
            self._waiting = None
            # Past the end: columns that are masked are read all the same.
            word = self._words[addr % len(self._words)]
            answer = int.from_bytes(word.astype(np.uint8).tobytes(), "little")
        self._answers.append(answer)


class Sink:
    """Takes from the stream ``name``; ``values`` and the cycles ``taken`` of the transfers."""

    def __init__(self, dut: Any, name: str, *, rng: random.Random, stall: float = 0.0) -> None:
        self._valid, self._ready, self._payload = (
            getattr(dut, f"{name}__{part}") for part in ("valid", "ready", "payload")
        )
        self._rng, self.stall = rng, stall
        self._held: int | None = None
        self.values: list[int] = []
        self.taken: list[int] = []

    def drive(self, cycle: int) -> None:
        self._ready.value = int(self._rng.random() >= self.stall)

    def sample(self, cycle: int) -> None:
        value = int(self._payload.value) if int(self._valid.value) else None
        assert self._held is None or value == self._held, f"payload changed in cycle {cycle}"
        self._held = value
        if value is not None and int(self._ready.value):
            self.values.append(value)
            self.taken.append(cycle)
            self._held = None
