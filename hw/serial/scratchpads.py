"""The serial core's scratchpads: ``act`` and ``wide`` on two single-port memories each."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from intformer.config import CoreConfig
from intformer.hw.serial.spram import SPRAM_WORDS, Spram

__all__ = ["Scratchpads"]


class Scratchpads(wiring.Component):
    """Int8 or uint8 codes in ``act``, int16 codes in ``wide``; one access at a time.

    Parameters
    ----------
    config: ``act_words`` words of four codes, at most 16,384; ``wide_words`` codes, at most 32,768.
    target: see :class:`intformer.hw.serial.spram.Spram`.

    Members
    -------
    element: ``In(17)``; bit 16 is 1 for ``wide``. read, write: ``In(1)``; data: ``In(16)``.
    o: ``Out(32)``; the element read last, its sign extended. One cycle after ``read``, until
        the next access.
    word: ``In(14)``, read_word: ``In(1)``; read a word of ``act``, four codes.
    o_word: ``Out(32)``; one cycle later.
    """

    def __init__(self, config: CoreConfig, *, target: str | None = None) -> None:
        self._config = config
        self._target = target
        super().__init__(
            {
                "element": In(17),
                "read": In(1),
                "write": In(1),
                "data": In(16),
                "o": Out(32),
                "word": In(14),
                "read_word": In(1),
                "o_word": Out(32),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        access, is_wide = self.read | self.write, self.element[16]
        lane, half, was_wide = Signal(2), Signal(), Signal()
        with m.If(self.read):
            m.d.sync += [
                lane.eq(self.element[:2]),
                half.eq(self.element[14]),
                was_wide.eq(is_wide),
            ]
        halves, blocks = [], []
        for k in range(2):
            m.submodules[f"act_{k}"] = act = Spram(
                words=self._config.act_words, target=self._target
            )
            halves.append(act.o)
            m.d.comb += [
                act.addr.eq(Mux(self.read_word, self.word, self.element[2:16])),
                act.enable.eq(self.read_word | (access & ~is_wide)),
                act.write.eq(self.write & (self.element[1] == k)),
                act.mask.eq(Cat(~self.element[0], self.element[0])),
                act.data.eq(Cat(self.data[:8], self.data[:8])),
            ]
        for k, first in enumerate(range(0, self._config.wide_words, SPRAM_WORDS)):
            words = min(self._config.wide_words - first, SPRAM_WORDS)
            m.submodules[f"wide_{k}"] = wide = Spram(words=words, target=self._target)
            blocks.append(wide.o)
            m.d.comb += [
                wide.addr.eq(self.element[:14]),
                wide.enable.eq(access & is_wide & (self.element[14] == k)),
                wide.write.eq(self.write),
                wide.mask.eq(0b11),
                wide.data.eq(self.data),
            ]
        code, value = Signal(8), Signal(16)
        m.d.comb += [
            self.o_word.eq(Cat(halves)),
            code.eq(self.o_word.word_select(lane, 8)),
            value.eq(
                Mux(
                    was_wide,
                    Mux(half, blocks[-1], blocks[0]),
                    Cat(code, code[7].replicate(8)),
                )
            ),
            self.o.eq(Cat(value, value[15].replicate(16))),
        ]
        return m
