"""The end of every unit that rescales: rounding shift, zero point, saturation."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Shape, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from intformer.hw.units.pipeline import delay, register
from intformer.reference.rescale import RESCALE_SHIFT_MAX

__all__ = ["SHIFT_BITS", "RoundClip", "shape_limits"]

SHIFT_BITS = 6
"""Width of a shift."""

_FINE = 3


def shape_limits(shape: Shape) -> tuple[int, int]:
    """Smallest and largest value of an integer shape."""
    if shape.signed:
        return -(1 << (shape.width - 1)), (1 << (shape.width - 1)) - 1
    return 0, (1 << shape.width) - 1


class RoundClip(wiring.Component):
    """``clip(((x + 2**(shift - 1)) >> shift) + zero_point)``, for any ``x``, never stalling.

    Equal to the formula everywhere: a value beyond every code saturates, whatever the zero point.

    Parameters
    ----------
    bits: width of ``x``, signed.
    o_shape: shape of the result, at most 32 bits; ``clip`` is to its range.
    shift_max: largest shift, up to 62.

    Members
    -------
    x: ``In``, signed. shift: ``In(6)``, 2 to ``shift_max``; with ``x``.
    zero_point: ``In``, in the range of the result; constant.
    o: ``Out(o_shape)``; :attr:`latency` cycles later.
    """

    def __init__(self, *, bits: int, o_shape: Shape, shift_max: int = RESCALE_SHIFT_MAX) -> None:
        self._o_shape = o_shape
        self._amount_bits = (shift_max - 1).bit_length()
        # One bit below the point, for rounding, and so many above it that adding any zero point
        # leaves the largest and the smallest beyond every code.
        self._kept = min(o_shape.width + 3, bits)
        super().__init__(
            {
                "x": In(signed(bits)),
                "shift": In(SHIFT_BITS),
                "zero_point": In(o_shape),
                "o": Out(o_shape),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles: amount, two of shifting, two of saturation, rounding, clipping."""
        return 7

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        amount = register(m, (self.shift - 1)[: self._amount_bits], name="amount")
        fine_bits = min(_FINE, self._amount_bits)
        x = register(m, self.x, name="x_held")
        by_eights = Cat(Const(0, fine_bits), amount[fine_bits:])
        coarse = register(m, x >> by_eights, name="coarse", shape=x.shape())
        fine = register(m, amount[:fine_bits], name="fine")
        shifted = register(m, coarse >> fine, name="shifted", shape=x.shape())
        value = self._saturate(m, shifted)
        # A half is added at the bit below the point, the zero point above it.
        zero = register(m, self.zero_point, name="zero")
        addend = Cat(Const(1, 1), zero)
        total = value + (addend.as_signed() if self._o_shape.signed else addend)
        rounded = register(m, total >> 1, name="rounded")
        low, high = shape_limits(self._o_shape)
        clipped = Mux(rounded < low, low, Mux(rounded > high, high, rounded))
        m.d.comb += self.o.eq(register(m, clipped, name="clipped", shape=self._o_shape))
        return m

    def _saturate(self, m: Module, shifted: Signal) -> Signal:
        """``shifted`` clipped to the bits that are kept, two cycles later."""
        kept = self._kept
        low_bits = shifted[:kept].as_signed()
        if kept == len(shifted):
            return delay(m, low_bits, 2, name="narrow")
        sign = shifted[-1]
        above = shifted[kept - 1 :]
        over = register(m, above != sign.replicate(len(above)), name="over")
        negative = register(m, sign, name="negative")
        value = register(m, low_bits, name="narrow")
        low, high = shape_limits(signed(kept))
        return register(
            m, Mux(over, Mux(negative, low, high), value), name="saturated", shape=signed(kept)
        )
