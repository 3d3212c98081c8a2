"""Row scale and rotary embedding against float64 mathematics."""

from __future__ import annotations

from typing import Any

import numpy as np

from intformer import reference
from intformer.hw.units.functions import RANGES
from intformer.hw.units.rotary import rotary_angles

__all__ = ["rotary", "row_scale"]

_CHUNK = 1 << 17


def row_scale(
    rows: int | None = 100_000, seed: int = 1, *, x_type: str = "int16", limit: int = 127
) -> dict[str, Any]:
    """Rows of 1 to 1024 codes, Gaussian at several widths, uniform, and with one large element.

    Exact is ``x * limit / max(abs(x))``.
    """
    rng = np.random.default_rng(seed)
    low, high = RANGES[x_type]
    left = rows or 100_000
    cases = right = 0
    worst = 0.0
    while left > 0:
        n = int(rng.integers(1, 1025))
        count = min(left, max(1, _CHUNK // n))
        left -= count
        width = high * 2.0 ** -rng.uniform(0, 12)
        x = np.rint(rng.normal(0, width, (count, n)))
        kind = rng.integers(3)
        if kind == 0:
            x = rng.integers(low, high + 1, (count, n))
        elif kind == 1:
            x[np.arange(count), rng.integers(0, n, count)] = high
        x = np.clip(x, low, high).astype(np.int64)
        got, top = reference.row_scale(x, limit=limit)
        exact = x * float(limit) / np.maximum(top, 1)[:, None]
        cases += x.size
        right += int((got == np.floor(exact + 0.5)).sum())
        worst = max(worst, float(np.abs(got - exact).max()))
    return {"cases": cases, "worst_steps": worst, "correctly_rounded": right / cases}


def rotary(
    rows: int | None = 100_000,
    seed: int = 1,
    *,
    x_type: str = "int16",
    dim: int = 64,
    fraction: int = 16,
) -> dict[str, Any]:
    """Random rows at random positions up to 2048; exact are the real angles, saturated."""
    rng = np.random.default_rng(seed)
    low, high = RANGES[x_type]
    cos, sin = rotary_angles(dim=dim, positions=2048, fraction=fraction)
    frequencies = 10000.0 ** (-2 * np.arange(dim // 2) / dim)
    left = rows or 100_000
    cases = right = 0
    worst = 0.0
    while left > 0:
        count = min(left, _CHUNK // dim)
        left -= count
        at = rng.integers(0, 2048, count)
        x = rng.integers(low, high + 1, (count, dim))
        got = reference.rotary(
            x, cos=cos[at], sin=sin[at], fraction=fraction, halves=True, lo=low, hi=high
        )
        turn = (x[:, : dim // 2] + 1j * x[:, dim // 2 :]) * np.exp(1j * at[:, None] * frequencies)
        exact = np.clip(np.concatenate([turn.real, turn.imag], axis=1), low, high)
        cases += x.size
        right += int((got == np.floor(exact + 0.5).clip(low, high)).sum())
        worst = max(worst, float(np.abs(got - exact).max()))
    return {"cases": cases, "worst_steps": worst, "correctly_rounded": right / cases}
