"""Rows of codes with scales of their own: the token scheme."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import op_models
import pytest
from conv_models import load_case
from test_quantize_schemes import WIDTH, block, error, masked_samples, samples

from intformer import reference
from intformer.compiler import graph as fg
from intformer.compiler import integer_graph as ig
from intformer.compiler import integer_graph_io
from intformer.compiler.float_eval import evaluate
from intformer.compiler.quantize import Quantizer, quantize, quantize_inputs
from intformer.compiler.quantize.data import random_inputs
from intformer.compiler.quantize.settings import WEIGHTS
from intformer.compiler.quantize.smoothing import search
from intformer.compiler.quantize.token_rows import largest_sums
from intformer.errors import UnsupportedModel

STATIC = {"operand": "int8", "scales": "static"}


def token(model: fg.Graph, data: Any, weights: str = "int8", **changes: Any) -> ig.IntGraph:
    """The token scheme with ``changes`` everywhere."""
    overrides = {"*": changes} if changes else None
    return quantize(model, data, weights=weights, activations="token", overrides=overrides)


def with_outlier_rows(count: int, *, seed: int) -> dict[str, Any]:
    """Samples of which every third token is 40 times as large."""
    data = samples(count, seed=seed)
    data["x"][:, :, ::3] *= 40.0
    return data


def linear_stack(*, weight: float = 1.0) -> fg.Graph:
    """Two linear layers on one input, one of them behind a ReLU and another layer."""
    rng = np.random.default_rng(4)
    b = fg.GraphBuilder()
    x = b.input("x", (1, 6, WIDTH))

    def linear(value: str, name: str) -> str:
        b.source = f"{name} model.py:1"
        w = b.const(rng.normal(size=(WIDTH, WIDTH)) * weight / np.sqrt(WIDTH), f"{name}.weight")
        return b.matmul(value, w, bias=rng.normal(size=WIDTH) * 0.1 * weight, name=name)

    first = linear(x, "first")
    hidden = b.node(fg.Activation, "relu", [first], b.shape(first), kind="relu")
    b.graph.outputs = [linear(hidden, "second"), linear(x, "third")]
    return b.graph


def row_scales(graph: ig.IntGraph) -> list[ig.RowScale]:
    return [node for node in graph.nodes if isinstance(node, ig.RowScale)]


def products(graph: ig.IntGraph) -> dict[str, ig.MatMul]:
    return {node.output: node for node in graph.nodes if isinstance(node, ig.MatMul)}


def test_structure() -> None:
    graph = token(block(outlier=30.0, masked=True), masked_samples(16, 6))
    makers = {name: node for node in graph.nodes for name in node.outputs}
    static = [n for n in products(graph).values() if graph.tensors[n.inputs[1]].const is not None]
    assert len(static) == 5
    for node in static:
        rows = makers[node.inputs[0]]
        assert isinstance(rows, ig.RowScale)
        assert node.post.factor == rows.factor
        codes, factors = graph.tensors[rows.output], graph.tensors[rows.factor]
        assert (codes.dtype, codes.zero_point, factors.dtype) == ("int8", 0, "int16")
        assert factors.shape == (*codes.shape[:-1], 1)
        wide = graph.tensors[rows.inputs[0]]
        assert (wide.dtype, wide.zero_point) == ("int16", 0)
        assert codes.scale == wide.scale / 127
    others = [n for n in products(graph).values() if n not in static]
    assert len(others) == 2
    assert {node.post.factor for node in others} == {None}
    sites = {site["tensor"]: site for site in graph.meta["sites"]}
    assert sites["act"]["operand"] == sites["sum"]["operand"] == "int8 per token"
    assert sites["norm.rows"]["scales"] == "token"
    assert sites["norm.factors"]["op"] == "RowScale"


def test_layers_that_read_one_value_share_its_rows() -> None:
    graph = token(block(outlier=30.0, masked=True), masked_samples(16, 6))
    made = products(graph)
    assert {made[name].inputs[0] for name in ("query", "key", "value")} == {"norm.rows"}
    assert len(row_scales(graph)) == 3  # of the norm, the sum of attention, GELU
    assert len([n for n in graph.nodes if isinstance(n, ig.LayerNorm)]) == 2


def test_smoothed_codes_are_int16() -> None:
    model, data = block(outlier=30.0), samples(16)
    graph = token(model, data, smoothing=0.75)
    makers = {node.output: node for node in graph.nodes}
    assert isinstance(makers["norm.smoothed"], ig.LayerNorm)
    assert isinstance(makers["act.smoothed"], ig.Pointwise)
    assert {graph.tensors[n].dtype for n in ("norm.smoothed", "act.smoothed")} == {"int16"}
    assert [n.inputs for n in row_scales(graph)] == [["norm.smoothed"], ["act.smoothed"]]
    shared = token(model, data, smoothing=0.75, norm="shared")
    assert isinstance(next(n for n in shared.nodes if n.output == "norm.smoothed"), ig.Pointwise)
    plain = token(model, data, smoothing=0.0)
    assert [n.inputs for n in row_scales(plain)] == [["norm"], ["act"]]
    assert len([n for n in plain.nodes if isinstance(n, ig.LayerNorm)]) == 1


def test_a_norm_that_only_such_layers_read_is_one_node() -> None:
    model = block(outlier=30.0)
    model.nodes = [n for n in model.nodes if n.output != "sum"]
    model.outputs = ["down"]
    graph = token(model, samples(16), smoothing=0.75)
    (norm,) = [node for node in graph.nodes if isinstance(node, ig.LayerNorm)]
    assert norm.output == "norm.smoothed"
    assert "norm" not in graph.tensors


def test_rows_of_different_size_keep_their_precision() -> None:
    model, data, test = linear_stack(), with_outlier_rows(16, seed=1), with_outlier_rows(8, seed=2)
    small = {"x": np.where(np.arange(6)[:, None] % 3 == 0, 0, test["x"]).astype(np.float32)}
    static = quantize(model, data, activations="mixed", overrides={"*": STATIC})
    rows = token(model, data)
    assert not row_scales(static)

    def wrong(graph: ig.IntGraph) -> float:
        total = 0.0
        for x in small["x"]:
            codes = ig.execute(graph, quantize_inputs(graph, {"x": x}))
            for name, want in evaluate(model, {"x": x}).items():
                if name in graph.outputs:
                    got = codes[name] * graph.tensors[name].scale
                    total += float(np.square(got - want)[:, 1:3].sum())
        return total

    assert wrong(rows) < 0.05 * wrong(static)
    assert error(block(), token(block(), data), test) < 0.8 * error(
        block(), quantize(block(), data, activations="mixed", overrides={"*": STATIC}), test
    )


@pytest.mark.parametrize("weights", ["int8", "int4-g32"])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_products_equal_the_float_product_of_the_codes(weights: str, size: float) -> None:
    """Up to half of 1 of the sums times the factor, and half a code of the result."""
    model, data = linear_stack(weight=size), with_outlier_rows(16, seed=1)
    graph = token(model, data, weights, smoothing=0.0)
    rng = np.random.default_rng(6)
    x = (
        rng.integers(-32767, 32768, (1, 6, WIDTH))
        // np.array([1, 7, 64, 500, 9000, 40000])[:, None]
    )
    values = ig.execute(graph, {"x": x})
    node = products(graph)["third"]
    codes, out = graph.tensors[node.inputs[0]], graph.tensors["third"]
    assert node.post.factor is not None
    factors = values[node.post.factor].astype(np.float64)
    integers = values[node.inputs[1]].astype(np.float64)
    if node.group_scales is not None:
        integers = integers * np.repeat(node.group_scales, node.group, axis=1)
    real = values[node.inputs[0]] * factors * codes.scale
    unit = codes.scale * (1 << reference.FACTOR_SHIFT)
    ratio = node.post.mult * np.exp2(-node.post.shift.astype(np.float64))  # of the result's scale
    scale = ratio * out.scale / unit  # of the weights
    want = real @ (integers * scale[:, None]).T + node.post.bias * ratio * out.scale
    got = values["third"] * out.scale
    inside = np.abs(values["third"].astype(int)) < 32767
    limit = 0.501 * (unit * scale + out.scale)
    assert inside.mean() > 0.8
    assert (np.abs(got - want) <= np.where(inside, limit, np.inf)).all()
    # The codes are within half a step of each row's own scale.
    assert node.inputs[0] == "x.rows"
    wrong = np.abs(real - values["x"] * graph.tensors["x"].scale)
    assert (wrong <= 0.501 * factors * codes.scale).all()


def test_rows_of_zeros_and_of_the_largest_codes() -> None:
    graph = token(linear_stack(), samples(16), smoothing=0.0)
    x = np.zeros((1, 6, WIDTH), np.int16)
    x[0, 1], x[0, 2] = -32768, 32767
    values = ig.execute(graph, {"x": x})
    name = products(graph)["third"].post.factor
    assert name is not None
    assert values[name][0, :3, 0].tolist() == [0, 32767, 32767]
    bias = evaluate(linear_stack(), {"x": np.zeros((1, 6, WIDTH))})["third"][0, 0]
    got = values["third"][0, 0] * graph.tensors["third"].scale
    assert np.abs(got - bias).max() < 2 * graph.tensors["third"].scale


def test_weights_are_solved_for_the_codes_of_the_rows() -> None:
    model, data, test = block(), with_outlier_rows(32, seed=1), with_outlier_rows(8, seed=2)
    solved = token(model, data, "int4-g32")
    rounded = token(model, data, "int4-g32", solver="round")
    sites = {site["tensor"]: site for site in solved.meta["sites"]}
    assert sites["sum"]["solver"] == "gptq"
    assert sites["sum"]["operand"] == "int8 per token"
    assert error(model, solved, test) < 0.95 * error(model, rounded, test)


def test_the_search_judges_codes_of_rows() -> None:
    """One large row: static codes want no part of its channels' range, own scales do not mind."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 16))
    x[:, 3] *= 30.0
    low, high, weights = x.min(axis=0), x.max(axis=0), rng.normal(size=(8, 16))
    assert search(low, high, x, [weights], [WEIGHTS["int8"]], per_row=True) > 0
    even = rng.normal(size=(64, 16)) * np.exp2(rng.integers(-6, 7, (64, 1)))
    for rows in (even, even * 2.0**20):
        found = search(rows.min(0), rows.max(0), rows, [weights], [WEIGHTS["int8"]], per_row=True)
        assert found <= 0.5


