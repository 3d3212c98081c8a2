"""Functions of int16 codes, weights in groups, scales of rows: reference == simulator == RTL.

And what a core without the hardware for them answers.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import pytest
from graphs import CONFIGS, GraphBuilder, random_inputs

from intformer import reference
from intformer.compiler.backend import build_program
from intformer.compiler.integer_graph import IntGraph, MatMul, PostParams, execute
from intformer.compiler.stationary import clip_stationary
from intformer.config import CoreConfig
from intformer.errors import ConfigError, DoesNotFit, UserError
from intformer.function_layout import pack_function, unpack_function
from intformer.hw.units.functions import Coding, find_function, quadratic_coefficients
from intformer.isa import Mem, Op
from intformer.sim.iss.machine import SimulationError
from intformer.sim.iss.simulator import Iss
from intformer.sim.verify import check as check_run
from intformer.sim.verify import verify_levels

CORES = (
    dataclasses.replace(CONFIGS[0], name="r4c4f", functions=1, group_scales=True, row_scales=64),
    dataclasses.replace(
        CONFIGS[1],
        name="r8c4pf",
        functions=2,
        group_scales=True,
        row_scales=300,
        multipliers="luts",
    ),
)
CORE_NAMES = [core.name for core in CORES]


@functools.cache
def table(function: str, y_type: str = "int16") -> reference.QuadraticTable:
    x, y = Coding("int16", 2**-11), Coding(y_type, 2**-11 if y_type == "int16" else 2**-4)
    return quadratic_coefficients(find_function(function), x, y)


def with_function(b: GraphBuilder, name: str, function: reference.QuadraticTable) -> str:
    """Let the node that writes ``name`` end in a function."""
    (node,) = (node for node in b.graph.nodes if node.output == name)
    post: PostParams = node.post
    post.lo, post.hi, post.function = -32768, 32767, function
    return name


def grouped(b: GraphBuilder, x: str, n: int, *, group: int, **kw: Any) -> str:
    """A product with weights in groups; its sums fit."""
    name = b.linear(x, n, **kw)
    node = b.graph.nodes[-1]
    assert isinstance(node, MatMul)
    node.group = group
    shape = (n, b.shape(x)[-1] // group)
    node.group_scales = b.rng.integers(0, 256, shape).astype(np.uint8)
    node.post.shift = np.minimum(node.post.shift + 7, 47)
    node.post.bias = np.asarray(node.post.bias) * 128
    return name


def _gelu(b: GraphBuilder) -> IntGraph:
    """A feed-forward block whose GELU goes from int16 to int8, and one from int16 to int16."""
    x = b.input((5, 12))
    hidden = with_function(b, b.linear(x, 20, dtype="int16"), table("gelu"))
    narrow = with_function(b, b.linear(x, 18), table("gelu", "int8"))
    return b.finish(b.pointwise(hidden), b.linear(narrow, 12, dtype="int16", residual=x))


def _two_functions(b: GraphBuilder) -> IntGraph:
    """More functions than one core holds: they are loaded in turn; one has breaks."""
    x = b.input((4, 10), "int16")
    y = with_function(b, b.pointwise(x, dtype="int16"), table("hard_swish"))
    z = with_function(b, b.pointwise(y, dtype="int16", residual=x), table("gelu"))
    return b.finish(with_function(b, b.pointwise(z, dtype="int16"), table("hard_swish")), y)


def _grouped(b: GraphBuilder) -> IntGraph:
    """Groups of one and of several words, int4 and int8, beside plain products."""
    x = b.input((9, 32))
    y = grouped(b, x, 10, group=8, bits=4)
    z = grouped(b, x, 16, group=32, bits=8, dtype="int16")
    u = grouped(b, x, 7, group=16, bits=4)
    return b.finish(b.linear(y, 6), b.linear(u, 16, dtype="int16", residual=z))


def _grouped_attention(b: GraphBuilder) -> IntGraph:
    x = b.input((6, 16))
    q, k, v = (grouped(b, x, 8, group=8, bits=4) for _ in range(3))
    return b.finish(grouped(b, b.attention(q, k, v, 2), 12, group=8, bits=4))


def _one_token(b: GraphBuilder) -> IntGraph:
    """Tiles that follow each other as fast as they can."""
    x = b.input((1, 64))
    return b.finish(grouped(b, x, 24, group=8, bits=4), grouped(b, x, 12, group=16))


def _row_scaled(b: GraphBuilder) -> IntGraph:
    """Rows of all magnitudes; one RowScale serves two products."""
    rows = b.const((16, 22), "int16", limit=32767)
    b.graph.tensors[rows].const >>= np.arange(16, dtype=np.int16)[:, None]
    x = b.gather(b.input((9,), "int16"), rows)
    y = b.linear(x, 10, scaled=True, dtype="int16")
    codes, factor = b.row_scale(x)
    made = []
    for n, table in ((6, True), (13, False)):
        made.append(b.linear(codes, n, table=table))
        b.graph.nodes[-1].post.factor = factor
    z = b.linear(y, 10, scaled=True, residual=y, dtype="int16")
    return b.finish(*made, z, b.linear(made[1], 4), codes, factor)


def _row_scaled_block(b: GraphBuilder) -> IntGraph:
    """An encoder's block with batches: everything that can be beside scales of rows."""
    x = b.input((2, 7, 16), "int16")
    h = with_function(
        b, b.linear(b.layernorm(x, dtype="int16"), 24, dtype="int16", scaled=True), table("gelu")
    )
    y = b.linear(h, 16, dtype="int16", scaled=True, residual=x)
    z = b.linear(b.layernorm(y), 8)
    k, factor = b.row_scale(b.layernorm(y, dtype="int16"))
    u = grouped(b, k, 8, group=8, bits=4, dtype="int16")
    b.graph.nodes[-1].post.factor = factor
    b.graph.nodes[-1].post.shift = np.minimum(b.graph.nodes[-1].post.shift + 2, 47)
    return b.finish(b.pointwise(u, residual=z), y)


