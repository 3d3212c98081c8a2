"""The MATMUL unit: weight tiles and activation vectors into the array, sums into accumulators."""

from __future__ import annotations

from collections.abc import Callable

from amaranth.hdl import Cat, Module, Signal, Value, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from intformer.config import CoreConfig
from intformer.hw.matmul.accumulator import ACCUMULATE_SPACING, AccumulatorControl, Accumulators
from intformer.hw.matmul.array import ProcessingElement, SystolicArray
from intformer.hw.ports import READ_LATENCY, UnitPort, WidePort, operation_layout
from intformer.isa import Op
from intformer.reference import ACC_BITS

__all__ = ["MatmulUnit", "TileLoader", "VectorIssue"]


class VectorControl(data.StructLayout):
    """What goes with an activation vector: ``switch`` marks the first one of a tile."""

    def __init__(self, config: CoreConfig) -> None:
        super().__init__({"switch": 1, "unsigned": 1, "acc": AccumulatorControl(config)})


class TileLoader(wiring.Component):
    """Moves weight tiles from the column FIFO into the array's shadow registers.

    Members
    -------
    columns: ``In(stream)`` of columns of weights.
    w, shift: ``Out``; to the array, one cycle after the transfer.
    full: ``Out(1)``; a whole tile has been taken: the vector asked for in this cycle may switch
        to it.
    switch: ``In(1)``; a vector that switches has been asked for; only while ``full``.

    Notes
    -----
    The first column of the next tile is taken ``cols`` cycles after ``switch`` at the earliest,
    when the last column of the array has taken its weights over: tiles follow each other after
    at least ``2 * cols`` cycles.
    """

    def __init__(self, config: CoreConfig) -> None:
        self._cols = config.cols
        super().__init__(
            {
                "columns": In(stream.Signature(unsigned(8 * config.rows))),
                "w": Out(8 * config.rows),
                "shift": Out(1),
                "full": Out(1),
                "switch": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        taken = Signal(range(self._cols))
        hold = Signal(range(self._cols))
        transfer = self.columns.valid & self.columns.ready
        m.d.comb += self.columns.ready.eq(~self.full & (hold == 0))
        m.d.sync += [self.w.eq(self.columns.payload), self.shift.eq(transfer)]
        with m.If(transfer):
            m.d.sync += taken.eq(taken + 1)
            with m.If(taken == self._cols - 1):
                m.d.sync += [taken.eq(0), self.full.eq(1)]
        with m.If(self.switch):
            m.d.sync += [self.full.eq(0), hold.eq(self._cols - 1)]
        with m.Elif(hold != 0):
            m.d.sync += hold.eq(hold - 1)
        return m


class VectorIssue(wiring.Component):
    """Asks the scratchpad for activation vectors, instruction after instruction.

    Members
    -------
    cmd: ``In(stream)`` of MATMUL fields; one is kept while another runs.
    tile_ready: ``In(1)``; the next tile may be switched to.
    req: ``Out(stream)`` of addresses of vectors.
    control: ``Out(VectorControl)``; of the vector asked for. ``control.acc.valid`` is 1 in the
        cycle in which it is taken.
    active: ``Out(1)``; an instruction still has vectors to ask for.

    Notes
    -----
    One vector per cycle, across tiles and instructions, except for the first one of a tile, which
    waits for ``tile_ready`` and, if the tile has fewer than :data:`ACCUMULATE_SPACING` vectors,
    until no vector has been taken for that number of cycles less one.
    """

    def __init__(self, config: CoreConfig) -> None:
        self._config = config
        super().__init__(
            {
                "cmd": In(stream.Signature(operation_layout(Op.MATMUL))),
                "tile_ready": In(1),
                "req": Out(stream.Signature(unsigned(18))),
                "control": Out(VectorControl(config)),
                "active": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        pending = Signal(self.cmd.payload.shape(), reset_less=True)
        pending_valid = Signal()
        load = Signal()
        m.d.comb += self.cmd.ready.eq(~pending_valid)
        with m.If(self.cmd.valid & self.cmd.ready):
            m.d.sync += [pending.eq(self.cmd.payload), pending_valid.eq(1)]
        with m.If(load):
            m.d.sync += pending_valid.eq(0)

        current = Signal(self.cmd.payload.shape(), reset_less=True)
        tile = Signal(18, reset_less=True)  # address of the tile's first vector
        first = Signal()  # vector of the tile
        overwrite = Signal()  # the accumulators: this is the first tile
        last_row = current.rows == 1
        last_tile = current.k_tiles == 1
        rows = Signal.like(current.rows, reset_less=True)
        acc = Signal.like(current.acc, reset_less=True)
        finish = Signal()
        self._issue(m, first=first, few=rows < ACCUMULATE_SPACING)
        taken = self.control.acc.valid
        m.d.comb += [
            self.req.payload.eq(current.base),
            self.control.switch.eq(taken & first),
            self.control.unsigned.eq(current.unsigned),
            self.control.acc.addr.eq(current.acc),
            self.control.acc.overwrite.eq(overwrite),
            self.control.acc.last.eq(last_row & last_tile),
            finish.eq(taken & last_row & last_tile),
            load.eq(pending_valid & (~self.active | finish)),
        ]
        # `current` counts down: base and acc are the next vector's, rows and k_tiles what is left.
        with m.If(taken):
            m.d.sync += [
                current.base.eq(current.base + current.stride),
                current.acc.eq(current.acc + 1),
                current.rows.eq(current.rows - 1),
                first.eq(0),
            ]
            with m.If(last_row):
                m.d.sync += [
                    current.base.eq(tile + 1),
                    current.acc.eq(acc),
                    current.rows.eq(rows),
                    current.k_tiles.eq(current.k_tiles - 1),
                    tile.eq(tile + 1),
                    first.eq(1),
                    overwrite.eq(0),
                ]
        with m.If(load):
            m.d.sync += [
                current.eq(pending),
                tile.eq(pending.base),
                acc.eq(pending.acc),
                rows.eq(pending.rows),
                first.eq(1),
                overwrite.eq(1),
                self.active.eq(1),
            ]
        with m.Elif(finish):
            m.d.sync += self.active.eq(0)
        return m

    def _issue(self, m: Module, *, first: Value, few: Value) -> None:
        """Drive ``req.valid``: whether the next vector may be asked for."""
        recent = Signal(ACCUMULATE_SPACING - 1)  # vectors taken in the last cycles
        m.d.sync += recent.eq(Cat(self.control.acc.valid, recent))
        m.d.comb += [
            self.req.valid.eq(self.active & (~first | (self.tile_ready & ~(few & recent.any())))),
            self.control.acc.valid.eq(self.req.valid & self.req.ready),
        ]


class MatmulUnit(wiring.Component):
    """The array, its weight loader, its accumulators and the MATMUL instruction.

    Parameters
    ----------
    config: the core's parameters.
    element: processing element of the array, see :class:`SystolicArray`.

    Members
    -------
    unit: ``In(UnitPort)``; takes MATMUL only. ``rows`` and ``k_tiles`` are at least 1.
    act: ``Out(WidePort)``; activation vectors.
    columns: ``In(stream)`` of columns of weights, the last column of each tile first. Tiles are
        taken in order, also before the instruction that uses them.
    acc_addr: ``In(12)``, acc_data: ``Out(32 * cols)``; reads of the accumulators, always answered
        after :data:`READ_LATENCY` cycles.
    rows_fed: ``Out(1)``; a vector has been asked for.

    Notes
    -----
    ``stall``: an instruction has vectors to feed, and none is taken: the tile is not loaded, or
    the scratchpad is not ready. :attr:`latency` is from a vector's request to its ``done``.
    """

    def __init__(
        self,
        config: CoreConfig,
        *,
        element: Callable[..., ProcessingElement] = ProcessingElement,
    ) -> None:
        self._config = config
        self._array = SystolicArray(config, element=element)
        super().__init__(
            {
                "unit": In(UnitPort()),
                "act": Out(WidePort(config)),
                "columns": In(stream.Signature(unsigned(8 * config.rows))),
                "acc_addr": In(12),
                "acc_data": Out(ACC_BITS * config.cols),
                "rows_fed": Out(1),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles from the acceptance of an instruction's last vector request to ``done``."""
        return self._config.rows + self._config.cols + 4

    def elaborate(self, platform: object) -> Module:
        config = self._config
        m = Module()
        m.submodules.loader = loader = TileLoader(config)
        m.submodules.issue = issue = VectorIssue(config)
        m.submodules.array = array = self._array
        m.submodules.accumulators = accumulators = Accumulators(config)
        connect(m, flipped(self.columns), loader.columns)
        connect(m, issue.req, flipped(self.act.req))
        m.d.comb += [
            issue.cmd.valid.eq(self.unit.cmd.valid),
            issue.cmd.payload.as_value().eq(self.unit.cmd.payload.body),
            self.unit.cmd.ready.eq(issue.cmd.ready),
            issue.tile_ready.eq(loader.full),
            loader.switch.eq(issue.control.switch),
            array.w.as_value().eq(loader.w),
            array.shift.eq(loader.shift),
            accumulators.psum.eq(array.psum),
            accumulators.read_addr.eq(self.acc_addr),
            self.acc_data.eq(accumulators.read_data),
            self.rows_fed.eq(issue.control.acc.valid),
            self.unit.done.eq(accumulators.done),
            self.unit.stall.eq(issue.active & ~issue.control.acc.valid),
        ]
        self._feed(m, issue, array, accumulators)
        self._count(m)
        return m

    def _feed(
        self, m: Module, issue: VectorIssue, array: SystolicArray, accumulators: Accumulators
    ) -> None:
        """Bring vectors to the array and their control to the accumulators."""
        control = issue.control
        stages = READ_LATENCY + array.latency - 2
        for stage in range(stages):
            previous, control = control, Signal(VectorControl(self._config), name=f"c_{stage}")
            m.d.sync += control.eq(previous)
            if stage == READ_LATENCY - 1:
                m.d.comb += array.switch.eq(control.switch)
                for row in range(self._config.rows):
                    code = self.act.data.word_select(row, 8)
                    top = code[7] & ~control.unsigned
                    m.d.comb += array.a[row].eq(Cat(code, top).as_signed())
        m.d.comb += accumulators.i.eq(control.acc)

    def _count(self, m: Module) -> None:
        """Drive ``busy`` from the number of instructions taken and not completed."""
        # One pending, one running, and those whose tail is in the array.
        most = 3 + self.latency // (2 * self._config.cols)
        held = Signal(range(most + 1))
        begin = self.unit.cmd.valid & self.unit.cmd.ready
        m.d.sync += held.eq(held + begin - self.unit.done)
        m.d.comb += self.unit.busy.eq(held != 0)
