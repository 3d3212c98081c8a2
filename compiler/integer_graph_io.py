"""Integer graphs as plain data: a JSON-ready dictionary, and named NumPy arrays."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer.compiler.integer_graph import (
    Gather,
    IntGraph,
    LayerNorm,
    MatMul,
    Node,
    Pointwise,
    PostParams,
    RowScale,
    Softmax,
    Tensor,
    View,
)
from intformer.reference import QuadraticTable

__all__ = ["from_plain", "plain", "to_plain"]

Arrays = dict[str, NDArray[Any]]
_NODES = {
    cls.__name__: cls for cls in (MatMul, Pointwise, Softmax, LayerNorm, RowScale, Gather, View)
}
_ARRAY = "$array"
_POST = "$post"
_FUNCTION = "$function"


def to_plain(graph: IntGraph) -> tuple[dict[str, Any], Arrays]:
    """The graph as a dictionary that JSON can hold, and its arrays by name."""
    arrays: Arrays = {}
    tensors = [_encode_fields(t, f"tensor/{t.name}", arrays) for t in graph.tensors.values()]
    nodes = []
    for index, node in enumerate(graph.nodes):
        fields = _encode_fields(node, f"node/{index}", arrays)
        nodes.append({"type": type(node).__name__, **fields})
    data = {
        "tensors": tensors,
        "nodes": nodes,
        "inputs": list(graph.inputs),
        "outputs": list(graph.outputs),
        "meta": plain(graph.meta),
    }
    return data, arrays


def from_plain(data: dict[str, Any], arrays: Arrays) -> IntGraph:
    """Inverse of :func:`to_plain`.

    Raises
    ------
    KeyError, TypeError, ValueError
        If ``data`` is not what :func:`to_plain` makes.
    """
    tensors = {}
    for fields in data["tensors"]:
        values = _decode_fields(fields, arrays)
        values["shape"] = tuple(int(n) for n in values["shape"])
        tensor = Tensor(**values)
        tensors[tensor.name] = tensor
    nodes: list[Node] = []
    for fields in data["nodes"]:
        values = _decode_fields(fields, arrays)
        kind = values.pop("type")
        if kind not in _NODES:
            raise ValueError(f"unknown node type {kind!r}")
        nodes.append(_NODES[kind](**values))
    graph = IntGraph(tensors, nodes, list(data["inputs"]), list(data["outputs"]), data["meta"])
    _check_names(graph)
    return graph


def plain(value: Any) -> Any:
    """``value`` with NumPy scalars, small arrays and tuples turned into plain JSON data."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def _encode_fields(item: Any, prefix: str, arrays: Arrays) -> dict[str, Any]:
    return {
        f.name: _encode(getattr(item, f.name), f"{prefix}/{f.name}", arrays)
        for f in dataclasses.fields(item)
    }


def _encode(value: Any, name: str, arrays: Arrays) -> Any:
    if isinstance(value, np.ndarray):
        arrays[name] = np.array(value, order="C")
        return {_ARRAY: name}
    if isinstance(value, PostParams):
        return {_POST: _encode_fields(value, name, arrays)}
    if isinstance(value, QuadraticTable):
        return {_FUNCTION: _encode_fields(value, name, arrays)}
    return plain(value)


def _decode_fields(fields: dict[str, Any], arrays: Arrays) -> dict[str, Any]:
    return {name: _decode(value, arrays) for name, value in fields.items()}


def _decode(value: Any, arrays: Arrays) -> Any:
    if isinstance(value, dict) and set(value) == {_ARRAY}:
        return arrays[value[_ARRAY]]
    if isinstance(value, dict) and set(value) == {_POST}:
        return PostParams(**_decode_fields(value[_POST], arrays))
    if isinstance(value, dict) and set(value) == {_FUNCTION}:
        fields = _decode_fields(value[_FUNCTION], arrays)
        return QuadraticTable(**{**fields, "breaks": tuple(fields["breaks"])})
    return value


def _check_names(graph: IntGraph) -> None:
    used = [*graph.inputs, *graph.outputs]
    for node in graph.nodes:
        used += [*node.inputs, *node.outputs]
    for name in used:
        if name not in graph.tensors:
            raise ValueError(f"unknown tensor {name!r}")
