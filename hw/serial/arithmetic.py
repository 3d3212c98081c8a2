"""The serial core's arithmetic: two 32-bit registers and one adder."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from intformer.hw.serial.isa import Micro

__all__ = ["COARSE", "FAR", "Arithmetic"]

COARSE, FAR = 4, 16
"""Places that SHR moves at once while that many are left."""


class Arithmetic(wiring.Component):
    """A, Q, the carry, and one step of an operation per cycle.

    Members
    -------
    op: ``In(5)``, a :class:`~intformer.hw.serial.isa.Micro`; step: ``In(1)``, do it: MAX, MIN
        and DIV in the second cycle with the same operands.
    b: ``In(32)``; the operand. factor: ``In(32)``; that of MUL, always a register.
    is_signed: ``In(1)``; SHR keeps the sign; the last step of MUL subtracts.
    last: ``In(1)``; this is the last step.
    coarse, far: ``In(1)``; SHR moves :data:`COARSE` places, or :data:`FAR`.
    bit: ``In(1)``; the stream's bit for GET.
    a, q: ``Out(32)``; the registers.
    negative, zero, overflow, carry: ``Out(1)``; conditions, of the registers.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "op": In(5),
                "step": In(1),
                "b": In(32),
                "factor": In(32),
                "is_signed": In(1),
                "last": In(1),
                "coarse": In(1),
                "far": In(1),
                "bit": In(1),
                "a": Out(32),
                "q": Out(32),
                "negative": Out(1),
                "zero": Out(1),
                "overflow": Out(1),
                "carry": Out(1),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        op, a, q = self.op, self.a, self.q

        def is_op(*ops: Micro) -> Signal:
            found = Signal(name="is_" + "_".join(o.name.lower() for o in ops))
            m.d.comb += found.eq(Cat(op == o for o in ops).any())
            return found

        is_mul, is_shr, is_get = is_op(Micro.MUL), is_op(Micro.SHR), is_op(Micro.GET)
        is_div, is_shl, is_avg = is_op(Micro.DIV), is_op(Micro.SHL), is_op(Micro.AVG)
        is_ld, is_ldq, is_swap = is_op(Micro.LD), is_op(Micro.LDQ), is_op(Micro.SWAP)
        is_max, is_min = is_op(Micro.MAX), is_op(Micro.MIN)
        adds = is_op(Micro.ADD, Micro.SUB, Micro.ADC, Micro.SBC)

        # The adder. MAX, MIN and DIV look at its carry one cycle later.
        invert, carry_in, sign, verdict = Signal(), Signal(), Signal(), Signal()
        operand, total = Signal(32), Signal(33)
        m.d.comb += [
            invert.eq(is_op(Micro.SUB, Micro.SBC, Micro.DIV, Micro.MAX, Micro.MIN)),
            operand.eq(self.b ^ invert.replicate(32)),
            carry_in.eq(Mux(is_op(Micro.ADC, Micro.SBC), self.carry, invert)),
            total.eq(a + operand + carry_in),
            sign.eq(a[31] ^ operand[31] ^ total[32]),  # bit 32 of the signed sum
        ]
        m.d.sync += verdict.eq(Mux(is_div, total[32], sign))
        with m.If(self.step & adds):
            m.d.sync += self.carry.eq(total[32])

        # MUL takes two bits of Q, the second of negative weight if it is the sign.
        factor = self.factor.as_signed()
        first, second, minus = Signal(signed(33)), Signal(signed(33)), Signal()
        m.d.comb += [
            first.eq(a.as_signed() + (factor & q[0].replicate(32).as_signed())),
            minus.eq(self.is_signed & self.last & q[1]),
            second.eq(
                (first >> 1)
                + ((factor & q[1].replicate(32).as_signed()) ^ minus.replicate(32).as_signed())
                + minus
            ),
        ]

        fill = a[31] & self.is_signed
        kept = Signal(32)
        m.d.comb += kept.eq(Mux(is_div & verdict, total[:32], a))
        one = is_get | (is_shr & ~self.far & ~self.coarse)
        sources = [
            (is_ld | (is_max & verdict) | (is_min & ~verdict), self.b),
            (is_swap, q),
            (is_shr & self.far, Cat(a[FAR:], fill.replicate(FAR))),
            (is_shr & ~self.far & self.coarse, Cat(a[COARSE:], fill.replicate(COARSE))),
            (one, Cat(a[1:], Mux(is_get, self.bit, fill))),
            (is_div | is_shl, Cat(q[31], kept[:31])),
            (is_avg, Cat(total[1:32], sign)),
            (adds, total[:32]),
            (is_mul, second[1:33]),
        ]
        chosen = Const(0, 32)
        for select, value in sources:
            # The later ones arrive late, and pass little logic here.
            term = Signal(32)
            m.d.comb += term.eq(value & select.replicate(32))
            chosen = chosen | term
        with m.If(self.step & Cat(select for select, _ in sources).any()):
            m.d.sync += a.eq(chosen)
        with m.If(self.step):
            with m.If(is_ldq):
                m.d.sync += q.eq(self.b)
            with m.Elif(is_swap):
                m.d.sync += q.eq(a)
            with m.Elif(is_mul):
                m.d.sync += q.eq(Cat(q[2:], first[0], second[0]))
            with m.Elif(is_shr & self.far):
                m.d.sync += q.eq(Cat(q[FAR:], a[:FAR]))
            with m.Elif(is_shr & self.coarse):
                m.d.sync += q.eq(Cat(q[COARSE:], a[:COARSE]))
            with m.Elif(is_shr):
                m.d.sync += q.eq(Cat(q[1:], a[0]))
            with m.Elif(is_div | is_shl):
                m.d.sync += q.eq(Cat(is_div & verdict, q[:31]))
        m.d.comb += [
            self.negative.eq(a[31]),
            self.zero.eq(a == 0),
            self.overflow.eq(a != q[31].replicate(32)),
        ]
        return m
