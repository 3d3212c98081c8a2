"""Number formats of a systolic array: how products share a multiplier and how they are summed.

A processing element multiplies one activation with the weights of one or two columns. Its
product comes as one or more *terms*, and every term is summed down the column on its own. At
the foot the sums of the terms become the sums of the columns.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Shape, Signal, Value, signed
from amaranth.lib import data
from amaranth.utils import ceil_log2

from intformer.hw.matmul import products
from intformer.hw.parts.arithmetic import reduce_tree
from intformer.hw.parts.lut_product import LutProduct
from intformer.hw.parts.mul18 import TARGETS
from intformer.hw.parts.streams import delay

__all__ = ["FORMATS", "Format", "Term", "array_format"]


@dataclass(frozen=True)
class Term:
    """A part of a product.

    Attributes
    ----------
    low, high: its range.
    lag: cycles that it is later than the first term.
    carry: whether the product has an output ``NAME_carry``, one bit that is added to the term.
    """

    low: int
    high: int
    lag: int = 0
    carry: bool = False

    def shape(self, count: int) -> Shape:
        """Of a sum of ``count`` of them."""
        return Shape.cast(range(count * self.low, count * self.high + 1))


class Format(ABC):
    """One way to multiply and to sum.

    Parameters
    ----------
    activation_bits: 8 (int8) or 9 (int8 and uint8).
    target: see :class:`intformer.hw.parts.mul18.Mul18`.

    Attributes
    ----------
    columns: columns that one element serves.
    vectors: activation vectors that enter side by side.
    weight_bits, weight_min, weight_max: of a weight.
    activation_min, activation_max: of an activation.
    """

    columns = 1
    vectors = 1
    weight_bits = 8
    weight_min, weight_max = -128, 127

    def __init__(self, *, activation_bits: int = 9, target: str | None = None) -> None:
        if activation_bits not in (8, 9):
            raise ValueError(f"activation_bits must be 8 or 9, not {activation_bits!r}")
        self.activation_bits = activation_bits
        self.activation_min = -128
        self.activation_max = 127 if activation_bits == 8 else 255
        self.target = target

    @property
    def segment(self) -> int:
        """Most rows that are summed before the terms are taken apart."""
        return 8

    @property
    @abstractmethod
    def terms(self) -> dict[str, Term]:
        """The terms of a product, by name."""

    @property
    def product_latency(self) -> int:
        """Cycles from an activation and a word to the first terms."""
        return products.DSP_LATENCY

    @abstractmethod
    def product(self) -> products.Product:
        """The multiplier of one element."""

    @property
    def product_range(self) -> tuple[int, int]:
        """Least and greatest product of an activation and a weight."""
        corners = [
            a * w
            for a in (self.activation_min, self.activation_max)
            for w in (self.weight_min, self.weight_max)
        ]
        return min(corners), max(corners)

    @property
    def activation_word(self) -> int:
        """Bits of the activations of one row, encoded."""
        return self.activation_bits

    def encode_activations(self, activations: Sequence[Value]) -> Value:
        """What an element takes for the activations of one row, one for each vector."""
        return Cat(*activations)

    def sum_shape(self, rows: int) -> Shape:
        """Of a sum of ``rows`` products."""
        return Term(*self.product_range).shape(rows)

    def partial(self, rows: int) -> data.StructLayout:
        """Layout of the terms' sums over ``rows`` rows."""
        return data.StructLayout({name: term.shape(rows) for name, term in self.terms.items()})

    def encode(self, weights: Sequence[Value]) -> Value:
        """The word that an element keeps for the weights of its columns, left to right."""
        return Cat(*weights)

    def foot_latency(self, segments: int) -> int:
        """Cycles from the sums of the first terms of the segments to those of the columns."""
        return ceil_log2(segments)

    def foot(self, m: Module, segments: Sequence[Mapping[str, Value]]) -> list[Value]:
        """Sums of the columns from the terms of the segments; registers go into ``m``.

        The sums of the vectors of column 0, then those of column 1.
        """
        return [_total(m, [segment[name] for segment in segments], name) for name in self.terms]


