"""DP16KD in Python, bit by bit: an oracle for its Verilog model, written apart from that."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Dp16kd", "PortInputs"]

Bit = int | None  # None: unknown


@dataclass
class PortInputs:
    """What the pins of one port say at a clock edge."""

    address: int
    data: int  # 36 bits on the write port of a pseudo dual port
    enable: bool
    write: bool
    output_enable: bool = True
    reset: bool = False


@dataclass
class Dp16kd:
    """Ports are 0 (A) and 1 (B).

    ``bits`` holds 2,048 bytes of nine bits each, the lowest byte and bit first.
    """

    widths: tuple[int, int]
    modes: tuple[str, str] = ("NORMAL", "NORMAL")
    output_registers: tuple[bool, bool] = (False, False)
    bits: list[Bit] = field(default_factory=lambda: [0] * 18432)

    def __post_init__(self) -> None:
        self.latches: list[list[Bit]] = [[0] * width for width in self.widths]
        self.registers: list[list[Bit]] = [[0] * width for width in self.widths]

    def places(self, port: int, address: int) -> list[int]:
        """The memory's bits that a port of this width has at ``address``."""
        width = self.widths[port]
        if width < 9:
            first = address // width * width
            return [first // 8 * 9 + first % 8 + k for k in range(width)]
        first = address // 8 // (width // 9) * width
        return list(range(first, first + width))

    def enabled(self, port: int, inputs: PortInputs) -> list[int]:
        """Indices into :meth:`places` that a write touches."""
        width = self.widths[port]
        if width < 18:
            return list(range(width))
        return [k for k in range(width) if inputs.address >> (k // 9) & 1]

    def edge(self, ports: tuple[PortInputs, PortInputs]) -> None:
        """One clock edge at both ports."""
        old = list(self.bits)
        written: list[dict[int, int]] = [{}, {}]
        for port, inputs in enumerate(ports):
            if inputs.enable and inputs.write:
                places = self.places(port, inputs.address)
                for k in self.enabled(port, inputs):
                    written[port][places[k]] = inputs.data >> k & 1
        for port, inputs in enumerate(ports):
            if inputs.output_enable:
                self.registers[port] = list(self.latches[port])
            other = written[1 - port]
            writes = inputs.enable and inputs.write
            if inputs.reset:
                self.latches[port] = [0] * self.widths[port]
            elif inputs.enable and not (writes and self.modes[port] == "NORMAL"):
                through = written[port] if self.modes[port] == "WRITETHROUGH" else {}
                self.latches[port] = [
                    None if place in other else through.get(place, old[place])
                    for place in self.places(port, inputs.address)
                ]
        for place in written[0].keys() | written[1].keys():
            both = place in written[0] and place in written[1]
            self.bits[place] = None if both else (written[0] | written[1])[place]

    def output(self, port: int) -> list[Bit]:
        """What the port shows, the lowest bit first."""
        return (self.registers if self.output_registers[port] else self.latches)[port]
