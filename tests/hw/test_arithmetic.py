"""The row units' pipelined arithmetic equals Python's, with a result every cycle."""

import random
from typing import Any

import cocotb
import pytest
import streams
from cocotb.triggers import FallingEdge, ReadOnly
from streams import both_simulators

from intformer.hw.parts.arithmetic import SplitProduct
from intformer.hw.parts.product import Product
from intformer.hw.parts.rounding import RoundingShift
from intformer.hw.parts.wide_product import WideProduct
from intformer.sim.runner import bench_options, run_bench


def _signed(width: int, *, rng: random.Random) -> int:
    code = streams.random_bits(width, rng=rng) >> rng.choice([0, 0, rng.randrange(width)])
    return code - (code >> (width - 1) << width)


def round_shift(x: int, amount: int, *, o_bits: int, saturate: bool) -> int:
    """``(x + 2**amount) >> (amount + 1)``, in ``o_bits`` bits."""
    y = (x + (1 << amount)) >> (amount + 1)
    low, high = -(1 << (o_bits - 1)), (1 << (o_bits - 1)) - 1
    if saturate:
        return min(max(y, low), high)
    return (y - low) % (1 << o_bits) + low


def _case(options: dict, rng: random.Random) -> tuple[dict[str, int], int]:
    """Operands by port, and the result."""
    sizes = options["sizes"]
    if options["unit"] in ("split", "product", "wide"):
        a, b = _signed(sizes["a_bits"], rng=rng), _signed(sizes["b_bits"], rng=rng)
        return {"a": a, "b": b}, a * b >> sizes.get("drop", 0)
    x, amount = _signed(sizes["bits"], rng=rng), rng.randint(0, sizes["amount_max"])
    if rng.random() < 0.3:
        # Around the point where saturation begins.
        edge = rng.choice([-1, 1]) << (sizes["o_bits"] + amount)
        near = edge + (rng.randint(-4, 4) << amount) + rng.randint(-2, 2)
        x = near if abs(near) < 1 << (sizes["bits"] - 1) else x
    expected = round_shift(x, amount, o_bits=sizes["o_bits"], saturate=sizes.get("saturate", False))
    return {"x": x, "amount": amount}, expected


def _unit(options: dict) -> Any:
    kinds = {
        "split": SplitProduct,
        "product": Product,
        "wide": WideProduct,
        "round": RoundingShift,
    }
    return kinds[options["unit"]](**options["sizes"])


@cocotb.test()
async def computes(dut):
    options = bench_options()
    rng = random.Random(options["seed"])
    latency = _unit(options).latency
    cases = [_case(options, rng) for _ in range(400)]
    await streams.start(dut, inputs=dict.fromkeys(cases[0][0], 0))
    for cycle in range(len(cases) + latency):
        for port, value in cases[min(cycle, len(cases) - 1)][0].items():
            getattr(dut, port).value = value
        await ReadOnly()
        if cycle >= latency:
            operands, expected = cases[cycle - latency]
            assert dut.o.value.to_signed() == expected, operands
        await FallingEdge(dut.clk)


CASES = {
    "split_narrow": {"unit": "split", "sizes": {"a_bits": 16, "b_bits": 12}},
    "split_wide": {"unit": "split", "sizes": {"a_bits": 27, "b_bits": 18}},
    "split_odd": {"unit": "split", "sizes": {"a_bits": 35, "b_bits": 18}},
    "product": {"unit": "product", "sizes": {"a_bits": 16, "b_bits": 16}},
    "product_wide": {"unit": "product", "sizes": {"a_bits": 32, "b_bits": 16}},
    "product_luts": {
        "unit": "product",
        "sizes": {"a_bits": 32, "b_bits": 16, "multipliers": "luts"},
    },
    "wide": {"unit": "wide", "sizes": {"a_bits": 35, "b_bits": 35}},
    "wide_extra": {"unit": "wide", "sizes": {"a_bits": 31, "b_bits": 39}},
    "wide_dropped": {"unit": "wide", "sizes": {"a_bits": 22, "b_bits": 37, "drop": 25}},
    "round": {"unit": "round", "sizes": {"bits": 32, "amount_max": 46, "o_bits": 30}},
    "round_few": {"unit": "round", "sizes": {"bits": 12, "amount_max": 3, "o_bits": 9}},
    "clip": {
        "unit": "round",
        "sizes": {"bits": 48, "amount_max": 46, "o_bits": 31, "saturate": True},
    },
    "clip_much": {
        "unit": "round",
        "sizes": {"bits": 41, "amount_max": 31, "o_bits": 8, "saturate": True},
    },
    "clip_little": {
        "unit": "round",
        "sizes": {"bits": 9, "amount_max": 9, "o_bits": 8, "saturate": True},
    },
}


@both_simulators
@pytest.mark.parametrize("case", CASES)
def test_arithmetic(simulator: str, case: str) -> None:
    options = CASES[case]
    run_bench(
        _unit(options), module="test_arithmetic", simulator=simulator, options=options, seed=41
    )


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SplitProduct(a_bits=36, b_bits=8), "a_bits must be from 1 to 35, not 36"),
        (lambda: SplitProduct(a_bits=8, b_bits=19), "b_bits must be from 1 to 18, not 19"),
        (lambda: Product(a_bits=36, b_bits=8), "a_bits must be from 2 to 35, not 36"),
        (lambda: Product(a_bits=8, b_bits=19), "b_bits must be from 2 to 18, not 19"),
        (lambda: Product(a_bits=8, b_bits=8, multipliers="x"), "must be dsp or luts, not 'x'"),
        (lambda: WideProduct(a_bits=36, b_bits=35), "a_bits must be from 19 to 35, not 36"),
        (lambda: WideProduct(a_bits=35, b_bits=40), "b_bits must be from 19 to 39, not 40"),
        (lambda: WideProduct(a_bits=35, b_bits=36), "b_bits must not be 36"),
        (lambda: WideProduct(a_bits=35, b_bits=35, drop=35), "drop must be from 0 to 34, not 35"),
        (lambda: RoundingShift(bits=8, amount_max=0, o_bits=4), "amount_max"),
        (
            lambda: RoundingShift(bits=8, amount_max=4, o_bits=8),
            "o_bits must be from 1 to 7, not 8",
        ),
    ],
)
def test_refuses(build, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
