"""What the benches of the stream units share: equality with stalls, measured timing."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import cocotb
import streams
from amaranth.hdl import Const
from amaranth.lib import data
from cocotb.triggers import FallingEdge, ReadOnly

__all__ = ["check", "check_running", "codes", "pack_beats", "timing"]


def codes(low: int, high: int, count: int, *, rng: random.Random) -> list[int]:
    """Random codes; a quarter are corners."""
    corners = [low, low + 1, min(max(0, low), high), high - 1, high]
    return [
        rng.choice(corners) if rng.random() < 0.25 else rng.randint(low, high) for _ in range(count)
    ]


def pack_beats(layout: data.Layout, beats: Sequence[Any]) -> list[int]:
    """The payloads of ``beats``, each what ``layout.const`` takes."""
    return [Const.cast(layout.const(beat)).value & ((1 << layout.size) - 1) for beat in beats]


async def timing(
    dut: Any, sent: Sequence[int], *, count: int, o: str = "o"
) -> tuple[list[int], list[int]]:
    """The cycles of the transfers at ``i``, and of ``count`` ones at ``o``, without stalls."""
    driver = cocotb.start_soon(streams.drive(dut, "i", sent, rng=random.Random(1)))
    getattr(dut, f"{o}__ready").value = 1
    taken: list[int] = []
    given: list[int] = []
    cycle = 0
    while len(given) < count:
        await ReadOnly()
        if int(dut.i__valid.value) and int(dut.i__ready.value):
            taken.append(cycle)
        if int(getattr(dut, f"{o}__valid").value):
            given.append(cycle)
        cycle += 1
        assert cycle < 20 * (len(sent) + count) + 1000, f"{len(given)} of {count} results"
        await FallingEdge(dut.clk)
    await driver
    getattr(dut, f"{o}__ready").value = 0
    return taken, given


async def check(
    dut: Any,
    sent: Sequence[int],
    expected: Sequence[int],
    *,
    latency: int,
    seed: int,
    inputs: dict[str, int] | None = None,
) -> None:
    """Start the DUT with ``inputs``, then :func:`check_running`."""
    begin = {"i__valid": 0, "i__payload": 0, "o__ready": 0, **(inputs or {})}
    await streams.start(dut, inputs=begin)
    await check_running(dut, sent, expected, latency=latency, seed=seed)


async def check_running(
    dut: Any,
    sent: Sequence[int],
    expected: Sequence[int],
    *,
    latency: int,
    seed: int,
    period: int = 1,
) -> None:
    """A unit that gives a beat for every beat: one per cycle, ``latency`` cycles later.

    What it does may depend on a beat's place among ``period``.
    """
    assert len(sent) == len(expected)
    beats = min(len(sent) // period, 64) * period
    taken, given = await timing(dut, sent[:beats], count=beats)
    assert taken == list(range(taken[0], taken[0] + beats))
    assert given == [cycle + latency for cycle in taken]
    for stall in (0.0, 0.4):
        received = await streams.transact(
            dut, sends={"i": sent}, receives={"o": len(sent)}, seed=seed, stall=stall
        )
        for index, (got, right) in enumerate(zip(received["o"], expected, strict=True)):
            assert got == right, f"beat {index}: {got:#x}, not {right:#x} for {sent[index]:#x}"
