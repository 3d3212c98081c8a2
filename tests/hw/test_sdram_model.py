"""The model of the SDRAM chip: every rule is broken on purpose, and must be reported, alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import cocotb
import pytest
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

from intformer.hw.external.sdram import CHIPS
from intformer.sim.runner import bench_options, run_bench
from intformer.sim.sdram import RULES, model_parameters, model_source

CHIP = replace(
    CHIPS["AS4C16M16SA-7"],
    row_bits=11,
    # So that tRC can be broken without tRAS or tRP, and each row's refresh without the interval.
    t_rc=95.0,
    t_ras_max=3000.0,
    refresh_ms=0.0625,
    refresh_rows=8,
    power_up_us=1.0,
)
"""At 10 ns: tRCD 3, tRP 3, tRAS 5, tRC 10, tRFC 7, tWR 2, tRRD 2, tMRD 2, tREFI 781 cycles."""
MODE = 2 << 4
PARAMETERS = model_parameters(CHIP)


class Driver:
    """The pins; a command is set up at a falling edge, and the chip sees it at the rising one."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut

    def idle(self) -> None:
        for name in ("cs_n", "ras_n", "cas_n", "we_n"):
            getattr(self.dut, name).value = 1
        for name in ("ba", "a", "dqm", "dq_in", "dq_in_oe"):
            getattr(self.dut, name).value = 0
        self.dut.clk_en.value = 1

    async def wait(self, cycles: int) -> None:
        for _ in range(cycles):
            await FallingEdge(self.dut.clk)

    async def command(self, code: int, *, after: int, ba: int = 0, a: int = 0) -> None:
        """Give a command so many cycles after the last one; ``code``: RAS, CAS, WE, active low."""
        await self.wait(after - 1)
        self.dut.cs_n.value = 0
        self.dut.ras_n.value = code >> 2
        self.dut.cas_n.value = code >> 1 & 1
        self.dut.we_n.value = code & 1
        self.dut.ba.value = ba
        self.dut.a.value = a
        await FallingEdge(self.dut.clk)
        self.idle()

    async def activate(self, *, after: int, ba: int = 0, row: int = 5) -> None:
        await self.command(0b011, after=after, ba=ba, a=row)

    async def precharge(self, *, after: int, ba: int = 0) -> None:
        await self.command(0b010, after=after, ba=ba)

    async def precharge_all(self, *, after: int) -> None:
        await self.command(0b010, after=after, a=1 << 10)

    async def refresh(self, *, after: int) -> None:
        await self.command(0b001, after=after)

    async def mode(self, *, after: int, value: int = MODE) -> None:
        await self.command(0b000, after=after, a=value)

    async def read(self, *, after: int, ba: int = 0, column: int = 3) -> None:
        await self.command(0b101, after=after, ba=ba, a=column)

    async def write(
        self, *, after: int, ba: int = 0, column: int = 3, data: int | None = 0, dqm: int = 0
    ) -> None:
        await self.wait(after - 1)
        self.dut.dqm.value = dqm
        self.dut.dq_in.value = data or 0
        self.dut.dq_in_oe.value = int(data is not None)
        await self.command(0b100, after=1, ba=ba, a=column)

    async def rest(self) -> None:
        """All rows closed, and refreshed."""
        await self.precharge_all(after=30)
        await self.refresh(after=12)
        await self.refresh(after=12)
        await self.wait(12)

    def counts(self) -> dict[str, int]:
        counted = {rule: int(self.dut.counts[bit].value) for bit, rule in enumerate(RULES)}
        return {rule: count for rule, count in counted.items() if count}


async def minimum_distances(d: Driver) -> None:
    await d.activate(after=1)
    await d.activate(after=2, ba=1)
    await d.write(after=2, column=7, data=0x1234)
    await d.write(after=1, ba=1, column=8, data=0x5678)
    await d.write(after=1, column=7, data=0xFFFF, dqm=0b10)
    await d.read(after=1, column=7)
    await d.read(after=1, ba=1, column=8)
    assert int(d.dut.dq_out_oe.value) == 1
    assert int(d.dut.dq_out.value) == 0x12FF
    await d.wait(1)
    assert int(d.dut.dq_out.value) == 0x5678
    await d.wait(1)
    assert int(d.dut.dq_out_oe.value) == 0
    await d.write(after=2, data=1)  # four cycles after the last read
    await d.precharge(after=2)
    await d.activate(after=3)
    await d.precharge(after=5)
    await d.precharge(after=1, ba=1)
    await d.refresh(after=5)
    await d.refresh(after=7)
    await d.mode(after=7)
    await d.activate(after=2)


