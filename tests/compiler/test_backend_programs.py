"""Compiled graphs on the instruction-level simulator: every tensor equals the reference."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
from graphs import GraphBuilder, random_inputs

from intformer.compiler.backend import build_program
from intformer.compiler.integer_graph import IntGraph, execute
from intformer.config import CoreConfig
from intformer.errors import DoesNotFit, UserError
from intformer.isa import Op, Unit
from intformer.program import Program
from intformer.sim.iss.simulator import Iss, SimulationError
from intformer.sim.iss.timing import TimingParameters
from intformer.sim.verify import check

TINY = CoreConfig(name="tiny", rows=4, cols=4, lanes=2, act_words=8192, wide_words=8192)
ODD = CoreConfig(
    name="odd", rows=12, cols=6, lanes=2, bus_bytes=2, act_words=4096, wide_words=8192, acc_depth=32
)
WIDE = CoreConfig(name="wide", rows=16, cols=8, lanes=4, act_words=4096, wide_words=8192)
CONFIGS = (TINY, ODD, WIDE)


def run(graph: IntGraph, config: CoreConfig, seed: int = 0) -> Program:
    """Compile, run, compare everything; return the program."""
    program = build_program(graph, config)
    inputs = random_inputs(graph, seed)
    check(program, execute(graph, inputs), Iss(program, seed=seed).run(inputs)).raise_if_different()
    return program


def ops(program: Program, op: Op) -> int:
    return sum(step.instruction.op is op for step in program.steps)


def linear(b: GraphBuilder, t: int, k: int, n: int, **kw) -> IntGraph:
    return b.finish(b.linear(b.input((t, k)), n, **kw))


def attention(b: GraphBuilder, t: int, d: int, heads: int, **kw) -> IntGraph:
    x = b.input((t, d))
    q, k, v = (b.linear(x, d) for _ in range(3))
    return b.finish(b.attention(q, k, v, heads, **kw))


def batched_attention(b: GraphBuilder, batch: int, t: int, heads: int, dh: int) -> IntGraph:
    x = b.input((batch, t, heads * dh))

    def split(name: str) -> str:
        name = b.view("reshape", (batch, t, heads, dh), name)
        return b.view("permute", (0, 2, 1, 3), name)

    q, k, v = (split(b.linear(x, heads * dh)) for _ in range(3))
    p = b.softmax(b.product(q, k), causal=True)
    y = b.product(p, b.view("permute", (0, 1, 3, 2), v))
    y = b.view("permute", (0, 2, 1, 3), y)
    y = b.view("reshape", (batch, t, heads * dh), y)
    return b.finish(b.linear(y, heads * dh, dtype="int16"))


def class_token(b: GraphBuilder) -> IntGraph:
    """Patches and a class token, positions added, the class token's row taken out."""
    x = b.input((2, 5, 7))
    patches = b.linear(x, 10, dtype="int16")
    token = b.view("expand", (2, 1, 10), b.const((1, 1, 10), "int16", limit=9999))
    both = b.view("cat", 1, token, patches)
    y = b.pointwise(both, dtype="int16", residual=None)
    b.residual(b.graph.nodes[-1].post, b.const((1, 6, 10), "int16", limit=9999), "int16")
    first = b.view("slice", [[0, 2, 1], [0, 1, 1], [0, 10, 1]], b.layernorm(y))
    return b.finish(b.linear(b.view("reshape", (2, 10), first), 3))


def masked(b: GraphBuilder) -> IntGraph:
    x = b.input((2, 3, 4, 9))
    return b.finish(b.softmax(x, mask=b.input((2, 1, 1, 9), "uint8"), causal=True))


def shared_residual(b: GraphBuilder) -> IntGraph:
    x = b.input((3, 4, 6), "int8")
    y = b.linear(x, 6, dtype="int16")
    b.residual(b.graph.nodes[-1].post, b.const((4, 6), "int16", limit=9999), "int16")
    return b.finish(y)


def heads_in_other_order(b: GraphBuilder) -> IntGraph:
    """A view and the tensor itself are both read, so that no home can serve both."""
    x = b.linear(b.input((6, 10)), 10)
    turned = b.view("permute", (1, 0), x)
    return b.finish(b.linear(turned, 5), b.linear(x, 4), turned)


