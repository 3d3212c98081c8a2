"""The MATMUL unit: weight tiles and activation vectors into the array, sums into accumulators."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Signal, Value, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from intformer.config import CoreConfig
from intformer.hw.columns import column_layout
from intformer.hw.matmul.accumulator import ACCUMULATE_SPACING, AccumulatorControl, Accumulators
from intformer.hw.matmul.array import ArrayShape, SystolicArray
from intformer.hw.matmul.formats import array_format
from intformer.hw.matmul.scales import SLOTS, GroupScales, ScaleSlot
from intformer.hw.parts.streams import delay
from intformer.hw.ports import READ_LATENCY, UnitPort, WidePort, operation_layout
from intformer.isa import Op
from intformer.reference import ACC_BITS

__all__ = ["MatmulTiming", "MatmulUnit", "TileLoader", "VectorIssue"]


class VectorControl(data.StructLayout):
    """What goes with an activation vector: ``switch`` marks the first one of a tile."""

    def __init__(self, config: CoreConfig) -> None:
        super().__init__({"switch": 1, "unsigned": 1, "acc": AccumulatorControl(config)})


class TileLoader(wiring.Component):
    """Moves weight tiles from the column FIFO into the array's shadow registers, scales aside.

    Parameters
    ----------
    config: the core's parameters.
    hold: cycles without a transfer after ``switch``.

    Members
    -------
    columns: ``In(stream)`` of :func:`~intformer.hw.columns.column_layout`.
    w, shift: ``Out``; to the array, one cycle after the transfer.
    full: ``Out(1)``; a whole tile has been taken: the vector asked for in this cycle may switch
        to it.
    switch: ``In(1)``; a vector that switches has been asked for; only while ``full``.
    tile, write: with ``group_scales`` only: ``Out(ScaleSlot)`` of the tile, while ``full``;
        ``Out(1)``, ``w`` holds scales, for ``tile.slot``.

    Notes
    -----
    The first column of the next tile is taken ``hold + 1`` cycles after ``switch`` at the earliest,
    so that it does not reach the array before the vector: tiles follow each other after at least
    ``hold + 1 + cols`` cycles.
    """

    def __init__(self, config: CoreConfig, *, hold: int) -> None:
        self._cols = config.cols
        self._hold = hold
        self._scales = config.group_scales
        members = {
            "columns": In(stream.Signature(column_layout(config))),
            "w": Out(8 * config.rows),
            "shift": Out(1),
            "full": Out(1),
            "switch": In(1),
        }
        if self._scales:
            members |= {"tile": Out(ScaleSlot()), "write": Out(1)}
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        taken = Signal(range(self._cols))
        hold = Signal(range(self._hold + 1))
        column = self.columns.payload
        transfer = self.columns.valid & self.columns.ready
        if self._scales:
            scales = transfer & column.is_scales
            transfer &= ~column.is_scales
            m.d.sync += [self.write.eq(scales), self.tile.slot.eq(self.tile.slot + scales)]
            with m.If(transfer):
                m.d.sync += self.tile.scaled.eq(column.scaled)
        fills = transfer & (taken == self._cols - 1)
        # A register, known a cycle before: the column FIFO, a wide one, waits for it.
        ready = Signal(init=1, attrs={"keep": 1})
        free = ~self.full & ~fills
        m.d.sync += ready.eq(
            free & ~self.switch & (hold <= 1) if self._hold else free | self.switch
        )
        m.d.comb += self.columns.ready.eq(ready)
        m.d.sync += [self.w.eq(column.weights), self.shift.eq(transfer)]
        with m.If(transfer):
            m.d.sync += taken.eq(taken + 1)
        with m.If(fills):
            m.d.sync += [taken.eq(0), self.full.eq(1)]
        with m.If(self.switch):
            m.d.sync += [self.full.eq(0), hold.eq(self._hold)]
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
        # Comparisons are made one vector early: many registers wait for what follows from them.
        last_row, last_tile = Signal(), Signal()
        single_row, few_rows = Signal(), Signal()
        rows = Signal.like(current.rows, reset_less=True)
        acc = Signal.like(current.acc, reset_less=True)
        finish = Signal()
        self._issue(m, first=first, few=few_rows)
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
        # The scratchpad's answer, in `taken`, comes late. It decides only whether these registers
        # load; what they load is known before.
        with m.If(taken | (pending_valid & ~self.active)):
            m.d.sync += [
                current.base.eq(current.base + current.stride),
                current.acc.eq(current.acc + 1),
                current.rows.eq(current.rows - 1),
                last_row.eq(current.rows == 2),
                first.eq(0),
            ]
            with m.If(last_row):
                m.d.sync += [
                    current.base.eq(tile + 1),
                    current.acc.eq(acc),
                    current.rows.eq(rows),
                    current.k_tiles.eq(current.k_tiles - 1),
                    last_row.eq(single_row),
                    last_tile.eq(current.k_tiles == 2),
                    tile.eq(tile + 1),
                    first.eq(1),
                    overwrite.eq(0),
                ]
            with m.If(~self.active | (last_row & last_tile)):
                m.d.sync += [
                    current.eq(pending),
                    tile.eq(pending.base),
                    acc.eq(pending.acc),
                    rows.eq(pending.rows),
                    single_row.eq(pending.rows == 1),
                    few_rows.eq(pending.rows < ACCUMULATE_SPACING),
                    last_row.eq(pending.rows == 1),
                    last_tile.eq(pending.k_tiles == 1),
                    first.eq(1),
                    overwrite.eq(1),
                    self.active.eq(pending_valid),
                ]
        return m

    def _issue(self, m: Module, *, first: Value, few: Value) -> None:
        """Drive ``req.valid``: whether the next vector may be asked for."""
        recent = Signal(ACCUMULATE_SPACING - 2)  # vectors taken in the last cycles
        lately = Signal()  # ... and one more
        m.d.sync += [
            recent.eq(Cat(self.control.acc.valid, recent)),
            lately.eq(self.control.acc.valid | recent.any()),
        ]
        m.d.comb += [
            self.req.valid.eq(self.active & (~first | (self.tile_ready & ~(few & lately)))),
            self.control.acc.valid.eq(self.req.valid & self.req.ready),
        ]


_FORMATS = {"dsp": "int8", "dsp_packed": "int8_packed", "luts": "int8_luts"}


@dataclass(frozen=True)
class MatmulTiming:
    """Constants of the unit for a configuration.

    Attributes
    ----------
    latency: cycles from the acceptance of an instruction's last vector request to ``done``.
    hold: cycles without a transfer of columns after a tile's first vector request.
    tile_period: least number of cycles from a tile's first vector request to the next tile's.
    """

    latency: int
    hold: int
    tile_period: int

    @classmethod
    def of(cls, config: CoreConfig) -> MatmulTiming:
        """The constants for ``config``."""
        form = array_format(_FORMATS[config.array])
        array = ArrayShape(config.rows, config.cols, form)
        assert array.load_latency <= READ_LATENCY, "a vector would overtake its tile"
        # A vector enters the array READ_LATENCY cycles after its request, a column one cycle
        # after its transfer, which is one cycle after the request at the earliest.
        hold = READ_LATENCY - 2
        latency = READ_LATENCY + array.latency + array.delay(array.cols - 1) + 1
        tile_period = hold + 1 + config.cols
        if config.group_scales:
            latency += GroupScales.latency_of(config, form.sum_shape(config.rows))
            # Those of the tiles on their way, of the one that is loaded, and of the next one.
            assert latency // tile_period + 2 < SLOTS, "more tiles on their way than scales"
        return cls(latency=latency, hold=hold, tile_period=tile_period)


class MatmulUnit(wiring.Component):
    """The array, its weight loader, its accumulators and the MATMUL instruction.

    Parameters
    ----------
    config: the core's parameters.
    target: family whose multipliers the array uses, see :class:`SystolicArray`.

    Members
    -------
    unit: ``In(UnitPort)``; takes MATMUL only. ``rows`` and ``k_tiles`` are at least 1.
    act: ``Out(WidePort)``; activation vectors.
    columns: ``In(stream)`` of :func:`~intformer.hw.columns.column_layout`, the last column of each
        tile first. Tiles are taken in order, also before the instruction that uses them.
    acc_addr: ``In(12)``, acc_data: ``Out(32 * cols)``; reads of the accumulators, always answered
        after :data:`~intformer.hw.ports.ACC_LATENCY` cycles.
    rows_fed: ``Out(1)``; a vector has been asked for.

    Notes
    -----
    ``stall``: an instruction has vectors to feed, and none is taken: the tile is not loaded, or
    the scratchpad is not ready. ``timing.latency`` is from a vector's request to its ``done``.
    """

    def __init__(self, config: CoreConfig, *, target: str | None = None) -> None:
        self._config, self._target = config, target
        self.timing = MatmulTiming.of(config)
        self._array = SystolicArray(
            rows=config.rows, cols=config.cols, format=_FORMATS[config.array], target=target
        )
        super().__init__(
            {
                "unit": In(UnitPort()),
                "act": Out(WidePort(config)),
                "columns": In(stream.Signature(column_layout(config))),
                "acc_addr": In(12),
                "acc_data": Out(ACC_BITS * config.cols),
                "rows_fed": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        config = self._config
        m = Module()
        m.submodules.loader = loader = TileLoader(config, hold=self.timing.hold)
        m.submodules.issue = issue = VectorIssue(config)
        m.submodules.array = array = self._array
        together = array.shape.format.columns
        scales, sums, shape = None, array.psum, array.psum_shape
        if config.group_scales:
            scales = GroupScales(config, psum=shape, together=together, target=self._target)
            m.submodules.scales = scales
            sums, shape = scales.o, scales.shape_of(shape)
            self._connect_scales(m, scales, loader, array)
        m.submodules.accumulators = accumulators = Accumulators(
            config, psum=shape, together=together
        )
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
            accumulators.psum.eq(sums),
            accumulators.read_addr.eq(self.acc_addr),
            self.acc_data.eq(accumulators.read_data),
            self.rows_fed.eq(issue.control.acc.valid),
            self.unit.done.eq(accumulators.done),
            self.unit.stall.eq(issue.active & ~issue.control.acc.valid),
        ]
        self._feed(m, issue, array, accumulators, late=scales.latency if scales else 0)
        self._count(m)
        return m

    def _connect_scales(
        self, m: Module, scales: GroupScales, loader: TileLoader, array: SystolicArray
    ) -> None:
        """Bring scales to their slots, and the slot of each tile along with its vectors."""
        tile = Signal(ScaleSlot(), reset_less=True)
        with m.If(loader.switch):
            m.d.sync += tile.eq(loader.tile)
        cycles = READ_LATENCY + array.latency - 2
        m.d.comb += [
            scales.write.eq(loader.write),
            scales.slot.eq(loader.tile.slot),
            scales.scales.as_value().eq(loader.w),
            scales.tile.eq(delay(m, tile, cycles, name="tile", reset_less=True)),
            scales.psum.eq(array.psum),
        ]

    def _feed(
        self,
        m: Module,
        issue: VectorIssue,
        array: SystolicArray,
        accumulators: Accumulators,
        *,
        late: int,
    ) -> None:
        """Bring vectors to the array and their control to the accumulators, ``late`` cycles late
        for the scales' sake.
        """
        control = issue.control
        stages = READ_LATENCY + array.latency - 2 + late
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
        most = 3 + self.timing.latency // self.timing.tile_period
        held = Signal(range(most + 1))
        begin = self.unit.cmd.valid & self.unit.cmd.ready
        m.d.sync += held.eq(held + begin - self.unit.done)
        m.d.comb += self.unit.busy.eq(held != 0)
