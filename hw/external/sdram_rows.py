"""Opens and closes the rows of the SDRAM, refreshes it and wakes it up."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from intformer.config import CoreConfig
from intformer.hw.external.sdram_chip import SdramChip, SdramTiming
from intformer.hw.external.sdram_split import Segment
from intformer.hw.parts.streams import CreditFifo, Tally, delay

__all__ = ["Opened", "RowCommand", "Rows"]

QUEUE = 4
"""Segments whose rows are open and that wait for the bus."""
INIT_REFRESHES = 8
MODE_CAS_SHIFT = 4
A10 = 10
"""Address bit that makes a precharge one of all banks."""


class RowCommand(data.StructLayout):
    """A command other than read and write: the pins' levels, active high."""

    def __init__(self, chip: SdramChip) -> None:
        super().__init__({"ras": 1, "cas": 1, "we": 1, "bank": 2, "a": chip.row_bits})


class Opened(data.StructLayout):
    """A segment whose row is open: as :class:`Segment`, without the row."""

    def __init__(self, config: CoreConfig, chip: SdramChip) -> None:
        members = {name: field.shape for name, field in Segment(config, chip) if name != "row"}
        super().__init__(members)


class Rows(wiring.Component):
    """The part of the controller that knows which rows are open.

    Segments pass in order; while earlier ones transfer, the rows of up to :data:`QUEUE` later ones
    are opened. A row is closed for another one of its bank, or for a refresh, when no segment
    needs it any more. A segment whose row is open takes three cycles.

    Members
    -------
    i: ``In(stream)`` of :class:`Segment`.
    o: ``Out(stream)`` of :class:`Opened`; column commands may follow at once.
    release, release_bank: ``In``; the last column command of a segment reaches the pins in the
        next cycle.
    valid, command: ``Out``; a :class:`RowCommand`, for the pins in the next cycle; no column
        command then.
    awake: ``Out(1)``; the chip has been initialized.
    """

    def __init__(self, config: CoreConfig, chip: SdramChip, timing: SdramTiming) -> None:
        self._timing = timing
        self._chip = chip
        self._opened = Opened(config, chip)
        super().__init__(
            {
                "i": In(stream.Signature(Segment(config, chip))),
                "o": Out(stream.Signature(self._opened)),
                "release": In(1),
                "release_bank": In(2),
                "valid": Out(1),
                "command": Out(RowCommand(chip)),
                "awake": Out(1),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        timing = self._timing
        m.submodules.queue = queue = CreditFifo(self._opened, depth=QUEUE)
        wiring.connect(m, queue.o, wiring.flipped(self.o))
        busy, quiet = self._add_use(m, queue)
        due, refreshed = self._add_refresh_timer(m)

        # Whether these many cycles have passed since the command was issued; see _cycles.
        pause = Signal(signed(bits_for(timing.power_up) + 1), init=timing.power_up)
        passed = pause[-1]
        with m.If(~passed):
            m.d.sync += pause.eq(pause - 1)
        # Least time from the latest activation, of any bank, to a precharge.
        active_time = max(timing.ras, timing.rc - timing.rp)
        young = Signal(signed(bits_for(active_time) + 1), init=-1)
        with m.If(~young[-1]):
            m.d.sync += young.eq(young - 1)

        held = Signal.like(self.i.payload, reset_less=True)
        # Which row each bank has open, looked up a cycle before the segment is here.
        m.submodules.table = table = Memory(
            shape=self._chip.row_bits, depth=4, init=[], attrs={"no_rw_check": 1}
        )
        write, read = table.write_port(), table.read_port(domain="comb")
        is_open = Signal(4)
        row = Signal(self._chip.row_bits, reset_less=True)
        open_now = Signal(reset_less=True)
        hit = Signal(reset_less=True)
        m.d.comb += [
            read.addr.eq(self.i.payload.bank),
            write.addr.eq(held.bank),
            write.data.eq(held.row),
        ]
        m.d.sync += [hit.eq(open_now & (row == held.row)), self.valid.eq(0)]

        def issue(*, ras: int, cas: int, we: int, a: object, after: int, bank: object = 0) -> list:
            c = self.command
            signals = [c.ras.eq(ras), c.cas.eq(cas), c.we.eq(we), c.bank.eq(bank), c.a.eq(a)]
            return [self.valid.eq(1), pause.eq(_cycles(after)), *signals]

        precharge_all = issue(ras=1, cas=0, we=1, a=1 << A10, after=timing.rp)
        refresh = issue(ras=1, cas=1, we=0, a=0, after=timing.rfc)
        mode = issue(ras=1, cas=1, we=1, a=timing.cas << MODE_CAS_SHIFT, after=timing.mrd)
        close = issue(ras=1, cas=0, we=1, a=0, after=timing.rp, bank=held.bank)
        # A segment given to the queue reaches the pins three cycles later; the next activation
        # is four cycles away from that at least.
        settle = max(timing.rcd - 2, timing.rrd - 4, 1)
        activate = issue(ras=1, cas=0, we=0, a=held.row, after=settle, bank=held.bank)

        members = [queue.i[name].eq(held[name]) for name, _ in self._opened]
        m.d.comb += [*members, queue.take.eq(queue.push)]
        waking = Signal(range(INIT_REFRESHES), init=INIT_REFRESHES - 1)
        with m.FSM():
            with m.State("POWER-UP"), m.If(passed):
                m.d.sync += precharge_all
                m.next = "WAKE"
            with m.State("WAKE"), m.If(passed):
                m.d.sync += [*refresh, waking.eq(waking - 1)]
                with m.If(waking == 0):
                    m.next = "SET-MODE"
            with m.State("SET-MODE"), m.If(passed):
                m.d.sync += mode
                m.next = "REST"
            with m.State("REST"), m.If(passed):
                m.d.sync += self.awake.eq(1)
                m.next = "TAKE"
            with m.State("TAKE"):
                m.d.comb += self.i.ready.eq(~due)
                m.d.sync += [
                    held.eq(self.i.payload),
                    row.eq(read.data),
                    open_now.eq(is_open.bit_select(self.i.payload.bank, 1)),
                ]
                with m.If(due):
                    m.next = "DRAIN"
                with m.Elif(self.i.valid):
                    m.next = "LOOK"
            with m.State("LOOK"):
                m.next = "CHOOSE"
            with m.State("CHOOSE"):
                with m.If(hit):
                    m.d.comb += queue.push.eq(queue.room)
                    with m.If(queue.room):
                        m.next = "TAKE"
                with m.Elif(~open_now):
                    m.next = "OPEN"
                with m.Elif(~busy & young[-1]):
                    m.d.sync += [*close, is_open.bit_select(held.bank, 1).eq(0)]
                    m.next = "OPEN"
            with m.State("OPEN"), m.If(passed):
                m.d.comb += write.en.eq(1)
                m.d.sync += [*activate, is_open.bit_select(held.bank, 1).eq(1)]
                m.d.sync += young.eq(_cycles(active_time))
                m.next = "SETTLE"
            with m.State("SETTLE"), m.If(passed & queue.room):
                m.d.comb += queue.push.eq(1)
                m.next = "TAKE"
            with m.State("DRAIN"), m.If(quiet & young[-1]):
                m.d.sync += [*precharge_all, is_open.eq(0)]
                m.next = "REFRESH"
            with m.State("REFRESH"), m.If(passed):
                m.d.comb += refreshed.eq(due)
                with m.If(due):
                    m.d.sync += refresh
                with m.Else():
                    m.next = "TAKE"
        return m

    def _add_use(self, m: Module, queue: CreditFifo) -> tuple[Signal, Signal]:
        """Count the segments under way in each bank.

        Returns whether there is one in the bank of the segment that is held (``queue.i.bank``),
        and whether there is none at all, one cycle late.
        """
        # Written data need their time before a precharge, which follows two cycles later at least.
        late = max(1, self._timing.wr - 2)
        release = delay(m, Cat(self.release, self.release_bank), late, name="release")
        some = []
        for bank in range(4):
            m.submodules[f"use_{bank}"] = use = Tally(QUEUE + late + 4)
            m.d.comb += [
                use.more.eq(queue.push & (queue.i.bank == bank)),
                use.less.eq(release[0] & (release[1:] == bank)),
            ]
            some.append(use.some)
        busy, quiet = Signal(), Signal()
        m.d.comb += busy.eq(Cat(some).bit_select(queue.i.bank, 1))
        m.d.sync += quiet.eq(~Cat(some).any())
        return busy, quiet

    def _add_refresh_timer(self, m: Module) -> tuple[Signal, Signal]:
        """Return whether a refresh is due, and the signal to raise for each that is done."""
        interval = self._timing.refresh
        left = Signal(range(interval), init=interval - 1)
        tick = Signal()
        m.submodules.owed = owed = Tally(15)
        refreshed = Signal()
        m.d.sync += [left.eq(Mux(tick, interval - 2, left - 1)), tick.eq(left == 0)]
        m.d.comb += [owed.more.eq(tick & self.awake), owed.less.eq(refreshed)]
        return owed.some, refreshed


def _cycles(count: int) -> Const:
    """Start value of a counter that is negative ``count`` cycles after it was set, at least 1."""
    return Const(max(count, 1) - 2, signed(bits_for(max(count, 2)) + 1))
