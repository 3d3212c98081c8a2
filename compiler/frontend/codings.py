"""Codings that a quantized model prescribes, as the core's own code types."""

from __future__ import annotations

import numpy as np

from intformer.compiler.frontend.issues import Unsupported
from intformer.compiler.quantize.scales import Coding

__all__ = ["MASK_SCALE", "check_coding"]

MASK_SCALE = 1e30
"""A scale above this can only come from the most negative float, added as a mask."""

_OFFSET = {"int8": 0, "uint8": 128, "int16": 0, "uint16": 1 << 15}
_TYPE = {"int8": "int8", "uint8": "int8", "int16": "int16", "uint16": "int16"}


def check_coding(dtype: str, scale: float, zero_point: int) -> Coding:
    """``real = scale * (code - zero_point)`` as a coding of the core.

    Unsigned codes become signed ones with codes and zero point less by half of the range: the real
    values stay the same.

    Raises
    ------
    Unsupported
        For another type, a scale that is not finite and positive or comes from a mask, a zero
        point outside the type, or a zero point of 16-bit codes.
    """
    if dtype not in _TYPE:
        raise Unsupported(f"quantizes to {dtype}", "quantize to int8, uint8 or int16")
    if not np.isfinite(scale) or scale > MASK_SCALE:
        raise Unsupported(
            f"quantizes what a mask was added to (scale {scale:.3g}, zero point {zero_point})",
            "leave the mask's sum out of the quantization, or clip the mask's value before "
            "calibration",
        )
    if scale <= 0:
        raise Unsupported(f"a scale of {scale:.3g}", "quantize with positive scales")
    bits = 8 if _TYPE[dtype] == "int8" else 16
    point = int(zero_point) - _OFFSET[dtype]
    if not -(1 << (bits - 1)) <= point < 1 << (bits - 1):
        raise Unsupported(f"a zero point of {zero_point} for {dtype}", "stay within the type")
    if bits == 16 and point:
        raise Unsupported(
            f"16-bit codes with zero point {zero_point}", "quantize 16-bit codes symmetrically"
        )
    return Coding(_TYPE[dtype], float(scale), point)
