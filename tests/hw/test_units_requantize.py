"""Requantize equals the reference for every operand; small ones are proven."""

import random
from typing import Any

import cocotb
import numpy as np
import pytest
import streams
import unit_bench
from amaranth.hdl import Assert, Assume, Elaboratable, Module, Mux, Shape, Signal, signed, unsigned
from proofs import Flow, StreamProof, anyconst, prove

from intformer import reference
from intformer.hw.units.requantize import Requantize
from intformer.hw.units.rounding import SHIFT_BITS, RoundClip, shape_limits
from intformer.sim.runner import bench_options, run_bench

CASES: dict[str, dict[str, Any]] = {
    "int8 of 32 bits": {"o_type": "int8", "lanes": 2},
    "uint16 of 24 bits": {"o_type": "uint16", "x_bits": 24, "mult_bits": 18},
    "int32": {"o_type": "int32", "mult_bits": 32},
    "int8 per channel": {"o_type": "int8", "lanes": 3, "channels": 9},
}
MULTIPLIERS = (0, 1, -1, 2)
SHIFTS = (2, 3, 15, 31, 32, 33, 47, 48, 61, 62)


def operands(bits: int, mult_bits: int, *, rng: random.Random) -> tuple[int, int]:
    """Multiplier and shift."""
    top = (1 << (mult_bits - 1)) - 1
    mult = rng.choice([rng.choice(MULTIPLIERS), top, -top - 1, rng.randint(-top - 1, top)])
    return mult, rng.choice([rng.choice(SHIFTS), rng.randint(2, bits)])


