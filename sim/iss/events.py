"""A small discrete-event kernel: processes are generators, time is counted in clock cycles."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator
from itertools import count

__all__ = ["Condition", "Process", "Scheduler"]


class Condition:
    """Something that processes wait for; :meth:`notify` lets all of them look again."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._waiting: list[Process] = []

    def wait(self, process: Process) -> None:
        self._waiting.append(process)

    def notify(self) -> None:
        """Resume every process that waits, in the current cycle."""
        waiting, self._waiting = self._waiting, []
        for process in waiting:
            self._scheduler.resume(process)


Process = Generator["int | Condition", None, None]
"""Yields a number of cycles to pass, or a condition to wait for."""


class Scheduler:
    """Runs processes and delayed calls in the order of time, then of their creation."""

    def __init__(self) -> None:
        self.now = 0
        self.events = 0
        self._order = count()
        self._heap: list[tuple[int, int, Callable[[], None]]] = []

    def after(self, cycles: int, call: Callable[[], None]) -> None:
        """Call ``call`` in ``cycles`` cycles."""
        heapq.heappush(self._heap, (self.now + cycles, next(self._order), call))

    def resume(self, process: Process) -> None:
        """Continue ``process`` (or start it) in the current cycle."""
        self.after(0, lambda: self._step(process))

    def run(self, *, limit: int) -> None:
        """Run until nothing is left to happen, or past cycle ``limit``."""
        while self._heap and self.now <= limit:
            self.now, _, call = heapq.heappop(self._heap)
            self.events += 1
            call()

    def stop(self) -> None:
        """Drop everything that is still to happen."""
        self._heap.clear()

    def _step(self, process: Process) -> None:
        try:
            wanted = next(process)
        except StopIteration:
            return
        if isinstance(wanted, Condition):
            wanted.wait(process)
        else:
            self.after(wanted, lambda: self._step(process))
