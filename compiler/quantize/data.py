"""Samples in and out: splitting into runs, codes of inputs, real values of outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer import reference
from intformer.compiler.graph import Graph
from intformer.compiler.integer_graph import IntGraph
from intformer.errors import UserError

__all__ = ["dequantize_outputs", "quantize_inputs", "random_inputs", "runs"]

Array = NDArray[Any]


def runs(shapes: Mapping[str, tuple[int, ...]], data: Mapping[str, Array]) -> Iterator[dict]:
    """Yield the inputs of one run after the other.

    ``data`` holds an array per input with the samples along the first axis: either the model's
    own first axis (as many samples as it holds make a run; the last one is repeated where they run
    out), or one more in front of its shape. The name of an only array does not matter.

    Raises
    ------
    UserError
        If an input is missing or unknown, a shape does not fit, or a value is not finite.
    """
    if len(shapes) == len(data) == 1:
        data = dict(zip(shapes, data.values(), strict=True))
    unknown = sorted(set(data) - set(shapes))
    if unknown or set(shapes) - set(data):
        raise UserError(
            f"data must hold exactly the model's inputs {', '.join(shapes)}, "
            f"not {', '.join(data) or 'nothing'}"
        )
    split = {name: _split(name, np.asarray(data[name]), shape) for name, shape in shapes.items()}
    counts = {name: len(array) for name, array in split.items()}
    if len(set(counts.values())) > 1:
        raise UserError(f"inputs give different numbers of runs: {counts}")
    for i in range(min(counts.values(), default=0)):
        yield {name: array[i] for name, array in split.items()}


def _split(name: str, array: Array, shape: tuple[int, ...]) -> Array:
    """``array`` as ``[runs, *shape]``."""
    if array.ndim and not len(array):
        raise UserError(f"input {name!r} has no samples")
    if array.ndim and array.shape[1:] == shape:
        result = array
    elif array.ndim and shape and array.shape[1:] == shape[1:]:
        count = -(-len(array) // shape[0])
        last = np.minimum(np.arange(count * shape[0]), len(array) - 1)
        result = array[last].reshape(count, *shape)
    else:
        wanted = ("samples", *shape[1:]) if shape else ("samples",)
        raise UserError(f"input {name!r} must have shape {wanted}, not {array.shape}")
    if result.dtype.kind not in "biuf":
        raise UserError(f"input {name!r} must be numeric, not {result.dtype}")
    if not np.isfinite(result).all():
        raise UserError(f"input {name!r} holds values that are not finite")
    return result


def random_inputs(graph: Graph, count: int, seed: int) -> dict[str, Array]:
    """``count`` runs of random inputs: normal floats, valid ids, true masks."""
    rng = np.random.default_rng(seed)
    result: dict[str, Array] = {}
    for name in graph.inputs:
        value = graph.values[name]
        shape = (count, *value.shape)
        if value.kind == "float":
            result[name] = rng.standard_normal(shape).astype(np.float32)
        elif value.kind == "bool":
            result[name] = np.ones(shape, bool)
        else:
            result[name] = rng.integers(0, _ids_of(graph, name), shape)
    return result


def _ids_of(graph: Graph, name: str) -> int:
    """The smallest embedding table that an ids input may index."""
    from intformer.compiler.graph import Embedding

    sizes = [graph.values[n.inputs[1]].shape[0] for n in graph.nodes if isinstance(n, Embedding)]
    return min(sizes, default=2)


def quantize_inputs(graph: IntGraph, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Codes of real inputs (ids and masks pass as they are); any leading sample axis is kept.

    Raises
    ------
    UserError
        If an input is missing or unknown, is not finite, or holds ids outside int16.
    """
    if set(arrays) != set(graph.inputs):
        raise UserError(f"inputs must be exactly {sorted(graph.inputs)}, not {sorted(arrays)}")
    result = {}
    for name in graph.inputs:
        tensor, real = graph.tensors[name], np.asarray(arrays[name])
        if not np.isfinite(real).all():
            raise UserError(f"input {name!r} holds values that are not finite")
        low, high = reference.LIMITS[tensor.dtype]
        codes = np.rint(real.astype(np.float64) / tensor.scale) + tensor.zero_point
        exact = name in graph.meta.get("exact_inputs", ())
        if exact and codes.size and (codes.min() < low or codes.max() > high):
            raise UserError(f"input {name!r} holds values outside {low}..{high}")
        result[name] = np.clip(codes, low, high).astype(tensor.dtype)
    return result


def dequantize_outputs(graph: IntGraph, codes: Mapping[str, Array]) -> dict[str, Array]:
    """Real values, float32, of the graph's outputs among ``codes``."""
    result = {}
    for name in graph.outputs:
        tensor = graph.tensors[name]
        real = (np.asarray(codes[name], np.float64) - tensor.zero_point) * tensor.scale
        result[name] = real.astype(np.float32)
    return result
