"""The arithmetic of the DSP packings, over all operands: the formulas that the formats state."""

from __future__ import annotations

import numpy as np
import pytest

from intformer.hw.matmul.formats import array_format

OPERAND = 1 << 17
"""An 18 x 18 multiplier takes operands from ``-OPERAND`` to ``OPERAND - 1``."""


def signed(codes: np.ndarray, bits: int) -> np.ndarray:
    """Codes of ``bits`` bits, read as signed numbers."""
    half = 1 << (bits - 1)
    return ((codes & (2 * half - 1)) ^ half) - half


@pytest.mark.parametrize(("bits", "low_bits"), [(9, 5), (8, 4)])
def test_two_int8_products(bits: int, low_bits: int) -> None:
    """``a`` over its whole two's complement range, both weights -127..127: 33.3 million cases."""
    w = np.arange(-127, 128, dtype=np.int32)
    word = (w[:, None] << 10) + w
    assert word.min() >= -OPERAND
    assert word.max() < OPERAND
    half, mask = 1 << (bits - 1), (1 << low_bits) - 1
    for a in range(-half, half):
        product = a * word
        upper, lower = product >> 10, product & 1023
        low = (a & mask) * (w & mask)  # what the LUTs multiply
        negative = (a != 0) & (w != 0) & ((a < 0) != (w < 0))
        d = ((upper - low[:, None]) & mask) - (negative << low_bits)
        assert (upper - d == (a * w)[:, None]).all()
        assert ((d << 10) + lower == a * w).all()


@pytest.mark.parametrize(("bits", "rows"), [(9, 4), (8, 9)])
def test_packed_sum_of_w4a8_products(bits: int, rows: int) -> None:
    """Every sum of the lower products, with some upper ones; one row more would not fit."""
    form = array_format("w4a8_packed", activation_bits=bits)
    assert form.segment == rows
    low, high = (rows * bound for bound in form.product_range)
    y = np.arange(low, high + 1)
    for x in (low, -1, 0, 1, 77, high):
        total = (x << 14) + y
        lower = signed(total, 14)
        assert (lower == y).all()
        assert ((total >> 14) + (lower < 0) == x).all()
    beyond = (rows + 1) * form.product_range[1]
    assert signed(np.array(beyond), 14) != beyond


def test_four_w4a4_products() -> None:
    """All 57,600 combinations of two activations and two weights."""
    a0, a1, w0, w1 = np.meshgrid(
        *[np.arange(-8, 8)] * 2, *[np.arange(-7, 8)] * 2, indexing="ij", sparse=True
    )
    activations, weights = (a1 << 7) + a0, (w1 << 14) + w0
    assert weights.min() >= -OPERAND
    assert weights.max() < OPERAND
    product, carry = activations * weights, 0
    for index, expected in enumerate((a0 * w0, a1 * w0, a0 * w1, a1 * w1)):
        digit = signed(product >> 7 * index, 7)
        assert (digit + carry == expected).all()
        carry = digit < 0
