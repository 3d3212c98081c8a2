"""An SPI target that carries the same bytes as the UART."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from intformer.host.protocol import FLAG

__all__ = ["SpiTarget"]


class SpiTarget(wiring.Component):
    """SPI mode 0, the most significant bit first, a byte in each direction at a time.

    Where there is nothing to send, flags are sent, which separate frames and mean nothing else:
    the host clocks as many bytes as it likes and looks for frames in what it gets, and sends flags
    itself while it only listens. The clock must be at most an eighth of the core's; between the
    beginning of ``cs`` and the first rising edge, and between two bytes, nothing more is needed
    than that. A byte during which ``cs`` ends is dropped in both directions.

    Members
    -------
    sck, cs, copi: ``In(1)``, cipo: ``Out(1)``: the line; ``cs`` is active high, all are
        synchronized inside.
    i: ``In(stream)`` of bytes to send. A frame must be given without long pauses: one byte in the
        time of one.
    o: ``Out(stream)`` of bytes received.
    overrun: ``Out(1)``; for one cycle: a byte was dropped because ``o`` still held another.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "sck": In(1),
                "cs": In(1),
                "copi": In(1),
                "cipo": Out(1),
                "i": In(stream.Signature(8)),
                "o": Out(stream.Signature(8)),
                "overrun": Out(1),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        sck, cs, copi = Signal(), Signal(), Signal()
        for name, pin, inside in (("sck", self.sck, sck), ("cs", self.cs, cs)):
            m.submodules[name] = FFSynchronizer(pin, inside)
        m.submodules.copi = FFSynchronizer(self.copi, copi)
        before, selected = Signal(), Signal()
        count = Signal(3)
        received = Signal(7, reset_less=True)
        sent = Signal(8, reset_less=True)
        rises, falls = selected & sck & ~before, selected & ~sck & before
        begins = cs & ~selected
        byte = Cat(copi, received)
        m.d.sync += [before.eq(sck), selected.eq(cs), self.overrun.eq(0)]
        m.d.comb += self.cipo.eq(sent[7])
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(rises):
            m.d.sync += [received.eq(byte), count.eq(count + 1)]
            with m.If(count == 7):
                with m.If(self.o.valid & ~self.o.ready):
                    m.d.sync += self.overrun.eq(1)
                with m.Else():
                    m.d.sync += [self.o.valid.eq(1), self.o.payload.eq(byte)]
        with m.If(~cs):
            m.d.sync += count.eq(0)
        load = begins | (falls & (count == 0))
        m.d.comb += self.i.ready.eq(load)
        with m.If(load):
            m.d.sync += sent.eq(Mux(self.i.valid, self.i.payload, FLAG))
        with m.Elif(falls):
            m.d.sync += sent.eq(sent << 1)
        return m
