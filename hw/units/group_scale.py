"""Accumulation of partial sums with an integer scale for every group of the contraction."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from intformer.hw.parts.streams import CreditFifo
from intformer.hw.units.pipeline import FIFO_LATENCY, check_range, delay, fifo_depth, register
from intformer.hw.units.product import ExactProduct, times

__all__ = ["GroupScale"]


class GroupScale(wiring.Component):
    """Partial sums of groups, each times its group's scale, added up.

    ::

        y = scale[0] * sum[0] + scale[1] * sum[1] + ...    one product per group

    For weights that are quantized in groups of 16 to 128 along the contraction: a systolic array
    gives the sum of each group, and with the scales as integers over one common scale the whole is
    exact. Equal to :func:`intformer.reference.group_scale`. A sum beyond ``o_bits`` wraps.

    Parameters
    ----------
    lanes: columns per beat.
    sum_bits: width of a partial sum, signed, 2 to 32.
    scale_bits: width of a scale, signed, 2 to 18.
    o_bits: width of a result, signed, up to 48.
    target: family whose multiplier blocks to use: ``ecp5``, ``gowin``, or ``None`` for any.

    Members
    -------
    i: ``In(stream)`` of ``{sums: lanes values, scales: lanes values, last}``: the next group of
        every lane; ``last`` with the last group of the contraction.
    o: ``Out(stream)`` of ``lanes`` sums, one beat for every ``last``; :attr:`latency` cycles later.

    Example
    -------
    >>> unit = GroupScale(lanes=2)
    >>> unit.latency, unit.throughput
    (8, 2)
    """

    def __init__(
        self,
        *,
        lanes: int = 1,
        sum_bits: int = 20,
        scale_bits: int = 16,
        o_bits: int = 40,
        target: str | None = None,
    ) -> None:
        check_range("lanes", lanes, 1, 64)
        check_range("sum_bits", sum_bits, 2, 32)
        check_range("scale_bits", scale_bits, 2, 18)
        check_range("o_bits", o_bits, 2, 48)
        self._products = [
            ExactProduct(a_bits=sum_bits, b_bits=scale_bits, target=target) for _ in range(lanes)
        ]
        beat = data.StructLayout(
            {
                "sums": data.ArrayLayout(signed(sum_bits), lanes),
                "scales": data.ArrayLayout(signed(scale_bits), lanes),
                "last": 1,
            }
        )
        results = data.ArrayLayout(signed(o_bits), lanes)
        super().__init__({"i": In(stream.Signature(beat)), "o": Out(stream.Signature(results))})

    @property
    def _cycles(self) -> int:
        return self._products[0].latency + 1

    @property
    def latency(self) -> int:
        """Cycles from the transfer of a last group at ``i`` to the result at ``o``."""
        return self._cycles + FIFO_LATENCY

    @property
    def throughput(self) -> int:
        """Partial sums per cycle."""
        return len(self._products)

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        results = self.o.payload.shape()
        depth = fifo_depth(self._cycles)
        m.submodules.fifo = fifo = CreditFifo(results, depth=depth)
        wiring.connect(m, wiring.flipped(self.o), fifo.o)
        beat, taken, ends = self.i.payload, Signal(), Signal()
        m.d.comb += [
            self.i.ready.eq(fifo.room),
            taken.eq(self.i.valid & fifo.room),
            ends.eq(taken & beat.last),
            fifo.take.eq(ends),
        ]
        wait = self._cycles - 1
        arrives = delay(m, taken, wait, name="taken", reset=True)
        complete = delay(m, ends, wait, name="ends", reset=True)
        first = Signal(init=1)  # the product that arrives is the first one of its contraction
        with m.If(arrives):
            m.d.sync += first.eq(complete)
        totals = Signal(results, reset_less=True)
        for lane, product in enumerate(self._products):
            value = times(m, product, beat.sums[lane], beat.scales[lane], name=f"product_{lane}")
            with m.If(arrives):
                m.d.sync += totals[lane].eq(Mux(first, 0, totals[lane]) + value)
        m.d.comb += [
            fifo.push.eq(register(m, complete, name="push", reset=True)),
            fifo.i.eq(totals),
        ]
        return m
