"""Scratchpads around the row unit, for its cocotb tests."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
from cocotb.triggers import FallingEdge, ReadOnly
from numpy.typing import NDArray

from intformer.config import CoreConfig
from intformer.hw.ports import READ_LATENCY, WriteItem, operation_layout
from intformer.isa import Instruction
from intformer.reference import EXP_BITS

INPUTS = (
    "unit__cmd__valid",
    "unit__cmd__payload",
    "act_read__req__ready",
    "act_read__data",
    "wide_read__req__ready",
    "wide_read__data",
    "act_write__req__ready",
    "wide_write__req__ready",
    "param__data",
    "exp_data",
)

_SHOWN = ("cmd__ready", "busy", "done")


class Scratchpads:
    """The memories that the row unit sees, with random arbitration.

    Attributes
    ----------
    act, wide: unsigned codes, in the order of element positions.
    exp: entries of the exponential tables, one table after the other.
    param: ``(beta, gamma, shift)`` rows, one for each channel of the parameter memory.
    """

    def __init__(self, config: CoreConfig, *, rng: random.Random) -> None:
        self.config = config
        self.rng = rng
        bits = np.random.default_rng(rng.getrandbits(32))
        self.act = bits.integers(0, 1 << 8, config.act_words * config.rows)
        self.wide = bits.integers(0, 1 << 16, config.wide_words * config.lanes)
        self.exp = bits.integers(0, 1 << EXP_BITS, 256 * config.exp_tables)
        channels = config.param_groups * config.lanes
        self.param = np.stack(
            [
                bits.integers(-(1 << 31), 1 << 31, channels) >> bits.integers(0, 24, channels),
                bits.integers(-(1 << 15), 1 << 15, channels),
                bits.integers(2, 40, channels),
            ],
            axis=1,
        )
        self._due: dict[str, list[int | None]] = {}
        self._held: dict[str, int | None] = {}

    def _word(self, values: NDArray[np.int64], bits: int) -> int:
        return sum((int(v) & ((1 << bits) - 1)) << (bits * k) for k, v in enumerate(values))

    def _read(self, name: str, request: int) -> int:
        word, sub = request & 0x3FFFF, request >> 18
        lanes = self.config.lanes
        if name == "act_read":
            assert sub < self.config.groups_per_word, f"act has no lane group {sub}"
            first = word * self.config.rows + sub * lanes
            return self._word(self.act[first : first + lanes], 8)
        assert sub == 0, f"wide has no lane group {sub}"
        return self._word(self.wide[word * lanes : (word + 1) * lanes], 16)

    def _write(self, name: str, request: int) -> None:
        lanes, bits = self.config.lanes, 8 if name == "act_write" else 16
        item = WriteItem(self.config, bits=bits).from_bits(request)
        width = self.config.rows if bits == 8 else lanes
        memory = self.act if bits == 8 else self.wide
        for lane in range(lanes):
            if item.mask >> lane & 1:
                code = item.data >> (bits * lane) & ((1 << bits) - 1)
                memory[item.word * width + item.sub * lanes + lane] = code

    def _parameters(self, address: int) -> int:
        lanes, word = self.config.lanes, 0
        for lane in range(lanes):
            beta, gamma, shift = (int(v) for v in self.param[address * lanes + lane])
            entry = beta & 0xFFFFFFFF | (gamma & 0xFFFF) << 32 | shift << 48
            word |= entry << 64 * lane
        return word

    def _exponentials(self, addresses: int) -> int:
        indices = [addresses >> 10 * lane & 0x3FF for lane in range(self.config.lanes)]
        return self._word(self.exp[np.array(indices) % len(self.exp)], EXP_BITS)

    def _transfer(self, dut: Any, name: str) -> int | None:
        """The request that is transferred in this cycle, if any; requests must hold."""
        valid, ready, payload = (
            getattr(dut, f"{name}__req__{part}").value for part in ("valid", "ready", "payload")
        )
        request = int(payload) if int(valid) else None
        held = self._held.get(name)
        assert held is None or request == held, f"{name} changed from {held} to {request} unasked"
        self._held[name] = None if int(ready) else request
        return request if int(ready) else None

    def _respond(self, port: Any, name: str, value: int | None) -> None:
        """Put ``value`` on ``port`` so many cycles from now that the latency is right."""
        queue = self._due.setdefault(name, [None] * (READ_LATENCY - 1))
        queue.append(value)
        due = queue.pop(0)
        port.value = self.rng.getrandbits(len(port)) if due is None else due

    async def cycle(self, dut: Any, *, stall: float) -> tuple[bool, bool, bool]:
        """One clock cycle; return what the unit showed: ``cmd.ready``, ``busy`` and ``done``."""
        reads, writes = ("act_read", "wide_read"), ("act_write", "wide_write")
        for name in (*reads, *writes):
            getattr(dut, f"{name}__req__ready").value = int(self.rng.random() >= stall)
        await ReadOnly()
        seen = tuple(bool(int(getattr(dut, f"unit__{n}").value)) for n in _SHOWN)
        answers: dict[str, int | None] = dict.fromkeys(reads)
        for name in (*reads, *writes):
            request = self._transfer(dut, name)
            if request is not None and name in reads:
                answers[name] = self._read(name, request)
            elif request is not None:
                self._write(name, request)
        parameters = self._parameters(int(dut.param__addr.value) % self.config.param_groups)
        addresses = dut.exp_addr.value
        # Nobody waits for the answer to an undefined address.
        known = int(addresses) if addresses.is_resolvable else self.rng.getrandbits(len(addresses))
        exponentials = self._exponentials(known)
        await FallingEdge(dut.clk)
        for name in reads:
            self._respond(getattr(dut, f"{name}__data"), name, answers[name])
        self._respond(dut.param__data, "param", parameters)
        self._respond(dut.exp_data, "exp", exponentials)
        return seen


async def execute(dut: Any, pads: Scratchpads, instruction: Instruction, *, stall: float) -> int:
    """Run one instruction to ``done``; return the cycles from its transfer to ``done``."""
    fields = {name: int(value) for name, value in instruction.fields.items()}
    body = operation_layout(instruction.op).const(fields).as_value().value
    dut.unit__cmd__payload.value = int(instruction.op) | body << 4
    dut.unit__cmd__valid.value = 1
    ready = False
    while not ready:
        ready, _busy, done = await pads.cycle(dut, stall=stall)
        assert not done, "done twice"
    dut.unit__cmd__valid.value = 0
    dut.unit__cmd__payload.value = pads.rng.getrandbits(236)
    for cycles in range(1, 100_000):
        _ready, busy, done = await pads.cycle(dut, stall=stall)
        assert busy, "busy fell before done"
        if done:
            return cycles
    raise AssertionError(f"{instruction.op.name} does not end")
