"""When to LOAD: in time for the use, and while no weights stream over the same port."""

from __future__ import annotations

from collections.abc import Sequence

from intformer.compiler.backend.emit import Draft
from intformer.isa import Op, Unit

__all__ = ["place_loads"]

MARGIN = 300
"""Cycles by which a LOAD should be early."""
BUSY_SHARE = 0.7
"""A product whose weights take more than this share of its time leaves no room on the port."""


def place_loads(
    drafts: Sequence[Draft],
    needs: Sequence[set[int]],
    start: list[float],
    jobs: Sequence[list[int]],
) -> None:
    """Put off LOADs from their earliest ``start`` to when they should run.

    Parameters
    ----------
    needs: for each draft, those that come before it.
    start: estimated starts; those of LOADs are earliest ones, and are changed.
    jobs: for each FETCH, its index and those of its MATMULs.
    """
    deadline: dict[int, float] = {}
    for index, steps in enumerate(needs):
        for step in steps:
            if drafts[step].op is Op.LOAD:
                deadline[step] = min(start[index], deadline.get(step, start[index]))
    gaps = _port_gaps(drafts, start, jobs, max(start, default=0.0))
    following = float("inf")
    for index in sorted(deadline, key=lambda i: (deadline[i], i), reverse=True):
        cycles = drafts[index].cycles
        latest = min(deadline[index] - MARGIN, following) - cycles
        wanted = gaps.take(start[index], latest, cycles)
        start[index] = wanted if wanted is not None else max(start[index], latest - cycles)
        following = start[index]


class _Gaps:
    """Times ``[first, end)`` in which the port is free, in order."""

    def __init__(self, gaps: list[tuple[float, float]]) -> None:
        self._gaps = gaps

    def take(self, earliest: float, latest: float, cycles: float) -> float | None:
        """The latest start within the bounds that a gap has room for; the time is taken."""
        for number in reversed(range(len(self._gaps))):
            first, end = self._gaps[number]
            begin = min(end - cycles, latest)
            if begin >= max(first, earliest):
                self._gaps[number] = (first, begin)
                return begin
        return None


def _port_gaps(
    drafts: Sequence[Draft], start: Sequence[float], jobs: Sequence[list[int]], end: float
) -> _Gaps:
    busy = []
    for fetch, *products in jobs:
        span = sum(drafts[i].cycles for i in products)
        if drafts[fetch].op is Op.FETCH_STREAM and drafts[fetch].cycles > BUSY_SHARE * span:
            assert drafts[fetch].unit is Unit.FETCH
            busy.append((start[products[0]], start[products[-1]] + drafts[products[-1]].cycles))
    gaps, at = [], 0.0
    for first, until in sorted(busy):
        if first > at:
            gaps.append((at, first))
        at = max(at, until)
    gaps.append((at, max(end, at)))
    return _Gaps(gaps)
