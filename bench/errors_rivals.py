"""The rivals' functions against float64 mathematics, on the inputs of our own units."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer import reference
from intformer.bench import errors_softmax
from intformer.bench.errors_table import SCALES
from intformer.hw.units.functions import Coding, find_function, real_codes

__all__ = ["gelu", "layernorm", "our_layernorm", "softmax", "softmax_of_64"]

Ints = NDArray[np.int64]

SCALE = 1 / 16
"""Of the logits' codes."""
_ROWS = 512


def _result(parts: list[tuple[int, int, float]]) -> dict[str, Any]:
    """Totals of (cases, right ones, worst distance)."""
    cases = sum(part[0] for part in parts)
    return {
        "cases": cases,
        "worst_steps": max(part[2] for part in parts),
        "correctly_rounded": sum(part[1] for part in parts) / cases,
    }


def _compare(got: Ints, exact: NDArray[np.float64], low: int, high: int) -> tuple[int, int, float]:
    exact = np.clip(exact, low, high)
    # Half a step away is right either way.
    distance = np.abs(got - exact)
    return got.size, int((distance <= 0.5 + 1e-9).sum()), float(distance.max())


def softmax(function: Callable[..., Ints], rows: int | None, seed: int) -> dict[str, Any]:
    """Softmax of int8 logits at 1/16, on the rows of :mod:`~intformer.bench.errors_softmax`."""
    rows_of = errors_softmax.rows_of(rows or 1_000_000, seed=seed, scale=SCALE)
    return _softmax(function, rows_of)


def softmax_of_64(function: Callable[..., Ints], rows: int | None, seed: int) -> dict[str, Any]:
    """The same for rows of 64 logits, normal with a standard deviation of 1."""
    rng = np.random.default_rng(seed)
    chunks = -(-(rows or 100_000) // _ROWS)
    draws = (np.rint(rng.normal(0, 1 / SCALE, (_ROWS, 64))) for _ in range(chunks))
    return _softmax(function, (np.clip(x, -128, 127).astype(np.int64) for x in draws))


def _softmax(function: Callable[..., Ints], chunks: Any) -> dict[str, Any]:
    parts, count = [], 0
    for x in chunks:
        e = np.exp((x - x.max(axis=-1, keepdims=True)) * SCALE)
        exact = 256 * e / e.sum(axis=-1, keepdims=True)
        parts.append(_compare(function(x, scale=SCALE), exact, 0, 255))
        count += len(x)
    result = _result(parts)
    return result | {"values": result["cases"], "cases": count}


def gelu(function: Callable[..., Ints], _cases: int | None, _seed: int) -> dict[str, Any]:
    """GELU on every int8 code, output scale as input scale, at the scales of our tables.

    Each code is in a row with a 0: the rival that looks for a row's largest fares best so.
    """
    parts = []
    for scale in SCALES[8]:
        coding = Coding("int8", scale)
        exact = real_codes(find_function("gelu"), coding, coding)
        rows = np.stack([np.arange(-128, 128), np.zeros(256, np.int64)], axis=1)
        got = function(rows, x_scale=scale, y_scale=scale)
        parts.append(_compare(got[:, 0], exact, -128, 127))
    return _result(parts)


def our_layernorm(x: Ints, *, y_scale: float) -> Ints:
    """:func:`intformer.reference.layernorm` without gamma and beta: the rivals' formats."""
    one = np.ones(x.shape[-1], np.int64)
    shift = round(np.log2(y_scale)) + reference.NORM_FRACTION + 14
    return reference.layernorm(
        x, gamma=one << 14, beta=0 * one, shift=shift * one, eps=0, lo=-128, hi=127
    )


def layernorm(function: Callable[..., Ints], rows: int | None, seed: int) -> dict[str, Any]:
    """LayerNorm of int8 rows of 64 and 768, normal at several widths, to int8 at 1/32."""
    rng = np.random.default_rng(seed)
    parts = []
    for n in (64, 768):
        for width in (2, 8, 32):
            for _ in range(-(-(rows or 60_000) // (6 * _ROWS))):
                mean = rng.uniform(-8, 8, (_ROWS, 1))
                x = np.clip(np.rint(rng.normal(mean, width, (_ROWS, n))), -128, 127)
                x = x.astype(np.int64)
                centred = x - x.mean(axis=-1, keepdims=True)
                spread = np.sqrt((centred**2).mean(axis=-1, keepdims=True))
                exact = centred / np.maximum(spread, 1e-9) * 32
                parts.append(_compare(function(x, y_scale=1 / 32), exact, -128, 127))
    return _result(parts)
