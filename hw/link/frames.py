"""Bytes on the line to bytes of frames, and back: flags and escapes."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intformer.host.protocol import ESCAPE, ESCAPE_XOR, FLAG

__all__ = ["Deframer", "Framer", "received_layout", "sent_layout"]


def received_layout() -> data.StructLayout:
    """``end``: a flag; ``cut``: it came right after an escape; ``data``: a byte, if not ``end``."""
    return data.StructLayout({"data": 8, "end": 1, "cut": 1})


def sent_layout() -> data.StructLayout:
    """``flag``: a flag, whatever ``data`` is."""
    return data.StructLayout({"data": 8, "flag": 1})


class Deframer(wiring.Component):
    """Takes the escapes out of the bytes of the line and finds the flags.

    Before the first flag, and after bytes that were dropped, everything up to the next flag is
    dropped. No cycle between ``i`` and ``o``.

    Members
    -------
    i: ``In(stream)`` of bytes from the line.
    o: ``Out(stream)`` of :func:`received_layout`.
    closed: ``In(1)``; take and drop everything.
    drop: ``In(1)``; for one cycle, while nothing is taken: drop everything up to the next flag.
    lost: ``Out(1)``; a byte that is no flag is dropped in this cycle.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "i": In(stream.Signature(8)),
                "o": Out(stream.Signature(received_layout())),
                "closed": In(1),
                "drop": In(1),
                "lost": Out(1),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        hunting = Signal(init=1)
        escaped = Signal()
        byte = self.i.payload
        flag, escape = byte == FLAG, byte == ESCAPE
        drops = self.closed | (hunting & ~flag)
        silent = drops | (escape & ~escaped)  # nothing of it is handed on
        m.d.comb += [
            self.o.payload.data.eq(byte ^ Mux(escaped, ESCAPE_XOR, 0)),
            self.o.payload.end.eq(flag),
            self.o.payload.cut.eq(escaped),
            self.o.valid.eq(self.i.valid & ~silent),
            self.i.ready.eq(silent | self.o.ready),
            self.lost.eq(self.i.valid & drops & ~flag),
        ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [
                hunting.eq(~flag & drops),
                escaped.eq(escape & ~escaped & ~drops),
            ]
        with m.If(self.drop):
            m.d.sync += [hunting.eq(1), escaped.eq(0)]
        return m


class Framer(wiring.Component):
    """Puts escapes before the bytes of frames that look like flags or escapes.

    Members
    -------
    i: ``In(stream)`` of :func:`sent_layout`.
    o: ``Out(stream)`` of bytes for the line, from registers; one cycle later at the earliest.
    """

    def __init__(self) -> None:
        super().__init__({"i": In(stream.Signature(sent_layout())), "o": Out(stream.Signature(8))})

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        item, o = self.i.payload, self.o
        second = Signal()  # `o` is an escape, and what comes behind it is still to come
        special = ~item.flag & ((item.data == FLAG) | (item.data == ESCAPE))
        moves = ~o.valid | o.ready
        m.d.comb += self.i.ready.eq(moves & (second | ~special))
        with m.If(moves):
            m.d.sync += [
                o.valid.eq(self.i.valid),
                second.eq(self.i.valid & special & ~second),
            ]
            with m.If(item.flag):
                m.d.sync += o.payload.eq(FLAG)
            with m.Elif(special & ~second):
                m.d.sync += o.payload.eq(ESCAPE)
            with m.Else():
                m.d.sync += o.payload.eq(item.data ^ Mux(second, ESCAPE_XOR, 0))
        return m
