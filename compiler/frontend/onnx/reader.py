"""Reads an ONNX file: nodes, constants (external data too), inputs and known shapes."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer.errors import UserError

__all__ = ["OnnxModel", "OnnxNode", "read_model", "require_onnx"]

Array = NDArray[Any]


@dataclass
class OnnxNode:
    """A node: operation, name, operand and result names, attributes, and the ONNX node itself."""

    op: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]
    proto: Any = None
    domain: str = ""


@dataclass
class OnnxModel:
    """A model in plain data; ``shapes`` holds what shape inference found."""

    nodes: list[OnnxNode]
    constants: dict[str, Array]
    inputs: dict[str, tuple[tuple[int, ...], str]]  # shape, kind of value
    outputs: list[str]
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    opset: int = 0


def require_onnx() -> Any:
    """The ``onnx`` package, or a message how to get it."""
    try:
        return importlib.import_module("onnx")
    except ImportError as error:
        raise UserError(f"this needs onnx ({error}): pip install 'intformer[oracles]'") from None


def read_model(path: Path) -> OnnxModel:
    """Read ``path``.

    Raises
    ------
    UserError
        If it is no ONNX model, external data is missing, or a shape is dynamic (other than the
        first axis of an input); the message names the file.
    """
    onnx = require_onnx()
    if not path.is_file():
        raise UserError(f"no such model: {path}")
    try:
        proto = onnx.load(path)
        if len(proto.functions):
            proto = importlib.import_module("onnx.inliner").inline_local_functions(proto)
    except Exception as error:  # protobuf, the inliner and the file system raise many kinds
        first = str(error).strip().splitlines()
        raise UserError(
            f"cannot read {path} as an ONNX model: {first[0] if first else ''}"
        ) from None
    graph = proto.graph
    if not graph.node:
        raise UserError(f"cannot read {path} as an ONNX model: it has no nodes")
    constants = {t.name: _array(onnx, t, path) for t in graph.initializer}
    opset = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 0)
    model = OnnxModel(
        nodes=[_node(onnx, node, i) for i, node in enumerate(graph.node)],
        constants=constants,
        inputs={v.name: _input(onnx, v, path) for v in graph.input if v.name not in constants},
        outputs=[v.name for v in graph.output],
        opset=opset,
    )
    model.shapes = _shapes(onnx, proto)
    return model


def _array(onnx: Any, tensor: Any, path: Path) -> Array:
    try:
        return np.asarray(onnx.numpy_helper.to_array(tensor, base_dir=str(path.parent)))
    except Exception as error:  # a type without NumPy equivalent, truncated data
        raise UserError(f"{path}: cannot read the constant {tensor.name!r}: {error}") from None


def _node(onnx: Any, node: Any, index: int) -> OnnxNode:
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    return OnnxNode(
        op=node.op_type,
        name=node.name or f"{node.op_type}_{index}",
        inputs=list(node.input),
        outputs=list(node.output),
        attributes=attributes,
        proto=node,
        domain="" if node.domain == "ai.onnx" else node.domain,
    )


def _input(onnx: Any, value: Any, path: Path) -> tuple[tuple[int, ...], str]:
    kind = value.type.tensor_type
    names = {
        "float": ("FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16"),
        "int": ("INT64", "INT32", "INT16", "INT8", "UINT8", "UINT16", "UINT32", "UINT64"),
        "bool": ("BOOL",),
    }
    element = onnx.TensorProto.DataType.Name(kind.elem_type)
    found = next((name for name, types in names.items() if element in types), None)
    if found is None or not value.type.HasField("tensor_type"):
        raise UserError(f"{path}: input {value.name!r} has type {element}, not float, int or bool")
    shape = []
    for axis, size in enumerate(kind.shape.dim):
        if size.HasField("dim_value") and size.dim_value > 0:
            shape.append(int(size.dim_value))
        elif axis == 0:
            shape.append(1)
        else:
            what = size.dim_param or "?"
            raise UserError(
                f"{path}: axis {axis} of input {value.name!r} is dynamic ({what}): give it a size "
                f"(python -m onnxruntime.tools.make_dynamic_shape_fixed --dim_param {what} "
                "--dim_value N)"
            )
    return tuple(shape), found


def _shapes(onnx: Any, proto: Any) -> dict[str, tuple[int, ...]]:
    """Static shapes by value name, as far as shape inference finds them."""
    try:
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except Exception:  # only needed to go on behind nodes that cannot be mapped
        return {}
    shapes = {}
    for value in (*inferred.graph.value_info, *inferred.graph.output):
        sizes = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(s.HasField("dim_value") for s in sizes):
            shapes[value.name] = tuple(int(s.dim_value) for s in sizes)
    return shapes
