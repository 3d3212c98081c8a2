"""Dividers of the PLLs, and the reset that they give."""

from fractions import Fraction

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import io
from amaranth.sim import Simulator

from intformer.boards.pll import RESET_CYCLES, add_clock, settle
from intformer.errors import UserError

CASES = [
    ("ecp5", 25_000_000, 40e6, 40_000_000),
    ("ecp5", 48_000_000, 60e6, 60_000_000),
    ("ecp5", 12_000_000, 100e6, 100_000_000),
    ("ice40", 12_000_000, 20.25e6, 20_250_000),
    ("ice40", 12_000_000, 24e6, 24_000_000),
    ("gowin", 27_000_000, 40.5e6, 40_500_000),
    ("gowin", 27_000_000, 94.5e6, 94_500_000),
]


@pytest.mark.parametrize("target,input_hz,wanted_hz,exact", CASES)
def test_dividers_make_the_clock_within_the_limits(target, input_hz, wanted_hz, exact):
    settings = settle(target, input_hz=input_hz, wanted_hz=wanted_hz)
    assert settings.output_hz == exact
    assert settings.output_hz == Fraction(input_hz, settings.reference) * settings.feedback
    low, high = {"ecp5": (400, 800), "ice40": (533, 1066), "gowin": (500, 1250)}[target]
    assert low * 10**6 <= settings.vco_hz <= high * 10**6


@pytest.mark.parametrize("target", ["ecp5", "ice40", "gowin"])
def test_every_whole_megahertz_is_made_or_refused(target):
    """What is returned is never further off than the tolerance."""
    made = 0
    for mhz in range(16, 120, 5):
        try:
            settings = settle(target, input_hz=12_000_000, wanted_hz=mhz * 1e6)
        except UserError as error:
            assert f"cannot make {mhz} MHz from 12 MHz; the nearest is" in str(error)
            continue
        made += 1
        if settings is not None:
            assert abs(settings.output_hz - mhz * 10**6) <= mhz * 1000
    assert made > 4


def test_ice40_registers_are_those_of_the_data_sheets_formula():
    settings = settle("ice40", input_hz=12_000_000, wanted_hz=24e6)
    divf = int(settings.feedback * settings.output) - 1
    divq = settings.output.bit_length() - 1
    assert 12e6 * (divf + 1) / (2**divq * settings.reference) == 24e6
    assert 0 <= divf < 128 and 1 <= divq <= 6


def test_oscillators_own_clock_needs_no_pll():
    assert settle("ecp5", input_hz=48_000_000, wanted_hz=48e6) is None


def test_unreachable_clock_names_the_nearest():
    with pytest.raises(UserError, match=r"cannot make 900 MHz from 25 MHz; the nearest is 400 MHz"):
        settle("ecp5", input_hz=25_000_000, wanted_hz=900e6)


def test_oscillator_that_a_pll_cannot_take():
    with pytest.raises(UserError, match="cannot make 40 MHz from 1 MHz: it takes no such input"):
        settle("ecp5", input_hz=1_000_000, wanted_hz=40e6)


def test_unknown_family():
    with pytest.raises(UserError, match="ecp5, ice40, gowin, not 'xilinx'"):
        settle("xilinx", input_hz=25_000_000, wanted_hz=40e6)


def test_reset_lasts_after_configuration_and_ends():
    """Without a PLL the clock counts as locked at once; reset still lasts its cycles."""
    port = io.SimulationPort("i", 1, name="oscillator")
    m = Module()
    count = Signal(16)
    add_clock(m, port, target="ecp5", device="LFE5U-25F", settings=None)
    m.d.sync += count.eq(count + 1)
    simulator = Simulator(m)

    async def bench(ctx):
        seen = []
        for _ in range(RESET_CYCLES + 20):
            ctx.set(port.i, 1)
            await ctx.delay(1e-8)
            ctx.set(port.i, 0)
            await ctx.delay(1e-8)
            seen.append(ctx.get(count))
        held = seen.count(0)
        assert RESET_CYCLES <= held <= RESET_CYCLES + 4
        assert seen[held:] == list(range(1, len(seen) - held + 1))

    simulator.add_testbench(bench)
    simulator.run()
