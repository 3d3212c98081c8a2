"""LayerNorm and RMSNorm equal their reference in both formats, and their figures hold."""

import random

import cocotb
import numpy as np
import pytest
import streams
import unit_bench
from cocotb.triggers import FallingEdge

from intformer import reference
from intformer.bench.errors_norm import DISTRIBUTIONS, errors
from intformer.hw.units.norm import LayerNorm, RMSNorm
from intformer.sim.runner import bench_options, run_bench

ROW_MAX = 48
CHANNELS = np.random.default_rng(5)
PARAMETERS = {
    name: {
        "gamma": CHANNELS.integers(-(1 << 15), 1 << 15, ROW_MAX),
        "beta": CHANNELS.integers(-(1 << 31), 1 << 31, ROW_MAX) >> 3,
        "shift": CHANNELS.integers(shift, shift + 4, ROW_MAX),
    }
    for name, shift in (("int8", 26), ("int16", 18))
}
CASES = {
    "both": (LayerNorm, {"lanes": 4, "multipliers": "luts"}),
    "rms": (RMSNorm, {"lanes": 2, "outputs": ("int16",), "constants": True}),
}
FUNCTIONS = {LayerNorm: reference.layernorm, RMSNorm: reference.rmsnorm}


def build(case: str) -> LayerNorm | RMSNorm:
    kind, arguments = CASES[case]
    if arguments.get("constants"):
        chosen = {name: PARAMETERS[name] for name in arguments["outputs"]}
        arguments = {**arguments, "constants": chosen}
    return kind(row_max=ROW_MAX, **arguments)


def outputs(case: str) -> tuple[str, ...]:
    return CASES[case][1].get("outputs", ("int8", "int16"))


def rows_of(n: int, count: int, *, rng: random.Random) -> np.ndarray:
    generator = np.random.default_rng(rng.getrandbits(32))
    kinds = list(DISTRIBUTIONS.values())
    rows = [rng.choice(kinds)(generator, 1, n) for _ in range(count)]
    return np.clip(np.concatenate(rows), -(1 << 15), (1 << 15) - 1)


def beats_of(rows: np.ndarray, *, lanes: int) -> list[dict]:
    """Beats of rows, ``{name: codes}`` without names; 77 past the end of a row."""
    beats = []
    for row in rows.tolist():
        for first in range(0, len(row), lanes):
            part = row[first : first + lanes]
            valid = (1 << len(part)) - 1
            last = int(first + lanes >= len(row))
            beats.append({"x": part + [77] * (lanes - len(part)), "valid": valid, "last": last})
    return beats


async def load(dut, unit, names: tuple[str, ...]) -> None:
    """Write all parameters."""
    layout = unit.parameters.payload.shape()
    for output, name in enumerate(names):
        for channel in range(ROW_MAX):
            entry = {key: int(values[channel]) for key, values in PARAMETERS[name].items()}
            item = {"output": output, "channel": channel, "entry": entry}
            dut.parameters__payload.value = unit_bench.pack_beats(layout, [item])[0]
            dut.parameters__valid.value = 1
            await FallingEdge(dut.clk)
    dut.parameters__valid.value = 0


