"""The low bits of a product out of few LUTs."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Signal, Value

from intformer.hw.parts.streams import delay

__all__ = ["LOW_LATENCY", "low_product"]

LOW_LATENCY = 3
"""Cycles that :func:`low_product` takes."""

_PART = 3
"""Bits whose product is a function of six bits: one LUT6 per bit."""


def low_product(m: Module, a: Value, b: Value) -> Value:
    """The lowest ``len(a)`` bits of ``a * b``; both have that many bits, 3 to 6.

    ``a = 8*a1 + a0`` and ``b`` likewise: the low bits are those of ``a0*b0 + 8*(a1*b0 + a0*b1)``.
    Everything is written as gates: an operator would become a carry chain or a multiplier block,
    which cost more at this size.
    """
    bits = len(a)
    if not _PART <= bits <= 2 * _PART or len(b) != bits:
        raise ValueError(f"operands must both have 3 to 6 bits, not {len(a)} and {len(b)}")
    rest = bits - _PART

    def register(value: Sequence[Value], name: str) -> Signal:
        signal = Signal(len(value), name=f"low_{name}", reset_less=True)
        m.d.sync += signal.eq(Cat(*value))
        return signal

    square = register(_product(a[:_PART], b[:_PART], bits), "square")
    left = register(_product(a[_PART:], b[:rest], rest), "left")
    right = register(_product(a[:rest], b[_PART:], rest), "right")
    cross = register(_sum(left, right), "cross")
    square = delay(m, square, 1, name="low_square", reset_less=True)
    return register([*square[:_PART], *_sum(square[_PART:], cross)], "sum")


def _product(a: Value, b: Value, bits: int) -> list[Value]:
    """The lowest ``bits`` bits of ``a * b``: partial products added column by column."""
    columns: list[list[Value]] = [[] for _ in range(bits)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            if i + j < bits:
                columns[i + j].append(x & y)
    result: list[Value] = []
    for index, column in enumerate(columns):
        while len(column) > 1:
            x, y = column.pop(0), column.pop(0)
            column.append(x ^ y)
            if index + 1 < bits:
                columns[index + 1].append(x & y)
        result.append(column[0] if column else a[0] & ~a[0])
    return result


def _sum(a: Value, b: Value) -> list[Value]:
    """``a + b`` without the carry out."""
    carry: Value | None = None
    result: list[Value] = []
    for x, y in zip(a, b, strict=True):
        half = x ^ y
        result.append(half if carry is None else half ^ carry)
        carry = x & y if carry is None else (x & y) | (half & carry)
    return result
