"""Multiplier blocks against their behavioural twins, in every cycle, on simulation models.

Where the models come from: :mod:`multiplier_models`.
"""

from __future__ import annotations

import random
from collections import deque

import cocotb
import pytest
import streams
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from cocotb.triggers import FallingEdge
from multiplier_models import multiplier_model
from streams import both_simulators

from intformer.hw import verilog
from intformer.hw.parts.mul18 import Mul18
from intformer.hw.parts.sb_mac16 import DualProduct8
from intformer.sim.runner import bench_options, run_bench


class Twins(wiring.Component):
    """A component with a vendor primitive and its twin side by side, on the same inputs.

    Members are those of the component; its outputs have a second copy ``twin_NAME``.
    """

    def __init__(self, block: wiring.Component, twin: wiring.Component) -> None:
        self._block, self._twin = block, twin
        members = dict(block.signature.members)
        outputs = {name: m for name, m in members.items() if m.flow is Out}
        super().__init__(members | {f"twin_{name}": m for name, m in outputs.items()})

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.block = self._block
        m.submodules.twin = self._twin
        for name, member in self._block.signature.members.items():
            if member.flow is In:
                for part in (self._block, self._twin):
                    m.d.comb += getattr(part, name).eq(getattr(self, name))
            else:
                m.d.comb += getattr(self, name).eq(getattr(self._block, name))
                m.d.comb += getattr(self, f"twin_{name}").eq(getattr(self._twin, name))
        return m


@cocotb.test()
async def same_products(dut):
    """Random and corner operands; outputs equal each other, and the product of long before."""
    options = bench_options()
    inputs, products = options["inputs"], options["products"]
    rng = random.Random(options["seed"])
    await streams.start(dut, inputs=dict.fromkeys(inputs, 0))
    past: deque[dict[str, int]] = deque()
    for _ in range(options["count"]):
        operands = {}
        for name, (bits, is_signed) in inputs.items():
            code = streams.random_bits(bits, rng=rng)
            getattr(dut, name).value = code
            operands[name] = code - (code >> (bits - 1) << bits if is_signed else 0)
        past.append(operands)
        await FallingEdge(dut.clk)
        if len(past) == options["latency"]:
            before = past.popleft()
            for name, (a, b) in products.items():
                found = getattr(dut, name).value.to_signed()
                assert found == before[a] * before[b], f"{name} of {before}"
                assert found == getattr(dut, f"twin_{name}").value.to_signed()


@pytest.mark.parametrize(
    ("target", "a_bits", "b_bits"),
    [("ecp5", 18, 18), ("ecp5", 9, 8), ("gowin", 9, 18), ("gowin", 9, 8)],
)
def test_mul18(target: str, a_bits: int, b_bits: int) -> None:
    arguments = {"a_bits": a_bits, "b_bits": b_bits}
    twins = Twins(Mul18(**arguments, target=target), Mul18(**arguments))
    run_bench(
        verilog.emit(twins, name="dut") + multiplier_model(target),
        module="test_multipliers",
        testcase="same_products",
        options={
            "inputs": {"a": (a_bits, True), "b": (b_bits, True)},
            "products": {"p": ("a", "b")},
            "latency": Mul18.latency,
            "count": 3000,
        },
        seed=5,
    )


@both_simulators
def test_sb_mac16(simulator: str) -> None:
    run_bench(
        verilog.emit(Twins(DualProduct8(target="ice40"), DualProduct8()), name="dut")
        + multiplier_model("ice40"),
        module="test_multipliers",
        simulator=simulator,
        testcase="same_products",
        options={
            "inputs": {"a": (8, False), "b0": (8, True), "b1": (8, True)},
            "products": {"p0": ("a", "b0"), "p1": ("a", "b1")},
            "latency": DualProduct8.latency,
            "count": 5000,
        },
        seed=6,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"a_bits": 19, "b_bits": 8}, "a_bits must be from 2 to 18, not 19"),
        ({"a_bits": 9, "b_bits": 1}, "b_bits must be from 2 to 18, not 1"),
        ({"a_bits": 9, "b_bits": 8, "target": "x"}, "target must be one of "),
    ],
)
def test_wrong_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mul18(**arguments)
