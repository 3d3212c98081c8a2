"""Products with weights that are quantized in groups along the contraction."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from intformer.reference.integers import IntArray

__all__ = ["GROUP_SCALE_BITS", "group_scale", "grouped_matmul"]

GROUP_SCALE_BITS = 8
"""Width of a group's scale (unsigned)."""

_EXACT = 1 << 53
"""float64 holds every integer below this, and so every sum of products below it."""


def group_scale(sums: IntArray, scales: IntArray) -> NDArray[np.int64]:
    """``sum(scales * sums)`` over the first axis, the groups; exact in int64."""
    products = np.asarray(scales, np.int64) * np.asarray(sums, np.int64)
    return products.sum(axis=0)


def grouped_matmul(a: IntArray, w: IntArray, scales: IntArray) -> NDArray[np.int64]:
    """``a @ w.T`` with an integer scale for each group of the contraction, exact in int64.

    ``a``: ``[..., M, K]``. ``w``: ``[N, K]``. ``scales``: ``[N, G]``, where ``G`` divides ``K``:
    group ``g`` holds the elements ``g*K/G`` to ``(g+1)*K/G - 1``. Result ``[..., M, N]``.

    Raises
    ------
    ValueError
        If ``K`` is not a multiple of ``G``, or the shapes do not fit together.
    """
    a, w, scales = (np.asarray(x, np.int64) for x in (a, w, scales))
    depth = a.shape[-1]
    if w.ndim != 2 or w.shape[1] != depth:
        raise ValueError(f"weights must have shape (N, {depth}), not {w.shape}")
    if scales.ndim != 2 or len(scales) != len(w):
        raise ValueError(f"scales must have shape ({len(w)}, groups), not {scales.shape}")
    groups = scales.shape[1]
    if groups == 0 or depth % groups:
        raise ValueError(f"a contraction of {depth} cannot have {groups} equal groups")
    # A sum of scaled sums is a sum of products with scaled weights.
    scaled = w * np.repeat(scales, depth // groups, axis=1)
    if _magnitude(a) * _magnitude(scaled) * depth < _EXACT:
        return (a.astype(np.float64) @ scaled.T.astype(np.float64)).astype(np.int64)
    product: NDArray[np.int64] = a @ scaled.T
    return product


def _magnitude(x: NDArray[np.int64]) -> int:
    return max(-int(x.min()), int(x.max()), 0) if x.size else 0