def constant_only(b: GraphBuilder) -> IntGraph:
    return b.finish(
        b.pointwise(b.const((3, 5), "int16", limit=30000), residual=None), b.input((3,))
    )


def gather_2d(b: GraphBuilder) -> IntGraph:
    ids = b.input((3, 5), "int16")
    x = b.gather(ids, b.const((11, 9), "int8"))
    y = b.gather(ids, b.const((11, 9), "int16"))
    both = b.view("cat", 1, b.gather(ids, b.const((11, 9), "int16")), y)
    return b.finish(b.linear(x, 4), b.layernorm(both))


def keys_from_two_places(b: GraphBuilder) -> IntGraph:
    """Keys that no single stride reaches, and an embedding whose rows are picked apart."""
    q, x = b.input((3, 8)), b.linear(b.input((5, 8)), 8)
    keys = b.view("cat", 0, x, b.view("slice", [[0, 5, 2], [0, 8, 1]], x), q)
    table = b.const((9, 8))
    rows = b.gather(b.input((7,), "int16"), table)
    odd = b.view("slice", [[1, 7, 2], [0, 8, 1]], rows)
    even = b.view("slice", [[0, 7, 2], [0, 8, 1]], rows)
    mixed = b.view("cat", 0, odd, even, q)
    return b.finish(b.product(q, keys), b.product(q, mixed))


def two_tables(b: GraphBuilder) -> IntGraph:
    x = b.input((4, 6))
    for _ in range(5):
        x = b.linear(x, 6, table=True)
    return b.finish(x)


GRAPHS = {
    "linear": lambda b: linear(b, 5, 7, 6),
    "linear_one_token": lambda b: linear(b, 1, 33, 17, dtype="int16"),
    "linear_one_output": lambda b: linear(b, 3, 5, 1),
    "linear_int4": lambda b: linear(b, 9, 21, 13, bits=4),
    "linear_row_chunks": lambda b: linear(b, 71, 13, 9),
    "heads_of_5": lambda b: attention(b, 7, 10, 2),
    "heads_of_8": lambda b: attention(b, 9, 16, 2),
    "heads_of_12": lambda b: attention(b, 13, 36, 3, causal=True),
    "heads_of_16": lambda b: attention(b, 17, 32, 2),
    "one_token_attention": lambda b: attention(b, 1, 8, 2),
    "attention_row_chunks": lambda b: attention(b, 37, 12, 1),
    "batched_attention": lambda b: batched_attention(b, 2, 5, 2, 6),
    "class_token": class_token,
    "masked": masked,
    "shared_residual": shared_residual,
    "heads_in_other_order": heads_in_other_order,
    "gather_2d": gather_2d,
    "keys_from_two_places": keys_from_two_places,
    "two_tables": two_tables,
}


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: c.name)
@pytest.mark.parametrize("name", GRAPHS)
def test_equals_reference(name, config):
    run(GRAPHS[name](GraphBuilder(1)), config)


@pytest.mark.parametrize("depth", [1, 2, 9])
def test_queue_depths(depth):
    run(attention(GraphBuilder(2), 11, 24, 3), dataclasses.replace(WIDE, queue_depth=depth))


def test_same_graph_same_image():
    a, b = (build_program(attention(GraphBuilder(3), 5, 12, 2), TINY) for _ in range(2))
    assert a.steps == b.steps
    np.testing.assert_array_equal(a.image, b.image)


# Homes and copies


def test_heads_of_whole_words_need_no_copy_but_v():
    program = run(attention(GraphBuilder(4), 8, 32, 2), WIDE)
    moved = {s.tensor for s in program.steps if s.instruction.op is Op.MOVE}
    assert len(moved) == 1


def test_cat_along_rows_needs_no_copy():
    b = GraphBuilder(5)
    x = b.input((4, 8))
    both = b.view("cat", 0, b.linear(x, 8), b.linear(x, 8))
    assert ops(run(b.finish(b.linear(both, 4)), TINY), Op.MOVE) == 0


def test_weights_of_equal_contents_are_stored_once():
    b = GraphBuilder(6)
    x, w = b.input((3, 16)), b.const((16, 16))
    y = b._matmul(x, w, 16, 9e4, "int8")
    graph = b.finish(b._matmul(y, w, 16, 9e4, "int8"))
    program = run(graph, WIDE)
    assert sum(region.name.endswith(".weights") for region in program.regions) == 1


