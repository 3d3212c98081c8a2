"""Block RAM output registers: what yosys leaves in the fabric goes into the block.

A DP16KD of the ECP5 answers in about 6 ns from its latch, in about 1 ns from the register behind
it (FPGA-TN-02204, REGMODE). yosys maps no register there, so that a design which has one behind
every read port still waits for the latch.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

__all__ = ["fold_output_registers"]

_RAM, _REGISTER = "DP16KD", "TRELLIS_FF"
_WIDE = 36
"""Width of a port that takes the pins of both sides: side A writes, and the read is side B's."""

_Cell = dict[str, Any]


def fold_output_registers(netlist: Path, *, top: str) -> int:
    """Move registers behind block RAMs of a yosys JSON netlist into them, in place.

    Each side of a block is folded for itself: if every output of it that is used goes to one
    register and nowhere else, and those registers have its clock, no enable and no reset. The
    netlist computes the same as before.

    Returns
    -------
    int
        The number of registers that are gone.
    """
    content = json.loads(netlist.read_text())
    module = content["modules"][top]
    cells: dict[str, _Cell] = module["cells"]
    loads = _loads(module)
    gone: list[str] = []
    for ram in [cell for cell in cells.values() if cell["type"] == _RAM]:
        for sides in _sides(ram):
            gone += _fold(ram, sides, cells, loads)
    for name in gone:
        del cells[name]
    if gone:
        netlist.write_text(json.dumps(content))
    return len(gone)


def _loads(module: dict[str, Any]) -> dict[int, list[tuple[str, str]]]:
    """Cell and port of everything that reads a bit; ports of the module are named ``""``."""
    loads = defaultdict(list)
    for name, cell in module["cells"].items():
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] != "output":
                for bit in bits:
                    loads[bit].append((name, port))
    for port in module["ports"].values():
        if port["direction"] != "input":
            for bit in port["bits"]:
                loads[bit].append(("", ""))
    return loads


def _sides(ram: _Cell) -> tuple[str, ...]:
    """The sides whose outputs are folded together: each, or both of a wide block."""
    width = int(ram["parameters"]["DATA_WIDTH_A"], 2)
    return ("AB",) if width == _WIDE else ("A", "B")


def _fold(
    ram: _Cell, sides: str, cells: dict[str, _Cell], loads: dict[int, list[tuple[str, str]]]
) -> list[str]:
    """Take the registers behind ``sides`` into ``ram`` if all allow it; return their names."""
    parameters, pins = ram["parameters"], ram["connections"]
    clocks = [pins[f"CLK{side}"] for side in sides]
    if any(
        parameters.get(f"REGMODE_{side}", "NOREG") != "NOREG"
        or parameters.get(f"CLK{side}MUX") != f"CLK{side}"
        or pins[f"RST{side}"] != ["0"]
        or pins[f"CLK{side}"] != clocks[0]
        for side in sides
    ):
        return []
    found: dict[str, str] = {}
    for pin in (pin for pin in pins if pin[:3] in {f"DO{side}" for side in sides}):
        for bit in pins[pin]:
            readers = loads.get(bit, [])
            if not isinstance(bit, int) or not readers:
                continue
            (name, port), *others = readers
            register = cells.get(name, {})
            if others or not _plain(register, port, clocks[0]) or name in found.values():
                return []
            found[pin] = name
    if not found:
        return []
    for pin, name in found.items():
        pins[pin] = cells[name]["connections"]["Q"]
    for side in sides:
        parameters[f"REGMODE_{side}"] = "OUTREG"
        pins[f"OCE{side}"] = ["1"]
    return list(found.values())


def _plain(register: _Cell, port: str, clock: list[int]) -> bool:
    """Whether a cell is a register that a block RAM has: without enable, without reset."""
    if register.get("type") != _REGISTER or port not in ("DI", "M"):
        return False
    parameters, pins = register["parameters"], register["connections"]
    enable = parameters.get("CEMUX", "CE").strip()  # yosys pads strings that look like numbers
    return (
        pins["CLK"] == clock
        and parameters.get("CLKMUX", "CLK") == "CLK"
        and (enable == "1" or (enable == "CE" and pins.get("CE") == ["1"]))
        and pins.get("LSR", ["0"]) == ["0"]
        and parameters.get("LSRMUX", "LSR") == "LSR"
        and parameters.get("REGSET", "RESET") == "RESET"
        and not int(register["attributes"].get("keep", "0"), 2)
    )
