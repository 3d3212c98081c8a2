"""The multipliers of processing elements: an activation and a word of weights in, terms out."""

from __future__ import annotations

from collections.abc import Mapping

from amaranth.hdl import Cat, Const, Module, ShapeLike, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from intformer.hw.parts.low_product import LOW_LATENCY, low_product
from intformer.hw.parts.lut_product import LutProduct
from intformer.hw.parts.mul18 import Mul18
from intformer.hw.parts.sb_mac16 import DualProduct8
from intformer.hw.parts.streams import delay

__all__ = [
    "DSP_LATENCY",
    "DUAL_LATENCY",
    "DspProduct",
    "DualProduct",
    "Int8PackedProduct",
    "LutsProduct",
    "Product",
    "W4A4PackedProduct",
    "W4A8PackedProduct",
]

_BEHIND = 2
"""Registers behind a block: one where it stands, one where the sums are. The blocks lie in rows
across the device, and the sums of a column between them."""
DSP_LATENCY = Mul18.latency + _BEHIND
"""Of products with DSP blocks: the block's registers, and those behind it."""

DUAL_LATENCY = DualProduct8.latency + 1
"""Of products in an SB_MAC16: the block's registers, and one behind it."""


class Product(wiring.Component):
    """An activation times the weights of one element's columns; a result every cycle.

    Members
    -------
    a: ``In``; from a register.
    word: ``In``; the encoded weights, from a register.
    NAME: ``Out``; one for each term of the format, the format's ``product_latency`` later, plus
        the term's ``lag``. All come from registers.
    """

    def __init__(
        self, a_bits: int, word_bits: int, *, terms: Mapping[str, ShapeLike], target: str | None
    ) -> None:
        self._target = target
        members = {name: Out(shape) for name, shape in terms.items()}
        super().__init__({"a": In(signed(a_bits)), "word": In(word_bits), **members})

    def _operand(self, gap: int) -> Value:
        """``(w1 << gap) + w0`` from a word of INT4 weights."""
        w0, upper = self.word[:4], self.word[4:]
        return Cat(w0, w0[-1].replicate(gap - 4), upper)

    def _multiply(self, m: Module, b: Value, *, a: Value | None = None) -> Value:
        """``a * b``, both signed, from a register of the fabric; ``a`` is the member by default."""
        a = self.a if a is None else a
        m.submodules.mul = mul = Mul18(a_bits=len(a), b_bits=len(b), target=self._target)
        m.d.comb += [mul.a.eq(a.as_signed()), mul.b.eq(b.as_signed())]
        return delay(m, mul.p, _BEHIND, name="product", reset_less=True)


class DspProduct(Product):
    """Term ``x``: one product per multiplier block."""

    def __init__(self, a_bits: int, w_bits: int, *, target: str | None) -> None:
        super().__init__(a_bits, w_bits, terms={"x": signed(a_bits + w_bits)}, target=target)

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.d.comb += self.x.eq(self._multiply(m, self.word))
        return m


class LutsProduct(Product):
    """Term ``x``: one product out of LUTs and carry chains."""

    def __init__(self, a_bits: int, w_bits: int) -> None:
        super().__init__(a_bits, w_bits, terms={"x": signed(a_bits + w_bits)}, target=None)
        self._product = LutProduct(a=signed(a_bits), b=signed(w_bits))

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.product = product = self._product
        m.d.comb += [
            product.a.eq(self.a),
            product.b.eq(self.word.as_signed()),
            self.x.eq(product.o),
        ]
        return m


