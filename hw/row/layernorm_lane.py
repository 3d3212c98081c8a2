"""One lane of LayerNorm's last stage: normalize, scale, shift, saturate."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, ceil_log2

from intformer.hw.parts.arithmetic import (
    RECIPROCAL_FIELD,
    ReciprocalProduct,
    RoundShift,
    SplitProduct,
)
from intformer.hw.parts.streams import delay
from intformer.reference import BETA_SHIFT, NORM_FRACTION, SHIFT_MAX

__all__ = ["PARAMETERS", "Z_AMOUNT", "LayerNormLane"]

PARAMETERS = data.StructLayout({"bias": signed(32), "mult": signed(16), "shift": 8, "zero": 8})
"""A parameter entry: beta, gamma and shift of one channel."""

Z_AMOUNT = 27
"""The shift to the normalized value is ``Z_AMOUNT + 1 - count``: see ``reference.layernorm``."""

_SCALED_BITS = 18  # enough to tell apart all values that adding a zero point can bring in range


class LayerNormLane(wiring.Component):
    """``clip((z*gamma + (beta << 8) + 2**(shift - 1) >> shift) + zero_point, lo, hi)``
    with ``z = ((n*x - sum) * r + 2**amount) >> (amount + 1)``.

    A pipeline: takes an element per cycle, never stalls.

    Parameters
    ----------
    row_max: largest ``n``.

    Members
    -------
    x: ``In(signed(16))``.
    n, zero_point, lo, hi: ``In``; constant.
    sum: ``In``, signed; :attr:`sum_latency` cycles after ``x``.
    r: ``In(18)``, the low bits of the reciprocal; :attr:`recip_latency` cycles after ``x``.
    amount: ``In``; :attr:`amount_latency` cycles after ``x``.
    parameters: ``In`` of :data:`PARAMETERS`; :attr:`param_latency` cycles after ``x``.
    y: ``Out(signed(16))``; :attr:`latency` cycles after ``x``.
    """

    def __init__(self, *, row_max: int) -> None:
        growth = ceil_log2(row_max)
        a_bits = 17 + growth
        # |z| < 2**NORM_FRACTION * sqrt(n).
        z_bits = NORM_FRACTION + (growth + 1) // 2 + 1
        self._centre = SplitProduct(a_bits=16, b_bits=bits_for(row_max) + 1)
        self._normal = ReciprocalProduct(a_bits=a_bits)
        self._z_round = RoundShift(
            bits=a_bits + RECIPROCAL_FIELD + 1, amount_max=Z_AMOUNT, o_bits=z_bits
        )
        self._scale = SplitProduct(a_bits=z_bits, b_bits=16)
        self._y_round = RoundShift(
            bits=max(z_bits + 16, 32 + BETA_SHIFT) + 1,
            amount_max=SHIFT_MAX - 1,
            o_bits=_SCALED_BITS,
            saturate=True,
        )
        super().__init__(
            {
                "x": In(signed(16)),
                "n": In(range(row_max + 1)),
                "zero_point": In(signed(16)),
                "lo": In(signed(16)),
                "hi": In(signed(16)),
                "sum": In(signed(16 + growth)),
                "r": In(RECIPROCAL_FIELD),
                "amount": In(range(Z_AMOUNT + 1)),
                "parameters": In(PARAMETERS),
                "y": Out(signed(16)),
            }
        )

    @property
    def sum_latency(self) -> int:
        """Cycles from ``x`` to ``sum``."""
        return self._centre.latency

    @property
    def recip_latency(self) -> int:
        """Cycles from ``x`` to ``r``."""
        return self.sum_latency + 1

    @property
    def amount_latency(self) -> int:
        """Cycles from ``x`` to ``amount``."""
        return self.recip_latency + self._normal.latency

    @property
    def param_latency(self) -> int:
        """Cycles from ``x`` to ``parameters``."""
        return self.amount_latency + self._z_round.latency

    @property
    def latency(self) -> int:
        """Cycles from ``x`` to ``y``."""
        return self.param_latency + self._scale.latency + 1 + self._y_round.latency + 2

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.centre = centre = self._centre
        m.submodules.normal = normal = self._normal
        m.submodules.z_round = z_round = self._z_round
        m.d.comb += [
            centre.a.eq(self.x),
            centre.b.eq(self.n),
            normal.r.eq(self.r),
            z_round.x.eq(normal.o),
            z_round.amount.eq(self.amount),
        ]
        centred = Signal.like(normal.a)
        m.d.sync += centred.eq(centre.o - self.sum)
        m.d.comb += normal.a.eq(centred)
        self._scale_and_clip(m, z_round.o)
        return m

    def _scale_and_clip(self, m: Module, z: Signal) -> None:
        """``z`` to ``y``; the parameters arrive with ``z``."""
        m.submodules.scale = scale = self._scale
        m.submodules.y_round = y_round = self._y_round
        m.d.comb += [scale.a.eq(z), scale.b.eq(self.parameters.mult)]
        beta = delay(m, self.parameters.bias, scale.latency, name="beta")
        shift = delay(m, self.parameters.shift, scale.latency, name="shift")
        shifted = Signal(signed(_SCALED_BITS + 1))
        m.d.sync += [
            y_round.x.eq(scale.o + (beta << BETA_SHIFT)),
            y_round.amount.eq(shift - 1),
            shifted.eq(y_round.o + self.zero_point),
            self.y.eq(Mux(shifted < self.lo, self.lo, Mux(shifted > self.hi, self.hi, shifted))),
        ]
