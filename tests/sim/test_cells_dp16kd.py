"""The Verilog model of DP16KD: against an oracle in Python, and what it refuses to compute."""

from __future__ import annotations

import random
from dataclasses import dataclass

import cocotb
import pytest
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge
from dp16kd_model import Dp16kd, PortInputs

from intformer.sim.cells.models import own_model
from intformer.sim.runner import bench_options, run_bench
from intformer.sim.simulators import SIMULATORS


@dataclass(frozen=True, kw_only=True)
class Case:
    """Parameters of one block, with short names."""

    widths: tuple[int, int]
    modes: tuple[str, str] = ("NORMAL", "NORMAL")
    registers: tuple[bool, bool] = (False, False)
    select: tuple[int, int] = (0, 0)
    inverted: tuple[str, ...] = ()
    reset: str | None = None

    def verilog(self, name: str, init: list[int]) -> str:
        """An instance whose pins are slices of the bench's inputs ``a`` and ``b``."""
        values: dict[str, str] = {f"INITVAL_{k:02X}": f"320'h{v:x}" for k, v in enumerate(init)}
        pins = {}
        for port, letter in enumerate("AB"):
            source = letter.lower()
            values |= {
                f"DATA_WIDTH_{letter}": str(self.widths[port]),
                f"WRITEMODE_{letter}": f'"{self.modes[port]}"',
                f"REGMODE_{letter}": '"OUTREG"' if self.registers[port] else '"NOREG"',
                f"CSDECODE_{letter}": f'"0b{self.select[port]:03b}"',
            }
            signals = {"CE": 50, "WE": 51, "OCE": 52, "RST": 53}
            for pin, bit in signals.items():
                used = pin != "RST" or self.reset
                inverted = f"{pin}{letter}" in self.inverted
                value = f"{source}[{bit}]" if used else "1'b0"
                pins[f"{pin}{letter}"] = f"~{value}" if inverted else value
                if inverted:
                    values[f"{pin}{letter}MUX"] = '"INV"'
            pins[f"CLK{letter}"] = "~clk" if f"CLK{letter}" in self.inverted else "clk"
            if f"CLK{letter}" in self.inverted:
                values[f"CLK{letter}MUX"] = '"INV"'
            pins |= {f"CS{letter}{k}": f"{source}[{54 + k}]" for k in range(3)}
            pins |= {f"AD{letter}{k}": f"{source}[{k}]" for k in range(14)}
            pins |= {f"DI{letter}{k}": f"{source}[{14 + k}]" for k in range(18)}
            pins |= {f"DO{letter}{k}": f"{name}_{source}[{k}]" for k in range(18)}
        if self.widths[0] == 36:
            # One vector of 36 bits.
            pins |= {f"DIB{k}": f"a[{32 + k}]" for k in range(18)} | {"WEB": "1'b0"}
        if self.reset:
            values |= {"RESETMODE": f'"{self.reset}"', "ASYNC_RESET_RELEASE": f'"{self.reset}"'}
        given = ", ".join(f".{key}({value})" for key, value in values.items())
        wired = ", ".join(f".{pin}({value})" for pin, value in pins.items())
        return f"  DP16KD #({given}) {name} ({wired});"


CASES = {
    "narrow_wide": Case(widths=(1, 18), modes=("NORMAL", "READBEFOREWRITE")),
    "registered": Case(widths=(9, 2), modes=("WRITETHROUGH", "NORMAL"), registers=(True, False)),
    "selected": Case(
        widths=(18, 18), modes=("WRITETHROUGH", "READBEFOREWRITE"), select=(0b101, 0b010)
    ),
    "pseudo_dual": Case(widths=(36, 36)),
    "pseudo_dual_narrow": Case(widths=(36, 9), registers=(False, True)),
    "pseudo_dual_bits": Case(widths=(36, 1)),
    "inverted": Case(
        widths=(4, 4),
        modes=("READBEFOREWRITE", "WRITETHROUGH"),
        inverted=("CLKA", "CLKB", "CEA", "WEB", "OCEA"),
    ),
    "synchronous_reset": Case(widths=(2, 9), reset="SYNC", inverted=("RSTB",)),
    "asynchronous_reset": Case(widths=(9, 4), modes=("READBEFOREWRITE",) * 2, reset="ASYNC"),
}


