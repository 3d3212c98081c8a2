"""The Verilog model of MULT18X18D: every register, clock, enable and reset, against Python."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import cocotb
import pytest
from cocotb.triggers import Timer
from streams import random_bits

from intformer.sim.cells.models import own_model
from intformer.sim.runner import bench_options, run_bench
from intformer.sim.simulators import SIMULATORS

STAGES = ("INPUTA", "INPUTB", "PIPELINE", "OUTPUT")


@dataclass(frozen=True, kw_only=True)
class Case:
    """For each stage the number of its clock, enable and reset; None: no register."""

    stages: tuple[tuple[int, int, int] | None, ...]
    signed: tuple[bool, bool] = (True, True)
    reset: str = "SYNC"

    def verilog(self, name: str) -> str:
        values = [f'.RESETMODE("{self.reset}")']
        for stage, numbers in zip(STAGES, self.stages, strict=True):
            if numbers:
                kinds = zip(("CLK", "CE", "RST"), numbers, strict=True)
                values += [f'.REG_{stage}_{kind}("{kind}{n}")' for kind, n in kinds]
        pins = [f".{p}{k}({p.lower()}[{k}])" for p in "AB" for k in range(18)]
        pins += [f".P{k}({name}[{k}])" for k in range(36)]
        pins += [f".{p}{k}({p.lower()}[{k}])" for p in ("CLK", "CE", "RST") for k in range(4)]
        pins += [f".SIGNED{p}(1'b{int(s)})" for p, s in zip("AB", self.signed, strict=True)]
        pins += [".SOURCEA(1'b0)", ".SOURCEB(1'b0)"]
        return f"  MULT18X18D #({', '.join(values)}) m_{name} ({', '.join(pins)});"


CASES = {
    "none": Case(stages=(None, None, None, None), signed=(True, False)),
    "natural": Case(stages=(None, None, None, None), signed=(False, False)),
    "all": Case(stages=((0, 0, 0),) * 4),
    "mixed": Case(stages=((1, 2, 3), (2, 3, 0), (3, 0, 1), (0, 1, 2)), signed=(False, True)),
    "inputs": Case(stages=((3, 3, 3), (3, 2, 1), None, None), reset="ASYNC"),
    "outputs": Case(stages=(None, None, (1, 1, 1), (2, 2, 2)), reset="ASYNC"),
}


class Oracle:
    """The stages of a case; a value is None before its register was loaded or reset."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.held: list[int | None] = [None] * 4

    def outputs(self, a: int, b: int) -> list[int | None]:
        """What each stage shows: operands, the product before and after the last register."""
        shown: list[int | None] = [a, b, None, None]
        for stage in range(2):
            if self.case.stages[stage]:
                shown[stage] = self.held[stage]
        operands = [
            value - (value >> 17 << 18) if value is not None and is_signed else value
            for value, is_signed in zip(shown[:2], self.case.signed, strict=True)
        ]
        known = operands[0] is not None and operands[1] is not None
        full = operands[0] * operands[1] & (1 << 36) - 1 if known else None
        self.full = full
        shown[2] = self.held[2] if self.case.stages[2] else full
        shown[3] = self.held[3] if self.case.stages[3] else shown[2]
        return shown

    def event(self, rising: int, enables: int, resets: int, a: int, b: int) -> None:
        """Clock edges, and asynchronous resets whenever they are high."""
        shown = self.outputs(a, b)
        data = [a, b, self.full, shown[2]]
        for stage, numbers in enumerate(self.case.stages):
            if not numbers:
                continue
            clock, enable, reset = numbers
            is_reset = resets >> reset & 1
            if (is_reset and self.case.reset == "ASYNC") or (rising >> clock & 1 and is_reset):
                self.held[stage] = 0
            elif rising >> clock & 1 and enables >> enable & 1:
                self.held[stage] = data[stage]


def bench(cases: dict[str, Case]) -> str:
    outputs = ", ".join(f"output [35:0] {name}" for name in cases)
    head = "module dut(input [17:0] a, input [17:0] b, input [3:0] clk, input [3:0] ce, "
    body = "\n".join(case.verilog(name) for name, case in cases.items())
    return f"{own_model('mult18x18d.sv')}\n{head}input [3:0] rst, {outputs});\n{body}\nendmodule\n"


