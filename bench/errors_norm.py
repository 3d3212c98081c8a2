"""LayerNorm and RMSNorm against float64 mathematics, ties decided exactly."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer import reference
from intformer.compiler.quantize.norms import norm_parameters

__all__ = ["DISTRIBUTIONS", "errors"]

Ints = NDArray[np.int64]
Rng = np.random.Generator

_LOW, _HIGH = reference.LIMITS["int16"]
_CHUNK = 32_768  # elements at once
_NEAR = 1e-8  # values this close to a tie are decided with integers; float64 is exact to 1e-10


def _gaussian(width: float) -> Callable[[Rng, int, int], Ints]:
    def rows(rng: Rng, count: int, n: int) -> Ints:
        return np.rint(rng.normal(rng.normal(0, width / 2), width, (count, n))).astype(np.int64)

    return rows


def _one_hot(rng: Rng, count: int, n: int) -> Ints:
    x = np.full((count, n), rng.integers(-100, 100))
    x[np.arange(count), rng.integers(0, n, count)] = rng.integers(_LOW, _HIGH + 1, count)
    return x


def _ties(rng: Rng, count: int, n: int) -> Ints:
    values = rng.integers(-9000, 9000, (count, 3))
    return np.take_along_axis(values, rng.integers(0, 3, (count, n)), axis=1)


def _equal(rng: Rng, count: int, n: int) -> Ints:
    return np.broadcast_to(rng.integers(_LOW, _HIGH + 1, (count, 1)), (count, n)).copy()


def _extremes(rng: Rng, count: int, n: int) -> Ints:
    return np.where(rng.random((count, n)) < rng.random((count, 1)), _LOW, _HIGH)


DISTRIBUTIONS: dict[str, Callable[[Rng, int, int], Ints]] = {
    "gaussian 2": _gaussian(2),
    "gaussian 50": _gaussian(50),
    "gaussian 1000": _gaussian(1000),
    "gaussian 9000": _gaussian(9000),
    "one hot": _one_hot,
    "ties": _ties,
    "all equal": _equal,
    "extremes": _extremes,
}
"""Rows of int16 codes by name: function of a generator, the number of rows and their length."""

_FUNCTIONS = {"LayerNorm": reference.layernorm, "RMSNorm": reference.rmsnorm}


def errors(
    rows: int,
    seed: int,
    *,
    unit: str = "LayerNorm",
    output: str = "int8",
    distribution: str | None = None,
) -> dict[str, Any]:
    """Compare the reference with float64 mathematics on random rows of 1 to 1024 codes.

    The exact value is that of the integer ``gamma``, ``beta`` and ``eps`` that the unit is given:
    see :mod:`intformer.reference.norm`. The quantizer makes them from random real parameters,
    and an epsilon of 1e-5 or, for every third set of rows, 0.

    Parameters
    ----------
    rows: number of rows, over all distributions.
    seed: of the random numbers.
    unit: ``"LayerNorm"`` or ``"RMSNorm"``.
    output: ``"int8"`` or ``"int16"``.
    distribution: one of :data:`DISTRIBUTIONS`, or ``None`` for each of them in turn.

    Returns
    -------
    ``rows``; ``cases``, the codes compared; ``ties``, those within 1e-8 of a tie; ``wrong``;
    ``correctly_rounded``, the share of the others; ``worst_steps``, the largest distance from
    the exact value, saturated like the code.
    """
    rng = np.random.default_rng(seed)
    names = list(DISTRIBUTIONS) if distribution is None else [distribution]
    done = cases = ties = wrong = turn = 0
    worst = 0.0
    while done < rows:
        n = int(rng.integers(1, 1025))
        count = min(max(1, _CHUNK // n), rows - done)
        x = np.clip(DISTRIBUTIONS[names[turn % len(names)]](rng, count, n), _LOW, _HIGH)
        parameters = _parameters(rng, n, output, eps=0.0 if turn % 3 == 2 else 1e-5)
        chunk = _compare(x, parameters, unit=unit, output=output)
        done, turn = done + count, turn + 1
        cases, ties, wrong = cases + x.size, ties + chunk[0], wrong + chunk[1]
        worst = max(worst, chunk[2])
    return {
        "rows": rows,
        "cases": cases,
        "ties": ties,
        "wrong": wrong,
        "correctly_rounded": 1 - wrong / cases,
        "worst_steps": worst,
    }


def _parameters(rng: Rng, n: int, output: str, *, eps: float) -> dict[str, Any]:
    """Integer parameters; with an ``eps`` of 0, such that exact ties occur."""
    steps = reference.LIMITS[output][1] + 1
    input_scale = 10 ** rng.uniform(-4, -2)
    if eps:
        gamma = rng.normal(1, 0.3, n) * rng.choice([-1, 1], n)
        beta, output_scale = rng.normal(0, 0.5, n), 2 ** rng.uniform(1, 4) / steps
    else:
        gamma, beta = rng.choice([-1, -0.75, 0.5, 1], n), np.zeros(n)
        output_scale = 8 / steps
    return norm_parameters(gamma, beta, eps, input_scale=input_scale, output_scale=output_scale)


def _compare(
    x: Ints, parameters: dict[str, Any], *, unit: str, output: str
) -> tuple[int, int, float]:
    """Near ties, wrong codes and the largest distance."""
    low, high = reference.LIMITS[output]
    got = _FUNCTIONS[unit](x, **parameters, lo=low, hi=high)
    n = x.shape[-1]
    total = x.sum(axis=-1, keepdims=True) if unit == "LayerNorm" else np.int64(0)
    d = n * (x * x).sum(axis=-1, keepdims=True) - total * total + parameters["eps"]
    c = n * x - total
    gamma, beta, shift = (parameters[k].astype(np.int64) for k in ("gamma", "beta", "shift"))
    scaled = c / np.sqrt(np.maximum(d, 1).astype(np.float64)) * gamma
    y = (scaled * 65536 + beta * 256.0) / np.exp2(shift)
    near = (np.abs(y - np.floor(y) - 0.5) < _NEAR) & (y > low - 1) & (y < high + 1)
    right = np.clip(np.floor(y + 0.5), low, high).astype(np.int64)
    for row, k in np.argwhere(near):
        value = _round(int(c[row, k]), int(d[row, 0]), int(gamma[k]), int(beta[k]), int(shift[k]))
        right[row, k] = min(max(value, low), high)
    distance = float(np.abs(got - np.clip(y, low, high)).max(initial=0.0))
    return int(near.sum()), int((got != right).sum()), distance


def _round(c: int, d: int, gamma: int, beta: int, shift: int) -> int:
    """``floor(y + 1/2)`` exactly: ``y = (c*gamma*2**16 / sqrt(d) + beta*2**8) / 2**shift``."""
    d = max(d, 1)
    p = (c * gamma) << 17

    def at_least(code: int) -> bool:
        bound = ((2 * code - 1) << shift) - (beta << 9)  # y + 1/2 >= code: p / sqrt(d) >= bound
        if (p >= 0) != (bound >= 0):
            return p >= 0
        return p * p >= bound * bound * d if p >= 0 else p * p <= bound * bound * d

    guess = math.floor((p / 2 / math.sqrt(d) + beta * 256) / 2**shift + 0.5)
    return next(code for code in (guess + 1, guess, guess - 1) if at_least(code))
