"""Transformers on open FPGAs, exact to the last bit.

>>> import intformer
>>> model = intformer.compile("model.pt2", config="16x8", calibrate="data.npz")
>>> model.verify(inputs, levels=("reference", "iss", "rtl"))
>>> model.save("out")
"""

from intformer.api import compile, load, verilog
from intformer.config import CoreConfig, load_config
from intformer.model import CompiledModel

__version__ = "0.1.0"

__all__ = [
    "CompiledModel",
    "CoreConfig",
    "__version__",
    "compile",
    "load",
    "load_config",
    "verilog",
]
