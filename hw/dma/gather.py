"""Addresses of the rows that a GATHER reads."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from intformer.config import CoreConfig
from intformer.hw.ports import READ_LATENCY, NarrowReadPort

__all__ = ["RowAddresses"]


class RowAddresses(wiring.Component):
    """Gives ``ext + id * ext_stride`` for ids stored in the wide scratchpad.

    The id of row ``j`` is the (unsigned) code ``j`` from word ``idx`` on. Four cycles per row
    and ``READ_LATENCY + 1`` more per word of ids, beside what the receiver waits.

    Members
    -------
    start: ``In(1)``; begin; the next four hold until the last address was taken.
    ext, ext_stride, idx, n: ``In``; fields of GATHER, ``n`` not 0.
    read: ``Out(NarrowReadPort)`` of the wide scratchpad.
    o: ``Out(stream)`` of 32-bit addresses.
    """

    def __init__(self, config: CoreConfig) -> None:
        self._lanes = config.lanes
        super().__init__(
            {
                "start": In(1),
                "ext": In(32),
                "ext_stride": In(16),
                "idx": In(18),
                "n": In(12),
                "read": Out(NarrowReadPort(16 * config.lanes)),
                "o": Out(stream.Signature(unsigned(32))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        word = Signal(18)
        left = Signal(12)
        lane = Signal(range(self._lanes))
        ids = Signal(16 * self._lanes, reset_less=True)
        wait = Signal(range(READ_LATENCY))
        factors = Signal(16, reset_less=True), Signal(16, reset_less=True)
        product = Signal(32, reset_less=True)
        giving = Signal()
        m.d.comb += [self.read.req.payload.word.eq(word), self.o.valid.eq(giving)]
        m.d.sync += [
            factors[0].eq(ids[:16]),
            factors[1].eq(self.ext_stride),
            product.eq(factors[0] * factors[1]),
        ]

        with m.FSM():
            with m.State("IDLE"):
                m.d.sync += [word.eq(self.idx), left.eq(self.n), lane.eq(0)]
                with m.If(self.start):
                    m.next = "READ"
            with m.State("READ"):
                m.d.comb += self.read.req.valid.eq(1)
                m.d.sync += wait.eq(0)
                with m.If(self.read.req.ready):
                    m.d.sync += word.eq(word + 1)
                    m.next = "WAIT"
            with m.State("WAIT"):
                m.d.sync += [wait.eq(wait + 1), ids.eq(self.read.data)]
                with m.If(wait == READ_LATENCY - 1):
                    m.next = "FACTORS"
            with m.State("FACTORS"):
                m.next = "PRODUCT"
            with m.State("PRODUCT"):
                m.next = "SUM"
            with m.State("SUM"):
                m.d.sync += [self.o.payload.eq(self.ext + product), giving.eq(1)]
                m.next = "GIVE"
            with m.State("GIVE"), m.If(self.o.ready):
                m.d.sync += [
                    giving.eq(0),
                    left.eq(left - 1),
                    lane.eq(lane + 1),
                    ids.eq(ids >> 16),
                ]
                with m.If(left == 1):
                    m.next = "IDLE"
                with m.Elif(lane == self._lanes - 1):
                    m.d.sync += lane.eq(0)
                    m.next = "READ"
                with m.Else():
                    m.next = "FACTORS"
        return m
