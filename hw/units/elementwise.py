"""Elementwise sum and product of two coded streams, rounded once."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Shape, Signal, Value, signed
from amaranth.lib import data
from amaranth.lib.wiring import In

from intformer.hw.units.pipeline import PipelinedUnit, check_range, code_shape, register
from intformer.hw.units.product import ExactProduct, times
from intformer.hw.units.rounding import SHIFT_BITS, RoundClip
from intformer.reference.rescale import MULT_BITS

__all__ = ["ElementwiseAdd", "ElementwiseMultiply"]

_TYPES = ("int8", "uint8", "int16")


class _Elementwise(PipelinedUnit):
    """Types, ports and rounding of both units."""

    def __init__(
        self,
        *,
        a_type: str,
        b_type: str,
        o_type: str,
        lanes: int,
        bits: int,
        cycles: int,
        mults: tuple[str, ...],
    ) -> None:
        check_range("lanes", lanes, 1, 64)
        a, b, o = _shapes(a_type, b_type, o_type)
        self._rounds = [RoundClip(bits=bits, o_shape=o) for _ in range(lanes)]
        super().__init__(
            i=data.StructLayout({"a": data.ArrayLayout(a, lanes), "b": data.ArrayLayout(b, lanes)}),
            o=data.ArrayLayout(o, lanes),
            lanes=lanes,
            cycles=cycles + self._rounds[0].latency,
            ports={
                **{mult: In(signed(MULT_BITS)) for mult in mults},
                "shift": In(SHIFT_BITS),
                "a_zero_point": In(a),
                "b_zero_point": In(b),
                "zero_point": In(o),
            },
        )

    def transform(self, m: Module, beat: Any, taken: Value) -> Any:
        result = Signal(self.o.payload.shape())
        for lane, rounding in enumerate(self._rounds):
            m.submodules[f"round_{lane}"] = rounding
            a = register(m, beat.a[lane] - self.a_zero_point, name=f"a_{lane}")
            b = register(m, beat.b[lane] - self.b_zero_point, name=f"b_{lane}")
            m.d.comb += [
                rounding.x.eq(self._combine(m, a, b, lane=lane)),
                rounding.shift.eq(self.shift),
                rounding.zero_point.eq(self.zero_point),
                result[lane].eq(rounding.o),
            ]
        return result

    def _combine(self, m: Module, a: Signal, b: Signal, *, lane: int) -> Value:
        raise NotImplementedError


class ElementwiseAdd(_Elementwise):
    """Sum of two tensors with scales and zero points of their own, rounded once.

    ::

        s = (a - a_zero_point) * a_mult + (b - b_zero_point) * b_mult
        y = clip(((s + 2**(shift - 1)) >> shift) + zero_point)

    Rounds half toward +infinity; ``clip`` is to ``o_type``. Equal to
    :func:`intformer.reference.elementwise_add` for all operands.

    Parameters
    ----------
    a_type, b_type, o_type: ``int8``, ``uint8`` or ``int16``.
    lanes: elements per beat.
    target: family whose multiplier blocks to use: ``ecp5``, ``gowin``, or ``None`` for any.

    Members
    -------
    i: ``In(stream)`` of ``{a: lanes codes, b: lanes codes}``.
    o: ``Out(stream)`` of ``lanes`` codes; :attr:`latency` cycles later.
    a_mult, b_mult: ``In(signed(16))``; shift: ``In(6)``, 2 to 62.
    a_zero_point, b_zero_point, zero_point: ``In``; codes.
        All constant while elements are inside.

    Example
    -------
    >>> unit = ElementwiseAdd(a_type="int8", b_type="int16", o_type="int16", lanes=2)
    >>> unit.latency, unit.throughput
    (15, 2)
    """

    def __init__(
        self,
        *,
        a_type: str = "int8",
        b_type: str = "int8",
        o_type: str = "int8",
        lanes: int = 1,
        target: str | None = None,
    ) -> None:
        a, b, _ = _shapes(a_type, b_type, o_type)
        check_range("lanes", lanes, 1, 64)
        self._products = [
            [ExactProduct(a_bits=x.width + 1, b_bits=MULT_BITS, target=target) for x in (a, b)]
            for _ in range(lanes)
        ]
        latency = max(product.latency for product in self._products[0])
        super().__init__(
            a_type=a_type,
            b_type=b_type,
            o_type=o_type,
            lanes=lanes,
            bits=max(a.width, b.width) + 1 + MULT_BITS + 1,
            cycles=2 + latency,
            mults=("a_mult", "b_mult"),
        )

    def _combine(self, m: Module, a: Signal, b: Signal, *, lane: int) -> Value:
        operands = (("a", a, self.a_mult), ("b", b, self.b_mult))
        a_product, b_product = (
            times(m, product, x, mult, name=f"{name}_product_{lane}")
            for product, (name, x, mult) in zip(self._products[lane], operands, strict=True)
        )
        return register(m, a_product + b_product, name=f"sum_{lane}")


class ElementwiseMultiply(_Elementwise):
    """Product of two tensors with scales and zero points of their own, rounded once.

    ::

        p = (a - a_zero_point) * (b - b_zero_point) * mult
        y = clip(((p + 2**(shift - 1)) >> shift) + zero_point)

    Rounds half toward +infinity; ``clip`` is to ``o_type``. Equal to
    :func:`intformer.reference.elementwise_multiply` for all operands.

    Parameters
    ----------
    a_type, b_type, o_type: ``int8``, ``uint8`` or ``int16``.
    lanes: elements per beat.
    target: family whose multiplier blocks to use: ``ecp5``, ``gowin``, or ``None`` for any.

    Members
    -------
    i: ``In(stream)`` of ``{a: lanes codes, b: lanes codes}``.
    o: ``Out(stream)`` of ``lanes`` codes; :attr:`latency` cycles later.
    mult: ``In(signed(16))``; shift: ``In(6)``, 2 to 62.
    a_zero_point, b_zero_point, zero_point: ``In``; codes.
        All constant while elements are inside.

    Example
    -------
    >>> unit = ElementwiseMultiply(a_type="int16", b_type="int16", o_type="int16")
    >>> unit.latency, unit.throughput
    (19, 1)
    """

    def __init__(
        self,
        *,
        a_type: str = "int8",
        b_type: str = "int8",
        o_type: str = "int8",
        lanes: int = 1,
        target: str | None = None,
    ) -> None:
        a, b, _ = _shapes(a_type, b_type, o_type)
        check_range("lanes", lanes, 1, 64)
        bits = a.width + 1 + b.width + 1
        self._pairs, self._products = (
            [ExactProduct(a_bits=x, b_bits=y, target=target) for _ in range(lanes)]
            for x, y in ((a.width + 1, b.width + 1), (bits, MULT_BITS))
        )
        super().__init__(
            a_type=a_type,
            b_type=b_type,
            o_type=o_type,
            lanes=lanes,
            bits=bits + MULT_BITS,
            cycles=1 + self._pairs[0].latency + self._products[0].latency,
            mults=("mult",),
        )

    def _combine(self, m: Module, a: Signal, b: Signal, *, lane: int) -> Value:
        pair = times(m, self._pairs[lane], a, b, name=f"pair_{lane}")
        return times(m, self._products[lane], pair, self.mult, name=f"product_{lane}")


def _shapes(*types: str) -> list[Shape]:
    """The shapes of the types of ``a``, ``b`` and the result."""
    names = ("a_type", "b_type", "o_type")
    return [code_shape(name, code, _TYPES) for name, code in zip(names, types, strict=True)]
