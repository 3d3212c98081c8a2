"""Gate-level netlists of whole cores: equal to the reference, and to the RTL in every cycle."""

from __future__ import annotations

import dataclasses
import functools
import re

import numpy as np
import pytest
from graphs import hand_made, random_inputs

from intformer.compiler.backend import build_program
from intformer.compiler.integer_graph import execute
from intformer.config import CoreConfig, load_config
from intformer.errors import DeviceTooSmall, UserError
from intformer.fpga.devices import device
from intformer.fpga.netlist import Netlist, check_fits
from intformer.program import RunResult, WriteLog
from intformer.sim.cells.models import cell_models
from intformer.sim.netlist import NetlistSimulator, simulated_device
from intformer.sim.rtl import RtlSimulator
from intformer.sim.verify import Report, check, timing_difference

SERIAL = load_config("ice40")
# Its memories are block RAM here.
SERIAL_ECP5 = dataclasses.replace(SERIAL, act_words=4096, wide_words=8192)


@functools.cache
def simulator(config: CoreConfig, device: str, **knobs: float) -> NetlistSimulator:
    return NetlistSimulator(config, device=device, **knobs)


def run(
    graph_name: str, config: CoreConfig, device: str, *, netlist: Netlist | None = None, **knobs
) -> tuple[Report, str | None]:
    """Comparison of a netlist's run with the reference, and what differs from the RTL in time."""
    graph = hand_made(graph_name)
    inputs = random_inputs(graph, 2)
    program = build_program(graph, config)
    if netlist is None:
        gates = simulator(config, device, **knobs)
    else:
        gates = NetlistSimulator(config, device=device, netlist=netlist, idle_limit=3000)
    result = gates.run(program, [inputs])[0]
    rtl = RtlSimulator(config, **knobs).run(program, [inputs])[0]
    report = check(program, execute(graph, inputs), result, level="netlist")
    return report, timing_difference(result, rtl)


def assert_equal(*arguments, **knobs) -> None:
    report, timing = run(*arguments, **knobs)
    report.raise_if_different()
    assert report.elements > 0
    assert timing is None


@pytest.mark.rtl
@pytest.mark.parametrize(
    ("config", "device"), [(SERIAL, "iCE40UP5K"), (SERIAL_ECP5, "LFE5U-25F")], ids=["ice40", "ecp5"]
)
def test_serial_core(config, device):
    """Attention with its softmax; undefined values and stalls of two seeds."""
    assert_equal("attention", config, device, seed=5)
    assert_equal("residual_norm", config, device, seed=6, stall=0.3)


@pytest.mark.slow
@pytest.mark.rtl
@pytest.mark.parametrize("name", ["attention", "mlp", "residual_norm", "causal_attention"])
def test_pipelined_core(name):
    """A 4x4 array: registers inside the multiplier blocks, memories in LUTs."""
    assert_equal(name, load_config("tiny"), "LFE5U-45F", seed=7)


@pytest.mark.slow
@pytest.mark.rtl
def test_a_flipped_lut_bit_is_caught():
    """One bit of a sum in the product engine is inverted: the first product is wrong."""
    healthy = simulator(SERIAL, "iCE40UP5K").netlist()
    cell = r"\S+SB_LUT4_O  \(\n    \.I0\(1'h0\),\n    \.I1\(\\serial\.engine\.dot_0\[10\] \),"
    found = re.search(rf"(\.LUT_INIT\(16'h)([0-9a-f]{{4}})\)\n  \) {cell}", healthy.verilog)
    assert found
    wrong = f"{int(found[2], 16) ^ 0x0001:04x}"
    text = healthy.verilog[: found.start(2)] + wrong + healthy.verilog[found.end(2) :]
    report, _ = run(
        "linear", SERIAL, "iCE40UP5K", netlist=dataclasses.replace(healthy, verilog=text)
    )
    assert not report.ok
    assert report.first is not None and report.first.op == "POST_ACC"


@pytest.mark.rtl
def test_block_ram_resets_are_tied_low():
    """Resets of outputs driven by logic are reported not to work with the open tools."""
    text = simulator(SERIAL_ECP5, "LFE5U-25F").netlist().verilog
    resets = re.findall(r"\.RST[AB]\((.*?)\)", text)
    assert len(resets) >= 2 and set(resets) == {"1'h0"}


def test_devices_without_models_are_refused():
    with pytest.raises(UserError, match=r"no simulation models of GW2A-18's cells, only of LFE5U"):
        simulated_device("GW2A-18")
    with pytest.raises(UserError, match=r"device must be one of .*, not 'LFE5U-12F'"):
        simulated_device("LFE5U-12F")
    with pytest.raises(ValueError, match="family must be one of ecp5, ice40, not 'gowin'"):
        cell_models("gowin")


def test_models_are_whole():
    for family, cell in (("ecp5", "MULT18X18D"), ("ecp5", "DP16KD"), ("ice40", "SB_LUT4")):
        text = "\n".join(cell_models(family).values())
        assert len(re.findall(rf"^module {cell} ?[#(]", text, re.M)) == 1
        assert "`include" not in text


def test_cells_that_do_not_fit():
    ecp5, ice40 = device("LFE5U-25F"), device("iCE40UP5K")
    check_fits({"DP16KD": 56, "CCU2C": 12144}, device=ecp5, what="it")
    with pytest.raises(DeviceTooSmall, match=r"LFE5U-25F is too small for it: BRAM 57 of 56$"):
        check_fits({"DP16KD": 57}, device=ecp5, what="it")
    with pytest.raises(DeviceTooSmall, match=r"LUT4 24290 of 24288, DSP 29 of 28$"):
        check_fits({"CCU2C": 12143, "TRELLIS_DPR16X4": 1, "MULT18X18D": 29}, device=ecp5, what="it")
    with pytest.raises(DeviceTooSmall, match=r"LUT4 5281 of 5280, SPRAM 5 of 4$"):
        check_fits({"SB_LUT4": 5281, "SB_SPRAM256KA": 5}, device=ice40, what="it")


def log(**columns: list[int]) -> WriteLog:
    base = {"step": [0, 1], "mem": [0, 1], "position": [4, 5], "value": [6, 7], "cycle": [8, 9]}
    return WriteLog(**{k: np.array(v) for k, v in (base | columns).items()})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, None),
        ({"cycles": 101}, "101 cycles, not 100"),
        ({"counters": {"busy": 4}}, "counter busy is 4, not 3"),
        ({"counters": {}}, "counter busy is None, not 3"),
        ({"log": log(value=[6, 6])}, "written: cycle 9, mem 1, position 5, value 6, step 1; not: "),
        ({"log": log(cycle=[8, 10])}, "written: cycle 10, "),
        (
            {"log": WriteLog(*(np.array([0]) for _ in range(5)))},
            "1 elements written, not 2",
        ),
    ],
)
def test_timing_difference(change, message):
    one = RunResult({}, log(), 100, {"busy": 3})
    text = timing_difference(dataclasses.replace(one, **change), one)
    assert (text is None) == (message is None)
    assert message is None or message in text