def _zero_rows(b: GraphBuilder) -> IntGraph:
    """Rows of nothing, and rows of one element."""
    x = b.input((5, 1), "int16")
    low = b.pointwise(x, dtype="int16")
    b.graph.nodes[-1].post.lo = b.graph.nodes[-1].post.zero_point = 0
    b.graph.nodes[-1].post.bias = np.zeros(1, np.int64)
    return b.finish(b.linear(low, 9, scaled=True), b.linear(x, 8, scaled=True, dtype="int16"))


GRAPHS = {
    "gelu": _gelu,
    "two_functions": _two_functions,
    "grouped": _grouped,
    "grouped_attention": _grouped_attention,
    "one_token": _one_token,
    "row_scaled": _row_scaled,
    "row_scaled_block": _row_scaled_block,
    "zero_rows": _zero_rows,
}


def check(name: str, core: CoreConfig, *, rtl: bool = False) -> None:
    graph = GRAPHS[name](GraphBuilder(3))
    if core.weight_min == -127:
        clip_stationary(graph)
    inputs = random_inputs(graph, 4)
    values = execute(graph, inputs)
    for tensor in graph.outputs:
        assert np.unique(values[tensor]).size > 4, f"{tensor} has hardly any values"
    program = build_program(graph, core)
    results = {"iss": Iss(program, seed=5).run(inputs)}
    if rtl:
        results["rtl"] = _simulator(core).run(program, [inputs])[0]
        assert abs(results["iss"].cycles / results["rtl"].cycles - 1) < 0.1
        for counter in ("array_rows", "read_beats", "write_beats"):
            assert results["iss"].counters[counter] == results["rtl"].counters[counter]
    for report in verify_levels(program, values, results).values():
        report.raise_if_different()
    for tensor in graph.outputs:
        np.testing.assert_array_equal(results["iss"].outputs[tensor], values[tensor])


@functools.cache
def _simulator(core: CoreConfig):
    from intformer.sim.rtl import RtlSimulator

    return RtlSimulator(core)


@pytest.mark.parametrize("core", CORES, ids=CORE_NAMES)
@pytest.mark.parametrize("name", GRAPHS)
def test_on_iss(name: str, core: CoreConfig) -> None:
    check(name, core)


@pytest.mark.rtl
@pytest.mark.parametrize("core", CORES, ids=CORE_NAMES)
@pytest.mark.parametrize("name", GRAPHS)
def test_on_rtl(name: str, core: CoreConfig) -> None:
    check(name, core, rtl=True)


