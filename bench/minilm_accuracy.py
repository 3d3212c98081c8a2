"""Sentence embeddings of MiniLM as true integers against the float model's."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer.bench import minilm_model as minilm
from intformer.bench.sentences import calibration_sentences, test_sentences
from intformer.compiler import integer_graph as ig
from intformer.compiler.graph import Graph
from intformer.compiler.quantize import Quantizer, dequantize_outputs, quantize_inputs
from intformer.results import markdown_table

__all__ = ["SCHEMES", "compare", "measure", "report", "spearman"]

Array = NDArray[Any]

_MIXED = {"activations": "mixed"}
_TOKEN = {"activations": "token"}
SCHEMES: dict[str, dict[str, Any]] = {
    "W8A8": {"weights": "int8", **_MIXED},
    "W4(g32)A8": {"weights": "int4-g32", **_MIXED},
    "W8A8, token": {"weights": "int8", **_TOKEN},
    "W4(g32)A8, token": {"weights": "int4-g32", **_TOKEN},
    "W4(g128)A8": {"weights": "int4-g128", **_MIXED},
    "W4A8, per channel": {"weights": "int4", **_MIXED},
    "W8A8, plain int8": {"weights": "int8", "activations": "int8"},
    "W8A8, weights by GPTQ": {"weights": "int8", **_MIXED, "overrides": {"*": {"solver": "gptq"}}},
    "W8A8, no smoothing": {"weights": "int8", **_MIXED, "overrides": {"*": {"smoothing": 0.0}}},
    "W8A8, int8 operands only": {
        "weights": "int8",
        **_MIXED,
        "overrides": {"*": {"operand": "int8"}},
    },
    "W8A8, token, no smoothing": {
        "weights": "int8",
        **_TOKEN,
        "overrides": {"*": {"smoothing": 0.0}},
    },
    "W8A8, token, static behind GELU": {
        "weights": "int8",
        **_TOKEN,
        "overrides": {"*.layer.?.output.dense": {"scales": "static"}},
    },
    "W4(g32)A8, rounded weights": {
        "weights": "int4-g32",
        **_MIXED,
        "overrides": {"*": {"solver": "round"}},
    },
}
"""What is measured: arguments of the quantizer by name."""
REQUIRED = {"W8A8": 0.9985, "W8A8, token": 0.9985, "W4(g32)A8": 0.980}
"""Least mean cosine that the project asks of a scheme."""
_PADDED = 8  # sentences that also run on a longer graph


def measure(
    names: Sequence[str], count: int, progress: Callable[[str], None] = print
) -> dict[str, Any]:
    """Quantize with each scheme of ``names``; compare on ``count`` sentences.

    All integer results come from :func:`intformer.compiler.integer_graph.execute`; the host only
    takes the mean over the tokens and scales to length 1.
    """
    tests, samples = test_sentences(count), calibration_sentences()
    tokens, calibration = minilm.tokenize(tests), minilm.tokenize(samples)
    want = minilm.float_embeddings(tokens)
    graphs = {length: minilm.float_graph(length) for length in minilm.LENGTHS}
    schemes = {}
    for name in names:
        start = time.monotonic()
        quantizer = Quantizer(**SCHEMES[name])
        data = minilm.calibration_arrays(calibration)
        fitted = quantizer.fit(graphs[minilm.CALIBRATION_LENGTH], data)
        middle = time.monotonic()
        got, same = _embed(quantizer, graphs, tokens)
        figures = compare(got, want) | {
            "settings": SCHEMES[name],
            "fit_seconds": round(middle - start, 1),
            "run_seconds": round(time.monotonic() - middle, 1),
            "padding_changes_nothing": same,
            "weight_bytes": _weight_bytes(fitted),
            "products": _products(fitted),
        }
        figures["worst_sentence"] = tests[figures["worst_index"]]
        schemes[name] = figures
        progress(f"{name}: mean cosine {figures['mean']:.5f}, worst {figures['worst']:.5f}")
    lengths = [len(ids) for ids in tokens]
    return {
        "sentences": count,
        "calibration_sentences": len(samples),
        "calibration_length": minilm.CALIBRATION_LENGTH,
        "tokens": {"least": min(lengths), "most": max(lengths), "mean": float(np.mean(lengths))},
        "schemes": schemes,
        "required": REQUIRED,
        "ok": all(
            schemes[n]["mean"] >= least and schemes[n]["padding_changes_nothing"]
            for n, least in REQUIRED.items()
            if n in schemes
        ),
    }


def _embed(
    quantizer: Quantizer, floats: dict[int, Graph], tokens: list[list[int]]
) -> tuple[Array, bool]:
    """Embeddings, and whether longer padding leaves the codes of all tokens as they are."""
    longest = quantizer.apply(floats[max(floats)])
    graphs = {max(floats): longest}
    result, same = [], True
    for i, ids in enumerate(tokens):
        length = minilm.bucket(ids)
        if length not in graphs:
            graphs[length] = quantizer.apply(floats[length])
        codes = _run(graphs[length], ids, length)
        if i < _PADDED and length < max(floats):
            again = _run(longest, ids, max(floats))
            same &= bool(np.array_equal(again[:, : len(ids)], codes[:, : len(ids)]))
        (output,) = graphs[length].outputs
        (hidden,) = dequantize_outputs(graphs[length], {output: codes}).values()
        result.append(minilm.embedding(hidden[0], len(ids)))
    return np.array(result), same


def _run(graph: ig.IntGraph, ids: list[int], length: int) -> Array:
    values = ig.execute(graph, quantize_inputs(graph, minilm.pad(ids, length)))
    return values[graph.outputs[0]]


def compare(got: Array, want: Array) -> dict[str, Any]:
    """Cosines of rows of length 1, and the rank correlation of the rows' similarities."""
    cosines = (got * want).sum(axis=1)
    pairs = np.triu_indices(len(got), 1)
    return {
        "mean": float(cosines.mean()),
        "worst": float(cosines.min()),
        "worst_index": int(cosines.argmin()),
        "percentile_1": float(np.quantile(cosines, 0.01)),
        "spearman": spearman((got @ got.T)[pairs], (want @ want.T)[pairs]),
    }


