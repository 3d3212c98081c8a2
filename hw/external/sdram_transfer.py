"""Moves data between beats and the SDRAM's open rows, one word per cycle."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from intformer.config import CoreConfig
from intformer.hw.external.sdram_chip import SdramChip, SdramTiming
from intformer.hw.external.sdram_rows import Opened
from intformer.hw.external.sdram_split import Widths
from intformer.hw.parts.streams import delay
from intformer.hw.ports import BurstPort

__all__ = ["Transfer"]


class Transfer(wiring.Component):
    """Column commands, written words, and beats out of the words that are read.

    Everything that goes to the pins is for the next cycle.

    Parameters
    ----------
    read_delay: see :class:`~intformer.hw.external.sdram.Sdram`.

    Members
    -------
    i: ``In(stream)`` of :class:`Opened`.
    hold: ``In(1)``; no column command in this cycle.
    release, release_bank: ``Out``; this is the last command of a segment.
    go, write, bank, column: ``Out``; a command.
    beat: ``In``; the oldest beat of write data, which is there; pop: ``Out(1)``; go on to the next.
    word, mask: ``Out``; the word to write, 1 for each byte of it that must stay.
    dq: ``In``; the pins' word.
    rdata: ``Out``; the read channel of a :class:`~intformer.hw.ports.BurstPort`, without ``ready``.
    """

    def __init__(
        self, config: CoreConfig, chip: SdramChip, timing: SdramTiming, *, read_delay: int
    ) -> None:
        self._widths = Widths.of(config, chip)
        self._timing = timing
        self._read_delay = read_delay
        super().__init__(
            {
                "i": In(stream.Signature(Opened(config, chip))),
                "hold": In(1),
                "release": Out(1),
                "release_bank": Out(2),
                "go": Out(1),
                "write": Out(1),
                "bank": Out(2),
                "column": Out(chip.col_bits),
                "beat": In(8 * config.bus_bytes),
                "pop": Out(1),
                "word": Out(chip.data_bits),
                "mask": Out(chip.data_bytes),
                "dq": In(chip.data_bits),
                "rdata": Out(BurstPort(config).members["rdata"].signature.flip()),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        segment = Signal.like(self.i.payload, reset_less=True)
        active = Signal()
        last = Signal(reset_less=True)
        turning = Signal()  # the chip still has the bus
        m.d.comb += [
            self.go.eq(active & ~self.hold & ~(segment.write & turning)),
            self.i.ready.eq(~active | (self.go & last)),
            self.release.eq(self.go & last),
            self.release_bank.eq(segment.bank),
            self.write.eq(segment.write),
            self.bank.eq(segment.bank),
            self.column.eq(segment.place >> ceil_log2(self._widths.parts)),
        ]
        with m.If(self.go):
            m.d.sync += [
                segment.place.eq(segment.place + 1),
                segment.len.eq(segment.len - 1),
                last.eq(segment.len == 1),
            ]
        with m.If(self.i.ready):
            m.d.sync += [
                active.eq(self.i.valid),
                segment.eq(self.i.payload),
                last.eq(self.i.payload.len == 0),
            ]
        self._add_write(m, segment.place)
        self._add_read(m, segment, turning)
        return m

    def _add_write(self, m: Module, place: Signal) -> None:
        """Choose the word of the beat, or the bytes of the word."""
        words, parts = self._widths.words, self._widths.parts
        number = place[: ceil_log2(words * parts)]  # one of the two is 1
        m.d.comb += self.pop.eq(self.go & self.write & ((number == words - 1) | (words == 1)))
        if parts == 1:
            m.d.comb += self.word.eq(self.beat.word_select(number, len(self.word)))
        else:
            m.d.comb += self.word.eq(self.beat.replicate(parts))
            for part in range(parts):
                size = self._widths.bytes
                m.d.comb += self.mask.word_select(part, size).eq(
                    Mux(number == part, 0, (1 << size) - 1)
                )

    def _add_read(self, m: Module, segment: Signal, turning: Signal) -> None:
        """Take what comes from the chip some time after a command."""
        cas, words, parts = self._timing.cas, self._widths.words, self._widths.parts
        # A command of this cycle is at the pins in the next; its word comes `cas` cycles later.
        latency = 1 + cas + self._read_delay
        asked = Signal()
        m.d.comb += asked.eq(self.go & ~segment.write)
        under_way = Signal(latency)
        m.d.sync += [
            under_way.eq(Cat(asked, under_way)),
            # A write drives the bus at the earliest two cycles after the last word came.
            turning.eq(asked | under_way[:cas].any()),
        ]
        word = Signal(len(self.dq), reset_less=True)
        m.d.sync += word.eq(self.dq)
        arrived = under_way[-1]
        rdata = self.rdata
        if parts > 1:
            number = segment.place[: ceil_log2(parts)]
            part = delay(m, number, latency, name="part", reset_less=True)
            beat = Signal(len(rdata.payload), reset_less=True)
            m.d.sync += [beat.eq(word.word_select(part, len(beat))), rdata.valid.eq(arrived)]
            m.d.comb += rdata.payload.eq(beat)
        elif words > 1:
            number = Signal(range(words))
            beat = Signal(len(rdata.payload), reset_less=True)
            m.d.sync += rdata.valid.eq(arrived & (number == words - 1))
            with m.If(arrived):
                m.d.sync += [number.eq(number + 1), beat.eq(Cat(beat, word) >> len(word))]
            m.d.comb += rdata.payload.eq(beat)
        else:
            m.d.comb += [rdata.payload.eq(word), rdata.valid.eq(arrived)]
