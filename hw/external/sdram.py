"""Controller for SDR SDRAM chips behind a burst port."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from intformer.config import CoreConfig
from intformer.hw.external.sdram_chip import CHIPS, SdramChip, SdramPins, SdramTiming
from intformer.hw.external.sdram_rows import Rows
from intformer.hw.external.sdram_split import SEGMENT, Splitter, Widths, WriteBuffer
from intformer.hw.external.sdram_transfer import Transfer
from intformer.hw.parts.streams import Skid
from intformer.hw.ports import BurstPort

__all__ = ["CHIPS", "Sdram", "SdramChip", "SdramPins", "SdramTiming"]


class Sdram(wiring.Component):
    """An SDR SDRAM with four banks, one word per cycle.

    ::

                 ┌──────────┐ segments ┌──────┐ segments, rows open  ┌──────────┐
        cmd ────►│ Splitter ├─────────►│ Rows ├─────────────────────►│ Transfer ├──► rdata
                 └──────────┘          └──┬───┘                      └──┬────▲──┘
                 ┌─────────────┐          │ row commands                │    │ words
        wdata ──►│ WriteBuffer ├──────────│─────────────────────────────┘    │
                 └─────────────┘          └───────────► pins ◄───────────────┘

    A byte address is, from the top: row, bank, column, byte of the word. So a linear stream goes
    through the rows of the four banks in turn, and while it reads one the next is opened. Rows stay
    open until another row of their bank, or a refresh, is wanted. Reads, writes and refreshes
    happen in the order of the commands.

    The chip is addressed word by word (burst length 1), with the smallest CAS latency that the
    clock allows.

    Parameters
    ----------
    config: ``bus_bytes`` counts: at most four words of the chip. A narrower bus than the chip uses
        one word per beat, and masks the other bytes when it writes.
    chip: geometry and timing; :data:`CHIPS` holds those of the boards.
    clock_hz: of the ``sync`` domain, and of the chip.
    read_delay: cycles from the clock edge at which a read word can be taken if the chip's clock is
        the inverted one and nothing else delays, to the edge at which ``dq_i`` has it: 0 to 7.
        Count one for each register that the board puts before the outputs or behind the inputs, and
        one if the way out and back, and the chip's access time, take more than half a period.

    Members
    -------
    mem: ``In(BurstPort(config))``; bursts of any length. ``wdata.ready`` and ``cmd.ready`` are
        registers. Addresses beyond the chip's size wrap.
    pins: ``Out(SdramPins(chip))``; outputs are registers. The board makes the chip's clock: the
        inverted one, so that its edges lie in the middle of the cycles. ``ras``, ``cas`` and ``we``
        are 0 without a command and ``dqm`` is 0 in all accesses if the bus is not narrower than the
        chip, for boards that tie ``cs`` and ``dqm``; ``clk_en`` is 1 from the second cycle on.

    Raises
    ------
    ValueError
        If the bus is too wide, the clock too fast or too slow for the chip, or ``read_delay`` out
        of range.
    """

    def __init__(
        self, config: CoreConfig, *, chip: SdramChip, clock_hz: float, read_delay: int = 0
    ) -> None:
        if not 0 <= read_delay <= 7:
            raise ValueError(f"read_delay must be from 0 to 7, not {read_delay!r}")
        self._config = config
        self._chip = chip
        self._timing = chip.timing(clock_hz)
        self._read_delay = read_delay
        self._widths = Widths.of(config, chip)
        super().__init__({"mem": In(BurstPort(config)), "pins": Out(SdramPins(chip))})

    @property
    def size(self) -> int:
        """Bytes."""
        return self._chip.size

    @property
    def timing(self) -> SdramTiming:
        """What the controller keeps to, in cycles."""
        return self._timing

    @property
    def read_latency(self) -> int:
        """Cycles from the acceptance of a read of an open row to its first beat, if idle."""
        assemble = self._widths.words if self._widths.words > 1 else self._widths.parts > 1
        # Splitter 2, rows 2, queue 2, column command 1, pins 1; then the chip's.
        return 8 + self._timing.cas + self._read_delay + assemble

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        config, chip, mem = self._config, self._chip, self.mem
        m.submodules.splitter = splitter = Splitter(config, chip)
        # Two segments: one transfers while the next one's data come.
        m.submodules.buffer = buffer = WriteBuffer(config, depth=2 * SEGMENT // self._widths.words)
        m.submodules.rows = rows = Rows(config, chip, self._timing)
        m.submodules.transfer = transfer = Transfer(
            config, chip, self._timing, read_delay=self._read_delay
        )
        # A command is taken ahead, so that its data come while those before it are written.
        m.submodules.commands = commands = Skid(mem.cmd.payload.shape())
        connect(m, flipped(mem.cmd), commands.i)
        connect(m, commands.o, splitter.cmd)
        connect(m, flipped(mem.wdata), buffer.i)
        connect(m, splitter.o, rows.i)
        connect(m, rows.o, transfer.i)
        m.d.comb += [
            splitter.stored.eq(buffer.stored),
            buffer.pop.eq(transfer.pop),
            transfer.beat.eq(buffer.beat),
            transfer.hold.eq(rows.valid),
            rows.release.eq(transfer.release),
            rows.release_bank.eq(transfer.release_bank),
            transfer.dq.eq(self.pins.dq_i),
            mem.rdata.payload.eq(transfer.rdata.payload),
            mem.rdata.valid.eq(transfer.rdata.valid),
        ]

        pins, row, command = self.pins, rows.valid, rows.command
        awake = Signal()
        writes = transfer.go & transfer.write
        for pin, value in (
            (pins.ba, Mux(row, command.bank, transfer.bank)),
            (pins.a, Mux(row, command.a, transfer.column)),
            (pins.ras, row & command.ras),
            # All three are 0 without a command: on some boards the chip is always selected.
            (pins.cas, Mux(row, command.cas, transfer.go)),
            (pins.we, Mux(row, command.we, writes)),
            (pins.dq_o, transfer.word),
        ):
            register = Signal.like(pin, name=f"{pin.name}_register", reset_less=True)
            m.d.sync += register.eq(value)
            m.d.comb += pin.eq(register)
        m.d.sync += [
            awake.eq(rows.awake),
            pins.clk_en.eq(1),
            pins.cs.eq(row | transfer.go),
            pins.dq_oe.eq(writes),
            # Zero while it reads: masks would take effect on words two cycles later.
            pins.dqm.eq(Mux(awake, Mux(writes, transfer.mask, 0), ~0)),
        ]
        return m
