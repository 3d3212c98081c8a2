"""From the answer's fields and the buffer to the line."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value

from intformer.host.protocol import ANSWER, Command
from intformer.hw.link.registers import DATA_AT, INFO_AT, NOTICE_AT, TALLY_AT, Registers

__all__ = ["add_answer"]

# What is sent next, in `lane`.
_SEQUENCE, _COMMAND, _LENGTH, _STATUS, _DATA = 0, 1, 2, 4, 5


def add_answer(m: Module, r: Registers) -> None:
    """States ``OPEN`` to ``CLOSE``; then ``REST``."""
    item = r.framer.i
    both = item.ready & r.crc.i.ready
    with m.State("OPEN"):
        m.d.comb += item.payload.flag.eq(1)
        m.d.sync += [
            r.lane.eq(_SEQUENCE),
            r.want.eq(0),
            r.place.eq(Mux(r.good, 0, NOTICE_AT)),
        ]
        with m.If(r.crc.i.ready):
            m.d.comb += [item.valid.eq(1), r.crc.clear.eq(1)]
            with m.If(item.ready):
                m.next = "MORE"
    with m.State("MORE"):  # the buffer reads
        m.next = "READY"
        with m.If((r.lane == _DATA) & (r.length == 0)):
            m.d.sync += r.lane.eq(0)
            m.next = "SEAL"
    with m.State("READY"):
        m.next = "SEND"
    with m.State("SEND"):
        m.d.comb += [
            item.payload.data.eq(_byte(m, r)),
            item.valid.eq(r.crc.i.ready),
            r.crc.i.valid.eq(item.ready),
        ]
        with m.If(both):
            m.d.sync += r.place.eq(r.place + 1)
            with m.If(r.lane != _DATA):
                m.d.sync += r.lane.eq(r.lane + 1)
            with m.If(r.lane >= _STATUS):
                m.d.sync += r.length.eq(r.length - 1)
            with m.If(r.lane == _STATUS):
                m.d.sync += r.place.eq(_data_at(r))
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


def _byte(m: Module, r: Registers) -> Value:
    """The byte to send."""
    byte = Signal(8, name="sent_byte")
    state = Cat(r.status, r.running, r.finished, r.core_error, r.repeated & r.good)
    with m.Switch(r.lane):
        with m.Case(_COMMAND):
            m.d.comb += byte.eq(r.read | ANSWER)
        with m.Case(_LENGTH):
            m.d.comb += byte.eq(r.length[:8])
        with m.Case(_LENGTH + 1):
            m.d.comb += byte.eq(r.length[8:])
        with m.Case(_STATUS):
            m.d.comb += byte.eq(state)
        with m.Default():
            m.d.comb += byte.eq(r.read)
    return byte


def _data_at(r: Registers) -> Value:
    """Where the data of the answer begin."""
    return Mux(
        r.command == Command.INFO,
        INFO_AT,
        Mux(r.command == Command.ERRORS, TALLY_AT, DATA_AT),
    )
