"""A component between registers, so that it can be placed alone with few pins."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = [
    "PORTS",
    "PREFIX",
    "Harness",
    "HarnessShare",
    "count_flip_flops",
    "harness_share",
]

PORTS = ("clk", "rst", "shift_in", "folded")
"""The pins of a component in its harness."""

_GROUP = 4
"""Bits combined between two registers on the way out."""
PREFIX = "harness_"
"""Names of the harness's registers begin so; in the netlist its share is known by them."""
_FLIP_FLOP = ("TRELLIS_FF", "SB_DFF", "DFF")
_FEEDS = ("LUT1", "LUT2", "LUT3", "LUT4", "SB_LUT4", "ALU")
"""Cells that share a place with the flip-flop that they alone feed."""


class Harness(wiring.Component):
    """``component`` with its inputs from a shift register and its outputs folded into one pin.

    Every input bit comes from a register of its own; every output bit goes to a register, and
    from there through a registered XOR tree. Nothing of the component can be optimized away, and
    no path through the harness is as long as the component's own. What the harness adds: two
    registers per input bit, about one and a third registers and a third of a LUT per output bit.
    :func:`harness_share` counts it in a netlist.

    Parameters
    ----------
    component: anything with a signature; its clock and reset are those of the ``sync`` domain.

    Members
    -------
    shift_in: ``In(1)``; a new bit for the shift register in every cycle.
    folded: ``Out(1)``; the XOR of all outputs.
    """

    def __init__(self, component: wiring.Component) -> None:
        self._component = component
        super().__init__({"shift_in": In(1), "folded": Out(1)})
        self._inputs: list[Value] = []
        self._outputs: list[Value] = []
        for _path, member, value in component.signature.flatten(component):
            side = self._outputs if member.flow == Out else self._inputs
            side.append(Value.cast(value))

    @property
    def registers(self) -> int:
        """Flip-flops that the harness adds, if none of them is optimized away."""
        width = sum(len(value) for value in self._outputs)
        count = 2 * sum(len(value) for value in self._inputs) + width
        while width > 1:
            width = -(-width // _GROUP)
            count += width
        return count

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.component = self._component
        inputs, outputs = Cat(self._inputs), Cat(self._outputs)
        # Reset, unlike the next: or yosys would merge each bit with its neighbour's.
        chain = _signal(len(inputs), "chain", reset_less=False)
        # Bit by bit: as a vector, yosys' ice40_dsp would take all of it for one multiplier's.
        held = [_signal(1, f"held_{k}") for k in range(len(inputs))]
        level = [_signal(1, f"fold_0_{k}") for k in range(max(len(outputs), 1))]
        m.d.sync += chain.eq(Cat(self.shift_in, chain))
        m.d.sync += [bit.eq(chain[k]) for k, bit in enumerate(held)]
        m.d.sync += [bit.eq(outputs[k]) for k, bit in enumerate(level[: len(outputs)])]
        m.d.comb += inputs.eq(Cat(held))
        number = 0
        while len(level) > 1:
            number += 1
            groups = [Cat(level[k : k + _GROUP]).xor() for k in range(0, len(level), _GROUP)]
            level = [_signal(1, f"fold_{number}_{k}") for k in range(len(groups))]
            m.d.sync += [bit.eq(group) for bit, group in zip(level, groups, strict=True)]
        m.d.comb += self.folded.eq(level[0])
        return m


def _signal(width: int, name: str, *, reset_less: bool = True) -> Signal:
    """A register of the harness; its name survives synthesis."""
    return Signal(width, name=PREFIX + name, reset_less=reset_less, attrs={"keep": 1})


@dataclass(frozen=True, kw_only=True)
class HarnessShare:
    """What of a synthesized netlist is the harness's.

    Attributes
    ----------
    luts: LUTs of the XOR tree.
    flip_flops: registers of the harness.
    lone: those of them that no LUT or adder of their own feeds: on devices whose cells hold a
        LUT and a flip-flop together, each of these takes a cell that does nothing else.
    total_flip_flops: of the netlist, harness included.
    """

    luts: int
    flip_flops: int
    lone: int
    total_flip_flops: int


def harness_share(netlist: Path, *, top: str) -> HarnessShare:
    """Count the harness in the JSON netlist of a component inside one; exact, by names."""
    module = json.loads(netlist.read_text())["modules"][top]
    own = _bits(module, PREFIX)
    tree = _bits(module, f"{PREFIX}fold_")
    cells = module["cells"].values()
    driver: dict[Any, dict[str, Any]] = {}
    loads: dict[Any, int] = {}
    for cell in cells:
        for port, bits in cell["connections"].items():
            is_output = cell["port_directions"].get(port) == "output"
            for bit in bits:
                if is_output:
                    driver[bit] = cell
                else:
                    loads[bit] = loads.get(bit, 0) + 1
    total = mine = lone = luts = 0
    for cell in cells:
        if not cell["type"].startswith(_FLIP_FLOP):
            continue
        total += 1
        (out,) = cell["connections"]["Q"]
        if out not in own:
            continue
        mine += 1
        (data,) = cell["connections"].get("DI") or cell["connections"]["D"]
        feeder = driver.get(data)
        if feeder is None or feeder["type"] not in _FEEDS or loads[data] > 1:
            lone += 1
        elif _is_fold(feeder, tree):
            luts += 1
    return HarnessShare(luts=luts, flip_flops=mine, lone=lone, total_flip_flops=total)


def count_flip_flops(netlist: Path, *, top: str) -> int:
    """Flip-flops in a synthesized netlist."""
    cells = json.loads(netlist.read_text())["modules"][top]["cells"].values()
    return sum(cell["type"].startswith(_FLIP_FLOP) for cell in cells)


def _bits(module: dict[str, Any], prefix: str) -> set[Any]:
    """Bits of the nets of the top level whose names begin with ``prefix``."""
    return {
        bit
        for name, net in module["netnames"].items()
        if name.startswith(prefix) and not net["hide_name"]
        for bit in net["bits"]
    }


def _is_fold(lut: dict[str, Any], tree: set[Any]) -> bool:
    """Whether all inputs of a LUT are registers of the XOR tree."""
    inputs = {
        bit
        for port, bits in lut["connections"].items()
        if lut["port_directions"].get(port) == "input"
        for bit in bits
        if isinstance(bit, int)
    }
    return lut["type"] != "ALU" and bool(inputs) and inputs <= tree
