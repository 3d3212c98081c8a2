"""Element positions: where every element of a tensor lies, as one integer array per tensor.

A position is ``buffer * SPAN + word * width + lane``, with ``width`` elements in a word of the
buffer's memory. Views of tensors are made by applying the view to the array of positions, so no
view algebra is needed: a consumer looks at the positions and decides whether it can read them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from intformer.config import CoreConfig
from intformer.isa import Mem

__all__ = [
    "SPAN",
    "Rect",
    "canonical",
    "group_rects",
    "groups_readable",
    "is_canonical",
    "memory_of",
    "row_segments",
    "row_words",
    "rows_readable",
    "width_of",
]

SPAN = 1 << 32
"""Distance between the positions of two buffers."""
STRIDE_LIMIT = 1 << 12
"""Strides in words must be below this (a field of the instructions)."""

Positions = NDArray[np.int64]


def memory_of(dtype: str) -> Mem:
    """The scratchpad that holds tensors of a code type."""
    return Mem.WIDE if dtype == "int16" else Mem.ACT


def width_of(mem: Mem, config: CoreConfig) -> int:
    """Elements in a word of a scratchpad."""
    return config.lanes if mem == Mem.WIDE else config.rows


def row_words(n: int, width: int) -> int:
    """Words of a row of ``n`` elements."""
    return -(-n // width)


def canonical(shape: tuple[int, ...], width: int, *, buffer: int) -> Positions:
    """Positions of a tensor stored by rows of its last axis, each row from a word on."""
    n = shape[-1] if shape else 1
    rows = int(np.prod(shape[:-1], dtype=np.int64))
    start = np.arange(rows, dtype=np.int64)[:, None] * (row_words(n, width) * width)
    return (buffer * SPAN + start + np.arange(n)).reshape(shape)


def is_canonical(positions: Positions, width: int) -> bool:
    """Whether the tensor fills its buffer from the start as :func:`canonical` lays it out."""
    buffer = int(positions.flat[0]) // SPAN
    return bool(np.array_equal(positions, canonical(positions.shape, width, buffer=buffer)))


def rows_readable(positions: Positions, width: int) -> bool:
    """Whether every row is contiguous and begins at a word."""
    rows = positions.reshape(-1, positions.shape[-1])
    contiguous = (np.diff(rows, axis=1) == 1).all()
    return bool(contiguous and (rows[:, 0] % width == 0).all())


def row_segments(*starts: tuple[Positions, int], limit: int) -> Iterator[tuple[int, int]]:
    """Split rows into runs ``(first, count)`` in which every operand has a constant stride.

    Each operand is given by the positions of its rows' first elements and its memory's width.
    Strides are whole words, not negative and below :data:`STRIDE_LIMIT`; runs have at most
    ``limit`` rows.
    """
    count = len(starts[0][0])
    deltas = [np.diff(start) for start, _ in starts]
    legal = np.ones(max(count - 1, 0), bool)
    for delta, (_, width) in zip(deltas, starts, strict=True):
        legal &= (delta >= 0) & (delta % width == 0) & (delta // width < STRIDE_LIMIT)
    first = 0
    while first < count:
        last = first
        while (
            last + 1 < count
            and last + 1 - first < limit
            and legal[last]
            and all(delta[last] == delta[first] for delta in deltas)
        ):
            last += 1
        yield first, last - first + 1
        first = last + 1


@dataclass(frozen=True)
class Rect:
    """A run of rows and lane groups that one POST instruction handles."""

    row: int
    rows: int
    group: int
    groups: int


def group_rects(operands: list[tuple[Positions, int]], lanes: int, *, limit: int) -> Iterator[Rect]:
    """Cut a matrix into the rectangles in which all operands are regular.

    ``operands``: positions ``[rows, n]`` and memory width of each; every lane group of ``lanes``
    elements must be readable (see :func:`groups_readable`).
    """
    heads = [(positions[:, ::lanes], width) for positions, width in operands]
    count = heads[0][0].shape[1]
    first = 0
    for group in range(1, count + 1):
        follows = group < count and all(
            (head[:, group] - head[:, group - 1] == lanes).all() for head, _ in heads
        )
        if follows:
            continue
        starts = [(head[:, first], width) for head, width in heads]
        for row, rows in row_segments(*starts, limit=limit):
            yield Rect(row, rows, first, group - first)
        first = group


def groups_readable(positions: Positions, lanes: int) -> bool:
    """Whether every lane group of every row is contiguous and begins at a lane group."""
    rows = positions.reshape(-1, positions.shape[-1])
    n = rows.shape[1]
    if (rows[:, ::lanes] % lanes).any():
        return False
    steps = np.diff(rows, axis=1) == 1
    inner = np.arange(1, n) % lanes != 0
    return bool(steps[:, inner].all())
