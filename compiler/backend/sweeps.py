"""Rows with gaps: one MATMUL over several runs, whose gaps it computes for nothing.

The windows of a convolution lie at a constant distance along a line of pixels, with a step of the
same distance, times a whole number, to the next line. One instruction that walks on through the
gap needs the weights once; what it sums up there is not read.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from intformer.compiler.backend.layout import RowRun

__all__ = ["Sweep", "sweeps"]


@dataclass(frozen=True)
class Sweep(RowRun):
    """Row runs in one instruction; ``parts`` are the runs and where each begins among the rows."""

    parts: tuple[tuple[RowRun, int], ...] = ()

    @property
    def count(self) -> int:
        run, place = self.parts[-1]
        return place + run.count

    @property
    def pieces(self) -> tuple[tuple[slice, int], ...]:
        return tuple((slice(run.first, run.end), place) for run, place in self.parts)


def sweeps(runs: list[RowRun], words: NDArray[np.int64], *, limit: int, least: int) -> list[RowRun]:
    """Join runs that follow each other at the same stride, with gaps that are multiples of it.

    Parameters
    ----------
    runs: one operand each, in order.
    words: the first word of every row.
    limit: most rows of a sweep, gaps included.
    least: rows that a sweep costs at least, as new weights take so many cycles: a gap is taken if
        walking through it costs no more than starting again.
    """
    result: list[RowRun] = []
    for run in runs:
        joined = _joined(result[-1], run, words, limit, least) if result else None
        if joined is None:
            result.append(run)
        else:
            result[-1] = joined
    return result


def _joined(
    last: RowRun, run: RowRun, words: NDArray[np.int64], limit: int, least: int
) -> Sweep | None:
    parts = last.parts if isinstance(last, Sweep) else ((last, 0),)
    stride = last.strides[0]
    alike = stride > 0 and (run.count == 1 or run.strides[0] == stride)
    if not alike or last.end != run.first:
        return None
    place, rest = divmod(int(words[run.first] - words[parts[0][0].first]), stride)
    gap = place - last.count
    if rest or gap < 0 or place + run.count > limit or gap + run.count > max(run.count, least):
        return None
    return Sweep(parts[0][0].first, run.end, last.strides, (*parts, (run, place)))
