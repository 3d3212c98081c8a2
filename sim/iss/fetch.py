"""Cycle model of the FETCH unit: a reader of beats ahead of a maker of columns."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

from intformer.config import CoreConfig
from intformer.isa import Instruction, Op
from intformer.sim.iss.array import column_beats, scale_beats, stream_beats
from intformer.sim.iss.columns import ArrayTiming, ColumnFifo
from intformer.sim.iss.events import Condition, Process, Scheduler
from intformer.sim.iss.memory_port import FETCH, MemoryPort
from intformer.sim.iss.timing import BURST_MAX, StepTiming, TimingParameters

__all__ = ["FetchTiming"]


class FetchTiming:
    """Jobs pass the reader (streams only) and the column maker, both in order.

    The reader asks for bursts while at most ``fetch_beats`` beats are under way or stored, also
    those of the next instruction. A column takes as many cycles as it has beats (one from
    ``act``), and begins when the FIFO has room.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        config: CoreConfig,
        timing: TimingParameters,
        *,
        fifo: ColumnFifo,
        port: MemoryPort,
        array: ArrayTiming,
    ) -> None:
        self._scheduler, self._config, self._timing = scheduler, config, timing
        self._fifo, self._port, self._array = fifo, port, array
        self._changed = Condition(scheduler)
        self._streams: deque[int] = deque()
        self._jobs: deque[tuple[Instruction, StepTiming, Callable[[], None], Callable]] = deque()
        self._asked = self._granted = self._used = 0
        self._arrivals: deque[tuple[int, int]] = deque()  # beats granted so far, last one's time

    def accept(
        self,
        ins: Instruction,
        step: StepTiming,
        *,
        begin: Callable[[], None],
        done: Callable[[], None],
    ) -> None:
        """Take an instruction; ``begin`` and ``done`` are called at its first column and end."""
        if ins.op == Op.FETCH_STREAM:
            self._streams.append(stream_beats(self._config, ins))
        self._jobs.append((ins, step, begin, done))
        self._changed.notify()

    def read(self) -> Process:
        """The reader, for ever."""
        while True:
            while not self._streams:
                yield self._changed
            left = self._streams.popleft()
            yield self._timing.fetch_latency
            while left:
                beats = min(BURST_MAX, left)
                while self._asked + beats - self._used > self._timing.fetch_beats:
                    yield self._changed
                self._asked += beats
                self._port.request(FETCH, beats, partial(self._grant, beats))
                yield 1
                left -= beats

    def make(self) -> Process:
        """The column maker, for ever."""
        while True:
            while not self._jobs:
                yield self._changed
            ins, step, begin, done = self._jobs.popleft()
            begin()
            latency = self._timing.fetch_column_latency
            if ins.op == Op.FETCH_STREAM:
                beats = column_beats(self._config, int4=bool(ins["int4"]))
                group = ins["group_tiles"] * self._config.cols
                for number in range(ins["columns"]):
                    if ins["scales"] and number % group == 0:
                        yield from self._column_of_beats(scale_beats(self._config), step)
                    yield from self._column_of_beats(beats, step)
            else:
                latency = self._timing.fetch_act_latency
                yield self._timing.fetch_latency
                for _ in range(ins["n_tiles"] * ins["k_tiles"] * self._config.cols):
                    yield from self._column_of_act(step)
            self._scheduler.after(latency, done)

    def _grant(self, beats: int) -> None:
        self._granted += beats
        last = self._scheduler.now + self._timing.read_latency + beats - 1
        self._arrivals.append((self._granted, last))
        self._changed.notify()

    def _column_of_beats(self, beats: int, step: StepTiming) -> Process:
        begin = self._scheduler.now
        while self._fifo.room < 1:
            yield self._fifo.changed
        self._fifo.asked += 1
        last = self._used + beats
        while self._granted < last:
            yield self._changed
        while self._arrivals[0][0] < last:
            self._arrivals.popleft()
        granted, time = self._arrivals[0]
        ready = time - (granted - last) + 1
        yield max(beats, ready - self._scheduler.now)
        step.stall += self._scheduler.now - begin - beats
        self._used = last
        self._changed.notify()
        self._scheduler.after(self._timing.fetch_column_latency, self._fifo.arrive)

    def _column_of_act(self, step: StepTiming) -> Process:
        """One column; MATMUL goes first at the port."""
        begin = self._scheduler.now
        while self._fifo.room < 1 or self._array.reading_until > self._scheduler.now:
            if self._fifo.room < 1:
                yield self._fifo.changed
            else:
                yield self._array.reading_until - self._scheduler.now
        step.stall += self._scheduler.now - begin
        self._fifo.asked += 1
        self._scheduler.after(self._timing.fetch_act_latency, self._fifo.arrive)
        yield 1
