"""Rules for QuantizeLinear and DequantizeLinear: codings instead of operations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer.compiler.frontend.codings import check_coding
from intformer.compiler.frontend.issues import Unsupported
from intformer.compiler.frontend.onnx.lowering import Lowering, rule
from intformer.compiler.frontend.onnx.ops_attention import NEVER
from intformer.compiler.frontend.onnx.values import (
    Const,
    Curve,
    Masked,
    MaskForm,
    Mean,
    Normalized,
    Quantized,
    Tensor,
)
from intformer.compiler.quantize.scales import Coding

__all__: list[str] = []

Array = NDArray[Any]
_LIMITS = {
    "int8": (-128, 127),
    "uint8": (0, 255),
    "int16": (-(1 << 15), (1 << 15) - 1),
    "uint16": (0, (1 << 16) - 1),
    "int32": (-(1 << 31), (1 << 31) - 1),
}


@rule("QuantizeLinear", "com.microsoft.QuantizeLinear", partial=True)
def _quantize(lo: Lowering, x: Any, scale: Any, zero: Any = None) -> Quantized:
    dtype = _dtype(lo, zero)
    if isinstance(x, Const):
        s, z = _along(lo, scale, zero, x.shape)
        low, high = _LIMITS[dtype]
        codes = np.clip(np.rint(x.array / s) + z, low, high) - z
        return Quantized(Const(codes * s, np.broadcast_to(s, x.shape)), Coding("int8", 1.0))
    number, point = _number(scale, "scale"), 0 if zero is None else int(_number(zero, "zero point"))
    mask = isinstance(x, Masked) or (isinstance(x, MaskForm) and min(x.one, x.zero) <= NEVER)
    if mask or not np.isfinite(number) or number > 1e30:
        raise Unsupported(
            f"quantizes what a mask was added to (scale {number:.3g}, zero point {point})",
            "leave the mask's sum out of the quantization (nodes_to_exclude), or clip the mask's "
            "value before calibration",
        )
    return Quantized(x, check_coding(dtype, number, point))


@rule("DequantizeLinear", "com.microsoft.DequantizeLinear", partial=True)
def _dequantize(lo: Lowering, x: Any, scale: Any, zero: Any = None) -> Any:
    if isinstance(x, Const):
        s, z = _along(lo, scale, zero, x.shape)
        return Const((x.array.astype(np.float64) - z) * s, np.broadcast_to(s, x.shape))
    if not isinstance(x, Quantized):
        raise Unsupported("dequantizes what no QuantizeLinear has made", "start from float inputs")
    value = x.value
    if isinstance(value, Const | MaskForm):
        return value
    point = 0 if zero is None else int(_number(zero, "zero point"))
    coding = check_coding(_dtype(lo, zero), _number(scale, "scale"), point)
    if coding != x.coding:
        raise Unsupported(
            f"dequantizes with scale {coding.scale:.6g} and zero point {coding.zero_point} what "
            f"was quantized with {x.coding.scale:.6g} and {x.coding.zero_point}",
            "use the same parameters on both sides",
        )
    if isinstance(value, Curve | Mean | Normalized):
        return replace(value, coding=coding)  # it may still be a part of something
    whole = lo.whole(value)
    assert isinstance(whole, Tensor)
    return lo.coded(whole, coding)


def _dtype(lo: Lowering, zero: Any) -> str:
    if zero is None:
        given = lo.attribute("output_dtype", 0)
        dtype = {0: "uint8", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16"}.get(given, "?")
    else:
        dtype = str(zero.array.dtype) if isinstance(zero, Const) else "?"
    if dtype not in _LIMITS:
        raise Unsupported(f"quantizes to {dtype}", "quantize to int8, uint8 or int16")
    return dtype


def _number(x: Any, what: str) -> float:
    if not isinstance(x, Const) or x.size != 1:
        raise Unsupported(
            f"the {what} of an activation is computed, or one per channel",
            "quantize activations per tensor, statically",
        )
    return x.number()


def _along(lo: Lowering, scale: Any, zero: Any, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Scale and zero point of a constant, shaped to broadcast against it."""
    if not isinstance(scale, Const) or not (zero is None or isinstance(zero, Const)):
        raise Unsupported("scale or zero point is computed", "quantize statically")
    if lo.attribute("block_size", 0):
        raise Unsupported("quantizes in blocks", "quantize per tensor or per channel")
    s = scale.array.astype(np.float64)
    z = np.zeros_like(s) if zero is None else zero.array.astype(np.float64)
    if not np.isfinite(s).all() or (s <= 0).any() or s.max(initial=0) > 1e30:
        raise Unsupported(
            f"a scale of {float(np.ravel(s)[np.argmax(np.abs(np.ravel(s)))]):.3g}",
            "quantize with finite positive scales; leave masks out",
        )
    if s.size == 1:
        return s.reshape(()), z.reshape(())
    axis = lo.attribute("axis", 1) % len(shape)
    if s.size != shape[axis]:
        raise Unsupported(
            f"{s.size} scales for an axis of {shape[axis]}", "give one scale per channel"
        )
    sizes = [1] * len(shape)
    sizes[axis] = -1
    return s.reshape(sizes), z.reshape(sizes)