def spearman(a: Array, b: Array) -> float:
    """Spearman's rank correlation; ties get the mean of their ranks."""
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(values: Array) -> Array:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    result: Array = (ends - (counts - 1) / 2.0)[inverse]
    return result


def _weight_bytes(graph: ig.IntGraph) -> int:
    """Bytes of the static weights of products, scales of groups included, biases not."""
    seen, total = set(), 0
    for node in graph.nodes:
        if isinstance(node, ig.MatMul) and graph.tensors[node.inputs[1]].const is not None:
            name = node.inputs[1]
            if name not in seen:
                seen.add(name)
                total += int(np.prod(graph.tensors[name].shape)) * node.weight_bits // 8
                total += 0 if node.group_scales is None else node.group_scales.size
    return total


def _products(graph: ig.IntGraph) -> dict[str, int]:
    """How many products there are with each kind of weights and operand."""
    kinds = (
        f"{site['weights']}, {site['operand']} operand ({site['solver']})"
        for site in graph.meta["sites"]
        if "weights" in site and not site["tensor"].endswith(".partial")
    )
    return dict(Counter(kinds))


def report(figures: dict[str, Any]) -> str:
    """The section as Markdown."""
    tokens = figures["tokens"]
    rows = [
        (
            name,
            f"{f['mean']:.5f}",
            f"{f['worst']:.5f}",
            f"{f['percentile_1']:.5f}",
            f"{f['spearman']:.5f}",
            f"{f['weight_bytes'] / 1e6:.2f}",
            f"{figures['required'].get(name, '')}",
        )
        for name, f in figures["schemes"].items()
    ]
    heads = [
        "Scheme",
        "mean cosine",
        "worst",
        "1st percentile",
        "rank correlation",
        "weights, MB",
        "required mean",
    ]
    return f"""## Accuracy

{figures["sentences"]} generated sentences of {tokens["least"]} to {tokens["most"]} tokens (mean
{tokens["mean"]:.1f}), {figures["calibration_sentences"]} others for calibration, cut to
{figures["calibration_length"]} tokens (`bench/sentences.py`). Every operation of the model is
integer arithmetic (`integer_graph.execute`); cosine between its sentence embedding and the float
model's. Rank correlation: Spearman's, of the similarities of all pairs of sentences.

{markdown_table(heads, rows)}

Padding to 128 tokens changed no code of a token: \
{"yes" if all(f["padding_changes_nothing"] for f in figures["schemes"].values()) else "NO"}.
"""
