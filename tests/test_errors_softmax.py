"""The errors of softmax that its page states, on few rows."""

import sys

import numpy as np
import pytest

from intformer import reference
from intformer.bench.errors_softmax import (
    DISTRIBUTIONS,
    SCALES,
    compare_with_onnxruntime,
    errors,
    rows_of,
)
from intformer.errors import UserError
from intformer.hw.units.exponential import exp_tables


@pytest.mark.parametrize(
    ("code", "scale"), [(code, scale) for code, scales in SCALES.items() for scale in scales]
)
def test_within_a_hundredth_of_a_step_of_correct(code: str, scale: float) -> None:
    found = errors(2000, seed=3, input=code, scale=scale)
    assert found["cases"] == 2000
    assert found["worst_steps"] <= 0.51
    assert found["correctly_rounded"] >= 0.9999


def test_one_above_many_of_the_same() -> None:
    """The worst case for the table: all errors of its entries add up."""
    for scale in SCALES["int8"]:
        table = exp_tables(scale, d_bits=8).high
        for n in (256, 1024):
            x = np.zeros((255, n), np.int64)
            x[:, 0] = np.arange(1, 256)
            p = reference.softmax(x - 128, exp_table=table)
            e = np.exp((x - x[:, :1]) * scale)
            exact = np.minimum(256 * e / e.sum(axis=-1, keepdims=True), 255)
            assert np.abs(p - exact).max() <= 0.508


def test_every_distribution_is_drawn() -> None:
    for name in DISTRIBUTIONS:
        rows = list(rows_of(300, seed=1, scale=1 / 16, distribution=name))
        assert sum(len(x) for x in rows) == 300
        lengths = {x.shape[1] for x in rows}
        assert {1, 1024} <= lengths and len(lengths) > 20
        assert all(x.min() >= -128 and x.max() <= 127 for x in rows)


def test_exponentials_of_all_int16_distances() -> None:
    for scale in SCALES["int16"]:
        d = np.arange(1 << 16)
        e = reference.exponential(d, tables=exp_tables(scale, d_bits=16))
        exact = np.exp(-scale * d) * ((1 << reference.EXP_BITS) - 1)
        assert np.abs(e - exact).max() <= 0.55


def test_row_that_keeps_nothing() -> None:
    p = reference.softmax(
        np.zeros((2, 3)), exp_table=exp_tables(0.1, d_bits=8), keep=np.zeros((2, 3), bool)
    )
    assert not p.any()


def test_predicates() -> None:
    keep = reference.softmax_keep(3, length=[3, 2, 3], causal=[0, 0, 1], position=[0, 0, 0])
    assert keep.tolist() == [[True, True, True], [True, True, False], [True, False, False]]


def test_differs_from_qlinearsoftmax_only_at_ties() -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    found = compare_with_onnxruntime(2000)
    assert found["values"] > 100_000 and found["theirs_wrong"] == 0 and found["ours_wrong"] == 0
    assert found["differences"] == found["ties"]


def test_without_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"needs onnx and onnxruntime: .*onnxruntime"):
        compare_with_onnxruntime(10)
