"""From the line to a frame that is known to be right, or known to be wrong."""

from __future__ import annotations

from amaranth.hdl import Module
from amaranth.hdl import Mux as Choose

from intformer.host.protocol import CRC_BYTES, FRAME_MAX, HEADER_BYTES, Status
from intformer.hw.link.registers import Registers

__all__ = ["add_receiver"]


def add_receiver(m: Module, r: Registers) -> None:
    """States ``REST`` to ``TALLIED``; good frames go on to ``SUM``, broken ones to ``OPEN``."""
    with m.State("REST"), m.If(r.crc.i.ready):
        m.d.comb += r.crc.clear.eq(1)
        m.d.sync += [
            r.place.eq(0),
            r.bad.eq(0),
            r.silent.eq(0),
            r.judged.eq(0),
            r.far.eq(0),
            r.closed.eq(0),
        ]
        m.next = "RECEIVE"
    with m.State("RECEIVE"):
        with m.If(r.events.any()):
            m.next = "TALLY"
        with m.Else():
            _receive_byte(m, r)
    with m.State("JUDGE"):
        _judge(m, r)
        m.next = "COUNTED"
    with m.State("TALLY"):
        m.d.comb += r.tallying.eq(1)
        m.next = "LOOK"
    with m.State("LOOK"):
        m.d.comb += r.tallying.eq(1)
        m.next = "COUNT"
    with m.State("COUNT"):
        m.d.comb += [r.tallying.eq(1), r.write.en.eq(1), r.write.data.eq(r.read + 1)]
        m.d.sync += r.high.eq(~r.high)
        with m.If((r.read != 0xFF) | r.high):
            m.d.sync += [r.high.eq(0), r.events.bit_select(r.pick, 1).eq(0)]
        m.next = "COUNTED"
    with m.State("COUNTED"):
        with m.If(r.events.any()):
            m.next = "TALLY"
        with m.Elif(~r.judged):
            m.next = "RECEIVE"
        with m.Elif(r.good):
            m.next = "SUM"
        with m.Elif(r.crc.good & r.command[7]):
            m.next = "REST"  # an answer, perhaps our own: never answer to that
        with m.Else():
            m.d.sync += [r.length.eq(1), r.closed.eq(1)]
            m.next = "OPEN"


def _receive_byte(m: Module, r: Registers) -> None:
    item = r.deframer.o
    byte = item.payload.data
    m.d.comb += item.ready.eq(r.crc.i.ready)
    with m.If(~item.valid):
        m.d.comb += r.waiting.eq(r.place.any())
        with m.If(r.silence_over):
            m.d.comb += r.deframer.drop.eq(1)
            m.d.sync += r.silent.eq(1)
            m.next = "JUDGE"
    with m.Elif(item.ready & item.payload.end), m.If(r.place.any() | item.payload.cut):
        m.d.sync += r.bad.eq(r.bad | item.payload.cut)
        m.next = "JUDGE"
    with m.Elif(item.ready):
        m.d.comb += [
            r.crc.i.valid.eq(1),
            r.write.en.eq(1),
            r.write.data.eq(byte),
        ]
        with m.If(r.place == FRAME_MAX):
            m.d.sync += r.bad.eq(1)
        with m.Else():
            m.d.sync += r.place.eq(r.place + 1)
        _keep_field(m, r, byte)


def _keep_field(m: Module, r: Registers, byte) -> None:
    """Put a byte of the header, or of the two numbers that may follow it, into its register."""
    with m.Switch(r.place):
        with m.Case(0):
            m.d.sync += r.repeated.eq(r.seen & (byte == r.last_sequence))
        with m.Case(1):
            m.d.sync += r.command.eq(byte)
        with m.Case(2):
            m.d.sync += r.length[:8].eq(byte)
        with m.Case(3):
            m.d.sync += r.length[8:].eq(byte)
            with m.If(byte[1:].any()):
                m.d.sync += r.bad.eq(1)
        for start, word in ((HEADER_BYTES, r.address), (HEADER_BYTES + 4, r.left)):
            for lane in range(4):
                with m.Case(start + lane):
                    if 8 * lane < len(word):
                        m.d.sync += word[8 * lane : 8 * lane + 8].eq(byte)
                    else:
                        m.d.sync += r.far.eq(r.far | byte.any())


def _judge(m: Module, r: Registers) -> None:
    whole = HEADER_BYTES + CRC_BYTES
    short = r.silent | (r.place < whole)
    good = ~(r.silent | r.bad | r.command[7]) & r.crc.good & (r.place == r.length + whole)
    m.d.sync += [
        r.judged.eq(1),
        r.good.eq(good),
        r.status.eq(Choose(short, Status.SHORT, Status.BROKEN)),
    ]
    with m.If(good):
        m.d.sync += r.event("frames").eq(1)
    with m.Elif(short):
        m.d.sync += r.event("short").eq(1)
    with m.Else():
        m.d.sync += r.event("broken").eq(1)
