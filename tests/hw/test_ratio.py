"""The divider of softmax: exactly rounded, proven for all operands."""

import random

import cocotb
import pytest
import streams
from amaranth.hdl import Assert, Assume, Const, Elaboratable, Module, Mux, Signal, Value
from cocotb.triggers import FallingEdge
from proofs import anyconst, anyseq, prove
from streams import both_simulators

from intformer.hw.row.ratio import RatioDivider, RatioStage
from intformer.sim.runner import bench_options, run_bench


@cocotb.test()
async def divides(dut):
    options = bench_options()
    rng = random.Random(options["seed"])
    lanes, e_bits, s_bits = options["lanes"], options["e_bits"], options["s_bits"]
    await streams.start(dut, inputs={"e": 0, "s": 0})
    expected = []
    for cycle in range(options["count"] + RatioDivider.latency_of()):
        s = rng.choice([0, 1, (1 << s_bits) - 1, rng.getrandbits(rng.randint(1, s_bits))])
        most = min(s, (1 << e_bits) - 1)
        e = [rng.choice([0, most, most // 2, rng.randint(0, most)]) for _ in range(lanes)]
        dut.s.value = s
        dut.e.value = streams.pack([(value, e_bits) for value in e])
        expected.append([min(((v << 9) // max(s, 1) + 1) >> 1, 255) for v in e])
        await FallingEdge(dut.clk)
        if cycle + 1 >= RatioDivider.latency_of():
            word = int(dut.p.value)
            p = [word >> 8 * lane & 0xFF for lane in range(lanes)]
            assert p == expected[cycle + 1 - RatioDivider.latency_of()]


@both_simulators
def test_divides(simulator: str) -> None:
    options = {"lanes": 2, "e_bits": 24, "s_bits": 34}
    run_bench(
        RatioDivider(**options),
        module="test_ratio",
        simulator=simulator,
        options={**options, "count": 2000},
        seed=31,
    )


class _StageProof(Elaboratable):
    """A stage keeps ``e << k == product + rest``, for any operands; ``rest`` put back, if below 0.

    ``product`` stands for ``q * s``: a stage that appends a bit to ``q`` doubles it, and adds ``s``
    if the bit is 1.
    """

    def __init__(self, dut: RatioStage, *, number: int, e_bits: int) -> None:
        self.dut = dut
        self.number = number
        self.e_bits = e_bits

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        e, s = anyconst(m, self.e_bits, name="e"), anyconst(m, len(dut.s), name="s")
        q, rest = anyconst(m, len(dut.q), name="q"), anyconst(m, len(dut.rest), name="rest")
        product = anyconst(m, len(s) + len(q) + 1, name="product")
        rest, back = rest.as_signed(), Mux(rest[-1], s, 0)
        whole = (e == s) & (rest == s) & q.all()
        within = (rest >= -s) & (rest < s)
        m.d.comb += [
            Assume((e << (self.number - 1)) == product + rest + back),
            Assume((e <= s) & Mux(s == 0, rest == 0, within | whole)),
            dut.s.eq(s),
            dut.q.eq(q),
            dut.rest.eq(rest),
        ]
        once = Signal()
        m.d.sync += once.eq(1)
        with m.If(once):
            grown = (product << 1) + Mux(dut.o_q[0], s, 0)
            back = Mux(dut.o_rest < 0, s, 0)
            whole = (e == s) & (dut.o_rest == s) & dut.o_q.all()
            within = (dut.o_rest >= -s) & (dut.o_rest < s)
            m.d.comb += [
                Assert(dut.o_q[1:] == q),
                Assert((e << self.number) == grown + dut.o_rest + back),
                Assert(Mux(s == 0, dut.o_rest == 0, within | whole)),
            ]
        return m


class _PipelineProof(Elaboratable):
    """Every stage has the divisor of its dividend, and the result is the rounded quotient."""

    def __init__(self, dut: RatioDivider) -> None:
        self.dut = dut

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        e, s = anyseq(m, len(dut.e[0]), name="e"), anyseq(m, len(dut.s), name="s")
        m.d.comb += [dut.e[0].eq(e), dut.s.eq(s)]
        rest, s, q = _later(m, e, name="e_0"), _later(m, s, name="s_0"), Const(0, 0)
        for number, stage in enumerate(dut.stages[0], start=1):
            m.d.comb += [
                Assert(stage.s == s),
                Assert((stage.q == q) & (stage.rest == rest)),
            ]
            s, q, rest = _later(m, s, name=f"s_{number}"), stage.o_q, stage.o_rest
        top = (1 << (len(q) - 1)) - 1
        nearest = (q + 1) >> 1
        right = _later(m, Mux(nearest > top, top, nearest)[: len(q) - 1], name="right")
        some = _later(m, s != 0, name="some")
        m.d.comb += Assert(dut.p[0] == Mux(some, right, 0))
        return m


class _RoundingProof(Elaboratable):
    """The results of a narrow divider are the nearest: ``(2p - 1) * s <= 2**(bits + 1) * e``."""

    def __init__(self, dut: RatioDivider) -> None:
        self.dut = dut

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.dut = dut = self.dut
        e, s = anyseq(m, len(dut.e[0]), name="e"), anyseq(m, len(dut.s), name="s")
        m.d.comb += [dut.e[0].eq(e), dut.s.eq(s), Assume(e <= s)]
        for cycle in range(dut.latency):
            e, s = _later(m, e, name=f"e_{cycle}"), _later(m, s, name=f"s_{cycle}")
        p, scaled = dut.p[0], e << (len(dut.p[0]) + 1)
        nearest = ((2 * p - 1) * s <= scaled) & (p.all() | (scaled < (2 * p + 1) * s))
        m.d.comb += Assert(Mux(s != 0, nearest, p == 0))
        return m


def _later(m: Module, value: Value, *, name: str) -> Signal:
    register = Signal(len(value), name=name)
    m.d.sync += register.eq(value)
    return register


@pytest.mark.parametrize("number", range(1, 10))
def test_every_stage_divides(number: int) -> None:
    dut = RatioStage(number, s_bits=34)
    prove(_StageProof(dut, number=number, e_bits=24), depth=2)


def test_pipeline_is_aligned() -> None:
    prove(_PipelineProof(RatioDivider(lanes=1, e_bits=24, s_bits=34)), depth=2, induction=True)


def test_narrow_divider_rounds_to_the_nearest() -> None:
    prove(_RoundingProof(RatioDivider(lanes=1, e_bits=3, s_bits=5, bits=2)), depth=8)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lanes": 0}, "lanes must be at least 1, not 0"),
        ({"e_bits": 0}, "e_bits must be at least 1, not 0"),
        ({"s_bits": 4}, r"s_bits must be at least e_bits \(5\), not 4"),
        ({"bits": 0}, "bits must be at least 1, not 0"),
    ],
)
def test_refuses(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RatioDivider(**{"lanes": 1, "e_bits": 5, "s_bits": 9, "bits": 8, **options})
