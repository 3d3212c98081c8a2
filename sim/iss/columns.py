"""The column FIFO between FETCH and the array, and how tiles pass into the array."""

from __future__ import annotations

from collections import deque

import numpy as np

from intformer.config import CoreConfig
from intformer.hw.matmul.unit import MatmulTiming
from intformer.isa import Instruction
from intformer.sim.iss.array import Columns
from intformer.sim.iss.events import Condition, Process, Scheduler
from intformer.sim.iss.machine import Array, SimulationError
from intformer.sim.iss.timing import StepTiming, TimingParameters

__all__ = ["ArrayTiming", "ColumnFifo"]


class ColumnFifo:
    """Columns in order: their data at once, and their number as time goes on."""

    def __init__(self, scheduler: Scheduler, *, capacity: int) -> None:
        self.capacity = capacity
        self.changed = Condition(scheduler)
        self.asked = 0
        self.arrived = 0
        self.popped = 0
        self._blocks: list[tuple[int, Columns]] = []
        self._offset = 0
        self._marks: deque[bool] = deque()

    @property
    def room(self) -> int:
        """Columns that may still be asked for."""
        return self.capacity - (self.asked - self.popped)

    def supply(self, step: int, columns: Columns) -> None:
        """The data of the columns that step ``step`` will put in."""
        if len(columns.weights):
            self._blocks.append((step, columns))
            self._marks.extend(columns.marks.tolist())

    def arrive(self) -> None:
        self.arrived += 1
        self.changed.notify()

    def pop(self) -> None:
        self.popped += 1
        self.changed.notify()

    def next_tile(self) -> bool:
        """Whether scales come before the next tile, once its first entry has arrived."""
        return self._marks.popleft() if self._marks else False

    def take(self, count: int) -> Columns:
        """The data of the next ``count`` columns."""
        weights: list[Array] = []
        scales: list[Array] = []
        while count:
            if not self._blocks:
                raise SimulationError(f"{count} columns are missing from the column FIFO")
            _, block = self._blocks[0]
            span = slice(self._offset, self._offset + count)
            part = block.weights[span]
            weights.append(part)
            scales.append(block.scales[span])
            count -= len(part)
            self._offset += len(part)
            if self._offset == len(block.weights):
                self._blocks.pop(0)
                self._offset = 0
        return Columns(np.concatenate(weights), np.concatenate(scales), np.zeros(0, bool))

    def leftover(self) -> tuple[int, int] | None:
        """Step and number of the first columns that nothing took, if any."""
        if not self._blocks:
            return None
        step, block = self._blocks[0]
        return step, len(block.weights) - self._offset


class ArrayTiming:
    """The array's double buffer: a tile shifts in while the previous one is fed.

    A tile can begin to shift in when the previous tile's first vector has brought its switch flag
    to every column, and takes ``cols`` cycles, hence the period of ``max(vectors,
    MatmulTiming.tile_period, hazard)``.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        config: CoreConfig,
        timing: TimingParameters,
        fifo: ColumnFifo,
    ) -> None:
        self._scheduler = scheduler
        self._config = config
        self._timing = timing
        self._fifo = fifo
        self._changed = Condition(scheduler)
        constants = MatmulTiming.of(config)
        self.latency = constants.latency
        self._load_delay = constants.tile_period - config.cols
        self._loaded = 0
        self._switched = 0
        self._shadow_free = 0
        self._next_feed = 0
        self.reading_until = 0
        self.rows_fed = 0

    def load(self) -> Process:
        """Shift tiles from the FIFO into the shadow registers, for ever."""
        while True:
            while self._loaded > self._switched:
                yield self._changed
            yield max(0, self._shadow_free - self._scheduler.now)
            yield from self._pop()
            for _ in range(self._config.cols - 1 + self._fifo.next_tile()):
                yield from self._pop()
            self._loaded += 1
            self._changed.notify()

    def _pop(self) -> Process:
        while self._fifo.arrived == self._fifo.popped:
            yield self._fifo.changed
        self._fifo.pop()
        yield 1

    def feed(self, ins: Instruction, step: StepTiming) -> Process:
        """Feed every tile of a MATMUL; returns once the last word has entered the array."""
        if self._scheduler.now > self.reading_until:  # else the command was taken before
            yield self._timing.matmul_start
        for _ in range(ins["k_tiles"]):
            yield max(0, self._next_feed - self._scheduler.now)
            asked = self._scheduler.now
            while self._loaded == self._switched:
                yield self._changed
            step.stall += self._scheduler.now - asked
            now = self._scheduler.now
            self._switched += 1
            self._shadow_free = now + self._load_delay
            self.reading_until = now + ins["rows"]
            self._next_feed = now + max(ins["rows"], self._timing.matmul_hazard)
            self.rows_fed += ins["rows"]
            self._changed.notify()
        # The next instruction's words follow directly.
        self._next_feed = self.reading_until
        yield max(0, self.reading_until - self._scheduler.now)
