"""The row unit executes its operations exactly as the reference, in the stated time."""

import random

import cocotb
import numpy as np
import pytest
import row_bench
import streams
from streams import both_simulators

from intformer import reference
from intformer.config import CoreConfig
from intformer.hw.row.unit import RowUnit
from intformer.isa import Instruction, Op
from intformer.sim.runner import bench_options, run_bench

LONGEST = 70
"""Elements of the longest row that gets a scale."""


def _config(rows: int, lanes: int, row_scales: int = 0) -> CoreConfig:
    return CoreConfig(
        name="bench",
        rows=rows,
        cols=lanes * 2,
        lanes=lanes,
        act_words=2048,
        wide_words=2048,
        param_groups=64,
        row_max=40,
        row_scales=row_scales,
    )


def _index(first: int, stride: int, rows: int, n: int, *, width: int) -> np.ndarray:
    """Element positions of ``rows`` rows of ``n`` elements."""
    return (first + np.arange(rows)[:, None] * stride) * width + np.arange(n)


class _Cases:
    """Random instructions with their expected results."""

    def __init__(self, pads: row_bench.Scratchpads, *, rng: random.Random) -> None:
        self.pads = pads
        self.rng = rng
        self.config = pads.config

    def place(self, rows: int, n: int, *, width: int, high: int, low: int = 0) -> dict[str, int]:
        """A random first word and stride that keep the rows apart, between two words."""
        words = -(-n // width)
        stride = words + self.rng.randrange(3)
        return {"first": self.rng.randrange(low, high - rows * stride + 1), "stride": stride}

    def softmax(self, rows: int, n: int, *, masked: bool) -> Instruction:
        """A SOFTMAX; writes its result into ``expected``."""
        config, rng, act = self.config, self.rng, self.pads.act
        src = self.place(rows, n, width=config.rows, high=700)
        mask = self.place(rows, n, width=config.rows, low=700, high=1400)
        dst = self.place(rows, n, width=config.rows, low=1400, high=2048)
        where = {
            name: _index(p["first"], p["stride"], rows, n, width=config.rows)
            for name, p in (("src", src), ("mask", mask), ("dst", dst))
        }
        act[where["src"]] = self.codes((rows, n), bits=8)
        sparse = np.array([rng.choice([0, 0, 1, 128, 255]) for _ in range(rows * n)])
        act[where["mask"]] = sparse.reshape(rows, n)
        len0, step = rng.choice([(n, 0), (1, 1), (rng.randrange(n + 2), 1), (4095, 1), (0, 0)])
        keep = np.arange(n) < len0 + np.arange(rows)[:, None] * step
        if masked:
            keep = keep & (act[where["mask"]] != 0)
        x = act[where["src"]].astype(np.uint8).view(np.int8)
        table = rng.randrange(config.exp_tables)
        entries = self.pads.exp[256 * table : 256 * table + 256]
        self.expected = {"act": act.copy(), "wide": self.pads.wide.copy()}
        result = reference.softmax(x, exp_table=entries, keep=keep)
        self.expected["act"][where["dst"]] = result
        fields = {
            "rows": rows, "n": n, "src": src["first"], "src_stride": src["stride"],
            "dst": dst["first"], "dst_stride": dst["stride"], "mask_en": int(masked),
            "mask": mask["first"], "mask_stride": mask["stride"], "len0": len0,
            "len_step": step, "table": table,
        }  # fmt: skip
        return Instruction(Op.SOFTMAX, fields)

    def layernorm(self, rows: int, n: int, *, to_wide: bool) -> Instruction:
        """A LAYERNORM; writes its result into ``expected``."""
        config, rng, pads = self.config, self.rng, self.pads
        src = self.place(rows, n, width=config.lanes, high=1000)
        width = config.lanes if to_wide else config.rows
        dst = self.place(rows, n, width=width, low=1000, high=2048)
        source = _index(src["first"], src["stride"], rows, n, width=config.lanes)
        pads.wide[source] = self.codes((rows, n), bits=16)
        groups = -(-n // config.lanes)
        param = rng.randrange(config.param_groups - groups + 1)
        beta, gamma, shift = pads.param[param * config.lanes :][:n].T
        low, high = reference.LIMITS["int16" if to_wide else "int8"]
        limits = {
            "eps": rng.choice([0, 1, rng.getrandbits(40)]),
            "zero_point": rng.randrange(-128, 128),
            "lo": low,
            "hi": high,
        }
        x = pads.wide[source].astype(np.uint16).view(np.int16)
        result = reference.layernorm(x, gamma=gamma, beta=beta, shift=shift, **limits)
        self.expected = {"act": pads.act.copy(), "wide": pads.wide.copy()}
        target = _index(dst["first"], dst["stride"], rows, n, width=width)
        self.expected["wide" if to_wide else "act"][target] = result & (0xFFFF if to_wide else 0xFF)
        fields = {
            "rows": rows, "n": n, "src": src["first"], "src_stride": src["stride"],
            "dst_mem": int(to_wide), "dst": dst["first"], "dst_stride": dst["stride"],
            "param": param, **limits,
        }  # fmt: skip
        return Instruction(Op.LAYERNORM, fields)

    def rowscale(self, rows: int, n: int) -> Instruction:
        """A ROWSCALE; writes its results into ``expected``."""
        config, rng, pads = self.config, self.rng, self.pads
        src = self.place(rows, n, width=config.lanes, high=1000)
        dst = self.place(rows, n, width=config.rows, high=2048)
        factor = self.place(rows, 1, width=config.lanes, low=1000, high=2048)
        source = _index(src["first"], src["stride"], rows, n, width=config.lanes)
        x = self.codes((rows, n), bits=16)
        x[np.array([rng.random() < 0.2 for _ in range(rows)])] = rng.choice([0, 0, 0x8000])
        pads.wide[source] = x
        codes, factors = reference.row_codes(x.astype(np.uint16).view(np.int16))
        self.expected = {"act": pads.act.copy(), "wide": pads.wide.copy()}
        target = _index(dst["first"], dst["stride"], rows, n, width=config.rows)
        self.expected["act"][target] = codes & 0xFF
        target = _index(factor["first"], factor["stride"], rows, 1, width=config.lanes)
        self.expected["wide"][target] = factors
        fields = {
            "rows": rows, "n": n, "src": src["first"], "src_stride": src["stride"],
            "dst": dst["first"], "dst_stride": dst["stride"],
            "factor": factor["first"], "factor_stride": factor["stride"],
        }  # fmt: skip
        return Instruction(Op.ROWSCALE, fields)

    def codes(self, shape: tuple[int, int], *, bits: int) -> np.ndarray:
        """Unsigned codes: each row random, constant, at the extremes, or small."""
        rng, top = self.rng, 1 << (bits - 1)
        rows = []
        for _ in range(shape[0]):
            kind = rng.randrange(4)
            if kind == 0:
                row = [rng.getrandbits(bits) for _ in range(shape[1])]
            elif kind == 1:
                row = [rng.getrandbits(bits)] * shape[1]
            elif kind == 2:
                row = [rng.choice([top, top - 1]) for _ in range(shape[1])]
            else:
                row = [rng.randrange(-2, 3) % (2 * top) for _ in range(shape[1])]
            rows.append(row)
        return np.array(rows)

    def check(self, instruction: Instruction) -> None:
        """Compare both scratchpads with what is expected, every code."""
        for name, expected in self.expected.items():
            wrong = np.flatnonzero(getattr(self.pads, name) != expected)
            assert not wrong.size, (
                f"{instruction}: {name}[{wrong[0]}] is {getattr(self.pads, name)[wrong[0]]}, "
                f"not {expected[wrong[0]]}; {wrong.size} wrong"
            )


async def _begin(dut) -> tuple[_Cases, CoreConfig, random.Random]:
    options = bench_options()
    dut._log.info("seed %d", options["seed"])
    rng = random.Random(options["seed"])
    config = _config(options["rows"], options["lanes"], options.get("row_scales", 0))
    pads = row_bench.Scratchpads(config, rng=rng)
    await streams.start(dut, inputs=dict.fromkeys(row_bench.INPUTS, 0))
    return _Cases(pads, rng=rng), config, rng


@cocotb.test()
async def executes(dut):
    cases, config, rng = await _begin(dut)
    for trial in range(bench_options()["count"]):
        rows = rng.choice([1, 2, 5])
        scales = config.row_scales > 0 and rng.random() < 0.5
        most = config.row_scales if scales else config.row_max
        n = rng.choice([1, config.lanes, most, rng.randint(1, most)])
        flag = bool(trial & 2)
        if scales:
            instruction = cases.rowscale(rows, n)
        elif trial & 1:
            instruction = cases.softmax(rows, n, masked=flag)
        else:
            instruction = cases.layernorm(rows, n, to_wide=flag)
        stall = rng.choice([0.0, 0.2, 0.7])
        await row_bench.execute(dut, cases.pads, instruction, stall=stall)
        cases.check(instruction)


@cocotb.test()
async def takes_the_stated_cycles(dut):
    cases, config, _rng = await _begin(dut)
    for rows, n in ((1, 1), (1, config.row_max), (7, 3), (6, config.row_max), (9, 17)):
        for masked in (False, True):
            instruction = cases.softmax(rows, n, masked=masked)
            cycles = await row_bench.execute(dut, cases.pads, instruction, stall=0.0)
            stated = RowUnit.instruction_cycles(config, Op.SOFTMAX, rows=rows, n=n, masked=masked)
            assert cycles == stated, f"{instruction}: {cycles} cycles, not {stated}"
        instruction = cases.layernorm(rows, n, to_wide=False)
        cycles = await row_bench.execute(dut, cases.pads, instruction, stall=0.0)
        stated = RowUnit.instruction_cycles(config, Op.LAYERNORM, rows=rows, n=n)
        assert cycles == stated, f"{instruction}: {cycles} cycles, not {stated}"
        if config.row_scales:
            n += config.row_scales - config.row_max if n == config.row_max else 0
            instruction = cases.rowscale(rows, n)
            cycles = await row_bench.execute(dut, cases.pads, instruction, stall=0.0)
            stated = RowUnit.instruction_cycles(config, Op.ROWSCALE, rows=rows, n=n)
            assert cycles == stated, f"{instruction}: {cycles} cycles, not {stated}"


@both_simulators
@pytest.mark.parametrize(("rows", "lanes"), [(4, 1), (6, 2), (12, 4)])
def test_executes(simulator: str, rows: int, lanes: int) -> None:
    run_bench(
        RowUnit(_config(rows, lanes)),
        module="test_row",
        simulator=simulator,
        testcase="executes",
        options={"rows": rows, "lanes": lanes, "count": 24 if simulator == "verilator" else 8},
        seed=11,
    )


@pytest.mark.parametrize(("rows", "lanes"), [(4, 1), (6, 2), (12, 4)])
def test_takes_the_stated_cycles(rows: int, lanes: int) -> None:
    run_bench(
        RowUnit(_config(rows, lanes)),
        module="test_row",
        testcase="takes_the_stated_cycles",
        options={"rows": rows, "lanes": lanes},
        seed=12,
    )


@both_simulators
@pytest.mark.parametrize(("rows", "lanes"), [(4, 1), (6, 2), (12, 4)])
def test_scales_rows(simulator: str, rows: int, lanes: int) -> None:
    run_bench(
        RowUnit(_config(rows, lanes, row_scales=LONGEST)),
        module="test_row",
        simulator=simulator,
        testcase="executes",
        options={
            "rows": rows,
            "lanes": lanes,
            "row_scales": LONGEST,
            "count": 48 if simulator == "verilator" else 8,
        },
        seed=13,
    )


@pytest.mark.parametrize(("rows", "lanes"), [(4, 1), (6, 2), (12, 4)])
def test_scales_rows_in_the_stated_cycles(rows: int, lanes: int) -> None:
    run_bench(
        RowUnit(_config(rows, lanes, row_scales=LONGEST)),
        module="test_row",
        testcase="takes_the_stated_cycles",
        options={"rows": rows, "lanes": lanes, "row_scales": LONGEST},
        seed=14,
    )
