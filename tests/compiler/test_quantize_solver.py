"""Weights: formats, groups, GPTQ, the refit to quantized inputs."""

from __future__ import annotations

import numpy as np
import pytest

from intformer.compiler.quantize.scales import round_weights
from intformer.compiler.quantize.settings import WEIGHTS, WeightFormat
from intformer.compiler.quantize.solver import gptq, refit, solve

FORMATS = [*WEIGHTS.values()]


def correlated(rng: np.random.Generator, rows: int, k: int) -> np.ndarray:
    """Samples with few directions that matter, and one channel far larger than the others."""
    x = rng.normal(size=(rows, k // 4)) @ rng.normal(size=(k // 4, k))
    x[:, 3] *= 20
    return x + 0.1 * rng.normal(size=x.shape)


@pytest.mark.parametrize("fmt", FORMATS)
def test_codes_and_scales_are_in_range(fmt: WeightFormat) -> None:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(12, 256)) * np.exp(rng.normal(size=(12, 256)))
    matrix[4] = 0.0
    matrix[5, :64] = 0.0
    floor = np.zeros(12)
    floor[7] = 1.0
    weights = round_weights(matrix, fmt, floor=floor)
    assert weights.codes.dtype == np.int8
    assert np.abs(weights.codes).max() == fmt.top
    assert weights.group == fmt.group
    if fmt.group:
        assert weights.group_scales is not None
        assert weights.group_scales.dtype == np.uint8
        assert weights.group_scales.shape == (12, 256 // fmt.group)
        assert weights.group_scales.min() >= 1
        assert (weights.group_scales.max(axis=1)[np.arange(12) != 7] == 255).all()
    assert weights.scale[7] >= 1.0
    assert not weights.codes[4].any()
    np.testing.assert_allclose(weights.decode(), weights.integers() * weights.scale[:, None])


def test_smaller_groups_are_finer() -> None:
    rng = np.random.default_rng(1)
    matrix = rng.normal(size=(8, 512)) * np.exp(rng.normal(size=512))
    errors = [
        np.square(round_weights(matrix, WEIGHTS[name]).decode() - matrix).sum()
        for name in ("int8", "int4-g32", "int4-g128", "int4")
    ]
    assert errors == sorted(errors)
    assert errors[1] < 0.8 * errors[2] < 0.8 * errors[3]


def test_groups_that_do_not_divide_are_left_out() -> None:
    weights = round_weights(np.random.default_rng(2).normal(size=(3, 48)), WEIGHTS["int4-g32"])
    assert weights.group == 0
    assert weights.group_scales is None


@pytest.mark.parametrize("fmt", FORMATS)
def test_gptq_beats_rounding(fmt: WeightFormat) -> None:
    rng = np.random.default_rng(3)
    matrix, x = rng.normal(size=(24, 256)), correlated(rng, 600, 256)
    hessian = x.T @ x
    floor = np.zeros(24)
    fitted = gptq(matrix, hessian, fmt, floor=floor)
    rounded = round_weights(matrix, fmt, floor=floor)
    assert np.abs(fitted.codes).max() <= fmt.top

    def error(weights) -> float:
        return float(np.square(x @ (weights.decode() - matrix).T).sum())

    assert error(fitted) < 0.5 * error(rounded)
    # A wrong order of columns or groups would make the plain error huge as well.
    assert np.abs(fitted.decode() - matrix).max() < 8 * fitted.steps().max()


def test_gptq_of_uncorrelated_inputs_is_rounding() -> None:
    rng = np.random.default_rng(4)
    matrix = rng.normal(size=(6, 64))
    fitted = gptq(matrix, np.eye(64) * 5.0, WEIGHTS["int8"], floor=np.zeros(6))
    np.testing.assert_array_equal(fitted.codes, round_weights(matrix, WEIGHTS["int8"]).codes)


def test_gptq_survives_dead_inputs() -> None:
    rng = np.random.default_rng(5)
    x = correlated(rng, 20, 64)  # fewer samples than channels
    x[:, 10:20] = 0.0
    fitted = gptq(rng.normal(size=(6, 64)), x.T @ x, WEIGHTS["int4-g32"], floor=np.zeros(6))
    assert np.isfinite(fitted.decode()).all()
    fitted = gptq(rng.normal(size=(6, 64)), np.zeros((64, 64)), WEIGHTS["int8"], floor=np.zeros(6))
    assert fitted.codes.any()


def test_refit_makes_good_what_the_inputs_lost() -> None:
    rng = np.random.default_rng(6)
    x = rng.normal(size=(800, 16)) @ rng.normal(size=(16, 64))
    z = np.rint(x / 4.0) * 4.0  # coarse inputs
    matrix = rng.normal(size=(8, 64))
    fitted = refit(matrix, x, z, z.T @ z)
    want = x @ matrix.T
    assert np.square(z @ fitted.T - want).sum() < 0.9 * np.square(z @ matrix.T - want).sum()
    np.testing.assert_allclose(refit(matrix, x, x, x.T @ x), matrix)


def test_solve_keeps_the_mean_of_the_outputs() -> None:
    rng = np.random.default_rng(7)
    x = correlated(rng, 500, 64) + 3.0
    z = np.floor(x / 2.0) * 2.0  # biased inputs
    matrix, bias = rng.normal(size=(8, 64)), rng.normal(size=8)
    weights, shifted = solve(matrix, bias, x, z, WEIGHTS["int4"], floor=np.zeros(8))
    got = z @ weights.decode().T + shifted
    np.testing.assert_allclose(got.mean(axis=0), (x @ matrix.T + bias).mean(axis=0), rtol=1e-9)
