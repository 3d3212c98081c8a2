"""Requantize equals the reference wherever its result fits, and saturates elsewhere."""

import random

import cocotb
import numpy as np
import pytest
import streams
from cocotb.triggers import FallingEdge, ReadOnly
from streams import both_simulators

from intformer import reference
from intformer.hw.post.requantize import Requantize
from intformer.sim.runner import bench_options, run_bench

MULTIPLIERS = (-32768, -32767, -1, 0, 1, 2, 1 << 14, 32767)
SHIFTS = (reference.SHIFT_MIN, 3, 15, 31, 32, reference.SHIFT_MAX - 1, reference.SHIFT_MAX)


def _sum(*, bits: int, mult: int, shift: int, rng: random.Random) -> int:
    """A value to requantize: any, an extreme, or one whose result is a tie or next to one."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    kind = rng.randrange(4)
    if kind == 0:
        return rng.choice([low, low + 1, -1, 0, 1, high - 1, high])
    if kind == 1 or not mult:
        return rng.randint(low, high) >> rng.randrange(bits)
    tie = (2 * rng.randint(-70000, 70000) + 1) << (shift - 1)
    return min(max(tie // mult + rng.randint(-1, 1), low), high)


def _case(options: dict, rng: random.Random) -> tuple[dict[str, int], int]:
    """Operands by port, and the result."""
    bits = options["x_bits"]
    mult = rng.choice([rng.choice(MULTIPLIERS), rng.randint(-32768, 32767)])
    shift = rng.choice([rng.choice(SHIFTS), rng.randint(reference.SHIFT_MIN, reference.SHIFT_MAX)])
    total = _sum(bits=bits, mult=mult, shift=shift, rng=rng)
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    bias = rng.choice([0, rng.randint(low, high)])
    x = min(max(total - bias, low), high)
    limit = 1 << (options["o_bits"] - 1)
    exact = int(reference.requantize(np.array(x + bias), np.array(mult), np.array(shift)))
    return {"x": x, "bias": bias, "mult": mult, "shift": shift}, min(max(exact, -limit), limit - 1)


@cocotb.test()
async def requantizes(dut):
    options = bench_options()
    dut._log.info("seed %d", options["seed"])
    rng = random.Random(options["seed"])
    latency = Requantize(x_bits=options["x_bits"], o_bits=options["o_bits"]).latency
    cases = [_case(options, rng) for _ in range(options["count"])]
    await streams.start(dut, inputs=dict.fromkeys(cases[0][0], 0))
    for cycle in range(len(cases) + latency):
        for port, value in cases[min(cycle, len(cases) - 1)][0].items():
            getattr(dut, port).value = value
        await ReadOnly()
        if cycle >= latency:
            operands, expected = cases[cycle - latency]
            assert dut.o.value.to_signed() == expected, operands
        await FallingEdge(dut.clk)


@both_simulators
@pytest.mark.parametrize(("x_bits", "o_bits"), [(32, 31), (16, 31), (32, 20)])
def test_requantizes(simulator: str, x_bits: int, o_bits: int) -> None:
    run_bench(
        Requantize(x_bits=x_bits, o_bits=o_bits),
        module="test_requantize",
        simulator=simulator,
        options={
            "x_bits": x_bits,
            "o_bits": o_bits,
            "count": 4000 if simulator == "verilator" else 1000,
        },
        seed=21,
    )
