"""CRC-32 of a stream of bytes, a few bits per cycle."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["Crc32"]

_POLYNOMIAL = 0xEDB88320  # reflected
_RESIDUE = 0xDEBB20E3
"""The register after a message and its own CRC, least significant byte first."""


class Crc32(wiring.Component):
    """The CRC-32 of Ethernet and zlib: :func:`zlib.crc32`.

    Parameters
    ----------
    step: bits per cycle: 1, 2, 4 or 8. A byte takes one cycle with 8, otherwise ``8 / step`` and
        one more.

    Members
    -------
    clear: ``In(1)``; begin a message; only while ``i.ready``. A byte of the same cycle is dropped.
    i: ``In(stream)`` of bytes.
    next: ``In(1)``; the lowest byte of the CRC has been used: shift the next one down; only while
        ``i.ready``. No further byte may come before ``clear``.
    o: ``Out(8)``; the lowest byte of the CRC of all bytes since ``clear``, while ``i.ready``.
    good: ``Out(1)``; the message ended with its own CRC, lowest byte first; while ``i.ready``.
    """

    def __init__(self, *, step: int) -> None:
        if step not in (1, 2, 4, 8):
            raise ValueError(f"step must be 1, 2, 4 or 8, not {step!r}")
        self._step = step
        super().__init__(
            {
                "clear": In(1),
                "i": In(stream.Signature(8)),
                "next": In(1),
                "o": Out(8),
                "good": Out(1),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        state = Signal(32, init=0xFFFFFFFF)
        m.d.comb += [self.o.eq(~state[:8]), self.good.eq(state == _RESIDUE)]
        mixed = Cat(state[:8] ^ self.i.payload, state[8:])
        if self._step == 8:
            m.d.comb += self.i.ready.eq(1)
            with m.If(self.next):
                m.d.sync += state.eq(state >> 8)
            with m.Elif(self.i.valid):
                m.d.sync += state.eq(_advance(mixed, 8, feedback=Const(1, 1)))
        else:
            left = Signal(range(8 // self._step + 1))
            mixing = Signal()
            m.d.comb += self.i.ready.eq(left == 0)
            with m.If(left != 0):
                m.d.sync += [
                    left.eq(left - 1),
                    state.eq(_advance(state, self._step, feedback=mixing)),
                ]
            with m.Elif(self.next | self.i.valid):
                m.d.sync += [left.eq(8 // self._step), mixing.eq(~self.next)]
                with m.If(~self.next):
                    m.d.sync += state.eq(mixed)
        with m.If(self.clear):
            m.d.sync += state.eq(0xFFFFFFFF)
        return m


def _advance(state: Value, bits: int, *, feedback: Value) -> Value:
    """The register ``bits`` steps later; without feedback it is shifted only."""
    for _ in range(bits):
        state = (state >> 1) ^ Mux(state[0] & feedback, _POLYNOMIAL, 0)
    return state
