"""Products with weights that are quantized in groups along the contraction."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from intformer.reference.integers import IntArray

__all__ = ["group_scale", "grouped_matmul"]


def group_scale(sums: IntArray, scales: IntArray) -> NDArray[np.int64]:
    """``sum(scales * sums)`` over the first axis, the groups; exact in int64."""
    products = np.asarray(scales, np.int64) * np.asarray(sums, np.int64)
    return products.sum(axis=0)


def grouped_matmul(a: IntArray, w: IntArray, scales: IntArray) -> NDArray[np.int64]:
    """``a @ w.T`` with an integer scale for each group of the contraction, exact in int64.

    ``a``: ``[M, K]``. ``w``: ``[N, K]``. ``scales``: ``[N, G]``, where ``G`` divides ``K``: group
    ``g`` holds the elements ``g*K/G`` to ``(g+1)*K/G - 1``. Result ``[M, N]``.

    Raises
    ------
    ValueError
        If ``K`` is not a multiple of ``G``.
    """
    a, w, scales = (np.asarray(x, np.int64) for x in (a, w, scales))
    depth, groups = a.shape[-1], scales.shape[-1]
    if depth % groups:
        raise ValueError(f"a contraction of {depth} cannot have {groups} equal groups")
    parts = (len(a), groups, depth // groups)
    sums = np.einsum("mgk,ngk->gmn", a.reshape(parts), w.reshape(len(w), *parts[1:]))
    return group_scale(sums, scales.T[:, None, :])
