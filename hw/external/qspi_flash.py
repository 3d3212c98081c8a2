"""Quad SPI flash behind the burst port: continuous reads, and writes without a file system.

The controller is a list of *phases*, each of one byte (the data phases: of any number). A byte is
launched piece by piece, a bit or a nibble, every piece with the falling edge of the clock::

    cmd ──► address ─┐
    wdata ───────────┼─► byte of the phase ─► bit or nibble ─► dq_o
    phase constants ─┘
    dq_i ─► byte ─► beat ─► rdata
"""

from __future__ import annotations

import math
from enum import IntEnum

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from intformer.config import CoreConfig
from intformer.hw.external.flash_chip import (
    IS25LP128,
    PAGE,
    SECTOR,
    W25Q32JV,
    W25Q128JV,
    FlashChip,
)
from intformer.hw.parts.streams import delay
from intformer.hw.ports import BurstPort

__all__ = [
    "IS25LP128",
    "W25Q32JV",
    "W25Q128JV",
    "FlashChip",
    "FlashPins",
    "QspiFlash",
    "least_divider",
]

_CONTINUE, _WAKE, _STATUS, _VOLATILE = 0xA0, 0xAB, 0x05, 0x50
_ENABLE, _DISABLE, _PROGRAM, _ERASE, _READ = 0x06, 0x04, 0x02, 0x20, 0xEB


class FlashPins(wiring.Signature):
    """The pins of a quad SPI flash, seen from the controller. All outputs are registers.

    Members
    -------
    cs: ``Out(1)``; chip select, active high here: the board inverts it.
    clk: ``Out(1)``; SPI mode 0.
    dq_o, dq_oe, dq_i: the four data lines. While no command is under way and during reads the
        controller does not drive them: give IO2 and IO3 pull-ups.
    """

    def __init__(self) -> None:
        super().__init__(
            {"cs": Out(1), "clk": Out(1), "dq_o": Out(4), "dq_oe": Out(4), "dq_i": In(4)}
        )


class _Phase(IntEnum):
    """What is launched next."""

    LEAVE = 0  # eight clocks with all lines high end the continuous read mode
    WAKE = 1
    WAIT = 2
    POLL = 3
    STATUS = 4
    CHECK = 5
    DISABLE = 6  # a reset may have cut off a program after its write enable
    VOLATILE = 7
    QUAD = 8
    QUAD_VALUE = 9
    ENABLE = 10
    COMMAND = 11
    ADDRESS_2 = 12
    ADDRESS_1 = 13
    ADDRESS_0 = 14
    MODE = 15
    DUMMY = 16
    READ = 17
    WRITE = 18


def least_divider(chip: FlashChip, clock_hz: float) -> int:
    """Cycles of half a SPI clock, as few as the chip allows, its deselection in eight of them."""
    deselect = chip.deselect_ns * 1e-9 * clock_hz
    return max(1, math.ceil(clock_hz / (2 * chip.max_clock_hz)), math.ceil(deselect / 8))


