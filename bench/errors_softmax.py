"""How far softmax is from float64 mathematics, and from ONNX Runtime's ``QLinearSoftmax``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer import reference
from intformer.errors import UserError
from intformer.hw.units.exponential import exp_tables

__all__ = ["DISTRIBUTIONS", "SCALES", "compare_with_onnxruntime", "errors", "rows_of"]

LONGEST = 1024
LIMITS = {"int8": 127, "int16": 32767, "int32": (1 << 31) - 1}
SCALES = {
    "int8": (1 / 8, 1 / 16, 1 / 32, 0.1),
    "int16": (1 / 8, 1 / 256, 1 / 2048, 0.001),
    "int32": (1 / 4096, 1e-5, 1 / (1 << 24)),
}
"""Scales of logits that are measured, by input format."""

_CHUNK_VALUES = 1 << 18
_TIE = 1e-9  # a value this near to the middle of two codes may be rounded either way

Array = NDArray[Any]


def _gaussian(width: float) -> Callable[..., Array]:
    """Normal logits of a standard deviation in real units."""

    def draw(rng: np.random.Generator, shape: tuple[int, int], *, scale: float, top: int) -> Array:
        return np.rint(rng.normal(size=shape) * width / scale)

    return draw


def _one_hot(rng: np.random.Generator, shape: tuple[int, int], *, scale: float, top: int) -> Array:
    """One logit above others that are all the same."""
    x = np.broadcast_to(rng.integers(-top - 1, top + 1, (shape[0], 1)), shape).astype(float)
    above = rng.integers(0, np.ceil(min(24 / scale, 2 * top)) + 1, shape[0])
    x[np.arange(shape[0]), rng.integers(0, shape[1], shape[0])] += above
    return x


def _ties(rng: np.random.Generator, shape: tuple[int, int], *, scale: float, top: int) -> Array:
    """Few different logits, so that many are the same, also the largest."""
    far = np.ceil(min(8 / scale, top))
    steps = np.rint(rng.uniform(-far, far, (shape[0], 3)))
    return np.take_along_axis(steps, rng.integers(0, 3, shape), axis=1)


def _equal(rng: np.random.Generator, shape: tuple[int, int], *, scale: float, top: int) -> Array:
    return np.broadcast_to(rng.integers(-top - 1, top + 1, (shape[0], 1)), shape)


def _extremes(rng: np.random.Generator, shape: tuple[int, int], *, scale: float, top: int) -> Array:
    """The least and the largest code, and those beside them."""
    ends = np.array([-top - 1, -top, top - 1, top])
    return ends[rng.integers(0, 4, shape)]


DISTRIBUTIONS: dict[str, Callable[..., Array]] = {
    "gaussian 0.25": _gaussian(0.25),
    "gaussian 1": _gaussian(1.0),
    "gaussian 3": _gaussian(3.0),
    "gaussian 10": _gaussian(10.0),
    "one-hot": _one_hot,
    "ties": _ties,
    "all equal": _equal,
    "extremes": _extremes,
}
"""How rows of logits are drawn."""


def rows_of(
    rows: int, *, seed: int, input: str = "int8", scale: float, distribution: str | None = None
) -> Iterator[Array]:
    """``rows`` rows of codes in chunks of one length each, 1 to 1024; short ones more often.

    ``distribution``: one of :data:`DISTRIBUTIONS`; by default each in turn.
    """
    rng = np.random.default_rng(seed)
    names = list(DISTRIBUTIONS) if distribution is None else [distribution]
    top = LIMITS[input]
    lengths = [1, 2, 3, 4, 64, 512, LONGEST - 1, LONGEST]
    chunk, most = 0, max(1, rows // 200)
    while rows > 0:
        if chunk < len(lengths) * len(names):
            n = lengths[chunk // len(names)]
        else:
            n = int(2 ** rng.uniform(0, np.log2(LONGEST)))
        count = min(rows, most, max(1, _CHUNK_VALUES // n))
        x = DISTRIBUTIONS[names[chunk % len(names)]](rng, (count, n), scale=scale, top=top)
        yield np.clip(x, -top - 1, top).astype(np.int64)
        rows -= count
        chunk += 1


def errors(
    rows: int = 1_000_000,
    seed: int = 0,
    *,
    input: str = "int8",
    scale: float = 1 / 16,
    distribution: str | None = None,
) -> dict[str, Any]:
    """Compare :func:`intformer.reference.softmax` with float64.

    Returns
    -------
    cases: rows; ``values``: probabilities compared.
    worst_steps: largest distance from the exact value, of which 255 stands for all above.
    correctly_rounded: share of values that are the nearest code.
    """
    tables = exp_tables(scale, d_bits=LIMITS[input].bit_length() + 1)
    worst, wrong, values, cases = 0.0, 0, 0, 0
    for x in rows_of(rows, seed=seed, input=input, scale=scale, distribution=distribution):
        p = reference.softmax(x, exp_table=tables)
        e = np.exp((x - x.max(axis=-1, keepdims=True)) * scale)
        exact = np.minimum(256 * e / e.sum(axis=-1, keepdims=True), 255)
        distance = np.abs(p - exact)
        worst = max(worst, float(distance.max()))
        wrong += int((distance > 0.5 + _TIE).sum())
        values += x.size
        cases += len(x)
    share = 1 - wrong / values
    return {"cases": cases, "values": values, "worst_steps": worst, "correctly_rounded": share}


def compare_with_onnxruntime(
    rows: int = 100_000, seed: int = 0, *, scale: float = 1 / 16
) -> dict[str, Any]:
    """Count the codes in which ``QLinearSoftmax`` (int8) differs from the reference.

    Returns
    -------
    cases: rows; ``values``: codes compared.
    differences: codes that differ; ``largest``: by how much at most.
    ties: of those, the codes whose exact value is midway: theirs is even, ours the upper one.
    theirs_wrong, ours_wrong: codes that are not the nearest to the exact value.

    Raises
    ------
    UserError
        If onnx or onnxruntime is not installed.
    """
    session = _session(scale)
    tables = exp_tables(scale, d_bits=8)
    counts = dict.fromkeys(("cases", "values", "differences", "largest", "ties"), 0)
    counts |= {"theirs_wrong": 0, "ours_wrong": 0}
    for x in rows_of(rows, seed=seed, scale=scale):
        ours = reference.softmax(x, exp_table=tables)
        (codes,) = session.run(None, {"x": x.astype(np.int8)})
        theirs = codes.astype(np.int64) + 128
        e = np.exp((x - x.max(axis=-1, keepdims=True)) * scale)
        exact = np.minimum(256 * e / e.sum(axis=-1, keepdims=True), 255)
        differs = ours != theirs
        counts["cases"] += len(x)
        counts["values"] += x.size
        counts["differences"] += int(differs.sum())
        counts["ties"] += int((differs & (np.abs(exact % 1 - 0.5) < _TIE)).sum())
        counts["largest"] = max(counts["largest"], int(np.abs(ours - theirs).max()))
        for name, p in (("theirs_wrong", theirs), ("ours_wrong", ours)):
            counts[name] += int((np.abs(p - exact) > 0.5 + _TIE).sum())
    return counts


def _session(scale: float) -> Any:
    """ONNX Runtime with one ``QLinearSoftmax``, from int8 to int8 at 1/256 and zero point -128."""
    try:
        onnx, onnxruntime = import_module("onnx"), import_module("onnxruntime")
    except ImportError as error:
        raise UserError(
            f"the comparison with QLinearSoftmax needs onnx and onnxruntime: {error}"
        ) from error
    helper, types = onnx.helper, onnx.TensorProto
    constants = {
        "x_scale": (types.FLOAT, scale),
        "x_zero_point": (types.INT8, 0),
        "y_scale": (types.FLOAT, 1 / 256),
        "y_zero_point": (types.INT8, -128),
    }
    node = helper.make_node(
        "QLinearSoftmax", ["x", *constants], ["y"], domain="com.microsoft", axis=-1, opset=13
    )
    graph = helper.make_graph(
        [node],
        "softmax",
        [helper.make_tensor_value_info("x", types.INT8, ["rows", "n"])],
        [helper.make_tensor_value_info("y", types.INT8, ["rows", "n"])],
        [helper.make_tensor(name, kind, [], [v]) for name, (kind, v) in constants.items()],
    )
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    return onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