def initial_values(seed: int) -> list[int]:
    """64 values of 320 bits; two bits of 20 are not memory."""
    rng = random.Random(seed)
    return [rng.getrandbits(320) for _ in range(64)]


def memory_bits(init: list[int]) -> list[int]:
    """The memory's bits of INITVAL parameters."""
    words = [value >> (20 * row) & 0x3FFFF for value in init for row in range(16)]
    return [word >> k & 1 for word in words for k in range(18)]


def bench(cases: dict[str, Case], init: list[int]) -> str:
    """All cases side by side on the same inputs."""
    outputs = ", ".join(f"output [17:0] {n}_a, output [17:0] {n}_b" for n in cases)
    body = "\n".join(case.verilog(name, init) for name, case in cases.items())
    head = f"module dut(input clk, input [56:0] a, input [56:0] b, {outputs});"
    return f"{own_model('dp16kd.sv')}\n{head}\n{body}\nendmodule\n"


def inputs_of(case: Case, words: list[int]) -> tuple[PortInputs, PortInputs]:
    """What a case's ports see of the bench's inputs."""
    ports = []
    for port, word in enumerate(words):
        data = word >> 14 & 0x3FFFF
        if case.widths[0] == 36 and port == 0:
            data = word >> 14 & (1 << 36) - 1
        ports.append(
            PortInputs(
                address=word & 0x3FFF,
                data=data,
                enable=bool(word >> 50 & 1) and word >> 54 & 7 == case.select[port],
                write=bool(word >> 51 & 1),
                output_enable=bool(word >> 52 & 1),
                reset=bool(case.reset and word >> 53 & 1),
            )
        )
    return ports[0], ports[1]


def random_word(rng: random.Random, addresses: list[int], selects: list[int]) -> int:
    """Pins of a port; addresses meet often, and no write in reset."""
    reset = rng.random() < 0.1
    write = rng.random() < 0.5 and not reset
    address = rng.choice(addresses) ^ rng.getrandbits(5)
    word = address | rng.getrandbits(36) << 14
    word |= (rng.random() < 0.8) << 50 | write << 51 | (rng.random() < 0.7) << 52 | reset << 53
    return word | rng.choice(selects) << 54


@cocotb.test()
async def against_oracle(dut):
    options = bench_options()
    rng = random.Random(options["seed"])
    bits = memory_bits(initial_values(options["init"]))
    oracles = {
        name: Dp16kd(case.widths, case.modes, case.registers, list(bits))
        for name, case in CASES.items()
    }
    dut.a.value = dut.b.value = 0
    cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
    await FallingEdge(dut.clk)
    addresses = [rng.getrandbits(14) for _ in range(6)]
    compared = unknown = 0
    for cycle in range(options["cycles"]):
        if cycle % 200 == 0:
            addresses = [rng.getrandbits(14) for _ in range(6)]
        words = [random_word(rng, addresses, [0, 0, 0b101, 0b010, 7]) for _ in range(2)]
        dut.a.value, dut.b.value = words
        await FallingEdge(dut.clk)
        for name, case in CASES.items():
            ports = inputs_of(case, words)
            if case.widths[0] == 36:
                ports[1].write = False
            oracles[name].edge(ports)
            if case.reset == "ASYNC":
                # The latch is cleared before the edge and stays so.
                for port in range(2):
                    if ports[port].reset:
                        oracles[name].latches[port] = [0] * case.widths[port]
            for port, letter in enumerate("ab"):
                if case.widths[0] == 36 and port == 0:
                    continue
                text = str(getattr(dut, f"{name}_{letter}").value)
                if case.widths == (36, 36):
                    text += str(getattr(dut, f"{name}_a").value)
                for k, expected in enumerate(oracles[name].output(port)):
                    if expected is None:
                        unknown += 1
                        continue
                    compared += 1
                    found = text[-1 - k]
                    assert found == str(expected), f"{name} {letter}[{k}], cycle {cycle}"
    # The random addresses do meet, and mostly do not.
    assert 0 < unknown < compared / 5


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_against_oracle(simulator):
    run_bench(
        bench(CASES, initial_values(3)),
        module="test_cells_dp16kd",
        testcase="against_oracle",
        simulator=simulator,
        options={"init": 3, "cycles": 1500},
        seed=8,
    )


