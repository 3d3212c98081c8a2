"""Element positions: where tensors lie, and how index arrays become instruction fields.

A position is ``word * width + lane``; ``width`` is ``rows`` in ``act`` and ``lanes`` in ``wide``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from intformer.config import CoreConfig
from intformer.isa import Mem

__all__ = [
    "ROWS_MAX",
    "STRIDE_MAX",
    "canonical",
    "column_segments",
    "contiguous",
    "even",
    "mem_of",
    "row_runs",
    "row_words",
    "rows_of",
    "width_of",
]

Positions = NDArray[np.int64]

ROWS_MAX = 4095
"""Most rows that one instruction handles."""
STRIDE_MAX = 4095
"""Most words from one row of an operand to the next."""


def mem_of(dtype: str) -> Mem:
    """The scratchpad that holds codes of ``dtype``."""
    return Mem.WIDE if dtype == "int16" else Mem.ACT


def width_of(config: CoreConfig, mem: Mem) -> int:
    """Elements per word of ``act`` or ``wide``."""
    return config.rows if mem == Mem.ACT else config.lanes


def row_words(n: int, width: int) -> int:
    """Words that a row of ``n`` elements takes."""
    return -(-n // width)


def rows_of(positions: Positions) -> Positions:
    """As a matrix: one row for each index of the leading axes."""
    return positions.reshape(-1, positions.shape[-1])


def canonical(shape: tuple[int, ...], width: int) -> tuple[Positions, int]:
    """Positions of a tensor stored by rows of its last axis from word 0 on, and its words."""
    n = shape[-1]
    rows = int(np.prod(shape[:-1], dtype=np.int64))
    words = row_words(n, width)
    matrix = np.arange(rows, dtype=np.int64)[:, None] * (words * width) + np.arange(n)
    return matrix.reshape(shape), rows * words


def contiguous(positions: Positions, *, align: int) -> bool:
    """Whether every row is contiguous and starts at a multiple of ``align``."""
    matrix = rows_of(positions)
    return bool(
        np.all(matrix[:, 0] % align == 0)
        and np.all(matrix - matrix[:, :1] == np.arange(matrix.shape[1]))
    )


def even(matrix: Positions, *, block: int, width: int) -> bool:
    """Whether in each ``block`` of rows one stride of a legal number of words leads on."""
    steps = np.diff(matrix[:, 0].reshape(-1, block), axis=1)
    if steps.size == 0:
        return True
    legal = (steps >= 0) & (steps % width == 0) & (steps // width <= STRIDE_MAX)
    return bool(np.all(legal) and np.all(steps == steps[:, :1]))


def column_segments(operands: list[Positions], *, align: int) -> list[tuple[int, int]] | None:
    """Split columns so that every operand is contiguous and aligned in each range.

    ``operands`` are matrices of equal shape. Returns ranges ``(first, end)``, or ``None`` if a
    range would start at a position that is no multiple of ``align``.
    """
    n = operands[0].shape[1]
    breaks = np.zeros(max(n - 1, 0), bool)
    for matrix in operands:
        breaks |= np.any(np.diff(matrix, axis=1) != 1, axis=0)
    edges = [0, *(np.flatnonzero(breaks) + 1).tolist(), n]
    for matrix in operands:
        if np.any(matrix[:, edges[:-1]] % align):
            return None
    return list(pairwise(edges))


@dataclass(frozen=True)
class RowRun:
    """Rows ``first <= i < end`` whose operands advance by constant ``strides``."""

    first: int
    end: int
    strides: tuple[int, ...]

    @property
    def count(self) -> int:
        """Rows that the instruction walks over."""
        return self.end - self.first

    @property
    def pieces(self) -> tuple[tuple[slice, int], ...]:
        """Ranges of rows, and where each begins among those that the instruction walks over."""
        return ((slice(self.first, self.end), 0),)


def row_runs(
    starts: list[Positions], units: list[int], *, limit: int = ROWS_MAX, breaks: int = 0
) -> Iterator[RowRun]:
    """Split rows into runs that one instruction can walk.

    Parameters
    ----------
    starts: for each operand, the position of the first element of every row.
    units: for each operand, the elements that a stride of 1 stands for.
    limit: most rows in a run.
    breaks: if not 0, no run crosses a multiple of this row number.
    """
    count = len(starts[0])
    deltas = np.stack([np.diff(s) for s in starts]) if starts else np.zeros((0, count - 1))
    scale = np.asarray(units).reshape(-1, 1)
    legal = np.all((deltas % scale == 0) & (deltas >= 0) & (deltas // scale <= STRIDE_MAX), axis=0)
    if breaks:
        legal[breaks - 1 :: breaks] = False
    same = np.all(deltas[:, 1:] == deltas[:, :-1], axis=0) if count > 2 else np.zeros(0, bool)
    first = 0
    while first < count:
        end = first + 1
        while end < count and end - first < limit and legal[end - 1]:
            if end - first > 1 and not same[end - 2]:
                break
            end += 1
        if end - first > 1:
            strides = tuple(int(v) for v in deltas[:, first] // scale[:, 0])
        else:
            strides = (0,) * len(starts)
        yield RowRun(first, end, strides)
        first = end
