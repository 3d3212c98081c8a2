"""The cocotb side of ``link_tb.sv``: wait for a file to be played, or talk through a pty."""

from __future__ import annotations

import os
import select
import tty
from pathlib import Path
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge, ValueChange

_CHUNK = 256  # bytes per exchange with the bench
_STEPS = 1000  # clocks per exchange
_REST_S = 0.01  # between exchanges, after
_QUIET = 200  # exchanges without a byte


@cocotb.test()
async def play(dut: Any) -> None:
    """Let the bench play ``stimulus.txt``."""
    await RisingEdge(dut.finished)
    status = Path("status.txt").read_text().strip()
    assert not int(dut.failed.value), status


@cocotb.test()
async def converse(dut: Any) -> None:
    """Be the device behind a pty, whose name is left in ``port.txt``, until ``quit`` is there."""
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    os.set_blocking(ours, False)
    partial = Path("port.partial")
    partial.write_text(os.ttyname(theirs))
    partial.rename("port.txt")
    quiet, parent = 0, os.getppid()
    # A parent that was killed leaves no file.
    while not Path("quit").exists() and os.getppid() == parent:
        ready, _, _ = select.select([ours], [], [], _REST_S if quiet > _QUIET else 0)
        data = os.read(ours, _CHUNK) if ready else b""
        answered = await _exchange(dut, data)
        if answered:
            os.write(ours, answered)
        quiet = 0 if data or answered else quiet + 1
        assert not int(dut.failed.value), Path("status.txt").read_text()
    dut.quit.value = 1
    await _exchange(dut, b"")
    if not int(dut.finished.value):
        await RisingEdge(dut.finished)
    assert not int(dut.failed.value), Path("status.txt").read_text()


async def _exchange(dut: Any, data: bytes) -> bytes:
    """Hand ``data`` to the bench, let it run, return what was answered."""
    dut.push.value = int.from_bytes(data, "little")
    dut.push_count.value = len(data)
    dut.steps.value = _STEPS
    dut.go.value = 1 - int(dut.go.value)
    await ValueChange(dut.went)
    count = int(dut.pull_count.value)
    return int(dut.pull.value).to_bytes(_CHUNK, "little")[:count]
