"""Pipelined division of parts by their sum."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

__all__ = ["RatioDivider", "RatioStage"]


class RatioStage(wiring.Component):
    """One step of a division ``e / s`` that does not restore: one more bit of the quotient.

    After stage ``k``, ``e << k == q * s + rest`` with ``0 <= rest < s`` if ``rest`` is at least 0,
    else with ``rest + s`` in its place; but if ``e == s``, all bits of ``q`` are ones and
    ``rest == s``. The sign of ``rest`` is the new bit, inverted, and chooses between minus and plus
    in the next stage: one addition between two registers.

    Parameters
    ----------
    number: bits of the quotient after this stage; counts from 1.
    s_bits: width of ``s``.

    Members
    -------
    s: ``In``; the divisor.
    rest: ``In``, signed, q: ``In``; what the stage before made of ``e``.
    o_rest, o_q: ``Out``; one cycle later.
    """

    def __init__(self, number: int, *, s_bits: int) -> None:
        super().__init__(
            {
                "s": In(s_bits),
                "rest": In(signed(s_bits + 1)),
                "q": In(number - 1),
                "o_rest": Out(signed(s_bits + 1)),
                "o_q": Out(number),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        positive = ~self.rest[-1]
        # -s is ~s + 1; the 1 is the lowest bit of the doubled rest.
        summand = Cat(self.s ^ positive.replicate(len(self.s)), positive)
        rest = Signal.like(self.o_rest, name="rest", reset_less=True)
        q = Signal(len(self.q), name="q", reset_less=True)
        m.d.sync += [rest.eq(Cat(positive, self.rest) + summand), q.eq(self.q)]
        m.d.comb += [self.o_rest.eq(rest), self.o_q.eq(Cat(~rest[-1], q))]
        return m


class RatioDivider(wiring.Component):
    """``min(round(2**bits * e / s), 2**bits - 1)`` for every lane's ``e``, rounded half up.

    Division without restoring, one quotient bit per stage; the last bit rounds. All lanes share the
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
            [RatioStage(n, s_bits=s_bits) for n in range(1, bits + 2)] for _ in range(lanes)
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
