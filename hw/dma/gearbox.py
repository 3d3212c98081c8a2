"""Conversion between words of different sizes."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Array, Cat, Const, Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Gearbox"]


class Gearbox(wiring.Component):
    """Turns a stream of words of one size into words of another, the lowest bytes first.

    One word of the smaller size per cycle. An output word is valid one cycle after the last input
    word that it needs.

    Parameters
    ----------
    sizes:
        For each mode, the bytes of an input word and of an output word. One must divide the
        other.

    Members
    -------
    mode: ``In``; changes only while the gearbox is empty.
    i: ``In(stream)``; the word is in the lowest bytes.
    o: ``Out(stream)``; :meth:`output` finds the word in the payload.
    last: ``In(1)``; with the transfer of an output word: drop the rest of its input word.
    partial: ``Out(1)``; some input words of an output word are held, and more are needed.
    """

    def __init__(self, *, sizes: Sequence[tuple[int, int]]) -> None:
        for taken, given in sizes:
            if min(taken, given) < 1 or max(taken, given) % min(taken, given):
                raise ValueError(f"one size must divide the other, not {taken} and {given} bytes")
        self._sizes = tuple(sizes)
        self._bytes = max(max(pair) for pair in sizes)
        super().__init__(
            {
                "mode": In(range(len(sizes))),
                "i": In(stream.Signature(8 * max(taken for taken, _ in sizes))),
                "o": Out(stream.Signature(8 * self._bytes)),
                "last": In(1),
                "partial": Out(1),
            }
        )

    def output(self, mode: int) -> Value:
        """The output word of ``mode``, within the payload of ``o``."""
        taken, given = self._sizes[mode]
        start = self._bytes - max(taken, given)
        return self.o.payload[8 * start : 8 * (start + given)]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # What is needed for an output word, less one, and what an input word gives.
        need = [max(given // taken, 1) - 1 for taken, given in self._sizes]
        gives = [max(taken // given, 1) for taken, given in self._sizes]
        need_of = Array(Const(value, range(max(need) + 1)) for value in need)
        gives_of = Array(Const(value, range(max(gives) + 1)) for value in gives)
        got = Signal(range(max(need) + 1))
        have = Signal(range(max(gives) + 1))

        leaves = self.o.valid & self.o.ready
        final = leaves & ((have == 1) | self.last)
        enters = self.i.valid & self.i.ready
        m.d.comb += [
            self.o.valid.eq(have != 0),
            self.i.ready.eq((have == 0) | final),
            self.partial.eq(got != 0),
        ]
        with m.If(enters):
            with m.If(got == need_of[self.mode]):
                m.d.sync += [got.eq(0), have.eq(gives_of[self.mode])]
            with m.Else():
                m.d.sync += [got.eq(got + 1), have.eq(0)]
        with m.Elif(final):
            m.d.sync += have.eq(0)
        with m.Elif(leaves):
            m.d.sync += have.eq(have - 1)

        # Words enter at the top and leave at the bottom of what has entered.
        held = Signal(8 * self._bytes)
        m.d.comb += self.o.payload.eq(held)
        with m.Switch(self.mode):
            for mode, (taken, given) in enumerate(self._sizes):
                with m.Case(mode):
                    with m.If(enters):
                        m.d.sync += held.eq(Cat(held[8 * taken :], self.i.payload[: 8 * taken]))
                    with m.Elif(leaves):
                        m.d.sync += held.eq(held[8 * given :])
        return m
