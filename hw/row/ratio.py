"""Pipelined division of parts by their sum."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["RatioDivider", "RatioStage"]


class RatioStage(wiring.Component):
    """One step of a restoring division ``e / s``: one more bit of the quotient.

    After stage ``k``, ``e << k == q * s + rest`` with ``0 <= rest < s``; but if ``e == s``, all
    bits of ``q`` are ones and ``rest == s``.

    Parameters
    ----------
    number: bits of the quotient after this stage; counts from 1.
    e_bits: width of ``e``.
    s_bits: width of ``s``.

    Members
    -------
    s: ``In``; the divisor.
    high: ``In(1)``; whether ``s`` has ones from bit :attr:`width` on.
    rest, q: ``In``; what the stage before made of ``e``.
    o_rest, o_q: ``Out``; one cycle later.
    """

    def __init__(self, number: int, *, e_bits: int, s_bits: int) -> None:
        self._width = min(e_bits + number, s_bits + 1)
        super().__init__(
            {
                "s": In(s_bits),
                "high": In(1),
                "rest": In(min(e_bits + number - 1, s_bits)),
                "q": In(number - 1),
                "o_rest": Out(min(self._width, s_bits)),
                "o_q": Out(number),
            }
        )

    @property
    def width(self) -> int:
        """Bits of ``2 * rest``; if ``s`` has more, it does not fit."""
        return self._width

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        doubled = Cat(Const(0, 1), self.rest)[: self._width]
        difference = doubled - self.s[: self._width]
        fits = Signal()
        rest = Signal(len(self.o_rest), reset_less=True)
        q = Signal(len(self.o_q), reset_less=True)
        m.d.comb += [
            fits.eq(~difference[-1] & ~self.high),
            self.o_rest.eq(rest),
            self.o_q.eq(q),
        ]
        m.d.sync += [rest.eq(Mux(fits, difference, doubled)), q.eq(Cat(fits, self.q))]
        return m


class RatioDivider(wiring.Component):
    """``min(round(2**bits * e / s), 2**bits - 1)`` for every lane's ``e``, rounded half up.

    Restoring division, one quotient bit per stage; the last bit rounds. All lanes share the
    pipeline of ``s``. One division per lane and cycle; no multiplier.

    Parameters
    ----------
    lanes: divisions per cycle.
    e_bits: width of ``e``.
    s_bits: width of ``s``, at least ``e_bits``.
    bits: width of the result.

    Members
    -------
    e: ``In``, ``lanes`` dividends, each at most ``s``.
    s: ``In``; the divisor. With ``s = 0`` the result is 0.
    p: ``Out``, ``lanes`` results; :attr:`latency` cycles later.

    Attributes
    ----------
    stages: the stages of each lane.
    """

    def __init__(self, *, lanes: int, e_bits: int, s_bits: int, bits: int = 8) -> None:
        if lanes < 1:
            raise ValueError(f"lanes must be at least 1, not {lanes!r}")
        if e_bits < 1:
            raise ValueError(f"e_bits must be at least 1, not {e_bits!r}")
        if s_bits < e_bits:
            raise ValueError(f"s_bits must be at least e_bits ({e_bits!r}), not {s_bits!r}")
        if bits < 1:
            raise ValueError(f"bits must be at least 1, not {bits!r}")
        self._bits = bits
        self.stages = [
            [RatioStage(n, e_bits=e_bits, s_bits=s_bits) for n in range(1, bits + 2)]
            for _ in range(lanes)
        ]
        super().__init__(
            {
                "e": In(data.ArrayLayout(e_bits, lanes)),
                "s": In(s_bits),
                "p": Out(data.ArrayLayout(bits, lanes)),
            }
        )

    @staticmethod
    def latency_of(*, bits: int = 8) -> int:
        """:attr:`latency` of a unit with these parameters."""
        return bits + 3

    @property
    def latency(self) -> int:
        """Cycles from operands to results: input, a stage per bit and for rounding, output."""
        return self.latency_of(bits=self._bits)

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        # One register in front of the first stage; s[n] belongs to stage n.
        s = [Value.cast(self.s)]
        for number in range(1, self._bits + 2):
            s.append(_register(m, s[-1], name=f"s_{number}"))
        for k, lane in enumerate(self.stages):
            rest, q = _register(m, self.e[k], name=f"e_{k}"), Const(0, 0)
            for number, stage in enumerate(lane, start=1):
                m.submodules[f"stage_{k}_{number}"] = stage
                m.d.comb += [stage.rest.eq(rest), stage.q.eq(q), stage.s.eq(s[number])]
                rest, q = stage.o_rest, stage.o_q
        for number, stages in enumerate(zip(*self.stages, strict=True), start=1):
            high = _register(m, s[number - 1][stages[0].width :].any(), name=f"high_{number}")
            m.d.comb += [stage.high.eq(high) for stage in stages]
        some = _register(m, s[-1].any(), name="some")
        for p, lane in zip(self.p, self.stages, strict=True):
            half, floor = lane[-1].o_q[0], lane[-1].o_q[1:]
            rounded = Mux(floor.all(), floor, floor + half)
            m.d.sync += p.eq(Mux(some, rounded, 0))
        return m


def _register(m: Module, value: Value, *, name: str) -> Signal:
    """``value`` one cycle later; not reset."""
    register = Signal(len(value), name=name, reset_less=True)
    m.d.sync += register.eq(value)
    return register
