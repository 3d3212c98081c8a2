"""Running cocotb benches: what passes, what fails, and what the errors say."""

from dataclasses import replace

import pytest

from intformer.errors import BuildFailed
from intformer.sim import simulators
from intformer.sim.builds import Bench, build
from intformer.sim.runner import run_bench

INVERTER = """
module dut(input wire i, output wire o);
  assign o = ~i;
endmodule
"""

both = pytest.mark.parametrize("simulator", simulators.SIMULATORS)


@both
def test_pass(simulator):
    run_bench(INVERTER, module="toy_bench", testcase="inverts", simulator=simulator)


def test_options_and_seed():
    run_bench(
        INVERTER,
        module="toy_bench",
        testcase="knows_its_options",
        simulator="icarus",
        options={"words": ["a", "b"]},
        seed=11,
    )


@both
def test_failure_is_raised_with_its_message(simulator):
    message = f"fails of toy_bench on {simulator}, seed 4.*an inverter inverts"
    with pytest.raises(AssertionError, match=message):
        run_bench(INVERTER, module="toy_bench", testcase="fails", simulator=simulator, seed=4)


@both
def test_run_without_tests_fails(simulator):
    with pytest.raises(AssertionError, match="toy_bench"):
        run_bench(INVERTER, module="toy_bench", testcase="no_such_test", simulator=simulator)


def test_missing_module_fails():
    with pytest.raises(AssertionError, match="no_such_module"):
        run_bench(INVERTER, module="no_such_module", simulator="icarus")


@both
def test_build_failure_shows_the_tool_output(simulator, tmp_path):
    bench = Bench(
        sources={"dut.sv": "module dut(input wire i); assign nonsense;"},
        toplevel="dut",
        simulator=simulator,
    )
    with pytest.raises(BuildFailed, match=f"{simulator} cannot build dut(.*\n)*.*dut.sv:1"):
        build(bench, build_dir=tmp_path)


def test_a_build_is_made_once(tmp_path):
    bench = Bench(sources={"dut.sv": INVERTER}, toplevel="dut", simulator="icarus")
    build(bench, build_dir=tmp_path)
    made = (tmp_path / "sim.vvp").stat().st_mtime_ns
    build(bench, build_dir=tmp_path)
    assert (tmp_path / "sim.vvp").stat().st_mtime_ns == made
    changed = replace(bench, sources={"dut.sv": INVERTER.replace("~i", "i")})
    assert changed.digest() != bench.digest()
    build(changed, build_dir=tmp_path)
    assert (tmp_path / "sim.vvp").stat().st_mtime_ns != made


def test_missing_simulator_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildFailed, match="apt-get install iverilog"):
        simulators.require("icarus")
    with pytest.raises(BuildFailed, match=r"verilator needs g\+\+.*apt-get install g\+\+"):
        simulators.require("verilator")


def test_unknown_simulator():
    with pytest.raises(ValueError, match="one of verilator, icarus, not 'modelsim'"):
        simulators.require("modelsim")