@cocotb.test()
async def equals_reference(dut):
    options = bench_options()
    case, rng = options["case"], random.Random(options["seed"])
    unit, names = build(case), outputs(case)
    lanes = unit.throughput
    inputs = dict.fromkeys(("i__valid", "i__payload", "o__ready", "n", "eps", "zero_point"), 0)
    await streams.start(dut, inputs=inputs)
    if hasattr(unit, "parameters"):
        dut.parameters__valid.value = 0
        await load(dut, unit, names)
    layout = unit.i.payload.shape()
    for trial, n in enumerate((1, ROW_MAX, 7, rng.randint(2, ROW_MAX), ROW_MAX - 1)):
        eps = rng.choice([0, rng.getrandbits(24)])
        zero_points = {name: rng.randint(-100, 100) for name in names}
        dut.n.value, dut.eps.value = n, eps
        dut.zero_point.value = unit_bench.pack_beats(unit.zero_point.shape(), [zero_points])[0]
        rows = rows_of(n, 12, rng=rng)
        sent = unit_bench.pack_beats(layout, beats_of(rows, lanes=lanes))
        if trial % 2 == 0:
            taken, given = await unit_bench.timing(dut, sent, count=len(sent))
            beats = -(-n // lanes)
            assert given[0] - taken[beats - 1] == unit.latency
            assert {b - a for a, b in zip(given, given[beats:], strict=False)} == {
                unit.row_cycles(n)
            }
        received = await streams.transact(
            dut, sends={"i": sent}, receives={"o": len(sent)}, seed=trial, stall=trial * 0.15
        )
        for name in names:
            low, high = reference.LIMITS[name]
            parameters = {key: values[:n] for key, values in PARAMETERS[name].items()}
            right = FUNCTIONS[type(unit)](
                rows, **parameters, eps=eps, zero_point=zero_points[name], lo=low, hi=high
            )
            check(received["o"], right, unit=unit, name=name, lanes=lanes)


def check(beats: list[int], right: np.ndarray, *, unit, name: str, lanes: int) -> None:
    """The codes of ``name`` in ``beats``, and their masks, are those of ``right``."""
    layout = unit.o.payload.shape()
    expected = beats_of(right, lanes=lanes)
    for beat, wanted in zip(beats, expected, strict=True):
        view = layout.from_bits(beat)
        assert (view.valid, view.last) == (wanted["valid"], wanted["last"])
        codes = [view[name][lane] for lane in range(lanes) if wanted["valid"] >> lane & 1]
        assert codes == wanted["x"][: len(codes)]


@pytest.mark.parametrize("case", CASES)
def test_equals_reference(case: str) -> None:
    run_bench(build(case), module="test_units_norm", options={"case": case}, seed=9)


def test_row_cycles() -> None:
    """Rows shorter than the serial units' 44 cycles wait for them."""
    unit = LayerNorm(lanes=4, row_max=1024)
    assert [unit.row_cycles(n) for n in (1, 176, 177, 1024)] == [44, 44, 45, 256]


@pytest.mark.parametrize("unit", ["LayerNorm", "RMSNorm"])
@pytest.mark.parametrize("distribution", [None, "one hot", "extremes"])
def test_int8_is_correctly_rounded(unit: str, distribution: str | None) -> None:
    found = errors(1500, 3, unit=unit, output="int8", distribution=distribution)
    assert found["wrong"] == 0
    assert found["cases"] > 100_000


@pytest.mark.parametrize("unit", ["LayerNorm", "RMSNorm"])
def test_int16_is_correctly_rounded(unit: str) -> None:
    found = errors(3000, 4, unit=unit, output="int16")
    assert found["correctly_rounded"] >= 0.99999
    assert found["worst_steps"] < 0.5 + 1e-5
    assert found["ties"] > 0


def test_errors_are_found(monkeypatch) -> None:
    """A reference that rounds down is found out."""
    exact = reference.layernorm

    def lower(x, *, beta, **others):
        return exact(x, beta=beta - 1000, **others)

    monkeypatch.setattr("intformer.bench.errors_norm._FUNCTIONS", {"LayerNorm": lower})
    found = errors(50, 1, output="int16")
    assert found["wrong"] > 0
    assert found["worst_steps"] > 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lanes": 3}, "lanes must be one of 1, 2, 4, 8, 16, not 3"),
        ({"row_max": 1025}, "row_max must be an integer from 2 to 1024, not 1025"),
        ({"outputs": ("int4",)}, "outputs must be one of 'int8', 'int16', not 'int4'"),
        ({"outputs": ()}, "outputs must name"),
        ({"multipliers": "lut"}, "multipliers must be one of 'dsp', 'luts', not 'lut'"),
        ({"constants": {}}, "constants must be given for"),
        (
            {
                "outputs": ("int8",),
                "constants": {"int8": {"gamma": [1], "beta": [0], "shift": [1]}},
            },
            "shift in constants must be an integer from 2 to 47, not 1",
        ),
    ],
)
def test_refuses(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LayerNorm(**arguments)
