"""Maxima, their places, and dynamic scales of rows of integer codes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from intformer.reference.integers import LIMITS, IntArray

__all__ = ["argmax", "row_codes", "row_maximum", "row_scale"]


def row_maximum(
    x: IntArray, *, keep: NDArray[np.bool_] | None = None, lowest: int
) -> NDArray[np.int64]:
    """The largest kept code over the last axis; ``lowest``, the lowest code, if none is kept."""
    x = np.asarray(x, dtype=np.int64)
    kept = np.ones(x.shape, bool) if keep is None else np.broadcast_to(keep, x.shape)
    return np.where(kept, x, lowest).max(axis=-1)


def argmax(x: IntArray, *, keep: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """The first place of the largest kept code over the last axis; 0 if none is kept."""
    x = np.asarray(x, dtype=np.int64)
    kept = np.ones(x.shape, bool) if keep is None else np.broadcast_to(keep, x.shape)
    return np.where(kept, x, np.iinfo(np.int64).min).argmax(axis=-1)


def row_scale(
    x: IntArray, *, keep: NDArray[np.bool_] | None = None, limit: int = 127
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Codes in ``-limit..limit`` with a scale of their own for every row, and the row's ``top``.

    Over the last axis, of the kept elements::

        top = max(abs(x))
        y = (2 * limit * x + top) // (2 * top)      0 if top is 0, or if not kept

    So ``y`` is ``x * limit / top``, correctly rounded, half toward +infinity; the scale of ``y``
    is the scale of ``x`` times ``top / limit``. ``top`` is the integer multiplier that a later
    rescale of the row needs.
    """
    x = np.asarray(x, dtype=np.int64)
    kept = np.ones(x.shape, bool) if keep is None else np.broadcast_to(keep, x.shape)
    top = np.where(kept, np.abs(x), 0).max(axis=-1, keepdims=True)
    y = (2 * limit * x + top) // (2 * np.maximum(top, 1))
    return np.where(kept & (top > 0), y, 0), top[..., 0]


def row_codes(x: IntArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """int8 codes of rows of int16 codes, each row at a scale of its own, and the rows' factors.

    Codes and ``top`` are those of :func:`row_scale` with ``limit`` 127; the factor, ``[..., 1]``,
    is ``top``, at most 32767 so that it is an int16 code. The scale of a row's codes is the scale
    of ``x`` times ``factor / 127``: :func:`~intformer.reference.post` multiplies sums of products
    of the codes by it.
    """
    codes, top = row_scale(x, limit=127)
    return codes, np.minimum(top, LIMITS["int16"][1])[..., None]
