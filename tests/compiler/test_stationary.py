"""The range of stationary operands: clipped by the quantizer, checked by the back end."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import GraphBuilder, random_inputs

from intformer.compiler.backend import build_program
from intformer.compiler.integer_graph import IntGraph, MatMul, execute
from intformer.compiler.quantize.scales import Coding, function_table
from intformer.compiler.stationary import check_stationary, clip_stationary
from intformer.config import CoreConfig
from intformer.errors import ConfigError, UserError

PACKED = CoreConfig(name="packed", rows=4, cols=4, lanes=2, array="dsp_packed")
PLAIN = CoreConfig(name="plain", rows=4, cols=4, lanes=2)


def computed(*, table: bool = False, view: bool = True) -> IntGraph:
    """A product whose stationary operand is computed, and can be -128."""
    b = GraphBuilder(3)
    x = b.input((4, 6))
    k = b.linear(x, 6, table=table)
    maker = b.graph.nodes[-1]
    assert isinstance(maker, MatMul)
    maker.post.lo = -128
    if table:
        maker.post.table = np.full(256, -128, np.int8)
    return b.finish(b.product(x, b.view("slice", [[0, 3, 1], [0, 6, 1]], k) if view else k))


def from_input() -> IntGraph:
    b = GraphBuilder(4)
    x, y = b.input((4, 6)), b.input((5, 6))
    return b.finish(b.product(x, y))


@pytest.mark.parametrize("graph", [computed(), computed(table=True), from_input()])
def test_a_code_of_minus_128_is_refused_and_names_the_layer(graph: IntGraph) -> None:
    product = graph.nodes[-1].name
    build_program(graph, PLAIN)
    with pytest.raises(UserError, match=f"^{product}: its operand .* can hold -128"):
        build_program(graph, PACKED)


@pytest.mark.parametrize("make", [computed, from_input])
def test_clipping_makes_it_legal(make) -> None:
    graph = make()
    clip_stationary(graph)
    check_stationary(graph, -127)
    build_program(graph, PACKED)
    values = execute(
        graph, {name: np.full_like(a, -128) for name, a in random_inputs(graph, 1).items()}
    )
    product = graph.nodes[-1]
    assert values[product.inputs[1]].min() >= -127


def test_a_table_is_clipped_too() -> None:
    graph = computed(table=True)
    clip_stationary(graph)
    maker = graph.nodes[0]
    assert isinstance(maker, MatMul)
    assert maker.post.table is not None
    assert maker.post.table.dtype == np.int8
    assert maker.post.table.min() == -127


def test_a_static_weight_of_minus_128_is_refused() -> None:
    b = GraphBuilder(5)
    graph = b.finish(b.linear(b.input((3, 6)), 4))
    weights = graph.tensors[graph.nodes[0].inputs[1]]
    check_stationary(graph, -127)
    weights.const[2, 3] = -128
    with pytest.raises(
        UserError, match=f"^{graph.nodes[0].name}: .*{weights.name}.* can hold -128"
    ):
        build_program(graph, PACKED)


def test_an_odd_number_of_columns_cannot_be_packed() -> None:
    with pytest.raises(ConfigError, match="cols must be even with array dsp_packed, not 5"):
        CoreConfig(name="odd", rows=4, cols=5, lanes=1, array="dsp_packed")


def test_a_function_is_clipped_too() -> None:
    graph = computed()
    maker = graph.nodes[0]
    assert isinstance(maker, MatMul)
    maker.post.hi = 32767
    maker.post.function = function_table("gelu", 1.0, Coding("int16", 1e-3), Coding("int8", 0.1))
    with pytest.raises(UserError, match="can hold -128"):
        check_stationary(graph, -127)
    clip_stationary(graph)
    check_stationary(graph, -127)
    assert maker.post.function.lo == -127