def value(bits: int, mult: int, shift: int, *, rng: random.Random) -> int:
    """A value of any size, an extreme one, or one next to a tie."""
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    kind = rng.randrange(4)
    if kind == 0:
        return rng.choice([low, low + 1, -1, 0, 1, high - 1, high])
    if kind == 1 or not mult:
        return rng.randint(low, high) >> rng.randrange(bits)
    tie = (2 * rng.randint(-300, 300) + 1) << (shift - 1)
    return min(max(tie // mult + rng.randint(-1, 1), low), high)


@cocotb.test()
async def equals_reference(dut):
    options = bench_options()
    rng = random.Random(options["seed"])
    case = CASES[options["case"]]
    unit = Requantize(**case)
    bits, mult_bits = case.get("x_bits", 32), case.get("mult_bits", 16)
    low, high = shape_limits(unit.zero_point.shape())
    channels = case.get("channels", 0)
    for setting in range(options["settings"]):
        pairs = [operands(bits, mult_bits, rng=rng) for _ in range(channels or 1)]
        zero = rng.choice([0, low, high, rng.randint(low, high)])
        count = options["count"] // unit.lanes * unit.lanes
        # The unit goes on with the channel after the last: give it whole rows.
        count = count // (channels or 1) * (channels or 1)
        mult, shift = (np.resize(np.array(part), count) for part in zip(*pairs, strict=True))
        x = np.array([value(bits, *pairs[k % len(pairs)], rng=rng) for k in range(count)])
        y = reference.rescale(x, mult=mult, shift=shift, zero_point=zero, lo=low, hi=high)
        sent, expected = (
            unit_bench.pack_beats(layout, part.reshape(-1, unit.lanes).tolist())
            for layout, part in ((unit.i.payload.shape(), x), (unit.o.payload.shape(), y))
        )
        inputs = {"zero_point": zero}
        if channels:
            inputs |= {"parameters__valid": 0, "parameters__payload": 0}
        else:
            inputs |= {"mult": pairs[0][0], "shift": pairs[0][1]}
        await streams.start(dut, inputs={"i__valid": 0, "i__payload": 0, "o__ready": 0, **inputs})
        if channels:
            entries = [{"channel": k, "mult": m, "shift": s} for k, (m, s) in enumerate(pairs)]
            words = unit_bench.pack_beats(unit.parameters.payload.shape(), entries)
            await streams.drive(dut, "parameters", words, rng=rng, stall=0.3)
            await unit_bench.check_running(
                dut, sent, expected, latency=unit.latency, seed=setting, period=channels
            )
        else:
            await unit_bench.check_running(dut, sent, expected, latency=unit.latency, seed=setting)


@pytest.mark.parametrize("case", CASES)
def test_equals_reference(case: str) -> None:
    unit = Requantize(**CASES[case])
    assert unit.throughput == unit.lanes
    run_bench(
        unit,
        module="test_units_requantize",
        options={"case": case, "settings": 12, "count": 270},
        seed=5,
    )


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_equals_reference_for_long(case: str) -> None:
    run_bench(
        Requantize(**CASES[case]),
        module="test_units_requantize",
        options={"case": case, "settings": 100, "count": 450},
        seed=6,
        optimize="-O2",
    )


class RoundClipIsRight(Elaboratable):
    """RoundClip against its formula, for every operand."""

    def __init__(self, *, bits: int, o_shape: Shape, shift_max: int) -> None:
        self.bits, self.o_shape, self.shift_max = bits, o_shape, shift_max

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.dut = dut = RoundClip(
            bits=self.bits, o_shape=self.o_shape, shift_max=self.shift_max
        )
        x = anyconst(m, signed(self.bits), name="x")
        shift = anyconst(m, SHIFT_BITS, name="shift")
        zero = anyconst(m, self.o_shape, name="zero")
        m.d.comb += [dut.x.eq(x), dut.shift.eq(shift), dut.zero_point.eq(zero)]
        m.d.comb += Assume((shift >= 2) & (shift <= self.shift_max))
        half = Signal(self.shift_max)
        m.d.comb += half.eq(1 << (shift - 1)[:SHIFT_BITS])
        exact = ((x + half) >> shift) + zero
        low, high = shape_limits(self.o_shape)
        expected = Mux(exact < low, low, Mux(exact > high, high, exact))
        since = Signal(range(dut.latency + 1))
        with m.If(since < dut.latency):
            m.d.sync += since.eq(since + 1)
        with m.Else():
            m.d.comb += Assert(dut.o == expected)
        return m


@pytest.mark.parametrize(
    ("bits", "o_shape", "shift_max"),
    [(9, signed(3), 12), (9, unsigned(3), 6), (7, signed(6), 9), (24, signed(8), 30)],
)
def test_rounding_is_proven(bits: int, o_shape: Shape, shift_max: int) -> None:
    prove(RoundClipIsRight(bits=bits, o_shape=o_shape, shift_max=shift_max), depth=9)


class RequantizeIsRight(Elaboratable):
    """A whole Requantize of few bits against its formula, for every operand."""

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.dut = dut = Requantize(o_type="int4", x_bits=6, mult_bits=4)
        x = anyconst(m, signed(6), name="x")
        m.d.comb += [
            dut.i.valid.eq(1),
            dut.i.payload[0].eq(x),
            dut.mult.eq(anyconst(m, signed(4), name="mult")),
            dut.shift.eq(anyconst(m, SHIFT_BITS, name="shift")),
            dut.zero_point.eq(anyconst(m, signed(4), name="zero")),
            dut.o.ready.eq(1),
            Assume((dut.shift >= 2) & (dut.shift <= 12)),
        ]
        half = Signal(12)
        m.d.comb += half.eq(1 << (dut.shift - 1)[:SHIFT_BITS])
        exact = ((x * dut.mult + half) >> dut.shift) + dut.zero_point
        expected = Mux(exact < -8, -8, Mux(exact > 7, 7, exact))
        with m.If(dut.o.valid):
            m.d.comb += Assert(dut.o.payload[0] == expected)
        return m


def test_small_requantize_is_proven() -> None:
    prove(RequantizeIsRight(), depth=Requantize().latency + 2)


@pytest.mark.slow  # the quick proof of what all these units share is TableFunction's
def test_obeys_the_stream_rules() -> None:
    unit = Requantize(o_type="int4", x_bits=2, mult_bits=2)
    prove(StreamProof(unit, [Flow(capacity=16, bound=14)]), depth=20, solver="minisat")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"o_type": "int5"}, "o_type must be one of 'int4', .* not 'int5'"),
        ({"x_bits": 33}, "x_bits must be an integer from 2 to 32, not 33"),
        ({"mult_bits": 1}, "mult_bits must be an integer from 2 to 32, not 1"),
        ({"lanes": 0}, "lanes must be an integer from 1 to 64, not 0"),
        ({"lanes": 4, "channels": 6}, "channels must be a multiple of lanes, 4, not 6"),
    ],
)
def test_refuses(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Requantize(**wrong)


def test_reference_refuses() -> None:
    with pytest.raises(ValueError, match="shift must be from 2 to 62, not 1"):
        reference.rescale(np.array([1]), mult=1, shift=1, lo=-128, hi=127)
    with pytest.raises(OverflowError, match="multiplier exceeds 32 bits"):
        reference.rescale(np.array([1]), mult=1 << 31, shift=2, lo=-128, hi=127)
