"""Cycle model of the external memory port and of long transfers over it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from intformer.sim.iss.events import Condition, Process, Scheduler
from intformer.sim.iss.timing import BURST_MAX, StepTiming, TimingParameters

__all__ = ["DMA", "FETCH", "SEQUENCER", "MemoryPort", "stream_bursts"]


SEQUENCER, DMA, FETCH = range(3)
"""Clients of the port; the smaller number goes first."""

Burst = tuple[int, bool, Callable[[], None]]


class MemoryPort:
    """The external port: commands by the clients' priority, then data in order of commands.

    Memory holds ``memory_outstanding`` commands, so that one that it has taken is not overtaken.
    """

    def __init__(self, scheduler: Scheduler, timing: TimingParameters) -> None:
        self._timing = timing
        self._asked: tuple[deque[Burst], ...] = (deque(), deque(), deque())
        self._taken: deque[Burst] = deque()
        self._changed = Condition(scheduler)
        self.read_beats = 0
        self.write_beats = 0

    def request(
        self, client: int, beats: int, granted: Callable[[], None], *, write: bool = False
    ) -> None:
        """Ask for a burst; ``granted`` is called when its first beat occupies the port."""
        self._asked[client].append((beats, write, granted))
        self._changed.notify()

    def run(self) -> Process:
        """Memory, for ever."""
        while True:
            self._take()
            if not self._taken:
                yield self._changed
                continue
            beats, write, granted = self._taken[0]
            if write:
                self.write_beats += beats
            else:
                self.read_beats += beats
            granted()
            for _ in range(beats + self._timing.burst_overhead):
                self._take()
                yield 1
            self._taken.popleft()

    def _take(self) -> None:
        """Take a command, if there is one and room for it."""
        queue = next((q for q in self._asked if q), None)
        if queue is not None and len(self._taken) < self._timing.memory_outstanding:
            self._taken.append(queue.popleft())


def stream_bursts(
    scheduler: Scheduler,
    port: MemoryPort,
    timing: TimingParameters,
    step: StepTiming,
    *,
    beats: int,
    beat_cycles: int,
    write: bool,
) -> Process:
    """Move ``beats`` in bursts, each beat taking the client ``beat_cycles``; returns at the end.

    At most ``timing.dma_outstanding`` bursts are asked for and not yet consumed.
    """
    drained: deque[int] = deque()  # when the client is through with each burst
    end = scheduler.now
    while beats:
        burst = min(BURST_MAX, beats)
        if len(drained) == timing.dma_outstanding:
            yield max(0, drained.popleft() - scheduler.now)
        if write:  # a burst is asked for once its beats are there
            yield burst * beat_cycles
        begin = scheduler.now
        turn = Condition(scheduler)
        port.request(DMA, burst, turn.notify, write=write)
        yield turn
        step.stall += scheduler.now - begin
        first = scheduler.now + timing.read_latency * (not write)
        end = max(end + burst * (1 if write else beat_cycles), first + burst)
        drained.append(end)
        beats -= burst
    yield max(0, end - scheduler.now)
