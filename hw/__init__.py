"""Hardware: the core and its parts, and the arithmetic units for any design.

The public units can be imported from here: ``from intformer.hw import TableFunction``.
"""

from importlib import import_module
from typing import Any

_UNITS = {
    "ArgMax": "reduction",
    "ElementwiseAdd": "elementwise",
    "ElementwiseMultiply": "elementwise",
    "GroupScale": "group_scale",
    "LayerNorm": "norm",
    "RMSNorm": "norm",
    "Requantize": "requantize",
    "RotaryEmbedding": "rotary",
    "RowMaximum": "reduction",
    "RowScale": "row_scale",
    "Softmax": "softmax",
    "SystolicArray": "systolic_array",
    "TableFunction": "table",
}

__all__ = list(_UNITS)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _UNITS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.units.{_UNITS[name]}"), name)