def test_codes_of_tables_keep_their_scale() -> None:
    graph = token(block(), samples(16), function="int8")
    made = products(graph)
    assert made["act"].post.factor is not None
    assert made["sum"].post.factor is None
    assert made["sum"].inputs[0] == "act"
    sites = {site["tensor"]: site for site in graph.meta["sites"]}
    assert sites["sum"]["operand"] == "int8"


@pytest.mark.parametrize("name", ["constant_matmul", "mean_tokens", "patches"])
def test_other_products_keep_one_scale(name: str) -> None:
    _, _, model = op_models.load_case(name)
    graph = quantize(model, random_inputs(model, 4, 0), activations="token")
    assert len(row_scales(graph)) == (name == "patches")


def test_integer_weights_are_no_linear_layer() -> None:
    b = fg.GraphBuilder()
    x = b.input("x", (1, 6, 8))
    b.graph.outputs = [b.matmul(x, b.const(np.eye(8), "select"), name="selected")]
    graph = quantize(b.graph, {"x": np.ones((2, 1, 6, 8))}, activations="token")
    assert not row_scales(graph)


def test_windows_of_convolutions_are_rows() -> None:
    _, _, model = load_case("standard")
    data = random_inputs(model, 4, 0)
    graph = token(model, data)
    nodes = row_scales(graph)
    assert nodes
    for node in nodes:
        (reader,) = [n for n in products(graph).values() if n.inputs[0] == node.output]
        assert reader.post.factor == node.factor
    ig.execute(graph, quantize_inputs(graph, {name: a[0] for name, a in data.items()}))


