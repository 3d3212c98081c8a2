"""Calibration: the range of every value of a float graph over sample data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from intformer.compiler import graph as fg
from intformer.compiler.float_eval import evaluate, keep_mask
from intformer.errors import UserError

__all__ = ["Ranges", "calibrate"]

Array = NDArray[Any]


class Ranges:
    """Smallest and largest value seen, for each float value.

    ``kept`` has the range over the elements that a softmax's mask keeps, for its input.
    """

    def __init__(self) -> None:
        self.all: dict[str, tuple[float, float]] = {}
        self.kept: dict[str, tuple[float, float]] = {}
        self.runs = 0

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


def calibrate(graph: fg.Graph, samples: Iterable[dict[str, Array]]) -> Ranges:
    """Run ``graph`` on every sample and record the ranges."""
    ranges = Ranges()
    for inputs in samples:
        values = evaluate(graph, inputs)
        ranges.runs += 1
        for name, array in values.items():
            if graph.values[name].kind == "float":
                ranges.see(ranges.all, name, array)
        for node in graph.nodes:
            if isinstance(node, fg.Softmax):
                scores = values[node.inputs[0]]
                mask = values[node.inputs[1]] if len(node.inputs) > 1 else None
                kept = scores[keep_mask(node, scores.shape, mask)]
                ranges.see(ranges.kept, node.inputs[0], kept)
    return ranges
