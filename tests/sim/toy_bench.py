"""cocotb tests for ``test_runner.py``: one that passes, one that fails on purpose."""

import cocotb
from cocotb.triggers import Timer

from intformer.sim.runner import bench_options


@cocotb.test()
async def inverts(dut):
    for value in (0, 1):
        dut.i.value = value
        await Timer(1, unit="ns")
        assert int(dut.o.value) == 1 - value


@cocotb.test()
async def knows_its_options(dut):
    assert bench_options() == {"seed": 11, "words": ["a", "b"]}


@cocotb.test()
async def fails(dut):
    dut.i.value = 0
    await Timer(1, unit="ns")
    assert int(dut.o.value) == 0, "an inverter inverts"