# Capacity


def chain(layers: int) -> IntGraph:
    b = GraphBuilder(7)
    x = b.input((8, 16))
    for _ in range(layers):
        x = b.pointwise(b.linear(x, 16, dtype="int16"))
    return b.finish(x)


def test_memory_is_reused():
    config = dataclasses.replace(TINY, act_words=80, wide_words=160, param_groups=20)
    program = run(chain(6), config)
    assert program.meta["used"]["act_words"] <= 80


@pytest.mark.parametrize(
    ("parameter", "small", "memory"),
    [
        ("act_words", 16, "act scratchpad"),
        ("wide_words", 32, "wide scratchpad"),
    ],
)
def test_does_not_fit_names_parameter_and_need(parameter, small, memory):
    with pytest.raises(DoesNotFit, match=memory) as error:
        build_program(chain(3), dataclasses.replace(TINY, **{parameter: small}))
    (need,) = re.findall(rf"raise {parameter} to at least (\d+)", str(error.value))
    run(chain(3), dataclasses.replace(TINY, **{parameter: int(need)}))


def test_long_rows_name_row_max():
    b = GraphBuilder(8)
    graph = b.finish(b.layernorm(b.input((2, 40), "int16")))
    with pytest.raises(DoesNotFit, match="row_max to at least 40"):
        build_program(graph, dataclasses.replace(TINY, row_max=32))


def test_parameters_of_wide_layers_come_in_blocks():
    b = GraphBuilder(9)
    graph = b.finish(b.linear(b.input((40, 5)), 90))
    run(graph, dataclasses.replace(TINY, param_groups=16, acc_depth=32))


def test_long_norm_names_param_groups():
    b = GraphBuilder(10)
    graph = b.finish(b.layernorm(b.input((2, 40), "int16")))
    with pytest.raises(DoesNotFit, match="param_groups to at least 20"):
        build_program(graph, dataclasses.replace(TINY, param_groups=16))


def test_unsigned_element_wise_operand_is_refused():
    b = GraphBuilder(11)
    p = b.softmax(b.input((2, 8)))
    b.add(type(b.graph.nodes[0]), [p], (2, 8), "uint8", exp_table=b.graph.nodes[0].exp_table)
    with pytest.raises(UserError, match="must be int8"):
        build_program(b.finish(b.graph.nodes[-1].output), TINY)


# Tokens


def without_token(program: Program, index: int, producer: Unit) -> Program:
    """The program with one pop, and the push that feeds it, taken away."""
    steps = list(program.steps)
    consumer = steps[index].instruction.op.unit
    order = [
        i
        for i, s in enumerate(steps)
        if s.instruction.op.unit == consumer and s.instruction.pop >> producer & 1
    ].index(index)
    push = [
        i
        for i, s in enumerate(steps)
        if s.instruction.op.unit == producer and s.instruction.push >> consumer & 1
    ][order]
    image = program.image.copy()
    for i, field, bit in ((index, "pop", producer), (push, "push", consumer)):
        ins = steps[i].instruction
        ins = dataclasses.replace(ins, **{field: getattr(ins, field) & ~(1 << bit)})
        steps[i] = dataclasses.replace(steps[i], instruction=ins)
        start = program.entry + 32 * i
        image[start : start + 32] = np.frombuffer(ins.encode(), np.uint8)
    return dataclasses.replace(program, steps=steps, image=image)


def test_no_token_is_idle():
    """Without any one token, most programs differ, on a fast memory or a slow one."""
    graph = attention(GraphBuilder(12), 9, 16, 2)
    program = build_program(graph, WIDE)
    inputs = random_inputs(graph, 0)
    values = execute(graph, inputs)
    caught = total = 0
    for index, step in enumerate(program.steps):
        for producer in Unit:
            if not step.instruction.pop >> producer & 1:
                continue
            total += 1
            broken = without_token(program, index, producer)
            caught += any(differs(broken, values, inputs, latency) for latency in (8, 100))
    assert total > 10
    assert caught >= total // 2


def differs(program, values, inputs, latency):
    """Whether a run with this latency of the memory fails or has another result."""
    timing = TimingParameters(memory_latency=latency)
    try:
        return not check(program, values, Iss(program, timing=timing).run(inputs)).ok
    except SimulationError:
        return True
