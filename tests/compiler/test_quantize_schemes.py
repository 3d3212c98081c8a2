"""The mixed scheme: smoothing, two LayerNorms, int16 operands, functions of int16 codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from intformer.compiler import graph as fg
from intformer.compiler import integer_graph as ig
from intformer.compiler.float_eval import evaluate
from intformer.compiler.quantize import Quantizer, dequantize_outputs, quantize, quantize_inputs
from intformer.compiler.quantize.calibrate import Tokens
from intformer.compiler.quantize.settings import WEIGHTS
from intformer.compiler.quantize.smoothing import clip_range, search, smoothing_vector
from intformer.errors import UserError

WIDTH = 32


def block(
    length: int = 6, *, seed: int = 0, outlier: float = 1.0, masked: bool = False
) -> fg.Graph:
    """A post-LN block: x + mlp(norm(x)), normed again; one channel of the norm is large."""
    rng = np.random.default_rng(seed)
    b = fg.GraphBuilder()

    def linear(x: str, n: int, name: str) -> str:
        b.source = f"{name} model.py:1"
        k = b.shape(x)[-1]
        w = b.const(rng.normal(size=(n, k)) / np.sqrt(k), f"{name}.weight")
        return b.matmul(x, w, bias=rng.normal(size=n) * 0.1, name=name)

    x = b.input("x", (1, length, WIDTH))
    mask = b.input("mask", (1, length), "bool") if masked else None
    gamma = rng.uniform(0.5, 1.5, WIDTH)
    gamma[5] *= outlier
    b.source = "norm model.py:1"
    y = b.node(fg.LayerNorm, "norm", [x], b.shape(x), gamma=gamma, beta=np.zeros(WIDTH))
    if mask is not None:
        q, k, v = (linear(y, WIDTH, name) for name in ("query", "key", "value"))
        scores = b.matmul(q, k, name="scores")
        keep = b.reshape(mask, (1, 1, length))
        p = b.node(fg.Softmax, "softmax", [scores, keep], b.shape(scores), factor=0.2)
        y = b.node(fg.Add, "mixed", [b.matmul(p, b.swap_last(v), name="context"), y], b.shape(x))
    up = linear(y, 2 * WIDTH, "up")
    act = b.node(fg.Activation, "act", [up], b.shape(up), kind="gelu")
    down = linear(act, WIDTH, "down")
    total = b.node(fg.Add, "sum", [down, y], b.shape(x))
    b.graph.outputs = [total]
    return b.graph


def samples(count: int, length: int = 6, *, seed: int = 1) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {"x": rng.normal(size=(count, 1, length, WIDTH)).astype(np.float32)}


def error(model: fg.Graph, graph: ig.IntGraph, data: dict[str, Any]) -> float:
    """Relative root mean square error of the output."""
    wrong = right = 0.0
    for i in range(len(data["x"])):
        inputs = {name: array[i] for name, array in data.items()}
        want = evaluate(model, inputs)[model.outputs[0]]
        codes = ig.execute(graph, quantize_inputs(graph, inputs))
        (got,) = dequantize_outputs(graph, codes).values()
        wrong += float(np.square(got - want).sum())
        right += float(np.square(want).sum())
    return float(np.sqrt(wrong / right))


def only(**changes: Any) -> dict[str, Any]:
    """The plain scheme with some settings of the mixed one."""
    return {"overrides": {"*": changes}}


def test_smoothing_lowers_the_error_of_an_outlier_channel() -> None:
    model, data, test = block(outlier=30.0), samples(16), samples(8, seed=2)
    plain = error(model, quantize(model, data), test)
    for norm in ("shared", "dual"):
        smooth = error(model, quantize(model, data, **only(smoothing="search", norm=norm)), test)
        assert smooth < 0.6 * plain
    assert error(model, quantize(model, data, **only(norm="dual")), test) < 1.05 * plain


def test_int8_codes_of_a_function_are_smoothed_as_a_copy() -> None:
    model, data, test = block(), samples(16), samples(8, seed=2)
    weights = model.values["up.weight"].const
    assert weights is not None
    weights[3] *= 30.0
    graphs = {
        smoothing: quantize(
            model, data, **only(operand="int8", function="int16", smoothing=smoothing)
        )
        for smoothing in ("search", 0.0)
    }
    assert error(model, graphs["search"], test) < 0.6 * error(model, graphs[0.0], test)
    sites = {site["tensor"]: site for site in graphs["search"].meta["sites"]}
    assert graphs["search"].tensors["act"].dtype == "int16" and sites["act.int8"]["smoothing"] > 0
    assert "act.int8" not in graphs[0.0].tensors


def test_dual_norm_is_two_nodes_on_one_input() -> None:
    graph = quantize(block(outlier=30.0), samples(16), **only(smoothing=0.75, norm="dual"))
    norms = [node for node in graph.nodes if isinstance(node, ig.LayerNorm)]
    assert len(norms) == 2
    assert norms[0].inputs == norms[1].inputs
    assert {graph.tensors[n.output].dtype for n in norms} == {"int8", "int16"}
    sites = {site["tensor"]: site for site in graph.meta["sites"]}
    assert sites["norm.int8"]["smoothing"] == 0.75
    assert "smoothing" not in sites["norm"]


def test_smoothing_vector() -> None:
    rng = np.random.default_rng(0)
    high = np.array([1.0, 100.0, 0.0, 2.0])
    weights = rng.normal(size=(8, 4))
    assert (smoothing_vector(-high, high, weights, 0.0) == 1).all()
    s = smoothing_vector(-high, high, weights, 1.0)
    assert s[2] == 1.0
    np.testing.assert_allclose(s[[0, 1, 3]] / s[0], [1.0, 100.0, 2.0])
    x = rng.normal(size=(50, 4)) * high
    assert search(-high, high, x, [weights], [WEIGHTS["int8"]]) > 0


def test_clipping_of_rare_values() -> None:
    values = np.concatenate([np.random.default_rng(0).normal(size=100_000), [9.0]])
    _, high = clip_range(values.min(), values.max(), values)
    assert high < 9.0 * 0.9
    spread = np.linspace(-1.0, 1.0, 4001)
    assert clip_range(-1.0, 1.0, spread) == (-1.0, 1.0)


def test_int16_operand_is_exact() -> None:
    """The two passes equal one product with the 16-bit codes."""
    model, data = block(), samples(16)
    graph = quantize(model, data, **only(operand="int16", function="int16"))
    codes = {name: array[0] for name, array in data.items()}
    values = ig.execute(graph, quantize_inputs(graph, codes))
    wide = values["act"].astype(np.int64)
    assert graph.tensors["act"].dtype == "int16"
    high, low = values["act.high"].astype(np.int64), values["act.low"].astype(np.int64)
    assert (graph.tensors["act.high"].dtype, graph.tensors["act.low"].dtype) == ("int8", "uint8")
    np.testing.assert_array_equal(256 * high + low, wide)
    nodes = {node.output: node for node in graph.nodes}
    first, second = nodes["sum.partial"], nodes["sum"]
    assert isinstance(first, ig.MatMul)
    assert isinstance(second, ig.MatMul)
    weights = values[first.inputs[1]].astype(np.int64)
    exact = wide @ weights.T * (first.post.mult * np.exp2(-first.post.shift.astype(float)))
    exact = exact * graph.tensors["sum.partial"].scale  # in reals
    bias = first.post.bias * (first.post.mult * np.exp2(-first.post.shift.astype(float)))
    want = exact + bias * graph.tensors["sum.partial"].scale
    want = want + values["norm"] * graph.tensors["norm"].scale
    got = values["sum"] * graph.tensors["sum"].scale
    step = graph.tensors["sum"].scale + graph.tensors["sum.partial"].scale
    # One rounding for each pass, and multipliers off by 2^-15.
    assert np.abs(got - want).max() < 0.51 * step + np.abs(want).max() * 2.0**-13


@pytest.mark.parametrize("code", range(-32768, 32768, 4099))
def test_bytes_of_every_kind_of_code(code: int) -> None:
    model = block()
    graph = quantize(model, samples(4), **only(operand="int16", function="int16"))
    nodes = {node.output: node for node in graph.nodes}
    x = np.arange(code, min(code + 4099, 32768)).astype(np.int16)
    values = {"act": x}
    for name in ("act.high", "act.low"):
        ig.step(graph, nodes[name], values)
    np.testing.assert_array_equal(
        256 * values["act.high"].astype(int) + values["act.low"].astype(int), x
    )


def test_partial_sums_cannot_saturate() -> None:
    """Even codes that are as bad as can be stay off the limits of the part in between."""
    model = block(seed=3)
    overrides: dict[str, dict[str, Any]] = {
        "*": {"operand": "int16", "function": "int16"},
        "norm": {"headroom": 8.0},  # codes of the residual reach far beyond those of the sum
        "down": {"headroom": 1.0},
    }
    graph = quantize(model, samples(16), overrides=overrides)
    node = next(n for n in graph.nodes if n.output == "sum.partial")
    assert isinstance(node, ig.MatMul)
    assert graph.tensors["sum.partial"].scale > 2 * graph.tensors["sum"].scale
    weights = np.asarray(graph.tensors[node.inputs[1]].const)
    for sign in (1, -1):
        for channel in range(len(weights)):
            low = np.where(sign * weights[channel] > 0, 255, 0).astype(np.uint8)
            rows = (1, 6, 1)
            values = {
                node.inputs[0]: np.tile(low, rows),
                node.inputs[1]: weights,
                "norm": np.full((1, 6, WIDTH), 32767 if sign > 0 else -32768, np.int16),
            }
            ig.step(graph, node, values)
            found = values["sum.partial"][0, 0, channel]
            assert -32768 < found < 32767


def test_int16_operand_lowers_the_error() -> None:
    model, data, test = block(), samples(16), samples(8, seed=2)
    plain = error(model, quantize(model, data), test)
    wide = error(model, quantize(model, data, **only(operand="int16", function="int16")), test)
    assert wide < 0.6 * plain
    mixed = error(model, quantize(model, data, activations="mixed"), test)
    assert mixed < 0.8 * plain


def test_function_of_int16_codes() -> None:
    model, data = block(), samples(16)
    graph = quantize(model, data, **only(function="int16"))
    (node,) = [n for n in graph.nodes if n.output == "act"]
    assert isinstance(node, ig.MatMul)
    assert node.post.table is None
    assert node.post.function is not None
    assert (node.post.lo, node.post.hi) == (-32768, 32767)
    assert graph.tensors["act"].dtype == "int8"
    site = next(s for s in graph.meta["sites"] if s["tensor"] == "act")
    assert site["function"]
    assert not site["table"]


@pytest.mark.parametrize("weights", ["int4-g32", "int4-g128", "int4"])
def test_groups_reach_the_integer_graph(weights: str) -> None:
    model, data = block(), samples(16)
    graph = quantize(model, data, weights=weights, overrides={"down": {"weights": "int8"}})
    bits = {n.output: (n.weight_bits, n.group) for n in graph.nodes if isinstance(n, ig.MatMul)}
    group = {"int4-g32": 32}.get(weights, 0)  # the contractions have 32 and 64 elements
    assert bits == {"act": (4, group), "sum": (8, 0)}
    assert error(model, graph, samples(4, seed=2)) < 0.12
    site = next(s for s in graph.meta["sites"] if s["tensor"] == "act")
    assert site["weights"] == ("int4-g32" if group else "int4")
    assert site["solver"] == ("round" if weights == "int4" else "gptq")


def test_solved_weights_lower_the_error() -> None:
    model, data, test = block(), samples(64), samples(8, seed=2)
    solved = error(model, quantize(model, data, weights="int4-g32"), test)
    rounded = quantize(model, data, weights="int4-g32", overrides={"*": {"solver": "round"}})
    assert solved < 0.9 * error(model, rounded, test)


def test_nothing_is_fitted_to_random_data() -> None:
    graph = quantize(block(outlier=30.0), activations="mixed", weights="int4-g32")
    sites = graph.meta["sites"]
    assert {site["solver"] for site in sites if "solver" in site} == {"round"}
    assert not any("smoothing" in site for site in sites)


def masked_samples(count: int, length: int, *, seed: int = 5) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    data = samples(count, length, seed=seed)
    valid = rng.integers(2, 6, count)
    data["mask"] = (np.arange(length) < valid[:, None])[:, None]
    return data


@pytest.mark.parametrize("scheme", ["int8", "mixed"])
def test_other_lengths_share_scales_and_weights(scheme: str) -> None:
    long, short = block(12, masked=True), block(6, masked=True)
    data = masked_samples(16, 12)
    quantizer = Quantizer(activations=scheme, weights="int4-g32")
    wide, narrow = quantizer.fit(long, data), quantizer.apply(short)
    for i in range(4):
        inputs = {"x": data["x"][i], "mask": data["mask"][i]}
        valid = int(inputs["mask"].sum())
        whole = ig.execute(wide, quantize_inputs(wide, inputs))["sum"]
        cut = {"x": inputs["x"][:, :6], "mask": inputs["mask"][:, :6]}
        part = ig.execute(narrow, quantize_inputs(narrow, cut))["sum"]
        np.testing.assert_array_equal(whole[:, :valid], part[:, :valid])


def test_apply_needs_the_same_model() -> None:
    quantizer = Quantizer()
    with pytest.raises(UserError, match="fit a model"):
        quantizer.apply(block())
    quantizer.fit(block(), samples(4))
    with pytest.raises(UserError, match="not a value of the model"):
        quantizer.apply(block(masked=True))


def test_padding_does_not_count_in_calibration() -> None:
    model, data = block(12, masked=True), masked_samples(8, 12)
    spoiled = {"x": np.where(data["mask"][..., None], data["x"], 50.0), "mask": data["mask"]}
    clean, dirty = (Quantizer(activations="mixed").fit(model, d) for d in (data, spoiled))
    for name, tensor in clean.tensors.items():
        if name != "x" and not name.startswith("x."):
            assert dirty.tensors[name].scale == tensor.scale, name
    tokens = Tokens(model)
    assert tokens.mask == "mask"
    rows = tokens.rows(data["x"][0], {"mask": data["mask"][0]})
    assert rows.shape == (data["mask"][0].sum(), WIDTH)


def test_whole_numbers_can_tell_padding() -> None:
    """As in Hugging Face: a mask of int64, compared with 0."""
    b = fg.GraphBuilder()
    x, mask = b.input("x", (1, 4, 4)), b.input("mask", (1, 4), "int")
    keep = b.node(fg.Compare, "keep", [mask], (1, 4), value_kind="bool")
    p = b.node(fg.Softmax, "softmax", [x, b.reshape(keep, (1, 1, 4))], (1, 4, 4))
    b.graph.outputs = [p]
    inputs = {"mask": np.array([[1, 1, 0, 0]])}
    rows = Tokens(b.graph).rows(np.arange(16.0).reshape(1, 4, 4), inputs)
    np.testing.assert_array_equal(rows, np.arange(8.0).reshape(2, 4))
    b.graph.nodes[0].kind = "gt"  # the number of the row, say
    assert Tokens(b.graph).mask is None


def test_overrides_must_match() -> None:
    with pytest.raises(UserError, match="no layer matches the override 'nothing'"):
        quantize(block(), samples(4), overrides={"nothing": {"weights": "int4"}})
