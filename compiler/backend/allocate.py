"""Scratchpad addresses for buffers, with reuse once a buffer is dead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from intformer.config import CoreConfig
from intformer.errors import DoesNotFit
from intformer.isa import Mem

__all__ = ["Buffer", "allocate"]

SLACKS = (24, 16, 12, 10, 8, 6, 5, 4, 3, 2, 1, 0)
"""Nodes for which a dead buffer is left alone, the first that fits."""


@dataclass
class Buffer:
    """Words of a scratchpad that live from node ``first`` to node ``last``, both included."""

    name: str
    mem: Mem
    words: int
    first: int = 1 << 30
    last: int = -1
    base: int = 0

    def use(self, when: int) -> None:
        """Extend the life of the buffer to ``when``."""
        self.first = min(self.first, when)
        self.last = max(self.last, when)


def allocate(buffers: list[Buffer], config: CoreConfig) -> dict[Mem, int]:
    """Set ``base`` of every buffer; return the highest word used in each memory.

    Addresses are reused only if the buffers do not fit side by side, and as late as the memory
    allows: reuse makes instructions wait for each other.

    Raises
    ------
    DoesNotFit
        If the live buffers exceed a memory; names it, the need, and the parameter.
    """
    used = {}
    for mem, words, parameter in (
        (Mem.ACT, config.act_words, "act_words"),
        (Mem.WIDE, config.wide_words, "wide_words"),
    ):
        mine = [b for b in buffers if b.mem == mem and b.last >= 0]
        need = _side_by_side(mine, words)
        for slack in SLACKS if need > words else ():
            need = _placed(mine, words, slack)
            if need <= words:
                break
        if need > words:
            peak, at = _peak(mine)
            raise DoesNotFit(
                f"the {mem.name.lower()} scratchpad has {words} words; the model needs "
                f"{max(need, peak)} (live at once: {peak}, most around {at}); "
                f"raise {parameter} to at least {need}"
            )
        used[mem] = need
    return used


def _placed(buffers: list[Buffer], words: int, slack: int) -> int:
    """Place buffers as if they lived ``slack`` nodes longer; the words that this takes."""
    need = 0
    lives = [buffer.last for buffer in buffers]
    for buffer in buffers:
        buffer.last += slack
    for order in (_rotating, _by_time, _by_size):
        need = order(buffers, words)
        if need <= words:
            break
    for buffer, last in zip(buffers, lives, strict=True):
        buffer.last = last
    return need


def _side_by_side(buffers: list[Buffer], words: int) -> int:
    top = 0
    for buffer in buffers:
        buffer.base = top
        top += buffer.words
    return top


def _rotating(buffers: list[Buffer], words: int) -> int:
    """In order of time, from where the previous one ended: the longest dead are overwritten."""
    placed: list[Buffer] = []
    cursor = top = 0
    for buffer in sorted(buffers, key=lambda b: b.first):
        base = _first_fit(buffer, placed, start=cursor)
        if base + buffer.words > words:
            base = _first_fit(buffer, placed, start=0)
        buffer.base = base
        cursor = base + buffer.words
        top = max(top, cursor)
        placed.append(buffer)
    return top


def _by_time(buffers: list[Buffer], words: int) -> int:
    return _greedy(buffers, lambda b: (b.first, -b.words))


def _by_size(buffers: list[Buffer], words: int) -> int:
    return _greedy(buffers, lambda b: (-b.words, b.first))


def _greedy(buffers: list[Buffer], key: Callable[[Buffer], tuple[int, int]]) -> int:
    placed: list[Buffer] = []
    for buffer in sorted(buffers, key=key):
        buffer.base = _first_fit(buffer, placed, start=0)
        placed.append(buffer)
    return max((b.base + b.words for b in placed), default=0)


def _first_fit(buffer: Buffer, placed: list[Buffer], *, start: int) -> int:
    """Lowest address from ``start`` on that no buffer of overlapping life occupies."""
    taken = sorted(
        (b.base, b.base + b.words)
        for b in placed
        if b.first <= buffer.last and buffer.first <= b.last
    )
    base = start
    for low, high in taken:
        if base + buffer.words <= low:
            break
        base = max(base, high)
    return base


def _peak(buffers: list[Buffer]) -> tuple[int, str]:
    """Words live at once at most, and the largest buffer then."""
    best, name = 0, ""
    for moment in {b.first for b in buffers}:
        live = [b for b in buffers if b.first <= moment <= b.last]
        total = sum(b.words for b in live)
        if total > best:
            best, name = total, max(live, key=lambda b: b.words).name
    return best, name
