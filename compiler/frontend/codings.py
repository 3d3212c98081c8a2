"""Codings that a quantized model prescribes, as the core's own code types."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer.compiler import graph as fg
from intformer.compiler.frontend.issues import Unsupported
from intformer.compiler.quantize.scales import Coding

__all__ = ["MASK_SCALE", "Codings", "check_coding"]

Array = NDArray[Any]

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


class Codings:
    """Codings of a graph under construction, and which node gave each."""

    def __init__(self, build: fg.GraphBuilder) -> None:
        self._build = build
        self._givers: dict[str, str] = {}
        self.scales: dict[str, Array] = {}  # of dequantized constants: the scale of each element

    def attach(self, name: str, coding: Coding, *, through: Coding | None, node: str) -> str:
        """Let a value have ``coding``, as the quantization ``node`` says; returns the value's name.

        ``through``: the coding that the value has come through already; if it is another one, the
        value is coded again and has a new name.

        Raises
        ------
        Unsupported
            If the value itself is quantized twice, with different parameters; names both nodes.
        """
        value = self._build.graph.values[name]
        if through is not None and through != coding:
            again = self._build.node(fg.Recode, f"{name}.recoded", [name], value.shape)
            value = self._build.graph.values[again]
        elif value.coding is not None and value.coding != coding:
            raise Unsupported(
                f"{name!r} is quantized with {_text(coding)} here, but with {_text(value.coding)} "
                f"in {self._givers.get(name, 'another node')}",
                "quantize every value once",
            )
        value.coding = coding
        self._givers[value.name] = node
        return value.name

    def finish(self) -> None:
        """Give the dequantized constants their codings, by what reads them.

        Raises
        ------
        Unsupported
            If the scales of a linear layer's weights differ along the contraction.
        """
        graph = self._build.graph
        weights = {n.inputs[1] for n in graph.nodes if isinstance(n, fg.MatMul)}
        for name, scale in self.scales.items():
            value = graph.values[name]
            assert value.const is not None
            scale = np.broadcast_to(np.asarray(scale, np.float64), value.shape)
            if name in weights:
                if not (scale == scale[:, :1]).all():
                    raise Unsupported(
                        f"the scales of the weights {name!r} differ along the contraction",
                        "quantize weights per tensor or per output channel",
                    )
                value.coding = fg.WeightCoding(scale[:, 0].copy())
            elif scale.size and (scale == np.ravel(scale)[0]).all():
                value.coding = _of_constant(value.const, float(np.ravel(scale)[0]))


def _of_constant(const: Array, scale: float) -> Coding | None:
    """An int8 coding of a constant of multiples of ``scale``, if they fit one."""
    codes = np.rint(const / scale)
    low, high = int(codes.min(initial=0)), int(codes.max(initial=0))
    if high - low > 255:
        return None
    return Coding("int8", scale, 0 if low >= -128 and high <= 127 else -128 - low)


def _text(coding: Any) -> str:
    return f"scale {coding.scale:.6g} and zero point {coding.zero_point}"