def _total(m: Module, values: Sequence[Value], name: str) -> Value:
    return reduce_tree(m, values, lambda a, b: a + b, name=f"total_{name}")


class Int8(Format):
    """INT8 weights, one product per DSP block."""

    @property
    def terms(self) -> dict[str, Term]:
        return {"x": Term(*self.product_range)}

    def product(self) -> products.Product:
        return products.DspProduct(self.activation_bits, self.weight_bits, target=self.target)


class Int8Luts(Int8):
    """INT8 weights, no DSP."""

    @property
    def product_latency(self) -> int:
        return LutProduct.latency_of(self.activation_bits, self.weight_bits)

    def product(self) -> products.Product:
        return products.LutsProduct(self.activation_bits, self.weight_bits)


class Int4Luts(Int8Luts):
    """INT4 weights, no DSP."""

    weight_bits = 4
    weight_min, weight_max = -8, 7


class Int8Packed(Format):
    """INT8 weights -127..127, two products per 18 x 18 multiplier.

    ``P = a * ((w1 << 10) + w0)``. With ``q = P >> 10`` and ``l = P & 1023``, and ``d`` the part
    of ``a * w0`` that reaches into ``q``: ``a * w1 = q - d`` and ``a * w0 = (d << 10) + l``.
    ``d`` is known from its sign, which is that of ``a * w0``, and its bits below: those of
    ``q - a * w1``, 4 for int8 activations, 5 for 9-bit ones. All three are summed apart.
    """

    columns = 2
    weight_min = -127
    _gap = products.Int8PackedProduct.GAP

    @property
    def terms(self) -> dict[str, Term]:
        low, high = self.product_range
        half = 1 << (self.activation_bits - 4)
        return {
            "q": Term(low + (low >> self._gap), high + (high >> self._gap)),
            "l": Term(0, (1 << self._gap) - 1),
            "d": Term(-half, half - 1, lag=1),
        }

    @property
    def activation_word(self) -> int:
        return self.activation_bits + 1

    def encode_activations(self, activations: Sequence[Value]) -> Value:
        (a,) = activations
        return Cat(a, a.any())

    def encode(self, weights: Sequence[Value]) -> Value:
        w0, w1 = weights
        return Cat(w0, (w1 - w0[-1])[:8], w0.any(), w1[: self.activation_bits - 4])

    def product(self) -> products.Product:
        return products.Int8PackedProduct(self.activation_bits, target=self.target)

    def foot_latency(self, segments: int) -> int:
        return super().foot_latency(segments) + 2

    def foot(self, m: Module, segments: Sequence[Mapping[str, Value]]) -> list[Value]:
        q, low, d = super().foot(m, segments)
        q, low = (
            delay(m, value, 1, name=name, reset_less=True) for name, value in (("q", q), ("l", low))
        )
        x = Signal(signed(len(q) + 1), reset_less=True)
        y = Signal(signed(len(d) + self._gap + 1), reset_less=True)
        m.d.sync += [x.eq(q - d), y.eq(Cat(low[: self._gap], d + low[self._gap :]))]
        return [y, x]


class W4A8Packed(Format):
    """INT4 weights -7..7, two products per 18 x 18 multiplier and one packed partial sum.

    ``P = a * ((w1 << 14) + w0)``; the sum of the products with ``w0`` must stay within 14 bits:
    4 rows with 9-bit activations, 9 rows with int8 ones.
    """

    columns = 2
    weight_bits = 4
    weight_min, weight_max = -7, 7
    _gap = products.W4A8PackedProduct.GAP

    @property
    def segment(self) -> int:
        return 4 if self.activation_bits == 9 else 9

    @property
    def terms(self) -> dict[str, Term]:
        low, high = self.product_range
        return {"p": Term((low << self._gap) + low, (high << self._gap) + high)}

    def encode(self, weights: Sequence[Value]) -> Value:
        w0, w1 = weights
        return Cat(w0, (w1 - w0[-1])[:4])

    def product(self) -> products.Product:
        return products.W4A8PackedProduct(self.activation_bits, target=self.target)

    def foot_latency(self, segments: int) -> int:
        return super().foot_latency(segments) + 1

    def foot(self, m: Module, segments: Sequence[Mapping[str, Value]]) -> list[Value]:
        columns: tuple[list[Value], list[Value]] = ([], [])
        for index, segment in enumerate(segments):
            low, high = segment["p"][: self._gap].as_signed(), segment["p"][self._gap :].as_signed()
            y = Signal.like(low, name=f"y_{index}", reset_less=True)
            x = Signal.like(high, name=f"x_{index}", reset_less=True)
            m.d.sync += [y.eq(low), x.eq(high + low[-1])]
            columns[0].append(y)
            columns[1].append(x)
        return [_total(m, values, name) for name, values in zip("yx", columns, strict=True)]