class QspiFlash(wiring.Component):
    """A quad SPI flash as the memory of a core.

    After reset the chip is made ready from whatever state it is in (a transfer that was cut off,
    continuous read mode, power down, a program or erase under way): a warm reset is safe.

    *Reads* are quad I/O fast reads (0xEB) in continuous read mode: a new address costs the address,
    the mode bits and the dummy clocks. The chip stays selected after a burst, with the clock held;
    a read burst that begins where the last one ended goes on without a clock lost, if its command
    is there by the middle of the last byte.

    *Writes* go to the chip when they come: write enable, page program, then waiting for the chip;
    a burst over the end of a page becomes several. A write of the first byte of a sector
    (:data:`~intformer.hw.external.flash_chip.SECTOR`) erases the sector first, so that linear
    loading from a sector's beginning needs nothing else; elsewhere a write can only clear bits.
    The next command is taken when all has been programmed. Long bursts are written faster: a
    page takes about as long as a byte.

    Parameters
    ----------
    config: only ``bus_bytes`` matters.
    chip: the chip.
    offset: added to addresses; a multiple of the sector size. What is below cannot be reached
        (the bitstream); addresses beyond the chip's end wrap to its beginning.
    clock_hz: clock of the ``sync`` domain.
    divider: cycles of half a SPI clock; the smallest that the chip allows if not given.
    read_delay: cycles from the rising edge of ``clk`` to the edge at which ``dq_i`` is taken. 1
        with pins that have no registers: then data have ``2 * divider`` cycles, less the
        delays of the pads and the chip, if ``divider`` is 1. Add 1 for each register in a pin.

    Members
    -------
    mem: ``In(BurstPort)``; bursts of any length that ``len`` can tell.
    pins: ``Out(FlashPins)``.

    Notes
    -----
    A byte takes ``4 * divider`` cycles. Linear read bursts use the pins all the time
    (``make bench-flash`` measures it). With ``divider`` 1, four dummy clocks and 50 ns below two
    cycles, the first beat of a read elsewhere comes ``30 + 4 * bus_bytes`` cycles after its
    command, one more per further cycle of deselection.
    """

    def __init__(
        self,
        config: CoreConfig,
        *,
        chip: FlashChip,
        offset: int,
        clock_hz: float,
        divider: int | None = None,
        read_delay: int = 1,
    ) -> None:
        if offset % SECTOR or not 0 <= offset < chip.size:
            raise ValueError(
                f"offset must be a multiple of {SECTOR} below {chip.size}, not {offset!r}"
            )
        if clock_hz <= 0:
            raise ValueError(f"clock_hz must be positive, not {clock_hz!r}")
        least = least_divider(chip, clock_hz)
        if divider is None:
            divider = least
        if divider < least:
            raise ValueError(f"divider must be at least {least} for the chip, not {divider!r}")
        if not 0 <= read_delay <= 4:
            raise ValueError(f"read_delay must be from 0 to 4, not {read_delay!r}")
        self._bus = config.bus_bytes
        self._chip = chip
        self._offset = offset
        self._divider = divider
        self._read_delay = read_delay
        # Half clocks with the chip not selected; what was read has arrived by then.
        gap = max(chip.deselect_ns * 1e-9 * clock_hz, read_delay + 1)
        self._gap = max(2, math.ceil(gap / divider))
        self._wake_bit = math.ceil(chip.wake_ns * 1e-9 * clock_hz).bit_length()
        super().__init__({"mem": In(BurstPort(config)), "pins": Out(FlashPins())})

    @property
    def clock_divider(self) -> int:
        """Core cycles per SPI clock."""
        return 2 * self._divider

    @property
    def byte_cycles(self) -> int:
        """Core cycles in which the pins can carry one byte."""
        return 2 * self.clock_divider

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        # What is launched next: the piece `count` (the last is 0) of `phase`. While `closing`, the
        # chip is given the end of a command first.
        self._phase = Signal(_Phase)
        self._count = Signal(3, init=self._gap - 2)
        self._closing = Signal(init=1)
        # The state of the chip and of the command that was taken.
        self._startup, self._continuous = Signal(init=1), Signal()
        self._active, self._writing, self._erased = Signal(), Signal(), Signal()
        self._addr = Signal((self._chip.size - 1).bit_length())
        self._left = Signal(8, reset_less=True)  # beats after the one under way
        self._lane = Signal(range(self._bus))  # byte of the beat
        self._busy = Signal()

        slot, launch, launched, go = Signal(), Signal(), Signal(), Signal()
        tick = self._make_tick(m)
        phase, first = self._phase, self._count == 1
        is_read, is_write = phase == _Phase.READ, phase == _Phase.WRITE
        self._last_piece = Signal()
        with m.If(is_read):
            m.d.comb += go.eq(self._active)
        with m.Elif(is_write):
            m.d.comb += go.eq(self.mem.wdata.valid)
        with m.Else():
            m.d.comb += go.eq(~phase.matches(_Phase.WAIT, _Phase.CHECK))
        m.d.comb += [
            slot.eq(tick & ~launched),
            go.eq(Mux(is_read, self._active, Mux(is_write, self.mem.wdata.valid, 1))),
            launch.eq(
                slot & ~self._closing & go & (phase != _Phase.WAIT) & (phase != _Phase.CHECK)
            ),
            self._last_piece.eq(launch & (self._count == 0)),
        ]
        with m.If(tick):
            m.d.sync += [launched.eq(launch), self.pins.clk.eq(launched)]
        lane_end = self._lane == self._bus - 1
        beat_end = self._last_piece & (is_read | is_write) & lane_end
        with m.If(self._last_piece & (is_read | is_write)):
            m.d.sync += self._lane.eq(self._lane + 1)
        with m.If(beat_end):
            m.d.sync += self._left.eq(self._left - 1)
        m.d.comb += self.mem.wdata.ready.eq(beat_end & is_write)
        with m.If((launch & first & (is_read | is_write)) | (phase == _Phase.WAIT)):
            m.d.sync += self._addr.eq(self._addr + 1)
        last = lane_end & (self._left == 0)
        self._step(m, slot, launch, last)
        self._send(m, launch)
        self._receive(m, launch, tick & launched, lane_end)
        self._take_commands(m, beat_end & last)
        return m

    def _make_tick(self, m: Module) -> Value:
        """1 in the cycles in which something can happen on the pins."""
        if self._divider == 1:
            return Const(1)
        left = Signal(range(self._divider))
        tick = left == 0
        m.d.sync += left.eq(Mux(tick, self._divider - 1, left - 1))
        return tick

    def _step(self, m: Module, slot: Value, launch: Value, last: Value) -> None:
        """From piece to piece, and from phase to phase."""
        phase, count, closing, pins = self._phase, self._count, self._closing, self.pins
        erase = Signal()
        m.d.comb += erase.eq((self._addr[: (SECTOR - 1).bit_length()] == 0) & ~self._erased)
        with m.If(launch):
            m.d.sync += [pins.cs.eq(1), count.eq(count - 1)]  # wraps to the 7 of a single byte
        with m.If(slot & closing & ~pins.clk):
            m.d.sync += [pins.cs.eq(0), count.eq(Mux(pins.cs, self._gap - 2, count - 1))]
            with m.If(~pins.cs & (count == 0)):
                m.d.sync += closing.eq(0)
        with m.If((phase == _Phase.WAIT) & self._addr[self._wake_bit]):
            m.d.sync += phase.eq(_Phase.POLL)
        with m.If((phase == _Phase.CHECK) & ~closing):
            m.d.sync += phase.eq(Mux(self._active, _Phase.ENABLE, _Phase.READ))
            with m.If(self._busy):
                m.d.sync += phase.eq(_Phase.POLL)
            with m.Elif(self._startup):
                if self._chip.quad_enable is None:
                    m.d.sync += [phase.eq(_Phase.READ), self._startup.eq(0)]
                else:
                    m.d.sync += phase.eq(_Phase.DISABLE)
        with m.If(self._last_piece):
            m.d.sync += phase.eq(phase + 1)
            with m.Switch(phase):
                with m.Case(_Phase.LEAVE):
                    m.d.sync += [closing.eq(1), self._continuous.eq(0)]
                    with m.If(~self._startup):
                        m.d.sync += phase.eq(_Phase.ENABLE)
                with m.Case(_Phase.WAKE, _Phase.STATUS, _Phase.ENABLE):
                    m.d.sync += closing.eq(1)
                with m.Case(_Phase.DISABLE, _Phase.VOLATILE):
                    m.d.sync += closing.eq(1)
                with m.Case(_Phase.QUAD_VALUE):
                    m.d.sync += [closing.eq(1), self._startup.eq(0), phase.eq(_Phase.READ)]
                with m.Case(_Phase.COMMAND, _Phase.ADDRESS_2, _Phase.ADDRESS_1):
                    m.d.sync += count.eq(Mux(self._writing, 7, 1))
                with m.Case(_Phase.ADDRESS_0):
                    m.d.sync += count.eq(Mux(self._writing, 7, 1))
                    with m.If(self._writing & erase):
                        m.d.sync += [closing.eq(1), self._erased.eq(1), phase.eq(_Phase.POLL)]
                    with m.Elif(self._writing):
                        m.d.sync += phase.eq(_Phase.WRITE)
                with m.Case(_Phase.MODE):
                    m.d.sync += [self._continuous.eq(1), count.eq(self._chip.dummy_clocks - 1)]
                with m.Case(_Phase.DUMMY):
                    m.d.sync += count.eq(1)
                with m.Case(_Phase.READ):
                    m.d.sync += [count.eq(1), phase.eq(_Phase.READ)]
                with m.Case(_Phase.WRITE):
                    m.d.sync += [phase.eq(_Phase.WRITE), self._erased.eq(0)]
                    with m.If(last | (self._addr[: (PAGE - 1).bit_length()] == 0)):
                        m.d.sync += [closing.eq(1), phase.eq(_Phase.POLL)]
        self._erase = erase

    def _send(self, m: Module, launch: Value) -> None:
        """The lines of the piece that is launched."""
        phase, count, pins = self._phase, self._count, self.pins
        command, value = self._chip.quad_enable or (0, 0)
        byte, addr = Signal(8), Signal(24)
        m.d.comb += addr.eq(self._addr)
        constants = {
            _Phase.LEAVE: 0xFF,
            _Phase.WAKE: _WAKE,
            _Phase.POLL: _STATUS,
            _Phase.DISABLE: _DISABLE,
            _Phase.VOLATILE: _VOLATILE,
            _Phase.QUAD: command,
            _Phase.QUAD_VALUE: value,
            _Phase.ENABLE: _ENABLE,
            _Phase.COMMAND: Mux(self._writing, Mux(self._erase, _ERASE, _PROGRAM), _READ),
            _Phase.ADDRESS_2: addr[16:],
            _Phase.ADDRESS_1: addr[8:16],
            _Phase.ADDRESS_0: addr[:8],
            _Phase.MODE: _CONTINUE,
            _Phase.WRITE: self.mem.wdata.payload.word_select(self._lane, 8),
        }
        with m.Switch(phase):
            for case, constant in constants.items():
                with m.Case(case):
                    m.d.comb += byte.eq(constant)
        address = phase.matches(_Phase.ADDRESS_2, _Phase.ADDRESS_1, _Phase.ADDRESS_0)
        listens = phase.matches(_Phase.DUMMY, _Phase.READ)
        quad = (address & ~self._writing) | (phase == _Phase.MODE)
        with m.If(launch):
            m.d.sync += [
                pins.dq_o.eq(
                    Mux(
                        quad,
                        byte.word_select(count[0], 4),
                        Cat(byte.bit_select(count, 1), Const(0b111, 3)),
                    )
                ),
                pins.dq_oe.eq(Mux(listens, 0, 0b1101)),
            ]
            with m.If(quad | (phase == _Phase.LEAVE)):
                m.d.sync += pins.dq_oe[1].eq(1)

    def _receive(self, m: Module, launch: Value, rise: Value, lane_end: Value) -> None:
        """Lines to bytes, bytes to beats."""
        is_read = self._phase == _Phase.READ
        beat_next, byte_next = Signal(), Signal()
        with m.If(launch):
            m.d.sync += [
                byte_next.eq(is_read & (self._count == 0)),
                beat_next.eq(is_read & (self._count == 0) & lane_end),
            ]
        delayed = delay(
            m,
            Cat(rise, rise & byte_next, rise & beat_next),
            self._read_delay,
            name="taken",
        )
        byte = Signal(8, reset_less=True)
        with m.If(delayed[0]):
            m.d.sync += byte.eq(Cat(self.pins.dq_i, byte[:4]))
        m.d.sync += self.mem.rdata.valid.eq(delayed[2])
        m.d.comb += self._busy.eq(byte[1])
        if self._bus == 1:
            m.d.comb += self.mem.rdata.payload.eq(byte)
            return
        whole = Signal()
        before = Signal(8 * (self._bus - 1), reset_less=True)  # the beat's bytes but the last
        m.d.sync += whole.eq(delayed[1])
        with m.If(whole):
            m.d.sync += before.eq(Cat(before, byte)[8:])
        m.d.comb += self.mem.rdata.payload.eq(Cat(before, byte))

    def _take_commands(self, m: Module, ends: Value) -> None:
        """Commands; one that goes on where the burst ends is taken with the burst's last piece."""
        cmd, phase, cs = self.mem.cmd, self._phase, self.pins.cs
        addr = Signal.like(self._addr)
        asked, linear = Signal(), Signal()
        idle, goes_on, fresh = Signal(), Signal(), Signal()
        m.d.comb += [
            # Low bits of the offset are 0: no adder there.
            addr.eq(
                Cat(
                    cmd.payload.addr[: (SECTOR - 1).bit_length()],
                    cmd.payload.addr[(SECTOR - 1).bit_length() :] + self._offset // SECTOR,
                )
            ),
            idle.eq((phase == _Phase.READ) & ~self._active & ~self._closing),
            goes_on.eq(linear & (idle | (ends & (phase == _Phase.READ)))),
            fresh.eq(asked & idle & ~cs),
            cmd.ready.eq(goes_on | fresh),
        ]
        waits = cmd.valid & ~cmd.ready
        m.d.sync += [
            asked.eq(waits),
            linear.eq(waits & ~cmd.payload.write & cs & (addr == self._addr)),
        ]
        with m.If(ends):
            m.d.sync += self._active.eq(0)
        with m.If(cmd.ready):
            m.d.sync += [self._active.eq(1), self._left.eq(cmd.payload.len)]
        with m.If(idle & asked & ~linear & cs):
            m.d.sync += self._closing.eq(1)
        with m.If(fresh):
            m.d.sync += [self._addr.eq(addr), self._writing.eq(cmd.payload.write)]
            with m.If(cmd.payload.write):
                m.d.sync += phase.eq(Mux(self._continuous, _Phase.LEAVE, _Phase.ENABLE))
            with m.Elif(self._continuous):
                m.d.sync += [phase.eq(_Phase.ADDRESS_2), self._count.eq(1)]
            with m.Else():
                m.d.sync += phase.eq(_Phase.COMMAND)