async def breaks_rcd(d: Driver) -> None:
    await d.activate(after=1)
    await d.read(after=2)


async def breaks_rcd_writing(d: Driver) -> None:
    await d.activate(after=1)
    await d.write(after=2)


async def breaks_rp(d: Driver) -> None:
    await d.activate(after=1)
    await d.precharge(after=9)
    await d.activate(after=2)


async def breaks_rp_before_refresh(d: Driver) -> None:
    await d.activate(after=1)
    await d.precharge(after=9)
    await d.refresh(after=2)


async def breaks_rc(d: Driver) -> None:
    await d.activate(after=1)
    await d.precharge(after=5)
    await d.activate(after=4)


async def breaks_ras(d: Driver) -> None:
    await d.activate(after=1)
    await d.precharge(after=4)


async def breaks_ras_max(d: Driver) -> None:
    await d.activate(after=1)
    await d.precharge(after=301)


async def breaks_rrd(d: Driver) -> None:
    await d.activate(after=1)
    await d.activate(after=1, ba=2)


async def breaks_rfc(d: Driver) -> None:
    await d.refresh(after=1)
    await d.activate(after=6)


async def breaks_mrd(d: Driver) -> None:
    await d.mode(after=1)
    await d.activate(after=1)


async def breaks_wr(d: Driver) -> None:
    await d.activate(after=1)
    await d.write(after=5)
    await d.precharge(after=1)


async def breaks_wr_of_all(d: Driver) -> None:
    await d.activate(after=1, ba=3)
    await d.write(after=5, ba=3)
    await d.precharge_all(after=1)


async def reads_closed(d: Driver) -> None:
    await d.read(after=1)


async def writes_closed(d: Driver) -> None:
    await d.activate(after=1)
    await d.write(after=5, ba=1)


async def activates_open(d: Driver) -> None:
    await d.activate(after=1)
    await d.activate(after=12, row=6)


async def refreshes_open(d: Driver) -> None:
    await d.activate(after=1)
    await d.refresh(after=12)


async def writes_while_read(d: Driver) -> None:
    await d.activate(after=1)
    await d.read(after=5)
    await d.write(after=2)


async def writes_too_soon_after_read(d: Driver) -> None:
    await d.activate(after=1)
    await d.read(after=5)
    await d.write(after=3)  # drives 5 ns after the edge, the chip lets go after 5.4 ns


async def drives_while_read(d: Driver) -> None:
    await d.activate(after=1)
    d.dut.dq_in_oe.value = 1
    await d.wait(5)
    d.dut.dq_in_oe.value = 1
    await d.read(after=1)
    d.dut.dq_in_oe.value = 1
    await d.wait(2)
    d.idle()


async def writes_nothing(d: Driver) -> None:
    await d.activate(after=1)
    await d.write(after=5, data=None)


async def reads_beyond_row(d: Driver) -> None:
    await d.activate(after=1)
    await d.read(after=5, column=1 << 9)


async def precharges_automatically(d: Driver) -> None:
    await d.activate(after=1)
    await d.read(after=5, column=1 << 10)


async def stops_burst(d: Driver) -> None:
    await d.command(0b110, after=1)


async def disables_clock(d: Driver) -> None:
    d.dut.clk_en.value = 0
    await d.wait(1)
    d.idle()


async def sets_long_bursts(d: Driver) -> None:
    await d.mode(after=1, value=MODE | 3)


async def sets_reserved(d: Driver) -> None:
    await d.mode(after=1, value=MODE | 1 << 7)


async def sets_mode_with_open_row(d: Driver) -> None:
    await d.activate(after=1)
    await d.mode(after=12)


async def refreshes_late(d: Driver) -> None:
    # The two refreshes at rest are to the good, and two intervals are allowed.
    await d.wait(4 * 781 + 80)


async def misses_row(d: Driver) -> None:
    # The interval is kept: there were two refreshes for each case before this one.
    await d.wait(6500)
    await d.refresh(after=1)