@cocotb.test()
async def runs_on(dut):
    dut.clk.value = 0
    cocotb.start_soon(Clock(dut.clk, 10, unit="ns").start())
    for _ in range(8):
        await FallingEdge(dut.clk)


def refusing(parameters: str, pins: str) -> str:
    return (
        f"{own_model('dp16kd.sv')}\nmodule dut(input clk);\n  reg other = 0;\n"
        "  always @(posedge clk) other <= !other;\n"
        "  DP16KD #(" + parameters + ") block (.CSA0(1'b0), .CSA1(1'b0), .CSA2(1'b0), .CSB0(1'b0), "
        ".CSB1(1'b0), .CSB2(1'b0), " + pins + ");\nendmodule\n"
    )


USED = ".CLKA(clk), .CLKB(clk), .CEA(1'b1), .CEB(1'b1), .ADA0(1'b0), .ADB0(1'b0), "
REFUSED = {
    "width": ('.DATA_WIDTH_A(8)', USED, "DATA_WIDTH 8 and 18"),
    "wide_b_only": ('.DATA_WIDTH_B(36)', USED, "DATA_WIDTH 18 and 36"),
    "write_mode": ('.WRITEMODE_B("OTHER")', USED, "WRITEMODE_B OTHER"),
    "output_register": ('.REGMODE_A("REG")', USED, "REGMODE_A REG"),
    "reset_mode": ('.RESETMODE("BOTH")', USED, "RESETMODE BOTH"),
    "multiplexer": ('.WEAMUX("1")', USED, "WEAMUX 1"),
    "init": ('.INIT_DATA("DYNAMIC")', USED, "INIT_DATA DYNAMIC"),
    "clocks": (
        '.DATA_WIDTH_A(9)',
        USED.replace(".CLKB(clk)", ".CLKB(other)") + ".WEA(1'b0), .WEB(1'b0), ",
        "the ports have different clocks",
    ),
    "write_in_reset": (
        '.DATA_WIDTH_A(9)', USED + ".WEA(1'b1), .WEB(1'b0), .RSTA(1'b1), ", "a write while port A"
    ),
    "write_to_read_port": (
        '.DATA_WIDTH_A(36)', USED + ".WEA(1'b0), .WEB(1'b1), ", "a write on the read port"
    ),
    "reset_of_register": (
        '.REGMODE_B("OUTREG")', USED + ".WEA(1'b0), .WEB(1'b0), .RSTB(1'b1), ",
        "reset of an output register",
    ),
    "release": (
        '.RESETMODE("ASYNC")', USED + ".WEA(1'b0), .WEB(1'b0), .RSTB(1'b1), ",
        "an asynchronous reset that is released with the clock",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name):
    parameters, pins, message = REFUSED[name]
    text = refusing(parameters, pins.removesuffix(", "))
    with pytest.raises(AssertionError, match=message):
        run_bench(text, module="test_cells_dp16kd", testcase="runs_on", simulator="icarus", seed=1)


def test_runs_what_it_knows():
    """The bench of the refusals itself is sound."""
    text = refusing(".DATA_WIDTH_A(9)", USED + ".WEA(1'b0), .WEB(1'b0), .RSTA(1'b0), .RSTB(1'b0)")
    run_bench(text, module="test_cells_dp16kd", testcase="runs_on", simulator="icarus", seed=1)
