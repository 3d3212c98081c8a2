"""Pipelined arithmetic of the row units: trees and split products.

Nothing here stalls: a result leaves a fixed number of cycles after its operands arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from amaranth.hdl import Cat, Module, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

__all__ = [
    "SplitProduct",
    "reduce_tree",
    "tree_latency",
]

_PART = 17
"""Magnitude bits of a multiplier operand: with its sign it fits an 18-bit hardware multiplier."""


def reduce_tree(
    m: Module, items: Sequence[Value], combine: Callable[[Value, Value], Value], *, name: str
) -> Value:
    """Combine ``items`` pairwise, with a register after every level.

    The result comes :func:`tree_latency` cycles after the items.
    """
    level = 0
    while len(items) > 1:
        row = []
        for index in range(0, len(items), 2):
            pair = items[index : index + 2]
            value = combine(*pair) if len(pair) == 2 else pair[0]
            register = Signal(Value.cast(value).shape(), name=f"{name}_{level}_{index // 2}")
            m.d.sync += register.eq(value)
            row.append(register)
        items = row
        level += 1
    return items[0]


def tree_latency(lanes: int) -> int:
    """Cycles that :func:`reduce_tree` takes for ``lanes`` items."""
    return ceil_log2(lanes)


class SplitProduct(wiring.Component):
    """``a * b`` for a wide signed ``a``, out of products that fit 18-bit multipliers.

    Parameters
    ----------
    a_bits: width of ``a``, signed, at most 35.
    b_bits: width of ``b``, signed, at most 18.

    Members
    -------
    a, b: ``In``, signed.
    o: ``Out``, signed, ``a_bits + b_bits`` wide; :attr:`latency` cycles later.
    """

    def __init__(self, *, a_bits: int, b_bits: int) -> None:
        if not 1 <= a_bits <= 2 * _PART + 1:
            raise ValueError(f"a_bits must be from 1 to {2 * _PART + 1}, not {a_bits!r}")
        if not 1 <= b_bits <= _PART + 1:
            raise ValueError(f"b_bits must be from 1 to {_PART + 1}, not {b_bits!r}")
        self._split = a_bits > _PART + 1
        super().__init__(
            {
                "a": In(signed(a_bits)),
                "b": In(signed(b_bits)),
                "o": Out(signed(a_bits + b_bits)),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from operands to product: operand, product and sum registers."""
        return 3

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        low_bits = len(self.a) // 2 if self._split else 0
        b = Signal.like(self.b)
        high = Signal(signed(len(self.a) - low_bits))
        m.d.sync += [b.eq(self.b), high.eq(self.a >> low_bits)]
        high_product = Signal(signed(len(high) + len(b)))
        m.d.sync += high_product.eq(high * b)
        if not self._split:
            m.d.sync += self.o.eq(high_product)
            return m
        low = Signal(signed(low_bits + 1))
        low_product = Signal(signed(len(low) + len(b)))
        m.d.sync += [
            low.eq(self.a[:low_bits]),
            low_product.eq(low * b),
            # The low bits of the low product pass unchanged.
            self.o.eq(Cat(low_product[:low_bits], (high_product + (low_product >> low_bits)))),
        ]
        return m
