"""The rivals' softmax units equal their NumPy ports."""

from __future__ import annotations

import random

import cocotb
import numpy as np
import pytest
import streams

from intformer.bench import rival_ibert, rival_ita, rival_ivit, rival_softermax
from intformer.sim.runner import bench_options, run_bench

ROW_MAX = 32
LANES = 4
UNITS = {
    "ibert": (rival_ibert.IBertSoftmax, rival_ibert.softmax),
    "ivit": (rival_ivit.IVitSoftmax, rival_ivit.softmax),
    "ita": (rival_ita.ItaSoftmax, rival_ita.softmax),
    "softermax": (rival_softermax.SoftermaxLike, rival_softermax.softmax),
}


def random_rows(count: int, *, rng: random.Random) -> list[list[int]]:
    """Rows of whole beats: far apart, ties, nearly equal, one far above the rest."""
    rows = [[-128] * ROW_MAX, [127] + [-128] * (ROW_MAX - 1), [-128] * (ROW_MAX - 1) + [127]]
    for _ in range(count):
        low, high = rng.choice([(-128, 127), (-3, 3), (5, 5), (-60, 20)])
        length = LANES * rng.randint(1, ROW_MAX // LANES)
        rows.append([rng.randint(low, high) for _ in range(length)])
    return rows


def beats(row: list[int], *, bits: int) -> list[int]:
    """A row's payloads."""
    groups = [row[k : k + LANES] for k in range(0, len(row), LANES)]
    return [
        streams.pack([*((int(v), bits) for v in group), (int(k == len(groups) - 1), 1)])
        for k, group in enumerate(groups)
    ]


@cocotb.test()
async def equals_port(dut):
    options = bench_options()
    _, softmax = UNITS[options["unit"]]
    rows = random_rows(options["count"], rng=random.Random(options["seed"]))
    sent = [beat for row in rows for beat in beats(row, bits=8)]
    results = [softmax(np.array(row), scale=1 / 16).tolist() for row in rows]
    expected = [beat for row in results for beat in beats(row, bits=8)]
    for stall in (0.0, 0.4):
        await streams.start(dut, inputs={"i__valid": 0, "i__payload": 0, "o__ready": 0})
        received = await streams.transact(
            dut, sends={"i": sent}, receives={"o": len(expected)}, seed=1, stall=stall
        )
        assert received["o"] == expected


@pytest.mark.parametrize("name", UNITS)
def test_rtl_equals_port(name: str) -> None:
    run_bench(
        UNITS[name][0](lanes=LANES, row_max=ROW_MAX),
        module="test_rivals",
        simulator="verilator",
        options={"unit": name, "count": 60},
        seed=5,
    )
