"""The cocotb side of ``core_tb.sv``: wait until the bench has finished, then tell how it went."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge


@cocotb.test()
async def run_samples(dut: Any) -> None:
    """Let the simulator run all samples of the job in the working folder."""
    await RisingEdge(dut.finished)
    status = Path("status.txt").read_text().strip()
    dut._log.info("%s after %d samples", status, int(dut.sample.value))
    assert not int(dut.failed.value), status
