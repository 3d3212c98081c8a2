"""Serial variance: two long products by shift and add."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, ceil_log2

from intformer.hw.row.serial import SerialControl

__all__ = ["EPS_BITS", "Variance"]

EPS_BITS = 40
"""Width of LayerNorm's ``eps``."""


class Variance(wiring.Component):
    """``n * squares - sum**2 + eps``, one bit of ``n`` and ``sum`` per cycle.

    With ``sum`` and ``squares`` the sums of ``n`` int16 codes and of their squares it is
    ``n**2`` times their variance, plus ``eps``; it is never negative.

    Parameters
    ----------
    row_max: largest ``n``.

    Members
    -------
    n: ``In``; number of elements of each row. Constant while rows are inside.
    eps: ``In(40)``; likewise.
    i: ``In(stream)`` of ``{sum: signed, squares}``.
    o: ``Out(stream)`` of ``{d, sum: signed}``; ``sum`` as it came.
    """

    def __init__(self, *, row_max: int) -> None:
        if row_max < 2:
            raise ValueError(f"row_max must be at least 2, not {row_max!r}")
        growth = ceil_log2(row_max)
        sum_shape = signed(16 + growth)
        self.i_layout = data.StructLayout({"sum": sum_shape, "squares": 31 + growth})
        self.d_bits = max(30 + 2 * growth, EPS_BITS) + 1
        self._row_max = row_max
        self._digits = _digits(row_max)
        super().__init__(
            {
                "n": In(range(row_max + 1)),
                "eps": In(EPS_BITS),
                "i": In(stream.Signature(self.i_layout)),
                "o": Out(stream.Signature(data.StructLayout({"d": self.d_bits, "sum": sum_shape}))),
            }
        )

    @staticmethod
    def latency_of(*, row_max: int) -> int:
        """:attr:`latency` of a unit with these parameters."""
        return _digits(row_max) + 5

    @property
    def latency(self) -> int:
        """Cycles from the transfer at ``i`` to ``o.valid``."""
        return self.latency_of(row_max=self._row_max)

    @property
    def interval(self) -> int:
        """Least number of cycles from one row to the next."""
        return self.latency + 1

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        digits = self._digits
        m.submodules.control = control = SerialControl(digits + 4)
        total = Signal.like(self.i.payload.sum, reset_less=True)
        squares = Signal.like(self.i.payload.squares, reset_less=True)
        magnitude = Signal(digits, reset_less=True)
        count_bits = Signal(digits, reset_less=True)
        sum_bits = Signal(digits, reset_less=True)
        plus = Signal(self.d_bits, reset_less=True)
        minus = Signal(self.d_bits, reset_less=True)
        arrived = self.i.payload
        m.d.comb += [
            control.i_valid.eq(self.i.valid),
            self.i.ready.eq(control.ready),
            self.o.valid.eq(control.o_valid),
            control.o_ready.eq(self.o.ready),
            self.o.payload.d.eq(plus),
            self.o.payload.sum.eq(total),
        ]
        # What is added next: so that no more than one addition lies between two registers.
        term, minus_term = Signal.like(plus), Signal.like(minus)
        ending, subtracting = Signal(), Signal()
        with m.If(control.idle):
            m.d.sync += [
                total.eq(arrived.sum),
                squares.eq(arrived.squares),
                magnitude.eq(Mux(arrived.sum < 0, -arrived.sum, arrived.sum)),
                sum_bits.eq(Mux(arrived.sum < 0, -arrived.sum, arrived.sum)),
                count_bits.eq(self.n),
                plus.eq(0),
                minus.eq(0),
                term.eq(0),
                minus_term.eq(0),
                ending.eq(0),
            ]
        with m.Elif(~control.o_valid):
            m.d.sync += [
                ending.eq(control.left <= 4),
                subtracting.eq(control.left == 3),
                count_bits.eq(count_bits << 1),
                sum_bits.eq(sum_bits << 1),
                minus_term.eq(Mux(sum_bits[-1], magnitude, 0)),
            ]
            with m.If(~ending):
                m.d.sync += [
                    term.eq(Mux(count_bits[-1], squares, 0)),
                    plus.eq((plus << 1) + term),
                    minus.eq((minus << 1) + minus_term),
                ]
            with m.Else():
                # Take the square of the sum away, then add eps.
                m.d.sync += [
                    term.eq(Mux(subtracting, self.eps, ~minus)),
                    plus.eq(plus + term + subtracting),
                ]
        return m


def _digits(row_max: int) -> int:
    """Bits of ``n`` and of the magnitude of ``sum``."""
    return max(16 + ceil_log2(row_max), bits_for(row_max))
