"""The DSP packings of the array, proven: the terms of an element give its products exactly."""

from __future__ import annotations

import pytest
from amaranth.hdl import Assert, Assume, Elaboratable, Module, Signal, Value, signed
from proofs import anyconst, prove

from intformer.hw.matmul.formats import Format, Int8Packed, array_format
from intformer.hw.matmul.products import Int8PackedProduct
from intformer.hw.parts.streams import delay


class Recovery(Int8PackedProduct):
    """The element with two free products in the place of what the multiplier gives.

    ``a * ((w1 << 10) + w0) = (a * w1 << 10) + a * w0`` is left to algebra (solvers do not get
    through products of 26 bits); of the upper product only the low bits are tied to operands, of
    the lower one its sign.
    """

    def __init__(self, a_bits: int) -> None:
        super().__init__(a_bits, target=None)
        self.x, self.y = Signal(signed(16)), Signal(signed(16))
        self.operand = Signal(signed(18))

    def _multiply(self, m: Module, b: Value, *, a: Value | None = None) -> Value:
        m.d.comb += self.operand.eq(b.as_signed())
        product = (self.x << self.GAP) + self.y
        return delay(m, product, 4, name="product")


class PackingProof(Elaboratable):
    """All activations and weights of a format through one element's product, then the foot."""

    def __init__(self, form: Format) -> None:
        self._form = form
        self.depth = form.product_latency + form.foot_latency(1) + 1

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        form = self._form
        activations = [
            anyconst(m, signed(form.activation_bits), name=f"a{n}") for n in range(form.vectors)
        ]
        weights = [anyconst(m, signed(form.weight_bits), name=f"w{n}") for n in range(form.columns)]
        for weight in weights:
            m.d.comb += Assume(weight >= form.weight_min)
        if isinstance(form, Int8Packed):
            products = self._free_products(m, activations[0], weights)
        else:
            m.submodules.product = self.product = form.product()
            products = [a * weight for weight in weights for a in activations]
        word = form.encode_activations(activations)
        m.d.comb += [
            self.product.a.eq(word.as_signed()),
            self.product.word.eq(form.encode(weights)),
        ]
        terms: dict[str, Value] = {}
        for name, term in form.terms.items():
            carry = getattr(self.product, f"{name}_carry") if term.carry else 0
            terms[name] = getattr(self.product, name) + carry
        sums = form.foot(m, [terms])
        age = Signal(range(self.depth + 1))
        with m.If(age != self.depth):
            m.d.sync += age.eq(age + 1)
        for product, total in zip(products, sums, strict=True):
            m.d.comb += Assert((age < self.depth - 1) | (total == product))
        return m

    def _free_products(self, m: Module, a: Value, weights: list[Value]) -> list[Value]:
        w0, w1 = weights
        m.submodules.product = self.product = product = Recovery(self._form.activation_bits)
        low, high = self._form.product_range
        y, x = (anyconst(m, signed(16), name=name) for name in "yx")
        for value in (x, y):
            m.d.comb += Assume((value >= low) & (value <= high))
        bits = self._form.activation_bits - 4
        m.d.comb += [
            Assume(x[:bits] == (a[:bits] * w1[:bits])[:bits]),
            Assume((y < 0) == ((a < 0) & (w0 > 0) | (a > 0) & (w0 < 0))),
            Assume((y == 0) == ((a == 0) | (w0 == 0))),
            product.x.eq(x),
            product.y.eq(y),
            Assert(product.operand == (w1 << 10) + w0),
        ]
        return [y, x]


@pytest.mark.parametrize(
    ("name", "bits"),
    [("int8_packed", 9), ("int8_packed", 8), ("w4a8_packed", 9), ("w4a4_packed", 4)],
)
def test_packing(name: str, bits: int) -> None:
    proof = PackingProof(array_format(name, activation_bits=bits))
    prove(proof, depth=proof.depth + 1)


def test_a_weight_of_minus_128_overflows() -> None:
    form = array_format("int8_packed")
    form.weight_min = -128
    proof = PackingProof(form)
    with pytest.raises(AssertionError, match="not proven"):
        prove(proof, depth=proof.depth + 1)
