"""All dependencies between drafts: what any reordering must respect."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from intformer.compiler.backend.emit import Draft
from intformer.config import CoreConfig
from intformer.isa import Op

__all__ = ["dependencies", "memory_words"]


def memory_words(config: CoreConfig) -> dict[str, int]:
    """Words of every memory that hazards are tracked in."""
    return {
        "act": config.act_words,
        "wide": config.wide_words,
        "param": config.param_groups,
        "exp": config.exp_tables,
        "table": config.act_tables,
        "function": config.functions,
        "acc": config.acc_depth,
    }


class _ReaderSets:
    """Sets of steps, shared between words: a set is a number, 0 is empty."""

    def __init__(self) -> None:
        self._chain: list[tuple[int, int]] = [(0, -1)]

    def extend(self, sets: NDArray[np.int64], step: int) -> NDArray[np.int64]:
        """The set of each word with ``step`` added."""
        old, inverse = np.unique(sets, return_inverse=True)
        first = len(self._chain)
        self._chain += [(int(s), step) for s in old]
        return first + inverse

    def members(self, sets: NDArray[np.int64]) -> set[int]:
        """Union of the sets."""
        found: set[int] = set()
        for number in np.unique(sets).tolist():
            while number:
                number, step = self._chain[number]
                found.add(step)
        return found


def dependencies(drafts: list[Draft], config: CoreConfig) -> list[set[int]]:
    """For every draft, the earlier ones whose order to it matters.

    Read after write, write after read and write after write on the words of all memories
    but the accumulator; sums: POST_ACC after its MATMUL; MATMUL after its FETCH.
    """
    words = memory_words(config)
    writer = {name: np.full(n, -1, np.int64) for name, n in words.items()}
    readers = {name: np.zeros(n, np.int64) for name, n in words.items()}
    sets = _ReaderSets()
    regions: dict[int, int] = {}
    jobs: dict[int, int] = {}
    result = []
    for index, draft in enumerate(drafts):
        needs: set[int] = set()
        for name, span in draft.reads:
            needs.update(np.unique(writer[name][span]).tolist())
        for name, span in draft.writes:
            needs.update(np.unique(writer[name][span]).tolist())
            needs |= sets.members(readers[name][span])
        if draft.acc is not None and draft.op is Op.MATMUL:
            needs.add(jobs[draft.job])
            regions[id(draft.acc)] = index
        elif draft.acc is not None:
            needs.add(regions[id(draft.acc)])
        elif draft.job >= 0:
            jobs[draft.job] = index
        for name, span in draft.reads:
            readers[name][span] = sets.extend(readers[name][span], index)
        for name, span in draft.writes:
            writer[name][span] = index
            readers[name][span] = 0
        needs -= {-1, index}
        result.append(needs)
    return result
