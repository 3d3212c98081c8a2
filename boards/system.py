"""What runs on a board: core, memory, controller and UART, up to the pads."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import ClockDomain, ClockSignal, DomainRenamer, Module, ResetSignal, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from intformer.boards.board import Board, FlashMemory, OnChipMemory, SdramMemory
from intformer.errors import DoesNotFit, UserError
from intformer.host.identity import Identity
from intformer.hw.core import Core
from intformer.hw.external.block_ram import BlockRam
from intformer.hw.external.flash_chip import SECTOR
from intformer.hw.external.overlay import Overlay
from intformer.hw.external.qspi_flash import FlashPins, QspiFlash
from intformer.hw.external.sdram import Sdram, SdramPins
from intformer.hw.link.controller import Controller
from intformer.hw.link.uart import Uart
from intformer.isa import PREFETCH
from intformer.program import Program

__all__ = ["System", "check_program", "image_of"]


def check_program(board: Board, program: Program) -> None:
    """Raise unless ``program`` is for the core of ``board`` and fits its memory.

    Raises
    ------
    UserError
        If it was compiled for another configuration.
    DoesNotFit
        If the memory is too small.
    """
    if program.config != board.config:
        raise UserError(
            f"the model was compiled for the core {program.config.name}; {board.name} has "
            f"{board.preset}: compile it with --config {board.preset}"
        )
    needs = program.memory_bytes + PREFETCH
    if needs > board.memory.size:
        raise DoesNotFit(
            f"{board.name} has {board.memory.size} bytes of memory, the model needs {needs}"
        )


def image_of(board: Board, program: Program) -> bytes:
    """What block RAM holds if ``program`` is in the bitstream.

    Raises
    ------
    UserError
        If the board has other memory, or ``program`` is of another core.
    DoesNotFit
        If it is too large.
    """
    if not isinstance(board.memory, OnChipMemory):
        raise UserError(
            f"{board.name} keeps models in its {board.memory.kind}, not in the bitstream; "
            "leave --embed out and load the model with `intformer run --on board`"
        )
    check_program(board, program)
    return program.image.tobytes()


class System(wiring.Component):
    """A board's logic between its pads, the same on the board and in simulation.

    Parameters
    ----------
    board: which one.
    image: what block RAM holds from configuration on, see :func:`image_of`.
    target: family whose primitives are used; None for their behavioural twins.
    divisor: core cycles per bit of the UART, if not the board's own.
    simulated: tell the host that it waits for a simulation.

    Members
    -------
    rx: ``In(1)``, tx: ``Out(1)``: UART. Synchronized inside.
    busy: ``Out(1)``; a program runs.
    pins: of the memory: :class:`~intformer.hw.external.SdramPins` or
        :class:`~intformer.hw.external.FlashPins`; absent with block RAM.
    """

    def __init__(
        self,
        board: Board,
        *,
        image: bytes = b"",
        target: str | None = None,
        divisor: int | None = None,
        simulated: bool = False,
    ) -> None:
        self.board = board
        self._image = image
        self._target = target
        self._divisor = divisor or board.divisor
        self._simulated = simulated
        members: dict[str, Any] = {"rx": In(1), "tx": Out(1, init=1), "busy": Out(1)}
        if isinstance(board.memory, SdramMemory):
            members["pins"] = Out(SdramPins(board.memory.chip))
        elif isinstance(board.memory, FlashMemory):
            members["pins"] = Out(FlashPins())
        super().__init__(members)

    def elaborate(self, _platform: object) -> Module:
        config = self.board.config
        m = Module()
        m.submodules.uart = uart = Uart(divisor=self._divisor)
        m.submodules.controller = controller = Controller(config, identity=self._identity())
        connect(m, uart.o, controller.i)
        connect(m, controller.o, uart.i)
        m.d.comb += [
            uart.rx.eq(self.rx),
            self.tx.eq(uart.tx),
            controller.line_error.eq(uart.framing | uart.overrun),
        ]
        # Core and memory, which the controller can reset.
        m.domains += ClockDomain("device", local=True)
        reset = Signal(init=1)
        m.d.sync += reset.eq(controller.reset)
        m.d.comb += [ClockSignal("device").eq(ClockSignal()), ResetSignal("device").eq(reset)]
        self._add_core(m, controller)
        mem, pins = self._add_memory(m, controller)
        connect(m, controller.mem, mem)
        if pins is not None:
            connect(m, pins, flipped(self.pins))
        return m

    def _identity(self) -> Identity:
        memory = self.board.memory
        return Identity.of(
            self.board.config,
            board=self.board.name,
            clock_hz=self.board.actual_hz,
            memory_size=memory.size,
            overlay_size=memory.ram_size if isinstance(memory, FlashMemory) else 0,
            erase_size=SECTOR if isinstance(memory, FlashMemory) else 1,
            simulated=self._simulated,
        )

    def _add_core(self, m: Module, controller: Controller) -> None:
        core = Core(self.board.config, target=self._target)
        m.submodules.core = DomainRenamer("device")(core)
        m.d.comb += [
            core.start.eq(controller.start),
            core.entry.eq(controller.entry),
            core.counter_addr.eq(controller.counter_addr),
            controller.counter_data.eq(core.counter_data),
            controller.busy.eq(core.busy),
            controller.done.eq(core.done),
            controller.error.eq(core.error),
        ]
        m.d.sync += self.busy.eq(core.busy)
        connect(m, core.mem, controller.core_mem)

    def _add_memory(self, m: Module, controller: Controller) -> tuple[Any, Any]:
        """The adapter of the board's memory: its burst port and its pins, if it has any."""
        config, memory = self.board.config, self.board.memory
        clock_hz = self.board.actual_hz
        if isinstance(memory, OnChipMemory):
            ram = BlockRam(config, size=memory.size, init=self._image)
            m.submodules.memory = DomainRenamer("device")(ram)
            return ram.mem, None
        if isinstance(memory, SdramMemory):
            sdram = Sdram(config, chip=memory.chip, clock_hz=clock_hz, read_delay=memory.read_delay)
            m.submodules.memory = DomainRenamer("device")(sdram)
            return sdram.mem, sdram.pins
        flash = QspiFlash(config, chip=memory.chip, offset=memory.offset, clock_hz=clock_hz)
        overlay = Overlay(
            config,
            ram_size=memory.ram_size,
            address_bits=(config.external_bytes - 1).bit_length(),
        )
        m.submodules.flash = DomainRenamer("device")(flash)
        m.submodules.memory = DomainRenamer("device")(overlay)
        connect(m, overlay.lower, flash.mem)
        m.d.comb += overlay.base.eq(controller.base)
        return overlay.mem, flash.pins
