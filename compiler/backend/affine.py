"""Copies of elements as nests of three affine loops, the form of MOVE."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["LoopNest", "loop_nests"]

Positions = NDArray[np.int64]

LOOP_MAX = 4095
"""Most turns of one loop."""
STRIDE_WORDS = 8191
"""Largest stride of a loop, in words, in either direction."""
LOOPS = 3


@dataclass(frozen=True)
class LoopNest:
    """``dst[d + sum(i_k * dst_strides[k])] = src[s + sum(i_k * src_strides[k])]``."""

    counts: tuple[int, ...]
    src: int
    src_strides: tuple[int, ...]
    dst: int
    dst_strides: tuple[int, ...]


def loop_nests(src: Positions, dst: Positions, *, width: int) -> Iterator[LoopNest]:
    """Nests that copy ``src[i]`` to ``dst[i]`` for every index ``i``, each element once."""
    for part_src, part_dst in _affine_parts(src, dst):
        yield from _nests(part_src, part_dst, width)


def _affine_parts(src: Positions, dst: Positions) -> Iterator[tuple[Positions, Positions]]:
    """Split until both positions are affine in the index."""
    keep = [n for n in src.shape if n > 1] or [1]
    src, dst = src.reshape(keep), dst.reshape(keep)
    found = _first_break(src, dst)
    if found is None:
        yield src, dst
        return
    axis, size = found
    n = src.shape[axis]
    if 1 < size < n and n % size == 0:
        shape = (*src.shape[:axis], n // size, size, *src.shape[axis + 1 :])
        yield from _affine_parts(src.reshape(shape), dst.reshape(shape))
        return
    for piece in (slice(0, size), slice(size, n)):
        index = (slice(None),) * axis + (piece,)
        yield from _affine_parts(src[index], dst[index])


def _first_break(src: Positions, dst: Positions) -> tuple[int, int] | None:
    """Axis and size of its first part, where the positions stop being affine."""
    axes = range(src.ndim)
    pairs = [(k, k) for k in axes] + [(k, j) for k in axes for j in axes if j != k]
    for k, j in pairs:
        bent = np.zeros(0, bool)
        for array in (src, dst):
            second = np.diff(np.diff(array, axis=k), axis=j) != 0
            others = tuple(a for a in axes if a != j)
            here = second.any(axis=others)
            bent = here if bent.size == 0 else bent | here
        if bent.any():
            first = int(bent.argmax())
            alone = k == j and first == 0 and not bent[1:2].any()  # the first one is apart
            return j, first + (2 if k == j and not alone else 1)
    return None


def _nests(src: Positions, dst: Positions, width: int) -> Iterator[LoopNest]:
    axes = _merged_axes(src, dst)
    loops = [a for a in axes if _loopable(a, width)]
    loops = sorted(loops, key=lambda a: -a[0])[:LOOPS]
    outer = [a for a in axes if a not in loops]
    loops = [a for a in axes if a in loops]
    loops = [(1, 0, 0)] * (LOOPS - len(loops)) + loops
    counts, src_strides, dst_strides = zip(*loops, strict=True)
    base_src, base_dst = int(src.flat[0]), int(dst.flat[0])
    for index in np.ndindex(*(a[0] for a in outer)):
        shift_src = sum(i * a[1] for i, a in zip(index, outer, strict=True))
        shift_dst = sum(i * a[2] for i, a in zip(index, outer, strict=True))
        yield LoopNest(counts, base_src + shift_src, src_strides, base_dst + shift_dst, dst_strides)


def _loopable(axis: tuple[int, int, int], width: int) -> bool:
    return all(-STRIDE_WORDS <= stride // width <= STRIDE_WORDS for stride in axis[1:])


def _merged_axes(src: Positions, dst: Positions) -> list[tuple[int, int, int]]:
    """``(count, src stride, dst stride)`` of the loops, neighbours joined where they follow on."""
    axes: list[tuple[int, int, int]] = []
    for axis, n in enumerate(src.shape):
        if n == 1:
            continue
        step = (0,) * axis + (1,) + (0,) * (src.ndim - axis - 1)
        s = int(src[step] - src.flat[0])
        d = int(dst[step] - dst.flat[0])
        joined = axes and axes[-1][1] == n * s and axes[-1][2] == n * d
        if joined and axes[-1][0] * n <= LOOP_MAX:
            axes[-1] = (axes[-1][0] * n, s, d)
            continue
        axes.extend(_bounded(n, s, d))
    return axes


def _bounded(n: int, s: int, d: int) -> list[tuple[int, int, int]]:
    """One loop, or two if it is too long; a prime count runs as single turns."""
    if n <= LOOP_MAX:
        return [(n, s, d)]
    part = max(p for p in range(1, LOOP_MAX + 1) if n % p == 0)
    return [(n // part, part * s, part * d), (part, s, d)] if part > 1 else [(n, s, d)]
