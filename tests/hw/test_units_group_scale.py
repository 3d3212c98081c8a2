"""GroupScale equals the reference: alone, and with the sums of an array's tiles."""

import random

import cocotb
import numpy as np
import pytest
import streams
import unit_bench

from intformer import reference
from intformer.hw.units.group_scale import GroupScale
from intformer.sim.runner import bench_options, run_bench

CASES = {
    "narrow": {"lanes": 2, "sum_bits": 16, "scale_bits": 8, "o_bits": 32},
    "wide": {"lanes": 1, "sum_bits": 32, "scale_bits": 18, "o_bits": 48},
}


def random_rows(arguments: dict[str, int], count: int, *, rng: random.Random) -> list[list]:
    """Contractions of 1 to 9 groups: beats of sums and scales."""
    limits = [1 << (arguments[name] - 1) for name in ("sum_bits", "scale_bits")]
    # The whole sum must fit.
    limits[0] = min(limits[0], (1 << (arguments["o_bits"] - 1)) // (9 * limits[1]))
    return [
        [
            [unit_bench.codes(-top, top - 1, arguments["lanes"], rng=rng) for top in limits]
            for _ in range(rng.choice([1, 1, 2, rng.randint(1, 9)]))
        ]
        for _ in range(count)
    ]


@cocotb.test()
async def equals_reference(dut):
    options = bench_options()
    arguments = CASES[options["case"]]
    unit = GroupScale(**arguments)
    rows = random_rows(arguments, options["count"], rng=random.Random(options["seed"]))
    beats = [
        {"sums": sums, "scales": scales, "last": index + 1 == len(row)}
        for row in rows
        for index, (sums, scales) in enumerate(row)
    ]
    sent = unit_bench.pack_beats(unit.i.payload.shape(), beats)
    results = [reference.group_scale(*np.array(row).transpose(1, 0, 2)).tolist() for row in rows]
    expected = unit_bench.pack_beats(unit.o.payload.shape(), results)
    await streams.start(dut, inputs={"i__valid": 0, "i__payload": 0, "o__ready": 0})
    taken, given = await unit_bench.timing(dut, sent, count=len(rows))
    assert taken == list(range(taken[0], taken[0] + len(beats)))
    ends = [cycle for cycle, beat in zip(taken, beats, strict=True) if beat["last"]]
    assert given == [cycle + unit.latency for cycle in ends]
    for stall in (0.0, 0.4):
        received = await streams.transact(
            dut, sends={"i": sent}, receives={"o": len(rows)}, seed=5, stall=stall
        )
        assert received["o"] == expected


@pytest.mark.parametrize("case", CASES)
def test_equals_reference(case: str) -> None:
    run_bench(
        GroupScale(**CASES[case]),
        module="test_units_group_scale",
        options={"case": case, "count": 300},
        seed=4,
    )


@pytest.mark.parametrize("group", [16, 32, 64, 128])
def test_tiles_of_a_group_share_its_scale(group: int) -> None:
    """The product group by group is that with the scaled weights."""
    rng = np.random.default_rng(group)
    a = rng.integers(-128, 256, (3, 256))
    w = rng.integers(-7, 8, (5, 256))
    scales = rng.integers(1, 200, (5, 256 // group))
    expected = a @ (w * np.repeat(scales, group, axis=1)).T
    assert (reference.grouped_matmul(a, w, scales) == expected).all()


def test_unequal_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="a contraction of 10 cannot have 3 equal groups"):
        reference.grouped_matmul(np.zeros((1, 10)), np.zeros((1, 10)), np.ones((1, 3)))
