"""Element-wise functions as text."""

from __future__ import annotations

import numpy as np
import pytest

from intformer.compiler.expressions import NAMES, call, evaluate_expression, substitute
from intformer.compiler.float_eval import activation
from intformer.compiler.graph import ACTIVATIONS

X = np.linspace(-3, 3, 13)


def test_value() -> None:
    text = call("mul", "x", call("tanh", call("add", "x", -1.5e-3)))
    np.testing.assert_array_equal(evaluate_expression(text, X), X * np.tanh(X - 1.5e-3))
    np.testing.assert_array_equal(activation(text, X), X * np.tanh(X - 1.5e-3))


def test_substitution_leaves_names_alone() -> None:
    text = substitute(call("max", call("exp", "x"), 2.0), call("add", "x", 1.0))
    np.testing.assert_array_equal(evaluate_expression(text, X), np.maximum(np.exp(X + 1), 2))
    assert substitute("gelu", "mul(x,2.0)") == "gelu(mul(x,2.0))"


def test_undefined_is_zero() -> None:
    assert not evaluate_expression(call("sqrt", call("add", "x", -9.0)), X).any()
    assert np.isinf(evaluate_expression(call("div", 1.0, "x"), np.zeros(1)))


def test_names_are_activations() -> None:
    assert set(NAMES) <= set(ACTIVATIONS)


@pytest.mark.parametrize("text", ["", "x+1", "f(x)", "mul(x", "mul x", "mul(x,2))", "exp(y)"])
def test_refused(text: str) -> None:
    with pytest.raises(ValueError):
        evaluate_expression(text, X)


def test_unknown_function() -> None:
    with pytest.raises(ValueError, match="tan"):
        call("tan", "x")
