"""Per-channel scales of the int8 inputs of linear layers.

A linear layer computes ``x @ W.T = (x / s) @ (W * s).T`` for any positive vector ``s``. Where the
channels of ``x`` differ in range, int8 codes of ``x / s`` are finer. ``s`` costs nothing: it goes
into gamma and beta of a LayerNorm, or into the multipliers of the copy that makes the codes, and
into the weights. The rule for ``s`` is SmoothQuant's (Xiao et al., ICML 2023, arXiv 2211.10438):

    s[c] = max|x[c]| ** alpha / max|W[:, c]| ** (1 - alpha)

with ``alpha`` given, or the one of a grid with the least error of the layers' outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer import reference
from intformer.compiler.quantize.scales import Coding, asymmetric, round_weights
from intformer.compiler.quantize.settings import WeightFormat

__all__ = [
    "ALPHAS",
    "FittedOperand",
    "clip_range",
    "fit_operand",
    "operand_coding",
    "search",
    "smoothing_vector",
]

Array = NDArray[Any]

ALPHAS = (0.0, 0.5, 0.65, 0.75, 0.85, 0.95)
"""Exponents that the search tries; 0 stands for no smoothing at all."""
SHARES = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6)
"""Shares of the range that the search for the least squared error tries."""
_ROWS = 256


@dataclass(frozen=True, eq=False)
class FittedOperand:
    """int8 codes of a linear layer's input ``x``.

    Attributes
    ----------
    alpha: exponent of the smoothing; 0: none.
    scales: ``[channels]``: the codes are those of ``x / scales``.
    limits: range of these codes.
    """

    alpha: float
    scales: Array
    limits: tuple[float, float]


def fit_operand(
    channels: tuple[Array, Array],
    rows: Array,
    matrices: list[Array],
    formats: list[WeightFormat],
    *,
    alpha: float | str,
    clip: bool,
    per_row: bool = False,
    worth: float = 1.0,
) -> FittedOperand:
    """Fit the int8 codes of a linear layer's input.

    ``channels``: the range of each channel; ``rows``: samples; ``matrices``, ``formats``: the
    weights of the layers that read it; ``alpha``: the exponent, or ``"search"``; ``clip``:
    whether the limits are those of the least squared error; ``per_row``: whether each row has a
    scale of its own; ``worth``: see :func:`search`.
    """
    low, high = channels
    if alpha == "search":
        alpha = search(low, high, rows, matrices, formats, per_row=per_row, worth=worth)
    assert not isinstance(alpha, str)
    scales = smoothing_vector(low, high, np.concatenate(matrices), alpha)
    limits = float((low / scales).min()), float((high / scales).max())
    if clip:
        limits = clip_range(*limits, _thin(rows) / scales)
    return FittedOperand(alpha, scales, limits)


def smoothing_vector(low: Array, high: Array, weights: Array, alpha: float) -> Array:
    """SmoothQuant's scales ``[channels]``, of geometric mean 1.

    ``low``, ``high``: the range of each channel; ``weights``: ``[N, channels]``, the rows of all
    layers that read the input. Channels that are always 0, there or here, get 1.
    """
    if alpha == 0:
        return np.ones(len(low))
    x = np.maximum(np.abs(low), np.abs(high)).astype(np.float64)
    w = np.abs(np.asarray(weights, np.float64)).max(axis=0)
    live = (x > 0) & (w > 0)
    if not live.any():
        return np.ones(len(low))
    logs = alpha * np.log(np.where(live, x, 1)) - (1 - alpha) * np.log(np.where(live, w, 1))
    logs = np.where(live, logs - logs[live].mean(), 0.0)
    # Far from 1 the scales would cost the parameters of a LayerNorm their precision.
    result: Array = np.exp(np.clip(logs, np.log(1 / 64), np.log(64)))
    return result


def clip_range(low: float, high: float, samples: Array) -> tuple[float, float]:
    """The share of a range whose int8 codes give ``samples`` with the least squared error."""
    best, result = np.inf, (low, high)
    for share in SHARES:
        coding = asymmetric(share * low, share * high)
        error = float(np.square(coding.decode(coding.encode(samples)) - samples).sum())
        if error < best:
            best, result = error, (share * low, share * high)
    return result


def search(
    low: Array,
    high: Array,
    rows: Array,
    matrices: list[Array],
    formats: list[WeightFormat],
    *,
    per_row: bool = False,
    worth: float = 1.0,
) -> float:
    """The exponent of :data:`ALPHAS` with the least squared error of the layers' outputs.

    ``rows``: sampled inputs ``[n, channels]``; ``matrices``: the weights of the layers. Each
    layer's error counts relative to its output. ``per_row``: codes of each row at a scale of its
    own, rather than one for all that holds ``low`` to ``high``. ``worth``: the share of the error
    without smoothing that smoothing must at least come below.
    """
    x = _thin(np.asarray(rows, np.float64))
    weights = np.concatenate([np.asarray(m, np.float64) for m in matrices])
    best, result = np.inf, 0.0
    for alpha in ALPHAS:
        s = smoothing_vector(low, high, weights, alpha)
        codes = _rounded_rows(x / s) if per_row else _rounded(x / s, operand_coding(low, high, s))
        error = 0.0
        for matrix, fmt in zip(matrices, formats, strict=True):
            real = np.asarray(matrix, np.float64)
            want = x @ real.T
            # Inputs and weights are judged apart: solvers reduce the latter's error.
            have = (codes * s) @ real.T
            rounded = round_weights(real * s, fmt).decode() / s
            spent = np.square(have - want).sum() + np.square(x @ (rounded - real).T).sum()
            error += float(spent / max(np.square(want - want.mean(axis=0)).sum(), 1e-30))
        if error < best:
            best, result = error * (worth if alpha == 0 else 1.0), alpha
    return result


def operand_coding(low: Array, high: Array, s: Array) -> Coding:
    """int8 coding of ``x / s``."""
    return asymmetric(float((low / s).min()), float((high / s).max()))


def _rounded(x: Array, coding: Coding) -> Array:
    return coding.decode(coding.encode(x))


def _rounded_rows(x: Array) -> Array:
    """Rows rounded to int8 codes, the largest magnitude of each to 127."""
    scale = np.abs(x).max(axis=1, keepdims=True) / reference.LIMITS["int8"][1]
    result: Array = np.rint(x / np.where(scale > 0, scale, 1.0)) * scale
    return result


def _thin(rows: Array) -> Array:
    return rows[:: -(-len(rows) // _ROWS)]