@cocotb.test()
async def against_oracle(dut: Any):
    options = bench_options()
    rng = random.Random(options["seed"])
    oracles = {name: Oracle(case) for name, case in CASES.items()}
    dut.clk.value = 0
    compared = dict.fromkeys(CASES, 0)
    for _ in range(options["steps"]):
        a, b = random_bits(18, rng=rng), random_bits(18, rng=rng)
        enables = rng.getrandbits(4) | rng.getrandbits(4)
        resets = rng.getrandbits(4) & rng.getrandbits(4) & rng.getrandbits(4)
        rising = rng.getrandbits(4)
        dut.a.value, dut.b.value, dut.ce.value, dut.rst.value = a, b, enables, resets
        await Timer(2, unit="ns")
        for oracle in oracles.values():
            oracle.event(0, enables, resets, a, b)
        dut.clk.value = rising
        await Timer(2, unit="ns")
        for name, oracle in oracles.items():
            oracle.event(rising, enables, resets, a, b)
            expected = oracle.outputs(a, b)[3]
            if expected is not None:
                compared[name] += 1
                assert getattr(dut, name).value.to_unsigned() == expected, name
        dut.clk.value = 0
        await Timer(2, unit="ns")
    assert min(compared.values()) > options["steps"] * 0.9


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_against_oracle(simulator):
    run_bench(
        bench(CASES),
        module="test_cells_mult18x18d",
        testcase="against_oracle",
        simulator=simulator,
        options={"steps": 1500},
        seed=9,
    )


@cocotb.test()
async def runs_on(dut: Any):
    for level, sign in ((0, 1), (1, 1), (0, 0), (1, 0), (0, 0)):
        dut.clk.value, dut.sign.value = level, sign
        await Timer(5, unit="ns")


ALL = '.REG_INPUTA_CLK("CLK0"), .REG_INPUTB_CLK("CLK0")'
TIED = ".SOURCEA(1'b0), .SOURCEB(1'b0), .SIGNEDA(1'b1)"
REFUSED = {
    "clock": ('.REG_INPUTA_CLK("CLK4")', TIED, "clock CLK4"),
    "enable": ('.REG_OUTPUT_CLK("CLK1"), .REG_OUTPUT_CE("CE9")', TIED, "clock enable CE9"),
    "reset": ('.REG_PIPELINE_CLK("CLK1"), .REG_PIPELINE_RST("X")', TIED, "reset X"),
    "reset_mode": ('.RESETMODE("BOTH")', TIED, "RESETMODE BOTH"),
    "high_speed": ('.HIGHSPEED_CLK("CLK0")', TIED, "HIGHSPEED_CLK CLK0"),
    "cascade": ('.CAS_MATCH_REG("TRUE")', TIED, "CAS_MATCH_REG TRUE"),
    "source": ('.SOURCEB_MODE("C_SHIFT")', TIED, "SOURCEB_MODE C_SHIFT"),
    "bypass": ('.MULT_BYPASS("ENABLED")', TIED, "MULT_BYPASS ENABLED"),
    "divided": ('.CLK2_DIV("DISABLED")', TIED, "CLK0_DIV to CLK3_DIV must be ENABLED"),
    "shift_chain": (ALL, TIED.replace("SOURCEB(1'b0)", "SOURCEB(clk)"), "a shift chain"),
    "signs": (ALL, f"{TIED}, .SIGNEDB(sign)", "changes while registers are in use"),
}


def refusing(parameters: str, pins: str) -> str:
    block = f"  MULT18X18D #({parameters}) block (.CLK0(clk), {pins});"
    head = "module dut(input clk, input sign);"
    return f"{own_model('mult18x18d.sv')}\n{head}\n{block}\nendmodule\n"


def run_refusing(parameters: str, pins: str) -> None:
    run_bench(
        refusing(parameters, pins),
        module="test_cells_mult18x18d",
        testcase="runs_on",
        simulator="icarus",
        seed=1,
    )


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name):
    parameters, pins, message = REFUSED[name]
    with pytest.raises(AssertionError, match=message):
        run_refusing(parameters, pins)


def test_runs_what_it_knows():
    """The bench of the refusals itself is sound; without registers signs may change."""
    run_refusing(ALL, TIED)
    run_refusing('.RESETMODE("ASYNC")', f"{TIED}, .SIGNEDB(sign)")
