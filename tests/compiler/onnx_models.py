"""Small ONNX models for the tests, written node by node or exported and quantized."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

Array = NDArray[Any]
RNG = np.random.default_rng(5)


def floats(*shape: int, scale: float = 1.0) -> Array:
    return (scale * RNG.standard_normal(shape)).astype(np.float32)


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def write(
    path: Path,
    nodes: list[tuple[Any, ...]],
    inputs: dict[str, Any],
    outputs: list[str],
    constants: dict[str, Array] | None = None,
    *,
    opset: int = 17,
) -> Path:
    """A model of ``(op, inputs, outputs, attributes)``; ``inputs``: shape, or shape and type."""
    made = []
    for i, (op, sources, results, *rest) in enumerate(nodes):
        domain, _, op = op.rpartition(":")
        made.append(
            onnx.helper.make_node(
                op,
                sources.split(),
                results.split(),
                name=f"{op.lower()}_{i}",
                domain=domain,
                **(rest[0] if rest else {}),
            )
        )
    types = {"float": onnx.TensorProto.FLOAT, "int": onnx.TensorProto.INT64}
    infos = []
    for name, spec in inputs.items():
        shape, kind = spec if isinstance(spec[0], tuple | list) else (spec, "float")
        element = onnx.TensorProto.BOOL if kind == "bool" else types[kind]
        infos.append(onnx.helper.make_tensor_value_info(name, element, shape))
    graph = onnx.helper.make_graph(
        made,
        "test",
        infos,
        [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in outputs],
        [onnx.numpy_helper.from_array(a, n) for n, a in (constants or {}).items()],
    )
    model = onnx.helper.make_model(
        graph,
        opset_imports=[
            onnx.helper.make_opsetid("", opset),
            onnx.helper.make_opsetid("com.microsoft", 1),
        ],
        ir_version=8,
    )
    onnx.save(model, path)
    return path


def run(path: Path, inputs: dict[str, Array]) -> list[Array]:
    """ONNX Runtime's results, without optimizations."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(path), options).run(None, inputs)
