"""The processing element of the systolic array, and the foot of a column of them."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from intformer.hw.matmul.formats import Format

__all__ = ["Foot", "ProcessingElement"]


class ProcessingElement(wiring.Component):
    """A multiplier of the array, with its word of weights and the next tile's.

    Parameters
    ----------
    form: the array's number format.
    above: number of processing elements above this one in its segment.

    Members
    -------
    a, a_out: encoded activations from the left and, one cycle later, to the right.
    switch, switch_out: ``1`` with the first activation of a tile: this one and the next ones are
        multiplied with the weights that are in the shadow register when it arrives.
    w, w_out: shadow chain of encoded weights; ``w_out`` is the shadow register of one cycle before.
    shift, shift_out: in a cycle with ``shift`` the shadow register takes ``w``; one cycle later it
        is the turn of the element to the right, which takes what was there.
    psum, psum_out: sums of the terms from above, and with this product's to below.

    Notes
    -----
    The term of an activation that arrives in cycle ``t`` is added to the ``psum`` of cycle
    ``t + 1 + product_latency``, plus the term's lag; the sum is in ``psum_out`` one cycle later.
    """

    def __init__(self, form: Format, *, above: int) -> None:
        self._form = form
        self._above = above
        self._product = form.product()
        word = len(self._product.word)
        super().__init__(
            {
                "a": In(form.activation_word),
                "a_out": Out(form.activation_word),
                "switch": In(1),
                "switch_out": Out(1),
                "w": In(word),
                "w_out": Out(word),
                "shift": In(1),
                "shift_out": Out(1),
                "psum": In(form.partial(above)),
                "psum_out": Out(form.partial(above + 1)),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.product = product = self._product
        activation = Signal.like(self.a, reset_less=True)
        shadow = Signal.like(self.w, reset_less=True)
        weight = Signal.like(self.w, reset_less=True)
        passed = Signal.like(self.w, reset_less=True)
        # Elements of other rows have the same ones at the same time. Synthesis would make them one,
        # with readers all over the device.
        switch, shift = (
            Signal(name=name, reset_less=True, attrs={"keep": 1})
            for name in ("switched", "shifted")
        )
        m.d.sync += [
            activation.eq(self.a),
            switch.eq(self.switch),
            shift.eq(self.shift),
            passed.eq(shadow),
        ]
        with m.If(self.shift):
            m.d.sync += shadow.eq(self.w)
        with m.If(self.switch):
            m.d.sync += weight.eq(shadow)
        m.d.comb += [
            self.a_out.eq(activation),
            self.w_out.eq(passed),
            self.switch_out.eq(switch),
            self.shift_out.eq(shift),
            product.a.eq(activation.as_signed()),
            product.word.eq(weight),
        ]
        for name, kind in self._form.terms.items():
            value = getattr(product, name)
            if kind.carry:
                # The carry enters the adder's lowest bit, which is dropped.
                above = self.psum[name] if self._above else Const(0)
                carried = Cat(getattr(product, f"{name}_carry"), value).as_signed()
                value = (Cat(Const(1), above).as_signed() + carried) >> 1
            elif self._above:
                value = self.psum[name] + value
            total = Signal.like(self.psum_out[name], name=f"psum_{name}", reset_less=True)
            m.d.sync += total.eq(value)
            m.d.comb += self.psum_out[name].eq(total)
        return m


class Foot(wiring.Component):
    """Turns the sums of the terms at the foot of the segments into the sums of the columns.

    Parameters
    ----------
    form: the array's number format.
    segments: rows of every segment.

    Members
    -------
    segment_N: ``In``; the terms of segment ``N``.
    sums: ``Out``; one for each column of an element and each vector, the format's ``foot_latency``
        later.
    """

    def __init__(self, form: Format, *, segments: Sequence[int]) -> None:
        self._form = form
        self._count = len(segments)
        members = {f"segment_{n}": In(form.partial(rows)) for n, rows in enumerate(segments)}
        count = form.columns * form.vectors
        sums = data.ArrayLayout(form.sum_shape(sum(segments)), count)
        super().__init__({**members, "sums": Out(sums)})

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        segments = [
            {name: getattr(self, f"segment_{n}")[name] for name in self._form.terms}
            for n in range(self._count)
        ]
        for column, total in enumerate(self._form.foot(m, segments)):
            m.d.comb += self.sums[column].eq(total)
        return m
