"""A UART: 8 data bits, no parity, 1 stop bit, in both directions."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

__all__ = ["Uart", "UartReceiver", "UartSender"]

_LEAST_DIVISOR = 4


def _check(divisor: int) -> None:
    if not (isinstance(divisor, int) and _LEAST_DIVISOR <= divisor < 1 << 16):
        raise ValueError(f"divisor must be from {_LEAST_DIVISOR} to 65535, not {divisor!r}")


class UartSender(wiring.Component):
    """Sends bytes, the least significant bit first; the line is high at rest.

    Parameters
    ----------
    divisor: clocks per bit, at least 4.

    Members
    -------
    i: ``In(stream)`` of bytes; one in ten bits and a cycle.
    tx: ``Out(1)``, from a register.
    """

    def __init__(self, *, divisor: int) -> None:
        _check(divisor)
        self._divisor = divisor
        super().__init__({"i": In(stream.Signature(8)), "tx": Out(1, init=1)})

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        bits = Signal(10)  # what is still to send: the stop bit is the last one in it
        left = Signal(range(self._divisor))
        tick = left == 0
        m.d.comb += self.i.ready.eq(tick & ~bits.any())
        with m.If(~tick):
            m.d.sync += left.eq(left - 1)
        with m.Elif(bits.any()):
            m.d.sync += [self.tx.eq(bits[0]), bits.eq(bits[1:]), left.eq(self._divisor - 1)]
        with m.Elif(self.i.valid):
            m.d.sync += bits.eq(Cat(Const(0, 1), self.i.payload, Const(1, 1)))
        return m


class UartReceiver(wiring.Component):
    """Receives bytes; each bit is sampled once, in its middle.

    A byte whose stop bit is low is dropped; the receiver then waits until the line is high. A
    start bit that is not low any more in its middle is noise and ignored. The sender's clock may
    differ by 3 % at ``divisor`` 8 or more.

    Parameters
    ----------
    divisor: clocks per bit, at least 4.

    Members
    -------
    rx: ``In(1)``; synchronized inside.
    o: ``Out(stream)`` of bytes. A byte that is not taken before the next one has come is kept,
        and the next one dropped.
    framing: ``Out(1)``; for one cycle: a byte was dropped for its stop bit.
    overrun: ``Out(1)``; for one cycle: a byte was dropped because ``o`` still held another.
    """

    def __init__(self, *, divisor: int) -> None:
        _check(divisor)
        self._divisor = divisor
        super().__init__(
            {
                "rx": In(1),
                "o": Out(stream.Signature(8)),
                "framing": Out(1),
                "overrun": Out(1),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        line = Signal(init=1)
        m.submodules.synchronizer = FFSynchronizer(self.rx, line, init=1)
        bits = Signal(8, reset_less=True)
        count = Signal(range(10))  # samples still to take
        left = Signal(range(self._divisor), reset_less=True)
        tick = left == 0
        m.d.sync += [
            left.eq(left - 1),
            self.framing.eq(0),
            self.overrun.eq(0),
        ]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(tick):
            m.d.sync += left.eq(self._divisor - 1)
        with m.FSM():
            with m.State("REST"):
                # The middle of the start bit, counted from the cycle that sees it low.
                m.d.sync += left.eq((self._divisor - 1) // 2)
                with m.If(~line):
                    m.next = "START"
            with m.State("START"):
                m.d.sync += count.eq(8)
                with m.If(tick):
                    with m.If(line):
                        m.next = "REST"
                    with m.Else():
                        m.next = "DATA"
            with m.State("DATA"), m.If(tick):
                m.d.sync += [bits.eq(Cat(bits[1:], line)), count.eq(count - 1)]
                with m.If(count == 1):
                    m.next = "STOP"
            with m.State("STOP"), m.If(tick):
                with m.If(~line):
                    m.d.sync += self.framing.eq(1)
                    m.next = "BREAK"
                with m.Else():
                    with m.If(self.o.valid & ~self.o.ready):
                        m.d.sync += self.overrun.eq(1)
                    with m.Else():
                        m.d.sync += [self.o.valid.eq(1), self.o.payload.eq(bits)]
                    m.next = "REST"
            with m.State("BREAK"), m.If(line):
                m.next = "REST"
        return m


class Uart(wiring.Component):
    """:class:`UartReceiver` and :class:`UartSender`, full duplex.

    Parameters
    ----------
    divisor: clocks per bit, at least 4; both directions have it.

    Members
    -------
    rx: ``In(1)``, tx: ``Out(1)``: the line.
    i: ``In(stream)`` of bytes to send. o: ``Out(stream)`` of bytes received.
    framing, overrun: ``Out(1)``; for one cycle each: a received byte was dropped.
    """

    def __init__(self, *, divisor: int) -> None:
        _check(divisor)
        self._divisor = divisor
        super().__init__(
            {
                "rx": In(1),
                "tx": Out(1, init=1),
                "i": In(stream.Signature(8)),
                "o": Out(stream.Signature(8)),
                "framing": Out(1),
                "overrun": Out(1),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.receiver = receiver = UartReceiver(divisor=self._divisor)
        m.submodules.sender = sender = UartSender(divisor=self._divisor)
        m.d.comb += [
            receiver.rx.eq(self.rx),
            self.tx.eq(sender.tx),
            self.framing.eq(receiver.framing),
            self.overrun.eq(receiver.overrun),
        ]
        wiring.connect(m, wiring.flipped(self.i), sender.i)
        wiring.connect(m, receiver.o, wiring.flipped(self.o))
        return m
