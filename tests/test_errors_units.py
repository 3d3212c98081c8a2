"""Error tables of the scalar and row units, small; and others' requantization."""

from functools import partial
from typing import Any

import pytest

from intformer.bench import errors_rescale, errors_rows, errors_table, oracle_requantize

EXACT = {
    "requantize to int4": partial(errors_rescale.requantize, output="int4"),
    "requantize to int32": partial(errors_rescale.requantize, output="int32", mult_bits=32),
    "add": partial(errors_rescale.add, code="int16"),
    "multiply": errors_rescale.multiply,
    "row scale": errors_rows.row_scale,
    "row scale to int4": partial(errors_rows.row_scale, x_type="int8", limit=7),
}


@pytest.mark.parametrize("name", EXACT)
def test_always_correctly_rounded(name: str) -> None:
    found: dict[str, Any] = EXACT[name](3000, 5)
    assert found["cases"] >= 3000
    assert found["correctly_rounded"] == 1
    assert found["worst_steps"] <= 0.5


@pytest.mark.parametrize("bits", [8, 16])
def test_tables(bits: int) -> None:
    found = errors_table.errors(function="tanh", bits=bits)
    assert found["cases"] == 4 << bits
    assert found["worst_steps"] <= (0.5 if bits == 8 else 0.55)
    assert found["correctly_rounded"] >= (1 if bits == 8 else 0.999)


@pytest.mark.parametrize(
    ("code", "fraction", "bound"), [("int8", 16, 0.505), ("int16", 16, 1.0), ("int16", 20, 0.54)]
)
def test_rotary(code: str, fraction: int, bound: float) -> None:
    found = errors_rows.rotary(2000, 3, x_type=code, fraction=fraction)
    assert 0.4 < found["worst_steps"] <= bound


def test_requantize_agrees_with_onnxruntime_without_ties() -> None:
    pytest.importorskip("onnxruntime")
    assert oracle_requantize.compare(3, 2) == {"values": 3 * 65536, "differences": 0}
    assert oracle_requantize.compare(8, 2, ties=True)["differences"] > 0
