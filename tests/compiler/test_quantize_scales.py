"""Multipliers, codings, tables and LayerNorm parameters."""

from __future__ import annotations

import math

import numpy as np
import pytest

from intformer import reference
from intformer.compiler.float_eval import activation
from intformer.compiler.quantize.norms import norm_parameters, smallest_input_scale
from intformer.compiler.quantize.scales import (
    Coding,
    activation_table,
    asymmetric,
    encode_multiplier,
    exp_table,
    quantize_weights,
    symmetric,
)
from intformer.errors import UserError


def test_multiplier_is_nearest() -> None:
    scales = np.exp(np.random.default_rng(0).uniform(np.log(2.0**-32), np.log(2.0**12), 2000))
    scales = np.concatenate([scales, -scales, [1.0, 0.5, 2.0**12, 1 - 2.0**-17]])
    mult, shift = encode_multiplier(scales, what="x")
    assert (np.abs(mult.astype(int)) >= 1 << 14).all()
    assert shift.min() >= reference.SHIFT_MIN
    assert shift.max() <= reference.SHIFT_MAX
    relative = mult * np.exp2(-shift.astype(float)) / scales - 1
    assert np.abs(relative).max() <= 2.0**-15


def test_multiplier_limits() -> None:
    mult, shift = encode_multiplier(np.array([2.0**-40, 0.0]), what="x")
    assert mult.tolist() == [1 << 7, 0]
    assert shift[0] == 47
    with pytest.raises(UserError, match="site: cannot rescale"):
        encode_multiplier(2.0**13, what="site")


def test_codings_hold_zero_and_the_range() -> None:
    rng = np.random.default_rng(1)
    for low, high in rng.normal(size=(200, 2)) * 10:
        low, high = min(low, high), max(low, high)
        coding = asymmetric(low, high)
        assert coding.decode(np.array([coding.zero_point])) == 0.0
        ends = coding.decode(coding.encode(np.array([low, high])))
        assert np.abs(ends - [low, high]).max() <= 1.001 * coding.scale
        assert symmetric("int8", low, high).encode(np.array([low, high])).min() >= -127


@pytest.mark.parametrize(("bits", "top"), [(8, 127), (4, 7)])
def test_weights(bits: int, top: int) -> None:
    matrix = np.random.default_rng(2).normal(size=(10, 30))
    matrix[3] = 0.0
    codes, scale = quantize_weights(matrix, bits, floor=np.zeros(10))
    assert codes.dtype == np.int8
    assert np.abs(codes).max() <= top
    error = np.sqrt(np.mean((codes * scale[:, None] - matrix) ** 2))
    assert error < (0.01 if bits == 8 else 0.13)
    assert not codes[3].any()


def test_tables_are_correctly_rounded() -> None:
    table = exp_table(0.37)
    assert table[0] == (1 << reference.EXP_BITS) - 1
    assert table[10] == round(((1 << reference.EXP_BITS) - 1) * math.exp(-3.7))
    index, output = Coding("int8", 0.05, -20), Coding("int8", 0.02, -100)
    gelu = activation_table(lambda x: activation("gelu", x), index, output)
    for code in range(-128, 128):
        x = 0.05 * (code + 20)
        y = 0.5 * x * (1 + math.erf(x / math.sqrt(2)))
        assert gelu[code & 255] == np.clip(round(y / 0.02) - 100, -128, 127)


@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_norm_parameters(dtype: str) -> None:
    rng = np.random.default_rng(3)
    gamma, beta = rng.normal(1, 0.3, 64), rng.normal(0, 1, 64)
    x = Coding("int16", 1e-3)
    y = symmetric(dtype, -5, 5)
    fields = norm_parameters(gamma, beta, 1e-5, input_scale=x.scale, output_scale=y.scale)
    low, high = reference.LIMITS[dtype]
    codes = x.encode(rng.normal(size=(20, 64)))
    got = y.decode(reference.layernorm(codes, **fields, lo=low, hi=high))
    real = x.decode(codes)
    centred = real - real.mean(-1, keepdims=True)
    want = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * gamma + beta
    units = np.abs(got - np.clip(want, low * y.scale, high * y.scale)) / y.scale
    assert units.max() <= (0.51 if dtype == "int8" else 1.5)


def test_norm_eps_fits() -> None:
    scale = smallest_input_scale(256, 1e-5)
    fields = norm_parameters(np.ones(4), np.zeros(4), 1e-5, input_scale=scale, output_scale=1.0)
    assert fields["eps"] < 1 << 40