def test_a_table_is_loaded_once() -> None:
    """Two nodes with the same function share a table; a third one takes its place."""
    b = GraphBuilder(1)
    x = b.input((3, 8), "int16")
    for _ in range(3):
        x = with_function(b, b.pointwise(x, dtype="int16"), table("gelu"))
    x = with_function(b, b.pointwise(x, dtype="int16"), table("hard_swish"))
    program = build_program(b.finish(x), CORES[0])
    loads = [s.instruction for s in program.steps if s.instruction.op is Op.LOAD]
    assert [load["count"] for load in loads if load["mem"] == Mem.FUNCTION] == [514, 514]


@pytest.mark.parametrize("function", ["gelu", "hard_swish"])
def test_layout_round_trip(function: str) -> None:
    made = dataclasses.replace(table(function), lo=-127, hi=300)
    found = unpack_function(np.frombuffer(pack_function(made), "<u8"))
    for field in dataclasses.fields(made):
        expected = getattr(made, field.name)
        np.testing.assert_array_equal(getattr(found, field.name), expected)


def test_scales_of_a_group_come_before_its_tiles() -> None:
    b = GraphBuilder(2)
    grouped(b, b.input((9, 32)), 6, group=8, bits=4)
    program = build_program(b.finish(b.graph.nodes[-1].output), CORES[0])
    (fetch, *_) = (s.instruction for s in program.steps if s.instruction.op is Op.FETCH_STREAM)
    # Two tiles of columns, four groups of two words each.
    assert (fetch["scales"], fetch["group_tiles"], fetch["columns"]) == (8, 2, 64)
    stored = program.image[fetch["ext"] :][:4]
    assert stored.tolist() == b.graph.nodes[-1].group_scales[:4, 0].tolist()


