"""The entrance of the SDRAM controller: bursts become segments, write data waits in a buffer."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from intformer.config import CoreConfig
from intformer.hw.external.sdram_chip import SdramChip
from intformer.hw.ports import BurstPort

__all__ = ["SEGMENT", "Segment", "Splitter", "Widths", "WriteBuffer"]

SEGMENT = 32
"""Most words that one segment transfers; segments end at multiples of it."""


@dataclass(frozen=True)
class Widths:
    """How beats and the chip's words fit together.

    Attributes
    ----------
    words: words per beat, if the bus is as wide as the chip or wider; else 1.
    parts: beats per word, if the bus is narrower; else 1.
    bytes: of an access, the smaller of beat and word.
    """

    words: int
    parts: int
    bytes: int

    @staticmethod
    def of(config: CoreConfig, chip: SdramChip) -> Widths:
        """Of this bus and chip.

        Raises
        ------
        ValueError
            If the bus is more than four times as wide as the chip.
        """
        bus, word = config.bus_bytes, chip.data_bytes
        if bus > 4 * word:
            raise ValueError(
                f"bus_bytes must be at most {4 * word} with {chip.name} ({chip.data_bits} bits), "
                f"not {bus!r}"
            )
        return Widths(words=max(1, bus // word), parts=max(1, word // bus), bytes=min(bus, word))

    def place_bits(self, chip: SdramChip) -> int:
        """Bits of an access's place in its row: the column, then the part of the word."""
        return chip.col_bits + ceil_log2(self.parts)


class Segment(data.StructLayout):
    """Accesses that follow each other in one row.

    ``bank``, ``row``; ``place``: of the first access in the row; ``len``: accesses minus one;
    ``write``: direction.
    """

    def __init__(self, config: CoreConfig, chip: SdramChip) -> None:
        place = Widths.of(config, chip).place_bits(chip)
        super().__init__(
            {
                "place": place,
                "bank": 2,
                "row": chip.row_bits,
                "len": ceil_log2(SEGMENT),
                "write": 1,
            }
        )


class WriteBuffer(wiring.Component):
    """Holds write data until the chip takes them.

    Parameters
    ----------
    depth: beats; a power of two.

    Members
    -------
    i: ``In(stream)`` of beats; ``ready`` is a register.
    stored: ``Out(1)``; a beat was stored; it can be popped from the next cycle on.
    beat: ``Out``; the oldest. pop: ``In(1)``; go on to the next.
    """

    def __init__(self, config: CoreConfig, *, depth: int) -> None:
        self._depth = depth
        width = 8 * config.bus_bytes
        super().__init__(
            {"i": In(stream.Signature(width)), "stored": Out(1), "beat": Out(width), "pop": In(1)}
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        # Distributed, or the pins' registers would become those of a block RAM, which is slow.
        memory = Memory(
            shape=len(self.beat),
            depth=self._depth,
            init=[],
            attrs={"no_rw_check": 1, "ram_style": "distributed"},
        )
        m.submodules.memory = memory
        write, read = memory.write_port(), memory.read_port(domain="comb")
        level = Signal(range(self._depth + 1))
        ready = Signal()
        m.d.comb += [
            self.i.ready.eq(ready),
            self.stored.eq(self.i.valid & ready),
            write.en.eq(self.stored),
            write.data.eq(self.i.payload),
            self.beat.eq(read.data),
        ]
        m.d.sync += [
            level.eq(level + self.stored - self.pop),
            # Known a cycle late: a beat that is being stored may take the last place but one.
            ready.eq(level < self._depth - 1),
        ]
        for port, step in ((write, self.stored), (read, self.pop)):
            with m.If(step):
                m.d.sync += port.addr.eq(port.addr + 1)
        return m


class Splitter(wiring.Component):
    """Splits bursts at multiples of :data:`SEGMENT` accesses, so also at the ends of rows.

    A segment in two cycles, a command in one more; one more for writes. A segment of a write comes
    when all its data are in the buffer, so that a writer who pauses never holds up a refresh.

    Members
    -------
    cmd: ``In``; the commands of a :class:`~intformer.hw.ports.BurstPort`.
    stored: ``In(1)``; a beat of write data was stored.
    o: ``Out(stream)`` of :class:`Segment`, from registers.
    """

    def __init__(self, config: CoreConfig, chip: SdramChip) -> None:
        self._widths = Widths.of(config, chip)
        self._segment = Segment(config, chip)
        super().__init__(
            {
                "cmd": In(BurstPort(config).members["cmd"].signature),
                "stored": In(1),
                "o": Out(stream.Signature(self._segment)),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        low = ceil_log2(SEGMENT)
        shift = ceil_log2(self._widths.bytes)
        word_shift = ceil_log2(self._widths.words)
        o = self.o.payload
        position_bits = o.place.shape().width + 2 + o.row.shape().width
        position = Signal(position_bits, reset_less=True)
        left = Signal(8 + word_shift, reset_less=True)  # accesses minus one
        write = Signal(reset_less=True)
        length = Signal(low, reset_less=True)
        more = Signal(reset_less=True)  # the burst goes on behind this segment
        m.d.comb += [
            o.place.eq(position),
            o.bank.eq(position >> len(o.place)),
            o.row.eq(position >> (len(o.place) + 2)),
            o.len.eq(length),
            o.write.eq(write),
        ]
        # Stored beats that no segment covers yet.
        unclaimed = Signal(8)
        beats = (length >> word_shift) + 1
        claims = self.o.valid & self.o.ready & write
        m.d.sync += unclaimed.eq(unclaimed + self.stored - Mux(claims, beats, 0))

        with m.FSM():
            with m.State("TAKE"):
                m.d.comb += self.cmd.ready.eq(1)
                m.d.sync += [
                    position.eq(self.cmd.payload.addr >> shift),
                    left.eq(((self.cmd.payload.len + 1) << word_shift) - 1),
                    write.eq(self.cmd.payload.write),
                ]
                with m.If(self.cmd.valid):
                    m.next = "MEASURE"
            with m.State("MEASURE"):
                room = ~position[:low]  # minus one
                beyond = left > room
                m.d.sync += [length.eq(Mux(beyond, room, left)), more.eq(beyond)]
                with m.If(write):
                    m.next = "WAIT"
                with m.Else():
                    m.d.sync += self.o.valid.eq(1)
                    m.next = "GIVE"
            with m.State("WAIT"), m.If(unclaimed >= beats):
                m.d.sync += self.o.valid.eq(1)
                m.next = "GIVE"
            with m.State("GIVE"), m.If(self.o.ready):
                m.d.sync += [
                    self.o.valid.eq(0),
                    position[:low].eq(0),
                    position[low:].eq(position[low:] + 1),
                    left.eq(left - length - 1),
                ]
                with m.If(more):
                    m.next = "MEASURE"
                with m.Else():
                    m.next = "TAKE"
        return m