Case = Callable[[Driver], Awaitable[None]]
CASES: list[tuple[Case, str | None]] = [
    (refreshes_late, "refresh interval"),
    (minimum_distances, None),
    (breaks_rcd, "tRCD"),
    (breaks_rcd_writing, "tRCD"),
    (breaks_rp, "tRP"),
    (breaks_rp_before_refresh, "tRP"),
    (breaks_rc, "tRC"),
    (breaks_ras, "tRAS"),
    (breaks_ras_max, "tRAS max"),
    (breaks_rrd, "tRRD"),
    (breaks_rfc, "tRFC"),
    (breaks_mrd, "tMRD"),
    (breaks_wr, "tWR"),
    (breaks_wr_of_all, "tWR"),
    (reads_closed, "column command to a closed bank"),
    (writes_closed, "column command to a closed bank"),
    (activates_open, "activate of an open bank"),
    (refreshes_open, "refresh with open rows"),
    (writes_while_read, "bus contention"),
    (writes_too_soon_after_read, "bus contention"),
    (drives_while_read, "bus contention"),
    (writes_nothing, "write without data"),
    (reads_beyond_row, "column out of range"),
    (precharges_automatically, "auto precharge"),
    (stops_burst, "unknown command"),
    (disables_clock, "clock enable"),
    (sets_long_bursts, "mode register"),
    (sets_reserved, "mode register"),
    (sets_mode_with_open_row, "mode register"),
    (minimum_distances, None),
    (misses_row, "row not refreshed in time"),
]
"""What the cases do, from rest to rest, and the one rule that they break."""


async def begin(dut: Any, *, period_ns: int) -> Driver:
    driver = Driver(dut)
    driver.idle()
    dut.clk.value = 0
    cocotb.start_soon(Clock(dut.clk, period_ns, unit="ns").start(start_high=False))
    await FallingEdge(dut.clk)
    return driver


async def wake(d: Driver) -> None:
    await d.wait(120)
    await d.precharge_all(after=1)
    for _ in range(8):
        await d.refresh(after=7)
    await d.mode(after=7)
    await d.wait(5)


@cocotb.test()
async def reports_each_rule(dut):
    d = await begin(dut, period_ns=10)
    await wake(d)
    assert d.counts() == {}
    for case, rule in CASES:
        await d.rest()
        before = d.counts()
        await case(d)
        await d.wait(3)
        after = d.counts()
        new = {name for name, count in after.items() if count > before.get(name, 0)}
        assert new == ({rule} if rule else set()), f"{case.__name__}: {sorted(new)}"
        assert int(dut.violations.value) == sum(after.values())
        assert all(int(dut.seen.value) >> RULES.index(name) & 1 for name in after)


@cocotb.test()
async def reports_what_comes_too_soon(dut):
    d = await begin(dut, period_ns=10)
    await d.precharge_all(after=1)
    assert d.counts() == {"power-up wait": 1}
    await d.wait(110)
    await d.activate(after=1)
    assert d.counts() == {"power-up wait": 1, "not initialized": 1}
    await d.mode(after=12)
    assert d.counts()["not initialized"] == 2


@cocotb.test()
async def reports_a_fast_clock(dut):
    d = await begin(dut, period_ns=bench_options()["period_ns"])
    await wake(d)
    assert set(d.counts()) == set(bench_options()["expect"])


def run_model(simulator: str, testcase: str, **options: Any) -> None:
    run_bench(
        model_source(),
        module="test_sdram_model",
        toplevel="sdram",
        simulator=simulator,
        parameters=PARAMETERS,
        testcase=testcase,
        options=options,
    )


def test_each_rule():
    run_model("verilator", "reports_each_rule")


def test_initialization():
    run_model("verilator", "reports_what_comes_too_soon")


@pytest.mark.parametrize(("period_ns", "expect"), [(10, []), (9, ["tCK"])])
def test_clock(period_ns, expect):
    run_model("verilator", "reports_a_fast_clock", period_ns=period_ns, expect=expect)


def test_every_rule_is_broken_by_a_case():
    apart = {"power-up wait", "not initialized", "tCK"}
    assert {rule for _, rule in CASES if rule} | apart == set(RULES)
