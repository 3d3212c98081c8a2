"""Pipelined arithmetic of the row units: trees, split products, rounding shifts.

Nothing here stalls: a result leaves a fixed number of cycles after its operands arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

__all__ = [
    "RECIPROCAL_FIELD",
    "ReciprocalProduct",
    "RoundShift",
    "SplitProduct",
    "reduce_tree",
    "tree_latency",
]

RECIPROCAL_FIELD = 18
"""Bits that hold a reciprocal ``2**17 <= r <= 2**18``: read as signed they are ``r - 2**18``."""

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


class ReciprocalProduct(wiring.Component):
    """``a * r`` for a reciprocal ``2**17 <= r <= 2**18`` given as :data:`RECIPROCAL_FIELD` bits.

    Parameters
    ----------
    a_bits: width of ``a``, signed, at most 35.

    Members
    -------
    a: ``In``, signed.
    r: ``In``, the low 18 bits of the reciprocal.
    o: ``Out``, signed, ``a_bits + 19`` wide; :attr:`latency` cycles later.
    """

    def __init__(self, *, a_bits: int) -> None:
        self._product = SplitProduct(a_bits=a_bits, b_bits=RECIPROCAL_FIELD)
        super().__init__(
            {
                "a": In(signed(a_bits)),
                "r": In(RECIPROCAL_FIELD),
                "o": Out(signed(a_bits + RECIPROCAL_FIELD + 1)),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from operands to product."""
        return self._product.latency + 1

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.product = product = self._product
        m.d.comb += [product.a.eq(self.a), product.b.eq(self.r.as_signed())]
        a = self.a
        for index in range(product.latency):
            register = Signal.like(self.a, name=f"a_d{index + 1}")
            m.d.sync += register.eq(a)
            a = register
        # r = 2**18 + (its low 18 bits, signed).
        m.d.sync += self.o.eq(product.o + (a << RECIPROCAL_FIELD))
        return m


class RoundShift(wiring.Component):
    """``(x + 2**(shift - 1)) >> shift``: arithmetic right shift, rounding half up.

    The shift is given as ``amount = shift - 1``, and done as ``((x >> amount) + 1) >> 1``.

    Parameters
    ----------
    bits: width of ``x``, signed.
    amount_max: largest ``amount``.
    o_bits: width of the result.
    saturate: clip the result to ``o_bits``, instead of requiring that it fits.

    Members
    -------
    x: ``In``, signed.
    amount: ``In``; unsigned.
    o: ``Out``, signed; :attr:`latency` cycles later.
    """

    def __init__(self, *, bits: int, amount_max: int, o_bits: int, saturate: bool = False) -> None:
        if amount_max < 1:
            raise ValueError(f"amount_max must be at least 1, not {amount_max!r}")
        if not 1 <= o_bits < bits:
            raise ValueError(f"o_bits must be from 1 to {bits - 1}, not {o_bits!r}")
        self._saturate = saturate
        super().__init__(
            {
                "x": In(signed(bits)),
                "amount": In(range(amount_max + 1)),
                "o": Out(signed(o_bits)),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from operands to result: coarse shift, fine shift, round."""
        return 3

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        amount_bits = len(self.amount)
        fine_bits = min(3, amount_bits)
        coarse = Signal.like(self.x)
        fine_amount = Signal(fine_bits)
        shifted = Signal.like(self.x)
        m.d.sync += [
            coarse.eq(self.x >> Cat(Const(0, fine_bits), self.amount[fine_bits:])),
            fine_amount.eq(self.amount[:fine_bits]),
        ]
        o_bits = len(self.o)
        m.d.sync += shifted.eq(coarse >> fine_amount)
        rounded = Signal(signed(o_bits))
        m.d.comb += rounded.eq((shifted[: o_bits + 1] + Const(1, o_bits + 1)) >> 1)
        if not self._saturate:
            m.d.sync += self.o.eq(rounded)
            return m
        # The value before rounding overflows, or rounding the largest value does.
        low, high = -(1 << (o_bits - 1)), (1 << (o_bits - 1)) - 1
        sign = shifted[-1]
        overflow = shifted[o_bits:] != sign.replicate(len(shifted) - o_bits)
        tops = shifted[:o_bits].all()
        m.d.sync += self.o.eq(Mux(overflow, Mux(sign, low, high), Mux(tops & ~sign, high, rounded)))
        return m
