"""Requantize against ONNX Runtime's QLinearMatMul, where no tie can occur and beyond.

ONNX Runtime multiplies in float32 and rounds half to even. With an odd multiplier and accumulators
below ``2**(shift - 1)`` there is no tie, and with products of at most 24 bits float32 is exact:
then both must agree everywhere. ``python -m intformer.bench.oracle_requantize`` prints the counts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer import reference
from intformer.errors import UserError

__all__ = ["compare"]

_SHIFT = 16  # of every factor; products of int8 codes are at most 2**14


def _session() -> Any:
    """QLinearMatMul of int8 ``[256, 1] x [1, 256]``, scales and zero point as inputs."""
    try:
        import onnx
        import onnxruntime  # type: ignore[import-untyped]
    except ImportError as error:
        raise UserError(
            "the comparison needs onnx and onnxruntime: pip install '.[oracles]'"
        ) from (error)
    from onnx import TensorProto, helper

    codes, scales = ("a", "a_zero", "b", "b_zero", "y_zero"), ("a_scale", "b_scale", "y_scale")
    shapes = {"a": [256, 1], "b": [1, 256]}
    inputs = [helper.make_tensor_value_info(n, TensorProto.INT8, shapes.get(n, [])) for n in codes]
    inputs += [helper.make_tensor_value_info(n, TensorProto.FLOAT, []) for n in scales]
    order = ["a", "a_scale", "a_zero", "b", "b_scale", "b_zero", "y_scale", "y_zero"]
    node = helper.make_node("QLinearMatMul", order, ["y"])
    output = helper.make_tensor_value_info("y", TensorProto.INT8, [256, 256])
    graph = helper.make_graph([node], "requantize", inputs, [output])
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=onnx.IR_VERSION
    )
    model.ir_version = min(model.ir_version, 10)
    return onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )


def _differences(session: Any, mult: int, zero: int) -> int:
    """Over all products of two int8 codes."""
    codes: NDArray[np.int8] = np.arange(-128, 128, dtype=np.int8)
    (theirs,) = session.run(
        ["y"],
        {
            "a": codes[:, None],
            "b": codes[None, :],
            "a_zero": np.array(0, dtype=np.int8),
            "b_zero": np.array(0, dtype=np.int8),
            "y_zero": np.array(zero, dtype=np.int8),
            "a_scale": np.array(mult * 2.0**-_SHIFT, dtype=np.float32),
            "b_scale": np.array(1, dtype=np.float32),
            "y_scale": np.array(1, dtype=np.float32),
        },
    )
    products = codes[:, None].astype(np.int64) * codes[None, :]
    ours = reference.rescale(products, mult=mult, shift=_SHIFT, zero_point=zero, lo=-128, hi=127)
    return int((ours != theirs).sum())


def compare(multipliers: int = 64, seed: int = 1, *, ties: bool = False) -> dict[str, Any]:
    """Count differing codes over all int8 products, at random multipliers and zero points.

    With ``ties`` the multipliers are even, and ties are frequent: there the conventions differ.

    Raises
    ------
    UserError
        If onnx or onnxruntime is not installed.
    """
    session = _session()
    rng = np.random.default_rng(seed)
    differences = 0
    for _ in range(multipliers):
        mult = int(rng.integers(1, 256)) * 2 + 1
        if ties:
            mult = 1 << int(rng.integers(4, 9))
        differences += _differences(session, mult, int(rng.integers(-128, 128)))
    return {"values": multipliers * 65536, "differences": differences}


if __name__ == "__main__":
    print("no ties:", compare())
    print("ties:", compare(ties=True))
