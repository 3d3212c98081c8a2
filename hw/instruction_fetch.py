"""Instruction fetch: the program, instruction after instruction."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from intformer.config import CoreConfig
from intformer.hw.ports import BURST_MAX, ReadBurstPort
from intformer.isa import INSTRUCTION_BYTES, PREFETCH

__all__ = ["InstructionFetch"]


class InstructionFetch(wiring.Component):
    """Reads instructions one after the other and keeps a few ready.

    Parameters
    ----------
    depth: instructions fetched ahead, a power of two.

    Members
    -------
    mem: ``Out(ReadBurstPort)``.
    start: ``In(1)``; begin at byte address ``entry``.
    stop: ``In(1)``; ask for no more; what is under way still arrives and is dropped.
    o: ``Out(stream)`` of 256-bit instructions. A payload stays for one cycle after its transfer.
    idle: ``Out(1)``; in the cycle before, nothing was under way and nothing was kept.
    """

    def __init__(self, config: CoreConfig, *, depth: int = PREFETCH) -> None:
        self._beat_bits = 8 * config.bus_bytes
        self._beats = INSTRUCTION_BYTES // config.bus_bytes
        self._depth = depth
        super().__init__(
            {
                "mem": Out(ReadBurstPort(config)),
                "start": In(1),
                "stop": In(1),
                "entry": In(32),
                "o": Out(stream.Signature(unsigned(8 * INSTRUCTION_BYTES))),
                "idle": Out(1, init=1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        burst = min(self._beats, BURST_MAX)
        m.submodules.fifo = fifo = SyncFIFOBuffered(
            width=self._beat_bits, depth=self._depth * self._beats + 1
        )

        running = Signal()
        taken = Signal()  # an instruction has been handed out, or dropped
        pc = Signal(32)
        kept = Signal(range(self._depth + 1))  # asked for and not handed out yet
        asked_beats = Signal(range(self._beats + 1))  # of the instruction being asked for

        # One burst is pending at a time; `asking` holds until memory takes it.
        asking = Signal()
        asked = asking & self.mem.cmd.ready
        first = asked_beats == 0
        want = running & (~first | (~self.stop & (kept != self._depth)))
        begin = want & ~asking & first
        m.d.comb += [
            self.mem.cmd.valid.eq(asking),
            self.mem.cmd.payload.addr.eq(pc),
            self.mem.cmd.payload.len.eq(burst - 1),
        ]
        with m.If(asked):
            m.d.sync += [asking.eq(0), pc.eq(pc + burst * (self._beat_bits // 8))]
            with m.If(asked_beats == self._beats - burst):
                m.d.sync += asked_beats.eq(0)
            with m.Else():
                m.d.sync += asked_beats.eq(asked_beats + burst)
        with m.Elif(want & ~asking):
            m.d.sync += asking.eq(1)

        # Beats wait in the FIFO; the oldest instruction is put together behind it. What lets the
        # wide word shift is a register that does nothing else.
        m.d.comb += [fifo.w_data.eq(self.mem.data), fifo.w_en.eq(self.mem.valid)]
        word = Signal(8 * INSTRUCTION_BYTES, reset_less=True)
        beat = Signal(self._beat_bits, reset_less=True)
        shifts = Signal(attrs={"keep": 1})
        missing = Signal(range(self._beats + 1), init=self._beats)  # beats of the next word
        some = Signal(init=1)  # are missing
        full = Signal()
        pull = some & fifo.r_rdy
        m.d.comb += fifo.r_en.eq(some)
        m.d.sync += [shifts.eq(pull), full.eq(~some & ~taken), beat.eq(fifo.r_data)]
        with m.If(shifts):
            m.d.sync += word.eq(Cat(word[self._beat_bits :], beat))
        with m.If(pull):
            m.d.sync += [missing.eq(missing - 1), some.eq(missing != 1)]
        with m.Elif(taken):
            m.d.sync += [missing.eq(self._beats), some.eq(1)]

        # After stop the rest is drained: what arrives is dropped.
        drop = Signal()
        m.d.comb += taken.eq(full & (drop | self.o.ready))
        m.d.sync += [drop.eq(self.stop | ~running), self.idle.eq(~running & (kept == 0))]
        m.d.comb += [self.o.payload.eq(word), self.o.valid.eq(full & ~drop)]
        m.d.sync += kept.eq(kept + begin - taken)

        with m.If(self.start):
            m.d.sync += [running.eq(1), pc.eq(self.entry)]
        with m.If(self.stop & first & ~asking):
            m.d.sync += running.eq(0)
        return m
