"""Cycle model of the external memory port and of long transfers over it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from intformer.sim.events import Condition, Process, Scheduler
from intformer.sim.timing import BURST_MAX, StepTiming, TimingParameters

__all__ = ["DMA", "FETCH", "SEQUENCER", "MemoryPort", "stream_bursts"]

SEQUENCER, DMA, FETCH = range(3)
"""Clients of the port; the smaller number goes first."""


class MemoryPort:
    """The external port: one beat per cycle, bursts in order, clients by priority."""

    def __init__(self, scheduler: Scheduler, timing: TimingParameters) -> None:
        self._timing = timing
        self._scheduler = scheduler
        self._pending: dict[int, deque[tuple[int, bool, Callable[[], None]]]] = {
            priority: deque() for priority in range(3)
        }
        self._asked = Condition(scheduler)
        self.read_beats = 0
        self.write_beats = 0

    def request(
        self, priority: int, beats: int, granted: Callable[[], None], *, write: bool = False
    ) -> None:
        """Ask for a burst; ``granted`` is called when its first beat occupies the port."""
        self._pending[priority].append((beats, write, granted))
        self._asked.notify()

    def run(self) -> Process:
        """The arbiter."""
        while True:
            queue = next((q for q in self._pending.values() if q), None)
            if queue is None:
                yield self._asked
                continue
            beats, write, granted = queue.popleft()
            if write:
                self.write_beats += beats
            else:
                self.read_beats += beats
            granted()
            yield beats + self._timing.burst_overhead


def stream_bursts(
    scheduler: Scheduler,
    port: MemoryPort,
    timing: TimingParameters,
    step: StepTiming,
    *,
    priority: int,
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
        begin = scheduler.now
        turn = Condition(scheduler)
        port.request(priority, burst, turn.notify, write=write)
        yield turn
        step.stall += scheduler.now - begin
        first = scheduler.now + timing.read_latency * (not write)
        end = max(end + burst * beat_cycles, first + burst)
        drained.append(end)
        beats -= burst
    yield max(0, end - scheduler.now)
