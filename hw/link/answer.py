"""From the answer's fields and the buffer to the line."""

from __future__ import annotations

from amaranth.hdl import Cat, Module

from intformer.hw.link.registers import Registers

__all__ = ["add_answer"]


def add_answer(m: Module, r: Registers) -> None:
    """States ``OPEN`` to ``CLOSE``; then ``REST``."""
    item = r.framer.i
    both = item.ready & r.crc.i.ready
    with m.State("OPEN"):
        m.d.comb += [item.payload.flag.eq(1)]
        m.d.sync += [r.lane.eq(0), r.want.eq(0)]
        with m.If(r.crc.i.ready):
            m.d.comb += [item.valid.eq(1), r.crc.clear.eq(1)]
            with m.If(item.ready):
                m.next = "HEAD"
    with m.State("HEAD"):
        _offer(m, r)
        with m.Switch(r.lane):
            with m.Case(0):
                m.d.comb += item.payload.data.eq(r.sequence)
            with m.Case(1):
                m.d.comb += item.payload.data.eq(r.command | 0x80)
            with m.Case(2):
                m.d.comb += item.payload.data.eq(r.length[:8])
            with m.Case(3):
                m.d.comb += item.payload.data.eq(r.length[8:])
            with m.Default():
                m.d.comb += item.payload.data.eq(
                    Cat(r.status, r.running, r.finished, r.core_error, r.repeated)
                )
        with m.If(both):
            m.d.sync += r.lane.eq(r.lane + 1)
            with m.If(r.lane == 4):
                m.d.sync += [r.lane.eq(0), r.length.eq(r.length - 1)]
                m.next = "MORE"
    with m.State("MORE"):
        m.next = "SEND"
        with m.If(r.length == 0):
            m.next = "SEAL"
    with m.State("SEND"):
        _offer(m, r)
        m.d.comb += item.payload.data.eq(r.read)
        with m.If(both):
            m.d.sync += [r.place.eq(r.place + 1), r.length.eq(r.length - 1)]
            m.next = "MORE"
    with m.State("SEAL"):
        m.d.comb += [
            item.payload.data.eq(r.crc.o),
            item.valid.eq(r.crc.i.ready),
            r.crc.next.eq(both),
        ]
        with m.If(both):
            m.d.sync += r.lane.eq(r.lane + 1)
            with m.If(r.lane == 3):
                m.next = "CLOSE"
    with m.State("CLOSE"):
        m.d.comb += [item.payload.flag.eq(1), item.valid.eq(1)]
        with m.If(item.ready):
            m.next = "REST"


def _offer(m: Module, r: Registers) -> None:
    """A byte for the framer and the CRC at once."""
    item = r.framer.i
    m.d.comb += [
        item.valid.eq(r.crc.i.ready),
        r.crc.i.valid.eq(item.ready),
        r.crc.i.payload.eq(item.payload.data),
    ]
