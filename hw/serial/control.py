"""The serial core's sequencing: fetch a microinstruction, execute it, choose the next."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from intformer.hw.serial.arithmetic import COARSE, FAR
from intformer.hw.serial.isa import ADDRESS_BITS, COUNT_BIAS, WORD_BITS, Io, Micro, Source

__all__ = ["Control"]

_REPEATED = (Micro.MUL, Micro.DIV, Micro.SHL, Micro.SHR, Micro.GET)
_SLOW = (Micro.MAX, Micro.MIN, Micro.DIV)
_COUNTING = (Micro.LDM, Micro.STM, Micro.LDT, Micro.STT)


class Control(wiring.Component):
    """One microinstruction per cycle, except for repeated operations: those take one per step.
    MAX, MIN and each step of DIV take two.

    While one executes, the next one's register is read and the one after that is fetched. A jump
    costs one cycle more, and so does a microinstruction that names the register which the one
    before it writes, or MEM right after LDM. The count of SETC can be used from the second
    microinstruction after it on.

    Parameters
    ----------
    words: the microprogram; it begins at address 0 and ends with ``Io.END`` or ``Io.ERROR``.

    Members
    -------
    start: ``In(1)``. busy: ``Out(1)``; end: ``Out(1)``, the last cycle of it.
    op, register, source, is_signed: ``Out``; fields of the microinstruction that executes.
    execute: ``Out(1)``; there is one.
    next_register: ``Out(8)``, moving: ``Out(1)``; read this register for the next one.
    step: ``Out(1)``; the datapath does a step; last: ``Out(1)``, the last one; coarse, far:
        ``Out(1)``, by :data:`~intformer.hw.serial.arithmetic.COARSE` or
        :data:`~intformer.hw.serial.arithmetic.FAR` places.
    store, write_register: ``Out(1)``; write a register: A, or the register's increment.
    operand: ``In(32)``, a: ``In(32)``; B and A.
    conditions: ``In(5)``; see :class:`~intformer.hw.serial.isa.Condition`.
    wrapped: ``In(1)``; the incremented register is 0.
    bit_valid, written, array_idle: ``In(1)``; what GET, WRB, TILE and RUN wait for.
    """

    def __init__(self, words: list[int]) -> None:
        self._words = words
        super().__init__(
            {
                "start": In(1),
                "busy": Out(1),
                "end": Out(1),
                "op": Out(5),
                "register": Out(8),
                "source": Out(2),
                "is_signed": Out(1),
                "execute": Out(1),
                "step": Out(1),
                "last": Out(1),
                "coarse": Out(1),
                "far": Out(1),
                "next_register": Out(8),
                "moving": Out(1),
                "store": Out(1),
                "write_register": Out(1),
                "operand": In(32),
                "a": In(32),
                "conditions": In(5),
                "wrapped": In(1),
                "bit_valid": In(1),
                "written": In(1),
                "array_idle": In(1),
            }
        )
        self._count_field = Signal(6)

    def act(self, op: Micro) -> Value:
        """High for the one cycle in which ``op``, which takes one, executes."""
        return self.execute & (self.op == op)

    def io(self, what: Io) -> Value:
        """High for the cycle in which IO does ``what``."""
        return self.act(Micro.IO) & (self._count_field == what)

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        store = Memory(shape=WORD_BITS, depth=1 << ADDRESS_BITS, init=self._words)
        m.submodules.store = store
        fetch = store.read_port()
        word = Signal(WORD_BITS)
        moving, done, aligning = Signal(), Signal(), Signal()
        with m.If(moving):
            m.d.sync += word.eq(fetch.data)
        m.d.comb += [
            self.op.eq(Mux(aligning, Micro.SHR, word[:5])),
            self.register.eq(word[5:13]),
            self.next_register.eq(fetch.data[5:13]),
            self.source.eq(word[13:15]),
            self._count_field.eq(word[15:21]),
            self.is_signed.eq(word[22]),
            self.store.eq(self._is_op(Micro.ST)),
            self.write_register.eq(
                self.execute
                & (self.store | self._is_op(Micro.LOOP) | (word[21] & self._is_op(*_COUNTING)))
            ),
            self.end.eq(self.io(Io.END) | self.io(Io.ERROR)),
            self.moving.eq(moving),
        ]
        self._steps(m, word, fetch.data, moving, done, aligning)
        self._flow(m, fetch, word, moving, done)
        with m.If(self.end):
            m.d.sync += self.busy.eq(0)
        with m.Elif(self.start):
            m.d.sync += self.busy.eq(1)
        return m

    def _is_op(self, *ops: Micro) -> Value:
        return Cat(self.op == op for op in ops).any()

    def _steps(self, m, word, coming, moving, done, aligning) -> None:
        """Count the steps of repeated operations; ``done`` in the last cycle of each operation."""
        left, held, size = Signal(6), Signal(6), Signal(5)
        repeated, get, turn = Signal(), Signal(), Signal()
        slow, settled = Signal(), Signal()
        m.d.sync += settled.eq(self.execute & slow & ~settled)
        counted, is_shr = word[23], self._is_op(Micro.SHR)
        m.d.comb += [
            get.eq(self._is_op(Micro.GET)),
            repeated.eq(self._is_op(*_REPEATED)),
            self.far.eq(is_shr & (left[4:] != 0)),
            self.coarse.eq(is_shr & (left[2:] != 0)),
            size.eq(Mux(self.far, FAR, Mux(self.coarse, COARSE, 1))),
            self.last.eq(left == size),
            slow.eq(self._is_op(*_SLOW)),
            self.step.eq(
                self.execute
                & (~repeated | (left != 0))
                & (~get | self.bit_valid)
                & (~slow | settled)
            ),
            turn.eq(get & self.step & self.last & ~counted),
        ]
        with m.If(moving):
            m.d.sync += left.eq(Mux(coming[23] & (coming[:5] != Micro.GET), held, coming[15:21]))
        with m.Elif(turn):
            m.d.sync += left.eq((32 - self._count_field)[:6])
        with m.Elif(self.step):
            m.d.sync += left.eq(left - size)
        m.d.sync += aligning.eq(turn | (aligning & ~done))
        with m.If(self.act(Micro.SETC)):
            m.d.sync += held.eq(self.operand[16:22] + COUNT_BIAS)

        with m.If(get):
            m.d.comb += done.eq(counted & self.step & self.last)
        with m.Elif(repeated):
            m.d.comb += done.eq((left == 0) | (self.step & self.last))
        with m.Elif(slow):
            m.d.comb += done.eq(settled)
        with m.Elif(self._is_op(Micro.WRB)):
            m.d.comb += done.eq(self.written)
        with m.Elif(self._is_op(Micro.TILE, Micro.RUN)):
            m.d.comb += done.eq(self.array_idle)
        with m.Else():
            m.d.comb += done.eq(1)

    def _flow(self, m, fetch, word, moving, done) -> None:
        """Which microinstruction comes, and when it moves on."""
        place = Signal(ADDRESS_BITS)  # of the one that has been fetched
        fetched, jumping, hazard, condition = Signal(), Signal(), Signal(), Signal()
        links = [Signal(ADDRESS_BITS, name=f"link_{k}") for k in range(2)]
        target = Signal(ADDRESS_BITS)
        flags = Signal(4)
        with m.If(self.io(Io.FLAGS)):
            m.d.sync += flags.eq(self.operand)
        m.d.comb += [
            condition.eq(
                Mux(
                    self.register[3],
                    Array(flags)[self.register[:2]],
                    Array(self.conditions)[self.register[:3]],
                )
                ^ self.register[4]
            ),
            target.eq(word[13:23]),
        ]
        with m.Switch(self.op):
            with m.Case(Micro.JMP, Micro.CALL):
                m.d.comb += jumping.eq(self.execute & condition)
            with m.Case(Micro.LOOP):
                m.d.comb += jumping.eq(self.execute & ~self.wrapped)
            with m.Case(Micro.JTAB):
                m.d.comb += [jumping.eq(self.execute), target[:4].eq(self.a)]
            with m.Case(Micro.RET):
                m.d.comb += [jumping.eq(self.execute), target.eq(links[0])]
        m.d.comb += [
            # The register must not be read before it has been written, MEM one cycle after LDM.
            hazard.eq(
                (self.write_register & (self.register == self.next_register))
                | (self.act(Micro.LDM) & (fetch.data[13:15] == Source.MEM))
            ),
            moving.eq(fetched & (~self.execute | done) & ~hazard & ~jumping & ~self.end),
            fetch.en.eq(moving | jumping | ~self.busy),
            fetch.addr.eq(Mux(self.busy, Mux(jumping, target, place + 1), 0)),
        ]
        m.d.sync += [
            self.execute.eq(moving | (self.execute & ~done)),
            fetched.eq(Mux(self.busy, ~self.end, self.start)),
        ]
        with m.If(fetch.en):
            m.d.sync += place.eq(fetch.addr)
        with m.If(self.act(Micro.CALL) & condition):
            m.d.sync += [links[0].eq(place), links[1].eq(links[0])]
        with m.Elif(self.act(Micro.RET)):
            m.d.sync += links[0].eq(links[1])
