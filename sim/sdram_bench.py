"""The cocotb side of ``sdram_tb.sv``: wait until the bench has finished, then tell how it went."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cocotb
from cocotb.triggers import RisingEdge


@cocotb.test()
async def run_traffic(dut: Any) -> None:
    """Let the simulator run all commands."""
    await RisingEdge(dut.finished)
    figures = Path("figures.txt").read_text().split()
    dut._log.info("figures %s", figures)
    wrong, violations = figures[4:6]
    assert not int(dut.failed.value), f"sdram: {wrong} wrong words, {violations} broken rules"
