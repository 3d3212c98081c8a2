"""Order of the instructions, and the accumulator rows of every product.

A list scheduler plays the units in estimated time. Each takes, of the instructions that can
start, the one with the longest path behind it; the array takes a whole product (a FETCH and its
MATMULs) at a time. The program lists instructions by their estimated start, so the sequencer,
which dispatches in order, finds room in the queues when it matters.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass

import numpy as np

from intformer.compiler.backend.dependencies import dependencies
from intformer.compiler.backend.emit import Draft
from intformer.compiler.backend.prefetch import place_loads
from intformer.config import CoreConfig
from intformer.isa import Op, Unit

__all__ = ["schedule"]

HANDOVER = 6
"""Cycles from the completion of an instruction to the start of one that waits for it."""
FETCH_LEAD = 40
"""Cycles from the start of a FETCH to the first tile of weights, beside its columns."""
CANDIDATES = 12
"""Jobs of the array that are compared."""
SMALL_STALL = 64.0
"""Cycles for which the array may wait for accumulators before another job is preferred."""
NEVER = float("inf")


def schedule(drafts: list[Draft], config: CoreConfig) -> list[Draft]:
    """Drafts in program order, with the base of each accumulator region set.

    Any order that is returned respects all dependencies and feeds MATMULs in the order of
    their FETCHes.
    """
    order = _ListScheduler(drafts, config).run()
    ordered = [drafts[i] for i in order] if order is not None else list(drafts)
    _ring(ordered, config.acc_depth)
    return ordered


def _ring(drafts: list[Draft], depth: int) -> None:
    """Accumulator regions one after the other, over and over, in the order of the MATMULs."""
    cursor = 0
    for draft in drafts:
        if draft.op is not Op.MATMUL:
            continue
        assert draft.acc is not None
        if cursor + draft.acc.rows > depth:
            cursor = 0
        draft.acc.base = cursor
        cursor += draft.acc.rows


class _Job:
    """A FETCH and the MATMULs that take its columns, as indices of drafts."""

    def __init__(self, fetch: int) -> None:
        self.fetch = fetch
        self.products: list[int] = []


@dataclass(frozen=True)
class _Sums:
    """Accumulators that wait for POST: rows, when they are complete, cycles of their POSTs."""

    base: int
    rows: int
    ready: float
    cycles: int


class _Queue:
    """Items that can start: by time until they are ready, then by priority."""

    def __init__(self) -> None:
        self._later: list[tuple[float, int]] = []
        self._ready: list[tuple[float, int]] = []

    def push(self, item: int, *, ready: float) -> None:
        heapq.heappush(self._later, (ready, item))

    def start(self, free: float) -> float:
        """When the next item can start on a unit that is free from ``free`` on."""
        if self._ready:
            return free
        return max(free, self._later[0][0]) if self._later else NEVER

    def first(self, free: float, priority: list[float], count: int) -> list[int]:
        """The ``count`` most urgent items that can start then."""
        now = self.start(free)
        while self._later and self._later[0][0] <= now:
            _, item = heapq.heappop(self._later)
            heapq.heappush(self._ready, (-priority[item], item))
        return [item for _, item in heapq.nsmallest(count, self._ready)]

    def take(self, item: int, priority: list[float]) -> None:
        """Remove one of the items of :meth:`first`."""
        self._ready.remove((-priority[item], item))
        heapq.heapify(self._ready)

    def pop(self, free: float, priority: list[float]) -> int:
        self.first(free, priority, 1)
        return heapq.heappop(self._ready)[1]


class _ListScheduler:
    def __init__(self, drafts: list[Draft], config: CoreConfig) -> None:
        self.drafts, self.config = drafts, config
        self.needs = dependencies(drafts, config)
        self.users: list[list[int]] = [[] for _ in drafts]
        for index, needs in enumerate(self.needs):
            for step in needs:
                self.users[step].append(index)
        self.missing = [len(needs) for needs in self.needs]
        self.priority = self._tails()
        self.start = [0.0] * len(drafts)
        self.end = [NEVER] * len(drafts)
        self.free = dict.fromkeys(Unit, 0.0)
        self.queues = {unit: _Queue() for unit in Unit}
        self.acc_free = np.zeros(config.acc_depth)
        self.acc_next = 0
        self.acc_posts: dict[int, int] = {}
        self.post_cycles: dict[int, int] = {}
        self.undrained: dict[int, _Sums] = {}
        self._collect_jobs()
        self.current: list[int] = []  # products of the present job still to come, last first

    def run(self) -> list[int] | None:
        """The order, or ``None`` if the scheduler got stuck."""
        for index, missing in enumerate(self.missing):
            if missing == 0:
                self._offer(index)
        for _ in range(len(self.drafts)):
            if not self._step():
                return None
            if len(self.done) == len(self.drafts):
                break
        jobs = [[job.fetch, *job.products] for job in self.jobs.values()]
        place_loads(self.drafts, self.needs, self.start, jobs)
        return sorted(range(len(self.drafts)), key=lambda i: (self.start[i], self.rank[i]))

    def _tails(self) -> list[float]:
        """For each draft the longest path that follows it, by which units choose (Jackson)."""
        tail = [0.0] * len(self.drafts)
        path = [0.0] * len(self.drafts)
        for index in reversed(range(len(self.drafts))):
            tail[index] = max((path[user] for user in self.users[index]), default=0.0)
            # A FETCH goes on while its products run.
            own = FETCH_LEAD if self.drafts[index].unit is Unit.FETCH else self._cycles(index)
            path[index] = tail[index] + own + HANDOVER
        return tail

    def _collect_jobs(self) -> None:
        self.jobs: dict[int, _Job] = {}
        for index, draft in enumerate(self.drafts):
            if draft.unit is Unit.FETCH:
                self.jobs[draft.job] = _Job(index)
            elif draft.op is Op.MATMUL:
                self.jobs[draft.job].products.append(index)
                assert draft.acc is not None
                self.acc_posts[id(draft.acc)] = 0
                self.post_cycles[id(draft.acc)] = 0
            elif draft.op is Op.POST_ACC:
                self.acc_posts[id(draft.acc)] += 1
                self.post_cycles[id(draft.acc)] += draft.cycles + HANDOVER
        self.acc_end: dict[int, float] = {}
        self.done: list[int] = []
        self.rank = [0] * len(self.drafts)
        outside = self._needed_by_posts()
        for job in self.jobs.values():
            # A job is offered when its first product lacks nothing but the FETCH itself, and what
            # its POSTs wait for is scheduled: else it would hold accumulators that others need.
            needs = (self.needs[job.products[0]] | outside[job.fetch]) - {job.fetch}
            for step in needs - self.needs[job.fetch]:
                self.missing[job.fetch] += 1
                self.users[step].append(job.fetch)

    def _needed_by_posts(self) -> dict[int, set[int]]:
        """For each FETCH, what the POSTs of its products need from before it."""
        fetch_of = {
            id(self.drafts[product].acc): job.fetch
            for job in self.jobs.values()
            for product in job.products
        }
        outside: dict[int, set[int]] = {job.fetch: set() for job in self.jobs.values()}
        for index, draft in enumerate(self.drafts):
            if draft.op is Op.POST_ACC:
                fetch = fetch_of[id(draft.acc)]
                outside[fetch] |= {step for step in self.needs[index] if step < fetch}
        return outside

    def _cycles(self, index: int) -> float:
        draft = self.drafts[index]
        tail = self.config.rows + self.config.cols if draft.op is Op.MATMUL else 0
        return draft.cycles + tail

    def _ready_time(self, index: int) -> float:
        return max((self.end[step] + HANDOVER for step in self.needs[index]), default=0.0)

    def _offer(self, index: int) -> None:
        """All that ``index`` needs has been scheduled."""
        draft = self.drafts[index]
        if draft.op is Op.MATMUL:
            return  # comes with its job
        ready = self._ready_time(index)
        if draft.unit is Unit.FETCH:
            first = self.jobs[draft.job].products[0]
            needs = self.needs[first] - {index}
            ready = max([ready, *(self.end[step] + HANDOVER for step in needs)])
        self.queues[draft.unit].push(index, ready=ready)

    def _step(self) -> bool:
        """Schedule the instruction, or the job's next one, that can start first."""
        best, when = None, NEVER
        for unit in Unit:
            if unit is Unit.MATMUL:
                start = self._product_start()
            elif unit is Unit.FETCH:
                free = NEVER if self.current else self.free[Unit.MATMUL]
                start = self.queues[unit].start(free)
            else:
                start = self.queues[unit].start(self.free[unit])
            if start < when:
                best, when = unit, start
        if best is None:
            return False
        if best is Unit.MATMUL:
            self._commit_product(when)
        elif best is Unit.FETCH:
            self._commit_fetch()
        else:
            index = self.queues[best].pop(self.free[best], self.priority)
            self._commit(index, when)
        return True

    def _commit(self, index: int, start: float) -> None:
        draft = self.drafts[index]
        self.start[index] = start
        self.end[index] = start + self._cycles(index)
        self.free[draft.unit] = start + draft.cycles
        self.rank[index] = len(self.done)
        self.done.append(index)
        if draft.op is Op.POST_ACC:
            self._release(draft, self.end[index])
        if draft.unit is Unit.FETCH:
            own = set(self.jobs[draft.job].products)
            self._settle([user for user in self.users[index] if user in own])
        else:
            self._settle(self.users[index])

    def _settle(self, users: list[int]) -> None:
        """One thing less is missing for each of ``users``."""
        for user in users:
            self.missing[user] -= 1
            if self.missing[user] == 0:
                self._offer(user)

    # The array

    def _commit_fetch(self) -> None:
        """Begin a job. Its FETCH starts as early as it can: it fills the column FIFO ahead.

        The most urgent job goes first, unless its sums would wait for room behind those that POST
        has not drained, and another's would not: short products alternate with long ones.
        """
        queue = self.queues[Unit.FETCH]
        urgent = queue.first(self.free[Unit.MATMUL], self.priority, CANDIDATES)
        stalls = []
        for index in urgent:
            stalls.append(self._stall(self.jobs[self.drafts[index].job]))
            if stalls[-1] <= SMALL_STALL:
                break
        index = urgent[stalls.index(min(stalls))]
        queue.take(index, self.priority)
        job = self.jobs[self.drafts[index].job]
        self.current = job.products[::-1]
        start = max(self.free[Unit.FETCH], self._ready_time(index))
        self._commit(index, start)

    def _stall(self, job: _Job) -> float:
        """Estimated cycles that the products of a job that begins now wait for accumulators."""
        now = at = self.free[Unit.MATMUL]
        drained = self.free[Unit.POST]
        busy: list[tuple[int, int, float]] = []  # first row, end, free from
        for sums in self.undrained.values():
            drained = max(drained, sums.ready) + sums.cycles
            busy.append((sums.base, sums.base + sums.rows, drained))
        cursor, worked = self.acc_next, 0.0
        for product in job.products:
            region = self.drafts[product].acc
            assert region is not None
            if cursor + region.rows > self.config.acc_depth:
                cursor = 0
            end = cursor + region.rows
            for first, last, free in busy:
                if first < end and cursor < last:
                    at = max(at, free + HANDOVER)
            at += self.drafts[product].cycles
            worked += self.drafts[product].cycles
            ready = at + self.config.rows + self.config.cols + HANDOVER
            drained = max(drained, ready) + self.post_cycles[id(region)]
            busy.append((cursor, end, drained))
            cursor = end
        return at - now - worked

    def _product_start(self) -> float:
        if not self.current or self.missing[self.current[-1]]:
            return NEVER
        index = self.current[-1]
        region = self.drafts[index].acc
        assert region is not None
        if self.acc_next + region.rows > self.config.acc_depth:
            self.acc_next = 0
        room = self.acc_free[self.acc_next : self.acc_next + region.rows].max()
        fetch = self.jobs[self.drafts[index].job].fetch
        needs = [self.end[step] for step in self.needs[index] if step != fetch]
        ready = max(needs, default=0.0) + HANDOVER
        weights = self.start[fetch] + FETCH_LEAD
        return max(self.free[Unit.MATMUL], ready, weights, room + HANDOVER)

    def _commit_product(self, start: float) -> None:
        index = self.current.pop()
        region = self.drafts[index].acc
        assert region is not None
        region.base = self.acc_next
        self.acc_free[region.base : region.base + region.rows] = NEVER
        self.acc_next += region.rows
        self._commit(index, start)
        ready = self.end[index] + HANDOVER
        cycles = self.post_cycles[id(region)]
        self.undrained[id(region)] = _Sums(region.base, region.rows, ready, cycles)
        if not self.current:
            self._finish_fetch(self.jobs[self.drafts[index].job], start)

    def _finish_fetch(self, job: _Job, start: float) -> None:
        """The last product has started: the FETCH ends, the next may fill the FIFO behind it.

        What overwrites the operand of a FETCH is listed after all of its products, because
        the FETCH cannot end without them.
        """
        self.free[Unit.FETCH] = start
        self.end[job.fetch] = start + 1
        own = set(job.products)
        self._settle([user for user in self.users[job.fetch] if user not in own])

    def _release(self, draft: Draft, end: float) -> None:
        """Free the region of ``draft`` when its last POST is scheduled."""
        region = draft.acc
        assert region is not None
        self.acc_posts[id(region)] -= 1
        last = max(end, self.acc_end.get(id(region), 0.0))
        self.acc_end[id(region)] = last
        if self.acc_posts[id(region)] == 0:
            self.acc_free[region.base : region.base + region.rows] = last
            del self.undrained[id(region)]