class Int8PackedProduct(Product):
    """Terms ``q``, ``l`` and ``d`` of two INT8 products in one 18 x 18 multiplier.

    The activation comes with a bit that tells that it is not 0. The word: ``w0`` (8 bits), the
    upper 8 bits of ``(w1 << 10) + w0``, whether ``w0`` is not 0, and the low bits of ``w1``.

    ``d = (a * w0) >> 10`` is below 0 if and only if ``a * w0`` is. The bits below its sign
    are those of ``q - a * w1``. It comes one cycle after the others.
    """

    GAP = 10

    def __init__(self, a_bits: int, *, target: str | None) -> None:
        self._low_bits = low_bits = a_bits - 4
        terms = {"q": signed(16), "l": self.GAP, "d": signed(low_bits + 1)}
        super().__init__(a_bits + 1, 17 + low_bits, terms=terms, target=target)

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        a, a_some = self.a[:-1], self.a[-1]
        w0, upper, w0_some, w1 = self.word[:8], self.word[8:16], self.word[16], self.word[17:]
        operand = Cat(w0, w0[-1].replicate(self.GAP - 8), upper)
        product = self._multiply(m, operand, a=a)
        quotient = product[self.GAP :]
        low = low_product(m, a[: self._low_bits], w1)
        low = delay(m, low, DSP_LATENCY - LOW_LATENCY, name="low", reset_less=True)
        negative = Signal()
        m.d.comb += negative.eq(a_some & w0_some & (a[-1] ^ w0[-1]))
        negative = delay(m, negative, DSP_LATENCY, name="negative", reset_less=True)
        d = Signal(signed(self._low_bits + 1), reset_less=True)
        m.d.sync += d.eq(Cat((quotient[: self._low_bits] - low)[: self._low_bits], negative))
        m.d.comb += [self.q.eq(quotient), self.l.eq(product[: self.GAP]), self.d.eq(d)]
        return m


class W4A8PackedProduct(Product):
    """Term ``p``: ``(a * w1 << 14) + a * w0`` for INT4 weights, from one 18 x 18 multiplier.

    The word: ``w0`` (4 bits) and the upper 4 bits of ``(w1 << 14) + w0``.
    """

    GAP = 14

    def __init__(self, a_bits: int, *, target: str | None) -> None:
        super().__init__(a_bits, 8, terms={"p": signed(a_bits + 18)}, target=target)

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.d.comb += self.p.eq(self._multiply(m, self._operand(self.GAP)))
        return m


class W4A4PackedProduct(Product):
    """Terms ``VC`` of two INT4 activations and two INT4 weights, from one 18 x 18 multiplier.

    ``P = ((a1 << 7) + a0) * ((w1 << 14) + w0)``. Its digits of 7 bits, read as signed numbers,
    are the products ``a0*w0``, ``a1*w0``, ``a0*w1`` and ``a1*w1``, each less by one if the digit
    below it is negative: ``VC_carry``.
    """

    ACTIVATION_GAP = 7
    GAP = 14
    NAMES = ("00", "10", "01", "11")

    def __init__(self, *, target: str | None) -> None:
        digits: dict[str, ShapeLike] = {}
        for name in self.NAMES:
            digits |= {f"p{name}": signed(self.ACTIVATION_GAP), f"p{name}_carry": 1}
        super().__init__(9, 8, terms=digits, target=target)

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        a0, upper = self.a[:4], self.a[4:]
        activations = Cat(a0, a0[-1].replicate(self.ACTIVATION_GAP - 4), upper)
        product = self._multiply(m, self._operand(self.GAP), a=activations)
        below: Value = Const(0, 1)
        for index, name in enumerate(self.NAMES):
            digit = product.word_select(index, self.ACTIVATION_GAP)
            m.d.comb += [
                getattr(self, f"p{name}").eq(digit),
                getattr(self, f"p{name}_carry").eq(below),
            ]
            below = digit[-1]
        return m


class DualProduct(Product):
    """Terms ``y`` and ``x``: the products with ``w0`` and ``w1``, each in half of an SB_MAC16.

    The block multiplies the activation's low byte, unsigned; a negative activation is 256 less.
    """

    def __init__(self, a_bits: int, w_bits: int, *, target: str | None) -> None:
        terms = {name: signed(a_bits + w_bits) for name in ("y", "x")}
        super().__init__(a_bits, 2 * w_bits, terms=terms, target=target)

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.mul = mul = DualProduct8(target=self._target)
        half = len(self.word) // 2
        weights = [self.word[:half], self.word[half:]]
        m.d.comb += [
            mul.a.eq(self.a[:8]),
            mul.b0.eq(weights[0].as_signed()),
            mul.b1.eq(weights[1].as_signed()),
        ]
        outputs = ((self.y, mul.p0), (self.x, mul.p1))
        for weight, (output, product) in zip(weights, outputs, strict=True):
            less = (weight & self.a[-1].replicate(half)).as_signed()
            less = delay(m, less, mul.latency, name=f"{output.name}_less", reset_less=True)
            register = Signal.like(output, name=f"{output.name}_register", reset_less=True)
            m.d.sync += register.eq(product - (less << 8))
            m.d.comb += output.eq(register)
        return m
