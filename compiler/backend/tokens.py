"""Dependency tokens: exact hazards between instructions, and the fewest tokens that keep them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from intformer.compiler.backend.dependencies import memory_words
from intformer.compiler.backend.emit import Draft
from intformer.config import CoreConfig
from intformer.isa import TOKEN_MAX, Op, Unit

__all__ = ["Masks", "hazards", "spans_of", "token_masks"]

UNITS = len(Unit)


@dataclass
class _Memory:
    """For each word: the last step that wrote it, and per unit the last that read it since."""

    words: int
    writer: NDArray[np.int64] = field(init=False)
    readers: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.writer = np.full(self.words, -1, np.int64)
        self.readers = np.full((UNITS, self.words), -1, np.int64)


def _memories(config: CoreConfig) -> dict[str, _Memory]:
    return {name: _Memory(words) for name, words in memory_words(config).items()}


def spans_of(draft: Draft, *, acc: bool = True) -> tuple[list, list]:
    """Spans read and written, accumulator rows included if ``acc``."""
    reads, writes = list(draft.reads), list(draft.writes)
    if acc and draft.acc is not None:
        rows = np.arange(draft.acc.base, draft.acc.base + draft.acc.rows)
        (writes if draft.op is Op.MATMUL else reads).append(("acc", rows))
    return reads, writes


def hazards(drafts: list[Draft], config: CoreConfig, *, acc: bool = True) -> list[list[int]]:
    """For every instruction, the earlier ones that must have completed before it starts.

    Read after write, write after read, write after write, word by word; at most one per unit,
    the latest. Instructions of the same unit are listed too.
    """
    memories = _memories(config)
    result = []
    for index, draft in enumerate(drafts):
        latest = np.full(UNITS, -1, np.int64)
        reads, writes = spans_of(draft, acc=acc)
        for name, words in reads:
            _merge(latest, memories[name].writer[words], drafts)
        for name, words in writes:
            memory = memories[name]
            _merge(latest, memory.writer[words], drafts)
            if words.size:
                np.maximum(latest, memory.readers[:, words].max(axis=1), out=latest)
        for name, words in reads:
            memories[name].readers[draft.unit, words] = index
        for name, words in writes:
            memories[name].writer[words] = index
            memories[name].readers[:, words] = -1
        result.append([int(i) for i in latest if i >= 0 and i != index])
    return result


def _merge(latest: NDArray[np.int64], writers: NDArray[np.int64], drafts: list[Draft]) -> None:
    for step in np.unique(writers):
        if step >= 0:
            unit = drafts[step].unit
            latest[unit] = max(latest[unit], step)


@dataclass
class Masks:
    """Token masks of one instruction."""

    pop: int = 0
    push: int = 0


def token_masks(drafts: list[Draft], config: CoreConfig) -> list[Masks]:
    """Pop and push masks, so that each hazard between units is covered by a token.

    A token is left out where others imply it: units complete in order, and what a producer
    waited for has completed too.
    """
    masks = [Masks() for _ in drafts]
    known = np.full((UNITS, UNITS), -1, np.int64)  # [unit, v]: step of v known as completed
    after = np.full((len(drafts), UNITS), -1, np.int64)  # what completion of a step implies
    for index, (draft, needs) in enumerate(zip(drafts, hazards(drafts, config), strict=True)):
        unit = draft.unit
        for step in sorted(needs, reverse=True):
            producer = drafts[step].unit
            if producer == unit or known[unit, producer] >= step:
                continue
            masks[step].push |= 1 << unit
            masks[index].pop |= 1 << producer
            np.maximum(known[unit], after[step], out=known[unit])
        after[index] = known[unit]
        after[index, unit] = index
    _check_tokens(drafts, masks, config)
    return masks


def _check_tokens(drafts: list[Draft], masks: list[Masks], config: CoreConfig) -> None:
    """Bound every token counter: a unit may lag by its queue, its producers may run ahead."""
    for consumer in Unit:
        mine = [i for i, d in enumerate(drafts) if d.unit == consumer]
        if not mine:
            continue
        for producer in Unit:
            pushes = np.cumsum(
                [
                    d.unit == producer and m.push >> consumer & 1
                    for d, m in zip(drafts, masks, strict=True)
                ]
            )
            pops = np.cumsum([masks[i].pop >> producer & 1 for i in mine])
            assert pushes[-1] == pops[-1], "tokens pushed and popped differ"
            before = np.searchsorted(mine, np.arange(len(drafts)), side="right")
            lag = np.maximum(before - config.queue_depth - 1, 0)
            taken = np.concatenate([[0], pops])[lag]
            worst = int((pushes - taken).max())
            assert worst <= TOKEN_MAX, (
                f"{worst} tokens from {producer.name} to {consumer.name}, at most {TOKEN_MAX}"
            )
