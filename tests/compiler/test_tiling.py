"""Blocks of rows and columns, the order of products, reuse of memory; causes of an idle array."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

import intformer
from examples.encoder import encoder
from intformer.compiler.backend.allocate import Buffer, allocate
from intformer.compiler.backend.tiling import RowBlocks, piece_columns, piece_rows, row_blocks
from intformer.compiler.canonical import canonicalize
from intformer.compiler.float_eval import evaluate
from intformer.compiler.graph import Add, GraphBuilder
from intformer.compiler.integer_graph import LayerNorm, MatMul, Softmax, execute
from intformer.config import load_config
from intformer.isa import Mem, Op, Unit
from intformer.sim.idle import array_idle
from intformer.sim.iss.simulator import Iss
from intformer.sim.report import busy_by_unit, layers_merged
from intformer.sim.verify import check

TINY = dataclasses.replace(load_config("tiny"), act_words=4096, wide_words=4096, acc_depth=128)


@pytest.fixture(scope="module")
def model():
    """One encoder block of 32 tokens on a 4x4 core."""
    module, inputs = encoder(dim=32, heads=4, tokens=32, ratio=2)
    return intformer.compile(module.eval(), inputs, config=TINY)


@pytest.fixture(scope="module")
def run(model):
    rng = np.random.default_rng(0)
    codes = {t.name: rng.integers(-900, 900, t.shape).astype(t.dtype) for t in model.program.inputs}
    result = Iss(model.program).run(codes)
    check(model.program, execute(model.graph, codes), result, level="iss").raise_if_different()
    return result


def steps_of(model, op, node):
    return [
        s.instruction for s in model.program.steps if s.instruction.op is op and s.node == node.name
    ]


def test_rows_go_in_blocks_around_norms(model, run):
    blocks = row_blocks(model.graph)
    products = {n.name: n for n in model.graph.nodes if isinstance(n, MatMul)}
    before = [name for name, around in blocks.items() if around.before_norm]
    assert before and {b.after_norm for b in blocks.values()} == {0, 32}
    for name in before:
        assert {ins["rows"] for ins in steps_of(model, Op.MATMUL, products[name])} == {16}
    behind = [name for name, around in blocks.items() if around.after_norm]
    for name in behind:
        assert 16 in {ins["rows"] for ins in steps_of(model, Op.MATMUL, products[name])}
    assert run.cycles


def test_row_blocks_by_hand():
    around = RowBlocks(before_norm=384, after_norm=384, copies=1)
    wide = load_config("minilm")
    narrow = dataclasses.replace(wide, bus_bytes=2)
    steps = 24 * 24
    assert around.all_tiles(128, 64.0, steps, wide)  # weights in time for 64 rows
    assert not around.all_tiles(128, 128.0, steps, narrow)  # twice the time for all weights
    assert not around.all_tiles(31, 1.0, steps, wide)  # too few rows
    assert not RowBlocks().all_tiles(128, 64.0, steps, wide)
    assert around.first_tiles(128, 64.0, 24, wide) == 7  # 1536 cycles each, for 1.5 * 6144 + 1500
    assert around.first_tiles(128, 128.0, 24, narrow) == 0
    assert RowBlocks(after_norm=384).first_tiles(128, 64.0, 24, wide) == 5


def test_pieces():
    config = load_config("minilm")
    assert piece_rows(128, 384, config) == 32
    assert piece_rows(8, 16, config) == 8
    assert piece_columns(128, 1536, config) == 192
    assert piece_columns(4, 20, config) == 32


def test_probabilities_over_scores(model):
    (softmax,) = [n for n in model.graph.nodes if isinstance(n, Softmax)]
    productions = model.program.productions
    scores, result = productions[softmax.inputs[0]], productions[softmax.output]
    assert scores.mem == result.mem == Mem.ACT
    assert np.array_equal(scores.positions, result.positions)


def test_idle_cycles_add_up(model, run):
    idle = array_idle(model.program, run.timeline, cycles=run.cycles)
    fed = run.counters["array_rows"]
    assert sum(idle.values()) == run.cycles - fed
    assert min(idle.values()) >= 0
    assert idle["start"] == min(s.start for s in run.timeline if s.op is Op.MATMUL)


def test_slow_memory_is_the_cause(model):
    slow = dataclasses.replace(model.config, bus_bytes=2)
    from intformer.compiler.backend import build_program
    from intformer.sim.iss.timing import TimingParameters

    program = build_program(model.graph, slow)
    zeros = {t.name: np.zeros(t.shape, t.dtype) for t in program.inputs}
    causes = []
    for overhead in (0, 30):
        run = Iss(program, timing=TimingParameters(burst_overhead=overhead)).run(zeros)
        causes.append(array_idle(program, run.timeline, cycles=run.cycles).get("weights", 0))
    assert causes[1] > 5 * causes[0]


def test_busy_by_unit(model, run):
    table = busy_by_unit(run.timeline)
    norm = next(n for n in model.graph.nodes if isinstance(n, LayerNorm))
    assert table[layers_merged(norm.name)]["ROW"] > 0
    matmul = sum(row["MATMUL"] for row in table.values())
    assert matmul == run.counters["matmul_busy"]
    assert {unit.name for unit in Unit} == set(next(iter(table.values())))


def test_layers_merged():
    assert layers_merged("encoder.layer.11.output.dense/linear_35") == (
        "encoder.layer.*.output.dense/linear"
    )


def test_short_and_long_products_alternate(model):
    """The order is the scheduler's own, not that of the drafts, which it falls back to."""
    nodes = [s.node for s in model.program.steps if s.instruction.op is Op.MATMUL]
    changes = sum(a != b for a, b in pairwise(nodes))
    assert changes > len(set(nodes)) - 1


def buffers(*lives):
    return [Buffer(str(i), Mem.ACT, words, a, b) for i, (words, a, b) in enumerate(lives)]


def test_dead_buffers_are_left_alone_as_long_as_they_fit():
    mine = buffers((10, 0, 1), (10, 2, 3), (10, 4, 5), (10, 6, 7))
    room = dataclasses.replace(TINY, act_words=20)
    allocate(mine, room)
    for a in mine:
        for b in mine:
            if a is not b and abs(a.first - b.first) <= 2:
                assert a.base != b.base
    assert [b.last for b in mine] == [1, 3, 5, 7]


def test_constants_join():
    rng = np.random.default_rng(0)
    build = GraphBuilder()
    x = build.input("x", (1, 3, 4))
    for number, shape in enumerate([(3, 4), (4,), (1, 3, 4)]):
        constant = build.const(rng.standard_normal(shape), f"c{number}")
        x = build.node(Add, f"sum{number}", [x, constant], (1, 3, 4), factors=(2.0, -0.5))
    build.graph.outputs.append(x)
    canonical = canonicalize(build.graph)
    assert [type(n) for n in canonical.nodes] == [Add]
    value = rng.standard_normal((1, 3, 4)).astype(np.float32)
    want = evaluate(build.graph, {"x": value})[build.graph.outputs[0]]
    got = evaluate(canonical, {"x": value})[canonical.outputs[0]]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_constants_that_others_read_stay():
    build = GraphBuilder()
    x = build.input("x", (2, 4))
    inner = build.node(Add, "inner", [x, build.const(np.ones(4))], (2, 4))
    outer = build.node(Add, "outer", [inner, build.const(np.ones(4))], (2, 4))
    build.graph.outputs += [inner, outer]
    assert len(canonicalize(build.graph).nodes) == 2
