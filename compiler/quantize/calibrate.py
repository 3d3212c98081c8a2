"""Calibration: what every value of a float graph looks like over sample data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer.compiler import graph as fg
from intformer.compiler.float_eval import evaluate, keep_mask
from intformer.errors import UserError

__all__ = ["ROWS_MAX", "Ranges", "Tokens", "calibrate", "static_operands"]

Array = NDArray[Any]

ROWS_MAX = 16384
"""Samples are kept until a value has this many rows."""


class Ranges:
    """What was seen of each float value.

    Attributes
    ----------
    all: smallest and largest value.
    kept: the same over the elements that a softmax's mask keeps, for its input.
    channels: for inputs of static products, smallest and largest value of each channel.
    rows: for the same, rows of the first runs ``[rows, channels]`` (if asked for).
    runs: how many runs were seen.
    samples: the inputs of the runs that ``rows`` comes from.
    """

    def __init__(self) -> None:
        self.all: dict[str, tuple[float, float]] = {}
        self.kept: dict[str, tuple[float, float]] = {}
        self.channels: dict[str, tuple[Array, Array]] = {}
        self.rows: dict[str, list[Array]] = {}
        self.runs = 0
        self.samples: list[dict[str, Array]] = []

    def see(self, store: dict[str, tuple[float, float]], name: str, array: Array) -> None:
        """Widen the range of ``name`` in ``store`` to hold ``array``."""
        if not array.size:
            return
        low, high = float(array.min()), float(array.max())
        if not np.isfinite([low, high]).all():
            raise UserError(f"calibration makes {name!r} infinite or not a number")
        if name in store:
            low, high = min(low, store[name][0]), max(high, store[name][1])
        store[name] = (low, high)

    def forget_rows(self) -> None:
        """Drop the samples."""
        self.rows, self.samples = {}, []

    def see_channels(self, name: str, rows: Array) -> None:
        """Widen the ranges of the channels of ``name`` to hold ``rows``."""
        if not len(rows):
            return
        low, high = rows.min(axis=0), rows.max(axis=0)
        if name in self.channels:
            low = np.minimum(low, self.channels[name][0])
            high = np.maximum(high, self.channels[name][1])
        self.channels[name] = (low, high)


class Tokens:
    """Which rows of a graph's values belong to tokens, and which to padding.

    An input ``[batch, tokens]`` that masks a softmax tells, a boolean one or integers of which 0
    stands for padding; of values ``[batch, ..., tokens, channels]``, rows where it is false do not
    count. Without such an input (or with several) all rows count.
    """

    def __init__(self, graph: fg.Graph) -> None:
        makers = graph.producers()
        found = set()
        for node in graph.nodes:
            if isinstance(node, fg.Softmax) and len(node.inputs) > 1:
                name = node.inputs[1]
                while name in makers and (
                    isinstance(makers[name], fg.View) or _is_not_zero(makers[name])
                ):
                    name = makers[name].inputs[0]
                found.add(name)
        masks = [n for n in found if n in graph.inputs and len(graph.values[n].shape) == 2]
        self.mask = masks[0] if len(masks) == len(found) == 1 else None

    def rows(self, array: Array, inputs: dict[str, Array]) -> Array:
        """``array`` as rows ``[n, channels]``, without those of padding."""
        if self.mask is not None:
            keep = np.asarray(inputs[self.mask], bool)
            batch, length = keep.shape
            if array.ndim >= 3 and array.shape[0] == batch and array.shape[-2] == length:
                keep = keep.reshape(batch, *(1,) * (array.ndim - 3), length)
                return array[np.broadcast_to(keep, array.shape[:-1])]
        return array.reshape(-1, array.shape[-1]) if array.ndim else array.reshape(1, 1)


def _is_not_zero(node: fg.Node) -> bool:
    return isinstance(node, fg.Compare) and (node.kind, node.number) == ("ne", 0)


def static_operands(graph: fg.Graph) -> dict[str, list[fg.MatMul]]:
    """The first inputs of products with constant matrices, and these products."""
    result: dict[str, list[fg.MatMul]] = {}
    for node in graph.nodes:
        if isinstance(node, fg.MatMul) and graph.values[node.inputs[1]].const is not None:
            result.setdefault(node.inputs[0], []).append(node)
    return result


def calibrate(
    graph: fg.Graph, samples: Iterable[dict[str, Array]], *, rows: bool = False
) -> Ranges:
    """Run ``graph`` on every sample and record the ranges, and ``rows`` if asked for."""
    ranges, tokens = Ranges(), Tokens(graph)
    operands = static_operands(graph)
    views = {node.output for node in graph.nodes if isinstance(node, fg.View)}
    for inputs in samples:
        values = evaluate(graph, inputs)
        ranges.runs += 1
        for name, array in values.items():
            if graph.values[name].kind == "float":
                whole = name in views or graph.values[name].const is not None
                ranges.see(ranges.all, name, array if whole else tokens.rows(array, inputs))
        for node in graph.nodes:
            if isinstance(node, fg.Softmax):
                scores = values[node.inputs[0]]
                mask = values[node.inputs[1]] if len(node.inputs) > 1 else None
                keep = keep_mask(node, scores.shape, mask)
                if len(scores) and tokens.mask is not None:
                    scores = tokens.rows(scores, inputs)
                    keep = tokens.rows(keep, inputs)
                ranges.see(ranges.kept, node.inputs[0], scores[keep])
        parts = {name: tokens.rows(values[name], inputs) for name in operands}
        for name, part in parts.items():
            ranges.see_channels(name, part)
        most = max((sum(map(len, r)) for r in ranges.rows.values()), default=0)
        if rows and most < ROWS_MAX:
            ranges.samples.append(inputs)
            for name, part in parts.items():
                ranges.rows.setdefault(name, []).append(part.copy())
    return ranges
