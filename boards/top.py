"""The pads around a :class:`~intformer.boards.system.System`, on the board and in simulation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from amaranth.hdl import Elaboratable, Module
from amaranth.lib import io, wiring
from amaranth.lib.wiring import In, Out

from intformer.boards.board import FlashMemory, SdramMemory
from intformer.boards.pll import add_clock
from intformer.boards.system import System

__all__ = ["BoardTop", "VirtualTop"]

_SDRAM_OUTPUTS = ("clk_en", "cs", "ras", "cas", "we", "ba", "a", "dqm")


def sdram_pads(m: Module, pins: Any, ports: Mapping[str, io.PortLike]) -> None:
    """Connect SDRAM pins to ``ports`` through registers in the pads.

    A port that is not there is tied on the board.
    """
    for name in _SDRAM_OUTPUTS:
        if name in ports:
            m.submodules[f"pad_{name}"] = pad = io.FFBuffer("o", ports[name])
            m.d.comb += pad.o.eq(getattr(pins, name))
    m.submodules.pad_dq = dq = io.FFBuffer("io", ports["dq"])
    m.d.comb += [dq.o.eq(pins.dq_o), dq.oe.eq(pins.dq_oe), pins.dq_i.eq(dq.i)]


def flash_pads(m: Module, pins: Any, ports: Mapping[str, io.PortLike]) -> None:
    """Connect flash pins to ``ports``, without registers."""
    for name in ("cs", "clk"):
        m.submodules[f"pad_{name}"] = pad = io.Buffer("o", ports[name])
        m.d.comb += pad.o.eq(getattr(pins, name))
    for k in range(4):
        m.submodules[f"pad_dq_{k}"] = dq = io.Buffer("io", ports["dq"][k])
        m.d.comb += [dq.o.eq(pins.dq_o[k]), dq.oe.eq(pins.dq_oe[k]), pins.dq_i[k].eq(dq.i)]


def sdram_ports(memory: SdramMemory) -> dict[str, tuple[str, int]]:
    """Name, direction and width of the pins of an SDRAM, but its clock."""
    widths = {"ba": 2, "a": memory.chip.row_bits, "dqm": memory.chip.data_bits // 8}
    outputs = {name: ("o", widths.get(name, 1)) for name in _SDRAM_OUTPUTS}
    return outputs | {"dq": ("io", memory.chip.data_bits)}


def flash_ports(_memory: FlashMemory) -> dict[str, tuple[str, int]]:
    """Name, direction and width of the pins of a flash."""
    return {"cs": ("o", 1), "clk": ("o", 1), "dq": ("io", 4)}


class BoardTop(Elaboratable):
    """A system with its clock and its pads, for an Amaranth platform.

    Parameters
    ----------
    system: with the ``target`` of its board's device.
    """

    def __init__(self, system: System) -> None:
        self._system = system

    def elaborate(self, platform: Any) -> Module:
        board = self._system.board
        m = Module()
        add_clock(
            m,
            platform.request(platform.default_clk, dir="-"),
            target=board.device.target,
            device=getattr(platform, "family", board.device.name),
            settings=board.pll,
        )
        m.submodules.system = system = self._system
        uart = platform.request(*board.uart, dir="-")
        m.submodules.pad_rx = rx = io.Buffer("i", uart.rx)
        m.submodules.pad_tx = tx = io.Buffer("o", uart.tx)
        m.d.comb += [system.rx.eq(rx.i), tx.o.eq(system.tx)]
        if board.led:
            name, number, part = board.led
            led = platform.request(name, number, dir="-")
            m.submodules.pad_led = pad = io.Buffer("o", getattr(led, part) if part else led)
            m.d.comb += pad.o.eq(system.busy)
        memory = board.memory
        if isinstance(memory, SdramMemory):
            pads = platform.request(*memory.resource, dir="-")
            names = [name for name in sdram_ports(memory) if name not in memory.tied]
            ports = {name: getattr(pads, name) for name in names}
            sdram_pads(m, system.pins, ports)
            # The chip's clock rises in the middle of the core's cycle.
            m.submodules.pad_clk = clk = io.DDRBuffer("o", pads.clk)
            m.d.comb += [clk.o[0].eq(0), clk.o[1].eq(1)]
        elif isinstance(memory, FlashMemory):
            pads = platform.request(*memory.resource, dir="-")
            flash_pads(m, system.pins, {name: getattr(pads, name) for name in ("cs", "clk", "dq")})
        return m


class VirtualTop(wiring.Component):
    """A system with simulated pads: the same registers, no vendor's primitives.

    Members
    -------
    rx, tx, busy: as the system's.
    NAME_o, NAME_oe, NAME_i: of every pin of the memory, ``oe`` and ``i`` for those in both
        directions. Active high.
    """

    def __init__(self, system: System) -> None:
        self._system = system
        self._pins: dict[str, tuple[str, int]] = {}
        members = {"rx": In(1), "tx": Out(1, init=1), "busy": Out(1)}
        memory = system.board.memory
        if isinstance(memory, SdramMemory):
            self._pins = sdram_ports(memory)
        elif isinstance(memory, FlashMemory):
            self._pins = flash_ports(memory)
        for name, (direction, width) in self._pins.items():
            members[f"{name}_o"] = Out(width)
            if direction == "io":
                members |= {f"{name}_oe": Out(width), f"{name}_i": In(width)}
        super().__init__(members)

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        m.submodules.system = system = self._system
        m.d.comb += [system.rx.eq(self.rx), self.tx.eq(system.tx), self.busy.eq(system.busy)]
        ports = {}
        for name, (direction, width) in self._pins.items():
            ports[name] = port = io.SimulationPort(direction, width, name=name)
            m.d.comb += getattr(self, f"{name}_o").eq(port.o)
            if direction == "io":
                m.d.comb += [
                    getattr(self, f"{name}_oe").eq(port.oe),
                    port.i.eq(getattr(self, f"{name}_i")),
                ]
        if isinstance(system.board.memory, SdramMemory):
            sdram_pads(m, system.pins, ports)
        elif isinstance(system.board.memory, FlashMemory):
            flash_pads(m, system.pins, ports)
        return m
