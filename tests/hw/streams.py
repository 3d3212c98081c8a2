"""cocotb helpers for components with Amaranth streams.

Everything is sampled and driven right after the falling edge of ``clk``: what is seen there is
settled, and what is driven there is stable at the next rising edge. A transfer happens at a
rising edge at which ``valid`` and ``ready`` were both high at the falling edge before.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any

import cocotb
import pytest
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, ReadOnly

from intformer.sim.simulators import SIMULATORS

__all__ = ["both_simulators", "collect", "drive", "pack", "random_bits", "start", "transact"]

both_simulators = pytest.mark.parametrize("simulator", SIMULATORS)
"""Decorator of a pytest function that takes ``simulator``."""

PERIOD_NS = 10


async def start(dut: Any, *, inputs: dict[str, int] | None = None) -> None:
    """Start the clock, set ``inputs``, hold reset for two cycles; return after a falling edge.

    Set every input that is not driven later: what is not driven is X on Icarus. The streams
    that the helpers below drive begin with ``valid`` and ``ready`` low if they are named here.
    """
    for name, value in (inputs or {}).items():
        getattr(dut, name).value = value
    dut.rst.value = 1
    cocotb.start_soon(Clock(dut.clk, PERIOD_NS, unit="ns").start())
    for _ in range(3):
        await FallingEdge(dut.clk)
    dut.rst.value = 0


def pack(fields: Sequence[tuple[int, int]]) -> int:
    """The vector of a structure: ``(value, width)`` pairs, least significant first."""
    word = offset = 0
    for value, width in fields:
        if not -(1 << width - 1) <= value < 1 << width:
            raise ValueError(f"{value} does not fit {width} bits")
        word |= (value & ((1 << width) - 1)) << offset
        offset += width
    return word


def random_bits(width: int, *, rng: random.Random) -> int:
    """A random code of ``width`` bits; a quarter of them are corner values."""
    if rng.random() < 0.25:
        top = 1 << (width - 1)
        return rng.choice([0, 1, top - 1, top, (1 << width) - 1])
    return rng.getrandbits(width)


async def drive(
    dut: Any, name: str, values: Iterable[int], *, rng: random.Random, stall: float = 0.0
) -> None:
    """Send ``values`` into the stream ``name`` of ``dut``.

    Before each value, ``valid`` is low for another cycle with probability ``stall``. While it is
    low the payload is random, so that a unit that looks at it is found out.
    """
    valid, ready = getattr(dut, f"{name}__valid"), getattr(dut, f"{name}__ready")
    payload = getattr(dut, f"{name}__payload")
    for value in values:
        while rng.random() < stall:
            valid.value = 0
            payload.value = rng.getrandbits(len(payload))
            await FallingEdge(dut.clk)
        valid.value = 1
        payload.value = value
        await _transfer(dut, ready)
    valid.value = 0


async def _transfer(dut: Any, ready: Any) -> None:
    """Wait until the value that is being driven was taken."""
    # `ready` may depend on what was just driven: look when all has settled.
    while True:
        await ReadOnly()
        taken = int(ready.value)
        await FallingEdge(dut.clk)
        if taken:
            return


async def collect(
    dut: Any,
    name: str,
    count: int,
    *,
    rng: random.Random,
    stall: float = 0.0,
    timeout: int = 100_000,
) -> list[int]:
    """Receive ``count`` values from the stream ``name`` of ``dut``.

    In each cycle ``ready`` is low with probability ``stall``. Checks that ``valid`` and the
    payload hold until the transfer. ``AssertionError`` after ``timeout`` cycles without one.
    """
    valid, ready = getattr(dut, f"{name}__valid"), getattr(dut, f"{name}__ready")
    payload = getattr(dut, f"{name}__payload")
    received: list[int] = []
    waiting, held = 0, None
    while len(received) < count:
        take = rng.random() >= stall
        ready.value = int(take)
        await ReadOnly()
        value = int(payload.value) if int(valid.value) else None
        assert held is None or value == held, f"{name} changed from {held} to {value} unasked"
        held = None if take else value
        if take and value is not None:
            received.append(value)
            waiting = 0
        waiting += 1
        assert waiting < timeout, f"{name}: {len(received)} of {count} values, then none"
        await FallingEdge(dut.clk)
    ready.value = 0
    return received


async def transact(
    dut: Any,
    *,
    sends: dict[str, Iterable[int]],
    receives: dict[str, int],
    seed: int,
    stall: float = 0.0,
) -> dict[str, list[int]]:
    """Drive all streams of ``sends`` and collect ``receives`` at once; print the seed.

    ``stall`` applies to both sides. Returns the received values by stream name.
    """
    dut._log.info("seed %d, stall %.2f", seed, stall)
    drivers = [
        cocotb.start_soon(drive(dut, name, values, rng=random.Random(f"{seed}{name}"), stall=stall))
        for name, values in sends.items()
    ]
    collectors = {
        name: cocotb.start_soon(
            collect(dut, name, count, rng=random.Random(f"{seed}{name}"), stall=stall)
        )
        for name, count in receives.items()
    }
    results = {name: await task for name, task in collectors.items()}
    for task in drivers:
        await task
    return results