class W4A4Packed(Format):
    """INT4 activations and weights -7..7, four products per 18 x 18 multiplier.

    Two vectors at a time. See :class:`~intformer.hw.matmul.products.W4A4PackedProduct`.
    """

    columns = 2
    vectors = 2
    weight_bits = 4
    weight_min, weight_max = -7, 7

    def __init__(self, *, activation_bits: int = 4, target: str | None = None) -> None:
        if activation_bits != 4:
            raise ValueError(f"activation_bits must be 4, not {activation_bits!r}")
        super().__init__(target=target)
        self.activation_bits = 4
        self.activation_min, self.activation_max = -8, 7

    @property
    def terms(self) -> dict[str, Term]:
        low, high = self.product_range
        return {
            f"p{name}": Term(low - 1, high, carry=True) for name in products.W4A4PackedProduct.NAMES
        }

    @property
    def activation_word(self) -> int:
        return 9

    def encode_activations(self, activations: Sequence[Value]) -> Value:
        a0, a1 = activations
        return Cat(a0, (a1 - a0[-1])[:5])

    def encode(self, weights: Sequence[Value]) -> Value:
        w0, w1 = weights
        return Cat(w0, (w1 - w0[-1])[:4])

    def product(self) -> products.Product:
        return products.W4A4PackedProduct(target=self.target)


class Int8Dual(Format):
    """Two INT8 products per SB_MAC16: what the packed formats are on the iCE40.

    Takes as long as :class:`Int8Packed`.
    """

    columns = 2
    weight_min = -127

    @property
    def terms(self) -> dict[str, Term]:
        return {name: Term(*self.product_range) for name in ("y", "x")}

    def product(self) -> products.Product:
        return products.DualProduct(self.activation_bits, self.weight_bits, target=self.target)

    @property
    def product_latency(self) -> int:
        return products.DUAL_LATENCY

    def foot_latency(self, segments: int) -> int:
        packed = products.DSP_LATENCY + super().foot_latency(segments) + 2
        return packed - self.product_latency

    def foot(self, m: Module, segments: Sequence[Mapping[str, Value]]) -> list[Value]:
        late = self.foot_latency(len(segments)) - super().foot_latency(len(segments))
        return [
            delay(m, value, late, name=f"foot_{n}", reset_less=True)
            for n, value in enumerate(super().foot(m, segments))
        ]


FORMATS: dict[str, type[Format]] = {
    "int8": Int8,
    "int8_packed": Int8Packed,
    "w4a8_packed": W4A8Packed,
    "w4a4_packed": W4A4Packed,
    "int8_dual": Int8Dual,
    "int8_luts": Int8Luts,
    "int4_luts": Int4Luts,
}
"""By name."""


def array_format(
    name: str, *, activation_bits: int | None = None, target: str | None = None
) -> Format:
    """The format called ``name``, with its usual activations if their width is not given."""
    if name not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, not {name!r}")
    if target not in TARGETS:
        raise ValueError(f"target must be one of {TARGETS}, not {target!r}")
    kind = FORMATS[name]
    if (name, target) == ("int8_packed", "ice40"):
        kind = Int8Dual
    if activation_bits is None:
        return kind(target=target)
    return kind(activation_bits=activation_bits, target=target)
