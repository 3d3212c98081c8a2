"""Rules for the quantize and dequantize operations of PT2E graphs: codings, no operations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch

from intformer.compiler.frontend.codings import check_coding
from intformer.compiler.frontend.issues import Unsupported
from intformer.compiler.frontend.lowering import Lowering, Masked, Tensor, rule, takes_masked
from intformer.compiler.quantize.scales import Coding

__all__ = ["Quantized"]


@dataclass(frozen=True)
class Quantized(Tensor):
    """What a quantize operation makes, on its way to dequantize operations."""

    codes: Coding | None = None


def _coding(scale: Any, zero_point: Any, low: int, high: int, dtype: torch.dtype) -> Coding:
    """The coding of a per-tensor operation; ranges narrower than the type must be symmetric."""
    name = str(dtype).removeprefix("torch.")
    point = int(zero_point)
    full = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}.get(name)
    if full is None:
        raise Unsupported(f"quantizes to {name}", "quantize to int8, uint8 or int16")
    if high != full[1] or low - full[0] not in (0, 1):
        raise Unsupported(
            f"quantizes to {name} codes from {low} to {high}", f"use all codes of {name}"
        )
    return check_coding(name, float(scale), point)


@rule("quantized_decomposed.quantize_per_tensor")
def _quantize(
    lo: Lowering,
    x: Any,
    scale: Any,
    zero_point: Any,
    low: int,
    high: int,
    dtype: torch.dtype,
) -> Any:
    if isinstance(x, Masked):
        raise Unsupported(
            f"quantizes what a mask was added to (scale {float(scale):.3g}, zero point "
            f"{int(zero_point)})",
            "leave the mask's sum out of the annotation",
        )
    if lo.build.graph.values[x.name].kind != "float":
        raise Unsupported("quantizes ids or a mask", "annotate float values only")
    codes = _coding(scale, zero_point, low, high, dtype)
    return Quantized(x.name, x.shape, x.coding, codes)


takes_masked("quantized_decomposed.quantize_per_tensor")


@rule("quantized_decomposed.dequantize_per_tensor")
def _dequantize(
    lo: Lowering,
    x: Any,
    scale: Any,
    zero_point: Any,
    low: int,
    high: int,
    dtype: torch.dtype,
    **_kwargs: Any,
) -> Tensor:
    if not isinstance(x, Quantized):
        raise Unsupported("dequantizes what no quantize operation has made", "use float inputs")
    codes = _coding(scale, zero_point, low, high, dtype)
    if codes != x.codes:
        raise Unsupported(
            f"dequantizes with scale {codes.scale:.6g} and zero point {codes.zero_point} what was "
            "quantized with others",
            "use the same parameters on both sides",
        )
    name = lo.codings.attach(x.name, codes, through=x.coding, node=lo.name)
    return replace(lo.wrap(name), coding=codes)
