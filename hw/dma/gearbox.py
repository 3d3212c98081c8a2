"""Conversion between words of different sizes."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from intformer.hw.parts.streams import delay

__all__ = ["Gearbox"]


class Gearbox(wiring.Component):
    """Turns a stream of words of one size into words of another, the lowest bytes first.

    One word of the smaller size per cycle. An output word is valid two cycles after the last input
    word that it needs, for one cycle; it cannot be held back.

    Parameters
    ----------
    sizes:
        For each mode, the bytes of an input word and of an output word. One must divide the
        other.

    Members
    -------
    mode: ``In``; changes only while the gearbox is empty, two cycles before the next word or more.
    i: ``In(stream)``; the word is in the lowest bytes. ``ready`` is a register.
    hold: ``In(1)``; take no more words from two cycles later on: :meth:`late` output words may
        still come.
    valid: ``Out(1)``, payload: ``Out``; :meth:`output` finds the output word in the payload.
    last: ``In(1)``; with an output word: drop the rest of its input word.
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
                "hold": In(1),
                "valid": Out(1),
                "payload": Out(8 * self._bytes),
                "last": In(1),
                "partial": Out(1),
            }
        )

    @property
    def _one_input(self) -> bool:
        """Whether all modes take words of the same size."""
        return len({taken for taken, _ in self._sizes}) == 1

    def late(self, *modes: int) -> int:
        """Output words that may come in the cycle of ``hold`` and after it, in one of ``modes``."""
        sizes = (self._sizes[mode] for mode in modes)
        return 2 * max(max(taken // given, 1) for taken, given in sizes) + 2

    def output(self, mode: int) -> Value:
        """The output word of ``mode``, within the payload."""
        taken, given = self._sizes[mode]
        start = self._bytes - max(taken, given)
        return self.payload[8 * start : 8 * (start + given)]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # What is needed for an output word, less one, and what an input word gives, less one.
        need = [max(given // taken, 1) - 1 for taken, given in self._sizes]
        more = [max(taken // given, 1) - 1 for taken, given in self._sizes]
        needed = Signal(range(max(need) + 1))
        gives = Signal(range(max(more) + 1))
        m.d.sync += [
            needed.eq(Array(Const(value, needed.shape()) for value in need)[self.mode]),
            gives.eq(Array(Const(value, gives.shape()) for value in more)[self.mode]),
        ]
        got = Signal(range(max(need) + 1))
        left = Signal(range(max(more) + 1))  # output words after this one
        pace = Signal.like(left)  # cycles until the next input word, less one

        enters = self.i.valid & self.i.ready
        completes = got == needed
        m.d.comb += self.partial.eq(got != 0)
        with m.If(enters):
            m.d.sync += [
                got.eq(Mux(completes, 0, got + 1)),
                pace.eq(gives),
                self.i.ready.eq((gives == 0) & ~self.hold),
            ]
        with m.Else():
            m.d.sync += [
                pace.eq(Mux(pace == 0, 0, pace - 1)),
                self.i.ready.eq((pace <= 1) & ~self.hold),
            ]
        # Many registers wait for it: one that does nothing else, and the word beside it.
        entered = delay(m, enters, 1, name="entered", keep=True)
        word = delay(m, self.i.payload, 1, name="word", reset_less=True)
        whole = delay(m, completes, 1, name="whole")
        with m.If(entered):
            m.d.sync += [self.valid.eq(whole), left.eq(gives)]
        with m.Elif((left == 0) | (self.valid & self.last)):
            m.d.sync += [self.valid.eq(0), left.eq(0)]
        with m.Else():
            m.d.sync += left.eq(left - 1)

        # Words enter at the top and leave at the bottom of what has entered.
        held = Signal(8 * self._bytes, reset_less=True)
        m.d.comb += self.payload.eq(held)
        with m.If(entered):
            for size in sorted({taken for taken, _ in self._sizes}):
                modes = [mode for mode, (taken, _) in enumerate(self._sizes) if taken == size]
                with m.If(Cat(self.mode == mode for mode in modes).any() | self._one_input):
                    m.d.sync += held.eq(Cat(held[8 * size :], word[: 8 * size]))
        with m.Else():
            for mode, (taken, given) in enumerate(self._sizes):
                if taken > given:
                    with m.If(self.mode == mode):
                        m.d.sync += held[-8 * taken :].eq(held[8 * given - 8 * taken :])
        return m
