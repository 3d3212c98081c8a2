"""The weight-stationary systolic array and its processing element."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from amaranth.hdl import Cat, Module, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from intformer.config import CoreConfig

__all__ = ["ProcessingElement", "SystolicArray", "psum_width"]

ACTIVATION_BITS = 9
"""Activations are signed inside the array: int8, or uint8 with a zero above."""

PRODUCT_BITS = 16
"""A product lies in ``-255 * 128 .. 255 * 127``: one bit less than 9 x 8 bits could give."""

_PRODUCT_MAX = 255 * 128


def psum_width(products: int) -> int:
    """Bits of a signed sum of ``products`` products of an activation and a weight."""
    return (products * _PRODUCT_MAX).bit_length() + 1 if products else 1


class ProcessingElement(wiring.Component):
    """One multiplier of the array, with its weight and the next tile's.

    Parameters
    ----------
    above: number of processing elements above this one in its column.

    Members
    -------
    a, a_out: activation from the left and, one cycle later, to the right.
    switch, switch_out: ``1`` with the first activation of a tile: this one and the next ones are
        multiplied with the weight that is in the shadow register when it arrives.
    w, w_out: shadow chain. In a cycle with ``shift`` the shadow register takes ``w``.
    psum, psum_out: partial sum from above, and with this product to below.

    Notes
    -----
    The product of an activation that arrives in cycle ``t`` is added to the ``psum`` of cycle
    ``t + 2``; the sum is in ``psum_out`` in ``t + 3``. Operands and product of the multiplier are
    registered.
    """

    def __init__(self, *, above: int) -> None:
        super().__init__(
            {
                "a": In(signed(ACTIVATION_BITS)),
                "a_out": Out(signed(ACTIVATION_BITS)),
                "switch": In(1),
                "switch_out": Out(1),
                "w": In(signed(8)),
                "w_out": Out(signed(8)),
                "shift": In(1),
                "psum": In(signed(psum_width(above))),
                "psum_out": Out(signed(psum_width(above + 1))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        activation = Signal(signed(ACTIVATION_BITS), reset_less=True)
        shadow = Signal(signed(8), reset_less=True)
        weight = Signal(signed(8), reset_less=True)
        product = Signal(signed(PRODUCT_BITS), reset_less=True)
        psum = Signal.like(self.psum_out, reset_less=True)
        m.d.sync += [
            activation.eq(self.a),
            self.switch_out.eq(self.switch),
            product.eq(activation * weight),
            psum.eq(self.psum + product),
        ]
        with m.If(self.shift):
            m.d.sync += shadow.eq(self.w)
        with m.If(self.switch):
            m.d.sync += weight.eq(shadow)
        m.d.comb += [
            self.a_out.eq(activation),
            self.w_out.eq(shadow),
            self.psum_out.eq(psum),
        ]
        return m


class SystolicArray(wiring.Component):
    """``rows`` x ``cols`` processing elements and the skew registers of their rows.

    Parameters
    ----------
    config: gives ``rows`` (contraction) and ``cols`` (outputs).
    element: makes a processing element; called with ``above=`` the number of elements above it.
        Its ports and their timing must be those of :class:`ProcessingElement`.

    Members
    -------
    a: ``In``; one activation vector per cycle, all rows at once.
    switch: ``In(1)``; this vector is the first one of the tile in the shadow registers.
    w, shift: ``In``; in a cycle with ``shift``, a column of int8 weights enters at column 0 and
        every column of shadow registers moves to the next. After ``cols`` of them the first is at
        the last column. The tile is complete for a ``switch`` in the cycle after the last; and
        ``shift`` must be low in the ``cols - 1`` cycles from a ``switch`` on.
    psum: ``Out``; column ``c`` holds the dot product of the vector of ``latency + c`` cycles
        before with column ``c`` of its tile.
    """

    def __init__(
        self,
        config: CoreConfig,
        *,
        element: Callable[..., ProcessingElement] = ProcessingElement,
    ) -> None:
        self.rows = config.rows
        self.cols = config.cols
        self._element = element
        super().__init__(
            {
                "a": In(data.ArrayLayout(signed(ACTIVATION_BITS), self.rows)),
                "switch": In(1),
                "w": In(data.ArrayLayout(signed(8), self.rows)),
                "shift": In(1),
                "psum": Out(data.ArrayLayout(signed(psum_width(self.rows)), self.cols)),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from a vector in ``a`` to its sum in column 0 of ``psum``."""
        return self.rows + 2

    def elaborate(self, platform: object) -> Module:
        m = Module()
        elements = [
            [self._add_element(m, row, column) for column in range(self.cols)]
            for row in range(self.rows)
        ]
        # Row r runs r cycles late: what enters row r + 1 has one more register.
        skewed = Cat(self.switch, self.shift)
        for row, line in enumerate(elements):
            if row:
                previous, skewed = skewed, Signal(2, name=f"control_{row}")
                m.d.sync += skewed.eq(previous)
            values = Cat(self.a[row], self.w[row])
            for stage in range(row):
                previous, values = values, Signal(len(values), name=f"skew_{row}_{stage}")
                m.d.sync += values.eq(previous)
            self._connect_row(m, line, values, skewed)
        for above, below in pairwise(elements):
            for upper, lower in zip(above, below, strict=True):
                m.d.comb += lower.psum.eq(upper.psum_out)
        for column, element in enumerate(elements[-1]):
            m.d.comb += self.psum[column].eq(element.psum_out)
        return m

    def _add_element(self, m: Module, row: int, column: int) -> ProcessingElement:
        element = self._element(above=row)
        m.submodules[f"pe_{row}_{column}"] = element
        return element

    def _connect_row(
        self, m: Module, line: list[ProcessingElement], values: Value, control: Value
    ) -> None:
        """Connect the elements of one row, left to right."""
        row = data.View(_ROW_INPUT, values)
        m.d.comb += [
            line[0].a.eq(row.a),
            line[0].w.eq(row.w),
            line[0].switch.eq(control[0]),
        ]
        for left, right in pairwise(line):
            m.d.comb += [
                right.a.eq(left.a_out),
                right.w.eq(left.w_out),
                right.switch.eq(left.switch_out),
            ]
        for element in line:
            m.d.comb += element.shift.eq(control[1])


_ROW_INPUT = data.StructLayout({"a": signed(ACTIVATION_BITS), "w": signed(8)})
