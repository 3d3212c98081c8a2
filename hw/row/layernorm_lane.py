"""One lane of LayerNorm after the sums: centre and normalize, then scale, shift and saturate."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, ceil_log2

from intformer.hw.parts.lut_product import LutProduct
from intformer.hw.parts.product import Product
from intformer.hw.parts.rounding import RoundingShift
from intformer.hw.parts.streams import delay
from intformer.hw.parts.wide_product import WideProduct
from intformer.reference import BETA_SHIFT, NORM_BITS, NORM_FRACTION, SHIFT_MAX
from intformer.reference.norm import NORM_GUARD, NORM_RECIPROCAL_BITS

__all__ = ["PARAMETERS", "NormalizeLane", "ScaleLane"]

PARAMETERS = data.StructLayout({"bias": signed(32), "mult": signed(16), "shift": 8, "zero": 8})
"""A parameter entry: beta, gamma and shift of one channel."""

_Z_FRACTION = NORM_FRACTION + NORM_GUARD
# Bits that a*r has more than z: see reference.layernorm.
_Z_SHIFT = NORM_RECIPROCAL_BITS - 1 + NORM_BITS // 2 - _Z_FRACTION
_A_SHIFT = NORM_RECIPROCAL_BITS - _Z_SHIFT  # from a to the term of the reciprocal's leading one


def _a_bits(row_max: int) -> int:
    """Width of ``a``: less than ``sqrt(n)`` times the root of the normalized variance."""
    return NORM_BITS // 2 + (ceil_log2(row_max) + 1) // 2 + 1


def _z_bits(row_max: int) -> int:
    """Width of ``z``: ``|z| <= 2**_Z_FRACTION * sqrt(n)``, and what is added to it."""
    return _Z_FRACTION + (ceil_log2(row_max) + 1) // 2 + 2


class NormalizeLane(wiring.Component):
    """``a = (n*x - sum) << count`` and ``z = a * (r - 2**39) >> 25``.

    A pipeline: takes an element per cycle, never stalls.

    Parameters
    ----------
    row_max: largest ``n``.
    multipliers: ``"dsp"`` or ``"luts"``: what computes ``n*x``. The wide product takes
        four DSPs, and LUTs for its low bits.
    target: family whose multiplier blocks to use.

    Members
    -------
    x: ``In(signed(16))``.
    n: ``In``; constant.
    sum: ``In``, signed; :attr:`sum_latency` cycles after ``x``.
    count: ``In(5)``; :attr:`count_latency` cycles after ``x``: one early, for a register of the
        lane's own, as it selects every bit.
    r: ``In(39)``, the reciprocal, whose top bit is 1; :attr:`recip_latency` cycles after ``x``.
    a, z: ``Out``, signed; :attr:`latency` cycles after ``x``.
    """

    def __init__(
        self, *, row_max: int, multipliers: str = "dsp", target: str | None = None
    ) -> None:
        n_bits = bits_for(row_max)
        a_bits = _a_bits(row_max)
        self._centre = Product(a_bits=16, b_bits=n_bits + 1, multipliers=multipliers, target=target)
        self._normal = WideProduct(
            a_bits=a_bits, b_bits=NORM_RECIPROCAL_BITS, drop=_Z_SHIFT, target=target
        )
        super().__init__(
            {
                "x": In(signed(16)),
                "n": In(n_bits),
                "sum": In(signed(16 + ceil_log2(row_max))),
                "count": In((NORM_BITS // 2 - 1).bit_length()),
                "r": In(NORM_RECIPROCAL_BITS),
                "a": Out(signed(a_bits)),
                "z": Out(self._normal.o.shape()),
            }
        )

    @staticmethod
    def latency_of(*, row_max: int, multipliers: str = "dsp") -> int:
        """:attr:`latency` of a unit with these parameters."""
        n_bits = bits_for(row_max)
        centre = Product.latency_of(16, n_bits + 1, multipliers=multipliers)
        return centre + 3 + WideProduct.latency

    @property
    def sum_latency(self) -> int:
        """Cycles from ``x`` to ``sum``."""
        return self._centre.latency

    @property
    def count_latency(self) -> int:
        """Cycles from ``x`` to ``count``."""
        return self.sum_latency

    @property
    def recip_latency(self) -> int:
        """Cycles from ``x`` to ``r``."""
        return self.sum_latency + 3

    @property
    def latency(self) -> int:
        """Cycles from ``x`` to ``a`` and ``z``."""
        return self.recip_latency + self._normal.latency

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.centre = centre = self._centre
        m.submodules.normal = normal = self._normal
        centred = Signal(signed(17 + len(self.sum) - 16), reset_less=True)
        coarse, a = Signal.like(self.a, reset_less=True), Signal.like(self.a, reset_less=True)
        # Kept apart from those of the other lanes.
        count = Signal.like(self.count, attrs={"keep": 1})
        fine_count = Signal(2, attrs={"keep": 1})
        m.d.comb += [centre.a.eq(self.x), centre.b.eq(self.n)]
        m.d.sync += [
            centred.eq(centre.o - self.sum),
            count.eq(self.count),
            coarse.eq((centred << (count[2:] << 2))[: len(a)]),
            fine_count.eq(count[:2]),
            a.eq((coarse << fine_count)[: len(a)]),
        ]
        m.d.comb += [
            normal.a.eq(a),
            normal.b.eq(self.r.as_signed()),
            self.z.eq(normal.o),
            self.a.eq(delay(m, a, normal.latency, name="a", reset_less=True)),
        ]
        return m


class ScaleLane(wiring.Component):
    """``z`` and ``a`` of :class:`NormalizeLane` to ``y``: the rest of ``reference.layernorm``.

    A pipeline: takes an element per cycle, never stalls. The product with gamma is made in LUTs.

    Parameters
    ----------
    row_max: largest row.
    o_bits: width of ``y``, at most 16.
    target: family whose carry cells to use.

    Members
    -------
    a, z: ``In``, signed.
    parameters: ``In`` of :data:`PARAMETERS`, at the same time.
    zero_point, lo, hi: ``In(signed(o_bits))``; constant.
    y: ``Out(signed(o_bits))``; :attr:`latency` cycles after ``z``.
    """

    def __init__(self, *, row_max: int, o_bits: int = 16, target: str | None = None) -> None:
        a_bits = _a_bits(row_max)
        z_bits = _z_bits(row_max)
        self._product = LutProduct(a=signed(z_bits), b=signed(16), target=target)
        w_bits = max(z_bits + 16, 32 + BETA_SHIFT + NORM_GUARD) + 1
        # Enough to tell apart all values that adding a zero point can bring in range.
        scaled_bits = o_bits + 2
        self._round = RoundingShift(
            bits=w_bits - NORM_GUARD, amount_max=SHIFT_MAX - 1, o_bits=scaled_bits, saturate=True
        )
        super().__init__(
            {
                "a": In(signed(a_bits)),
                "z": In(signed(a_bits + NORM_RECIPROCAL_BITS - _Z_SHIFT)),
                "parameters": In(PARAMETERS),
                "zero_point": In(signed(o_bits)),
                "lo": In(signed(o_bits)),
                "hi": In(signed(o_bits)),
                "y": Out(signed(o_bits)),
            }
        )

    @staticmethod
    def latency_of(*, row_max: int) -> int:
        """:attr:`latency` of a unit with these parameters."""
        product = LutProduct.latency_of(_z_bits(row_max), 16)
        rounding = RoundingShift.latency_of(amount_max=SHIFT_MAX - 1, saturate=True)
        return 2 + product + 1 + rounding + 3

    @property
    def latency(self) -> int:
        """Cycles from ``z`` to ``y``."""
        return 2 + self._product.latency + 1 + self._round.latency + 3

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.product = product = self._product
        m.submodules.round = rounding = self._round
        a_negative, gamma_negative = self.a[-1], self.parameters.mult[-1]
        # The reciprocal is rounded down: raise the contribution of elements that make y larger.
        raised = Signal()
        raise_by = Signal(signed(_A_SHIFT))
        more = Signal(_A_SHIFT, reset_less=True)
        top = Signal.like(self.a, reset_less=True)
        z = Signal.like(self.z, reset_less=True)
        gamma = Signal(signed(16), reset_less=True)
        m.d.comb += [
            raised.eq(a_negative == gamma_negative),
            raise_by.eq(Mux(raised, self.a >> (_Z_SHIFT - 1), 0)),
        ]
        m.d.sync += [
            more.eq(raise_by + Mux(gamma_negative, 0, 2)),
            top.eq(self.a - (raised & a_negative)),
            z.eq(self.z),
            gamma.eq(self.parameters.mult),
        ]
        m.d.sync += product.a.eq(z + Cat(more, top).as_signed())
        m.d.comb += product.b.eq(delay(m, gamma, 1, name="gamma", reset_less=True))
        beta = delay(m, self.parameters.bias, 2 + product.latency, name="beta", reset_less=True)
        shift = delay(m, self.parameters.shift, 2 + product.latency, name="shift", reset_less=True)
        beta_shift = BETA_SHIFT + NORM_GUARD
        shifted = Signal(signed(len(rounding.o) + 1), reset_less=True)
        below, above = Signal(reset_less=True), Signal(reset_less=True)
        compared = Signal.like(self.y, reset_less=True)
        w_top = (product.o >> beta_shift) + beta
        m.d.sync += [
            rounding.x.eq(Cat(product.o[NORM_GUARD:beta_shift], w_top)),
            rounding.amount.eq(shift - 1),
            shifted.eq(rounding.o + self.zero_point),
            # Compared, then chosen: both in one cycle would be the longest path of the core.
            below.eq(shifted < self.lo),
            above.eq(shifted > self.hi),
            compared.eq(shifted),
            self.y.eq(Mux(below, self.lo, Mux(above, self.hi, compared))),
        ]
        return m
