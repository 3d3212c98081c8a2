"""Where the multiplier blocks of a systolic array go.

A placer that sees thousands of equal cells finds no array in them: it spreads the blocks over the
device by chance, and the wires between neighbours cross it. So the blocks of a large array get
their places beforehand, and the placer arranges the logic around them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from intformer.fpga.devices import Device

__all__ = ["fix_sites", "floorplan"]

_BLOCK = re.compile(r"^module \\(\S+\.pe_(\d+)_(\d+)\.product\.mul)$", re.MULTILINE)
"""The module around the multiplier block of an element, in RTLIL: its path, row and place in it."""
_CELL = "mult18x18d"
"""Name of the block in that module; absent from an array of behavioural twins."""
_SHARE = 0.5
"""Share of the device's blocks from which on an array is large."""


def floorplan(source: str, *, device: Device, top: str) -> dict[str, str]:
    """Sites for the multiplier blocks of the array in ``source``, by the name of the cell.

    Every column of elements gets a band of the device from top to bottom; there its rows follow
    each other through the strips of blocks, the lower half of them from the bottom up, so that
    the partial sums of both halves meet in the middle. Activations and weights go from band to
    band. The bands stand close from both ends of the strips: blocks that are left for other units
    are together in the middle.

    Parameters
    ----------
    source: RTLIL whose top module is ``top``, with at most one array.
    device: its :attr:`~intformer.fpga.devices.Device.dsp_strips` are the places there are.

    Returns
    -------
    dict
        Cell to site; empty if there is no array with blocks, if it has less than half of the
        device's (the placer does well then) or if its columns are too high.
    """
    blocks = {(int(row), int(place)): path for path, row, place in _BLOCK.findall(source)}
    sites = sum(len(strip) for strip in device.dsp_strips)
    if not sites or len(blocks) < _SHARE * sites or f" \\{_CELL}\n" not in source:
        return {}
    rows, places = (1 + max(position[axis] for position in blocks) for axis in (0, 1))
    heights = _shares(rows, len(device.dsp_strips))
    if any(places * h > len(s) for h, s in zip(heights, device.dsp_strips, strict=True)):
        return {}
    order = [*range(rows - rows // 2), *reversed(range(rows - rows // 2, rows))]
    plan = {}
    for place in range(places):
        above = iter(order)
        for strip, height in zip(device.dsp_strips, heights, strict=True):
            first = height * place
            if place >= places // 2:
                first += len(strip) - height * places
            for site, row in zip(strip[first : first + height], above, strict=False):
                name = blocks[row, place].removeprefix(f"{top}.")
                plan[f"{name}.{_CELL}"] = site
    return plan


def fix_sites(netlist: Path, sites: Mapping[str, str], *, top: str) -> None:
    """Bind the cells of a yosys JSON netlist to their sites, in place.

    Raises
    ------
    KeyError
        If the netlist lacks one of the cells.
    """
    content = json.loads(netlist.read_text())
    cells = content["modules"][top]["cells"]
    for name, site in sites.items():
        cells[name]["attributes"]["BEL"] = site
    netlist.write_text(json.dumps(content))


def _shares(total: int, parts: int) -> list[int]:
    """``total`` in ``parts`` as equal as can be, the middle ones largest."""
    shares = [total // parts] * parts
    by_distance = sorted(range(parts), key=lambda part: abs(2 * part - parts + 1))
    for part in by_distance[: total % parts]:
        shares[part] += 1
    return shares