def _refused(graph: IntGraph, core: CoreConfig, message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_program(graph, core)


def test_a_core_without_scales_refuses_groups() -> None:
    graph = _grouped(GraphBuilder(0))
    _refused(graph, CONFIGS[0], "n0: weights in groups of 8, but the core 'r4c4' has no scales")


def test_groups_must_be_whole_words() -> None:
    b = GraphBuilder(0)
    graph = b.finish(grouped(b, b.input((2, 12)), 4, group=6))
    _refused(graph, CORES[0], r"n0: groups must be a multiple of the array's rows \(4\)")


def test_computed_operands_have_no_groups() -> None:
    b = GraphBuilder(0)
    graph = b.finish(b.product(b.input((4, 8)), b.input((4, 8))))
    node = graph.nodes[0]
    node.group, node.group_scales = 8, np.ones((4, 1), np.uint8)
    _refused(graph, CORES[0], "n0: only constant weights can have groups")


def test_scales_of_another_shape_are_refused() -> None:
    b = GraphBuilder(0)
    graph = b.finish(grouped(b, b.input((2, 16)), 4, group=8))
    graph.nodes[0].group_scales = np.ones((4, 3), np.uint8)
    _refused(graph, CORES[0], "n0: group_scales")


def test_a_core_without_functions_refuses_them() -> None:
    _refused(_gelu(GraphBuilder(0)), CONFIGS[0], "n0: a function of int16 codes, but the core")


def test_a_core_without_row_scales_refuses_them() -> None:
    _refused(
        _row_scaled(GraphBuilder(0)), CONFIGS[0], "cannot find them; set row_scales to at least 22"
    )


def test_longer_rows_than_the_core_takes_are_refused() -> None:
    graph = _row_scaled(GraphBuilder(0))
    with pytest.raises(DoesNotFit, match=r"n1: .* raise row_scales to at least 22"):
        build_program(graph, dataclasses.replace(CORES[0], row_scales=20))


def test_factors_are_checked() -> None:
    b = GraphBuilder(0)
    x = b.input((3, 8), "int16")
    name = b.linear(x, 4, scaled=True)
    post, graph = b.graph.nodes[-1].post, b.finish(name)
    factor = post.factor
    post.factor = x
    _refused(graph, CORES[0], r"n1: factors 't0' must be int16 \(3, 1\), not int16 \(3, 8\)")
    post.factor = factor
    graph.tensors[factor].dtype = "int8"
    _refused(graph, CORES[0], "n0: rows of int16 to int8 with factors of int8; only")


def test_factors_need_row_scales() -> None:
    """Those of an input, too, which no ROWSCALE makes."""
    b = GraphBuilder(0)
    name = b.linear(b.input((3, 8)), 4)
    b.graph.nodes[-1].post.factor = b.input((3, 1), "int16")
    graph = b.finish(name)
    _refused(
        graph, CONFIGS[0], "n0: rows with factors, but the core 'r4c4' cannot multiply by them"
    )
    inputs = random_inputs(graph, 1)
    program = build_program(graph, CORES[0])
    report = verify_levels(program, execute(graph, inputs), {"iss": Iss(program).run(inputs)})
    assert report["iss"].ok, str(report["iss"])


def test_a_wrong_factor_is_found() -> None:
    """Both tensors of a ROWSCALE are compared, and what it writes elsewhere is told."""
    b = GraphBuilder(0)
    codes, factor = b.row_scale(b.input((3, 8), "int16"))
    graph = b.finish(codes, factor)
    inputs = random_inputs(graph, 1)
    program = build_program(graph, CORES[0])
    values = execute(graph, inputs)
    (step,) = (i for i, s in enumerate(program.steps) if s.instruction.op is Op.ROWSCALE)
    for mem, tensor in ((Mem.ACT, codes), (Mem.WIDE, factor)):
        for field in ("value", "position"):
            result = Iss(program).run(inputs)
            at = np.flatnonzero((result.log.step == step) & (result.log.mem == mem))[-1]
            getattr(result.log, field)[at] ^= 1
            report = check_run(program, values, result)
            assert set(report.counts) == {tensor}, (mem, field, report.counts)


def test_operations_that_the_core_lacks_are_refused() -> None:
    b = GraphBuilder(0)
    graph = b.finish(*b.row_scale(b.input((3, 8), "int16")))
    program = build_program(graph, CORES[0])
    lesser = dataclasses.replace(CORES[0], row_scales=0)
    program = dataclasses.replace(program, config=lesser)
    with pytest.raises(SimulationError, match="the core 'r4c4f' has no ROWSCALE"):
        Iss(program).run(random_inputs(graph, 1))


def test_what_is_stored_has_no_factors() -> None:
    b = GraphBuilder(0)
    _, factor = b.row_scale(b.input((3, 8), "int16"))
    name = b.pointwise(b.graph.inputs[0])
    b.graph.nodes[-1].post.factor = factor
    _refused(b.finish(name), CORES[0], "n1: only the rows of a product can have factors")


def test_a_function_must_fit_its_tensor() -> None:
    b = GraphBuilder(0)
    graph = b.finish(with_function(b, b.linear(b.input((2, 8)), 4), table("gelu")))
    _refused(graph, CORES[0], "n0: a function with results -32768..32767 for a tensor of int8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"functions": 5}, "functions must be from 0 to 4"),
        ({"functions": True}, "functions must be an integer"),
        ({"row_scales": 5}, "row_scales must be 0, or from 8 to 2048, not 5"),
        ({"group_scales": 1}, "group_scales must be true or false"),
        ({"group_scales": True, "rows": 2}, r"cols of at most rows \(2\)"),
    ],
)
def test_config(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(CONFIGS[0], **change)


@pytest.mark.parametrize("change", [{"functions": 1}, {"group_scales": True}, {"row_scales": 8}])
def test_serial_cores_have_none(change: dict[str, Any]) -> None:
    serial = CoreConfig(
        name="s", rows=4, cols=4, lanes=1, bus_bytes=1, structure="serial",
        acc_depth=128, param_groups=64, row_max=64,
    )  # fmt: skip
    (name,) = change
    with pytest.raises(ConfigError, match=f"{name} of a serial core must be"):
        dataclasses.replace(serial, **change)


def test_units_that_are_off_are_not_written() -> None:
    assert "functions" not in CONFIGS[0].to_dict()
    data = CORES[0].to_dict()
    assert (data["functions"], data["group_scales"]) == (1, True)
    assert CoreConfig.from_dict(data) == CORES[0]
