"""The ONNX frontend: float and QDQ models to the float graph.

No constant of a model is ever executed; operations on constants alone are folded with the
reference implementation that the ``onnx`` package brings.
"""

from __future__ import annotations

from pathlib import Path

from intformer.compiler import graph as fg
from intformer.compiler.frontend.onnx.reader import read_model

__all__ = ["load"]


def load(path: str | Path) -> fg.Graph:
    """Return the float graph of an ONNX model.

    A pair of QuantizeLinear and DequantizeLinear becomes the coding of the value between them
    (:attr:`intformer.compiler.graph.Value.coding`); weights behind a DequantizeLinear keep the
    scale of each row. A symbolic first axis of an input (the batch) becomes 1.

    Raises
    ------
    UnsupportedModel
        The message lists every node that cannot be mapped: operation, node name, why, and what
        would work.
    UserError
        The file cannot be read or checked, ``onnx`` is missing, or quantization parameters are
        contradictory or come from a mask; names the node.
    """
    from intformer.compiler.frontend.onnx.lowering import lower

    graph = lower(read_model(Path(path)))
    graph.meta["model"] = Path(path).stem
    return graph
