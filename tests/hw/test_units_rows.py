"""Row maximum, argmax and row scale equal the reference for every row, in the stated time."""

import itertools
import random
from typing import Any

import cocotb
import numpy as np
import pytest
import streams
import unit_bench
from proofs import Flow, StreamProof, prove

from intformer import reference
from intformer.hw.units.functions import RANGES
from intformer.hw.units.reduction import ArgMax, RowMaximum
from intformer.hw.units.row_scale import RowScale
from intformer.sim.runner import bench_options, run_bench

ROW_MAX = 40
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "maximum": (RowMaximum, {"x_type": "int16", "lanes": 2}),
    "argmax": (ArgMax, {"x_type": "int8", "lanes": 4, "row_max": ROW_MAX}),
    "argmax of one lane": (ArgMax, {"x_type": "uint8", "row_max": ROW_MAX}),
    "scale": (RowScale, {"x_type": "int16", "lanes": 3, "row_max": ROW_MAX}),
    "scale to int4": (RowScale, {"x_type": "int8", "o_type": "int4", "row_max": ROW_MAX}),
}


def random_row(low: int, high: int, *, rng: random.Random) -> tuple[np.ndarray, np.ndarray]:
    """Codes, and which are kept: with ties, extremes, small values, and none kept at times."""
    n = rng.choice([1, 2, 3, ROW_MAX, rng.randint(1, ROW_MAX)])
    small, large = rng.choice(
        [
            (low, high),
            (low, low + 1),
            (high - 1, high),
            (max(low, -3), 3),
            (max(low, -200), high // 50),
        ]
    )
    x = np.array([rng.randint(small, large) for _ in range(n)])
    chance = rng.choice([0.0, 0.5, 1.0, 1.0, 1.0])
    return x, np.array([rng.random() < chance for _ in range(n)])


def beats_of_row(x: np.ndarray, keep: np.ndarray, *, lanes: int, noise: int) -> list[dict]:
    """What goes in: lanes past the end hold ``noise``."""
    beats = []
    for first in range(0, len(x), lanes):
        part = [int(v) for v in x[first : first + lanes]]
        kept = sum(int(k) << lane for lane, k in enumerate(keep[first : first + lanes]))
        part += [noise] * (lanes - len(part))
        beats.append({"x": part, "keep": kept, "last": int(first + lanes >= len(x))})
    return beats


def results(unit: Any, x: np.ndarray, keep: np.ndarray, *, lowest: int) -> dict[str, list[Any]]:
    """What comes out, by stream."""
    if not isinstance(unit, RowScale):
        row = {"maximum": int(reference.row_maximum(x, keep=keep, lowest=lowest))}
        if isinstance(unit, ArgMax):
            row["index"] = int(reference.argmax(x, keep=keep))
        return {"o": [row]}
    y, top = reference.row_scale(x, keep=keep, limit=unit.limit)
    padded = np.pad(y, (0, -len(y) % unit.lanes)).reshape(-1, unit.lanes).tolist()
    beats = [{"y": part, "last": int(k == len(padded) - 1)} for k, part in enumerate(padded)]
    return {"o": beats, "top": [int(top)]}


@cocotb.test()
async def equals_reference(dut):
    options = bench_options()
    rng = random.Random(options["seed"])
    kind, arguments = CASES[options["case"]]
    unit = kind(**arguments)
    low, high = RANGES[arguments.get("x_type", "int8")]
    beats: list[dict] = []
    expected: dict[str, list[Any]] = {}
    for _ in range(options["rows"]):
        x, keep = random_row(low, high, rng=rng)
        beats += beats_of_row(x, keep, lanes=unit.lanes, noise=rng.randint(low, high))
        for name, values in results(unit, x, keep, lowest=low).items():
            expected.setdefault(name, []).extend(values)
    sent = unit_bench.pack_beats(unit.i.payload.shape(), beats)
    right = {"o": unit_bench.pack_beats(unit.o.payload.shape(), expected["o"])}
    if "top" in expected:
        right["top"] = expected["top"]
    begin = {"i__valid": 0, "i__payload": 0, **{f"{name}__ready": 0 for name in right}}
    await streams.start(dut, inputs=begin)
    for stall in (0.0, 0.4):
        received = await streams.transact(
            dut,
            sends={"i": sent},
            receives={name: len(values) for name, values in right.items()},
            seed=options["seed"],
            stall=stall,
        )
        assert received == right


@cocotb.test()
async def takes_the_stated_cycles(dut):
    kind, arguments = CASES[bench_options()["case"]]
    unit = kind(**arguments)
    begin = {"i__valid": 0, "i__payload": 0, "o__ready": 0}
    if kind is RowScale:
        begin["top__ready"] = 1
    await streams.start(dut, inputs=begin)
    for n in (1, unit.lanes, ROW_MAX):
        rows = 40
        row = beats_of_row(np.arange(n), np.ones(n, bool), lanes=unit.lanes, noise=0)
        sent = unit_bench.pack_beats(unit.i.payload.shape(), row * rows)
        each = len(row) if kind is RowScale else 1
        taken, given = await unit_bench.timing(dut, sent, count=each * rows)
        cycles = unit.row_cycles(n)
        assert taken == list(range(taken[0], taken[0] + len(sent))), "the input waited"
        lasts = taken[len(row) - 1 :: len(row)]
        assert given[::each] == [cycle + unit.latency for cycle in lasts]
        assert {b - a for a, b in itertools.pairwise(lasts)} == {cycles}


@pytest.mark.parametrize("case", CASES)
def test_rows(case: str) -> None:
    kind, arguments = CASES[case]
    unit = kind(**arguments)
    assert unit.throughput == unit.lanes
    run_bench(unit, module="test_units_rows", options={"case": case, "rows": 120}, seed=4)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_rows_for_long(case: str) -> None:
    kind, arguments = CASES[case]
    options = {"case": case, "rows": 1500}
    unit = kind(**arguments)
    run_bench(unit, module="test_units_rows", options=options, seed=5, optimize="-O2")


def test_estimate_of_row_scale_is_off_by_one_at_most() -> None:
    # The same steps as the hardware, for every top of 16 bits and the elements that matter.
    rng = np.random.default_rng(1)
    top = np.arange(1, 32769)
    count = 16 - np.floor(np.log2(top)).astype(np.int64) - 1
    high = top << count
    reciprocal = np.round((127 << 12) / (512 + 2 * (high >> 7 & 255) + 1)).astype(np.int64)
    for x in (top, -top, rng.integers(-top, top), rng.integers(-top, top)):
        estimate = ((x << count) * reciprocal + (1 << 17)) >> 18
        exact = (254 * x + top) // (2 * top)
        assert np.abs(estimate - exact).max() <= 1


def whole_row(beat: Any) -> Any:
    return beat.last


@pytest.mark.parametrize("kind", [RowMaximum, ArgMax])
def test_reductions_obey_the_stream_rules(kind: Any) -> None:
    flow = Flow(capacity=8, bound=8, counts=whole_row)
    prove(StreamProof(kind(), [flow]), depth=14, solver="minisat")


@pytest.mark.parametrize("kind", [RowMaximum, ArgMax, RowScale])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"x_type": "int4"}, "x_type must be one of 'int8', .* not 'int4'"),
        ({"lanes": 0}, "lanes must be .* not 0"),
    ],
)
def test_refuses(kind: Any, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**wrong)


@pytest.mark.parametrize("kind", [ArgMax, RowScale])
def test_refuses_rows(kind: Any) -> None:
    with pytest.raises(ValueError, match="row_max must be an integer from 1 to 65536, not 0"):
        kind(row_max=0)