def test_an_int16_operand_wins_where_it_is_asked_for() -> None:
    overrides = {"down": {"operand": "int16"}}
    graph = quantize(block(), samples(16), activations="token", overrides=overrides)
    sites = {site["tensor"]: site for site in graph.meta["sites"]}
    assert (sites["act"]["operand"], sites["sum"]["operand"]) == ("int8 per token", "int16")
    # And the other way round.
    overrides = {"down": {"scales": "token"}}
    graph = quantize(block(), samples(16), activations="mixed", overrides=overrides)
    sites = {site["tensor"]: site for site in graph.meta["sites"]}
    assert (sites["act"]["operand"], sites["sum"]["operand"]) == ("int8", "int8 per token")


def test_one_value_read_with_both_kinds_of_scales() -> None:
    model, data = block(outlier=30.0, masked=True), masked_samples(16, 6)
    graph = quantize(model, data, activations="token", overrides={"key": {"scales": "static"}})
    made = products(graph)
    assert (made["query"].inputs[0], made["key"].inputs[0]) == ("norm.rows", "norm.int8")
    inputs = {"x": data["x"][0], "mask": data["mask"][0]}
    ig.execute(graph, quantize_inputs(graph, inputs))


@pytest.mark.parametrize("weights", ["int8", "int4-g32"])
def test_other_lengths_share_scales_and_weights(weights: str) -> None:
    long, short = (block(n, masked=True, outlier=30.0) for n in (12, 6))
    data = masked_samples(16, 12)
    quantizer = Quantizer(activations="token", weights=weights)
    wide, narrow = quantizer.fit(long, data), quantizer.apply(short)
    assert any("smoothing" in site for site in narrow.meta["sites"])
    for i in range(4):
        inputs = {"x": data["x"][i], "mask": data["mask"][i]}
        valid = int(inputs["mask"].sum())
        whole = ig.execute(wide, quantize_inputs(wide, inputs))["sum"]
        cut = {"x": inputs["x"][:, :6], "mask": inputs["mask"][:, :6]}
        part = ig.execute(narrow, quantize_inputs(narrow, cut))["sum"]
        np.testing.assert_array_equal(whole[:, :valid], part[:, :valid])


def test_padding_does_not_count() -> None:
    model, data = block(12, masked=True), masked_samples(8, 12)
    spoiled = {"x": np.where(data["mask"][..., None], data["x"], 50.0), "mask": data["mask"]}
    clean, dirty = (Quantizer(activations="token").fit(model, d) for d in (data, spoiled))
    for name, tensor in clean.tensors.items():
        if name != "x" and not name.startswith("x."):
            assert dirty.tensors[name].scale == tensor.scale, name


def test_plain_data_keeps_row_scales() -> None:
    graph, data = token(block(), samples(8)), samples(1, seed=3)
    plain, arrays = integer_graph_io.to_plain(graph)
    again = integer_graph_io.from_plain(json.loads(json.dumps(plain)), arrays)
    assert [n.factor for n in row_scales(again)] == [n.factor for n in row_scales(graph)]
    codes = quantize_inputs(graph, {"x": data["x"][0]})
    for name, want in ig.execute(graph, codes).items():
        np.testing.assert_array_equal(ig.execute(again, codes)[name], want)


def test_nothing_is_fitted_to_random_data() -> None:
    graph = quantize(block(outlier=30.0), activations="token")
    assert row_scales(graph)
    assert not any("smoothing" in site for site in graph.meta["sites"])


def test_largest_sums() -> None:
    """Codes of 127 with the signs of the weights, and the largest factor, reach the bound."""
    rng = np.random.default_rng(0)
    weights = rng.integers(-127, 128, (5, 300))
    for row, bound in zip(weights, largest_sums(weights), strict=True):
        codes = 127 * np.sign(row)
        for sign in (1, -1):
            total = np.array([sign * int(codes @ row)])
            found = int(reference.requantize(total, np.array([32767]), np.array([12]))[0])
            assert bound - 2 <= abs(found) <= bound


def test_sums_fit_for_long_contractions_in_groups() -> None:
    """Where groups' integer scales would make the sums too large, they are smaller."""
    rng = np.random.default_rng(0)
    b = fg.GraphBuilder()
    x = b.input("x", (1, 2, 8192))
    w = b.const(rng.choice([-1.0, 1.0], (2, 8192)) * 0.5, "w")
    b.graph.outputs = [b.matmul(x, w, bias=np.ones(2), name="y")]
    data = {"x": rng.normal(size=(4, 1, 2, 8192))}
    overrides = {"*": {"solver": "round", "smoothing": 0.0}}
    graph = quantize(b.graph, data, weights="int4-g32", activations="token", overrides=overrides)
    node = products(graph)["y"]
    assert node.group_scales is not None
    assert node.group_scales.max() < 64
    code = np.asarray(graph.tensors[node.inputs[1]].const)[0]
    worst = np.where(code > 0, 32767, -32767).astype(np.int16)
    ig.execute(graph, {"x": np.tile(worst, (1, 2, 1))})  # checks that the sums fit


def test_sums_beyond_32_bits_are_refused() -> None:
    b = fg.GraphBuilder()
    x = b.input("x", (1, 2, 32768))
    w = b.const(np.full((1, 32768), 0.1), "w")
    b.graph.outputs = [b.matmul(x, w, bias=np.full(1, 1e7), name="y")]
    data = {"x": np.full((2, 1, 2, 32768), 1.0)}
    graph = quantize(b.graph, data, activations="token")
    assert np.abs(graph.tensors[products(graph)["y"].inputs[1]].const).max() < 127
    with pytest.raises(UnsupportedModel, match="at most 65535 fit"):
        b = fg.GraphBuilder()
        x = b.input("x", (1, 1, 65536))
        b.graph.outputs = [b.matmul(x, b.const(np.full((1, 65536), 0.1), "w"), name="y")]
        quantize(b.graph, {"x": np.ones((2, 1, 1, 65536))}, activations="token")
