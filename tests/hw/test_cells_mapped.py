"""Memories and products that yosys maps to DP16KD and MULT18X18D: the netlist equals the RTL."""

from __future__ import annotations

import random
import re

import cocotb
from amaranth.hdl import Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from cocotb.triggers import FallingEdge
from streams import start

from intformer.fpga.devices import device
from intformer.fpga.netlist import Netlist, netlist_of
from intformer.hw import verilog
from intformer.sim.cells.models import cell_models
from intformer.sim.runner import bench_options, run_bench

# Width, depth, bits per write enable.
DUAL = {
    "bits": (1, 16384, 1),
    "pairs": (2, 8192, 2),
    "nibbles": (4, 4096, 4),
    "bytes": (9, 2048, 9),
    "words": (18, 1024, 9),
    "long": (36, 512, 9),
    "plain": (16, 1024, 16),
    "two_blocks": (32, 1024, 8),
    "deep": (8, 4096, 8),
}
SINGLE = ("no_change", "old", "new")
# Width and depth of memories with a register behind them.
FOLDED = {"nibbles": (4, 4096), "words": (18, 1024), "long": (36, 512), "two_blocks": (32, 1024)}
# The same, but the register must stay where it is: (enable, reset, other use of the output).
UNFOLDED = {"enabled": (1, 0, 0), "reset": (0, 1, 0), "used": (0, 0, 1)}


class Memories(wiring.Component):
    """Memories of many shapes on the same inputs; each reads at ``raddr`` and writes at ``waddr``.

    The single-port ones of :data:`SINGLE` do both at ``waddr``; the name says what a write shows.
    """

    def __init__(self) -> None:
        outputs = {f"{name}_o": Out(shape[0]) for name, shape in DUAL.items()}
        outputs |= {f"{name}_o": Out(18) for name in SINGLE} | {
            "rom_o": Out(18),
            "product_o": Out(36),
        }
        outputs |= {f"folded_{name}_o": Out(shape[0]) for name, shape in FOLDED.items()}
        outputs |= {f"unfolded_{name}_o": Out(18) for name in UNFOLDED}
        super().__init__(
            {"waddr": In(14), "raddr": In(14), "data": In(36), "enable": In(4), "read": In(1)}
            | outputs
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        rng = random.Random(5)
        for name, (width, depth, granularity) in DUAL.items():
            init = [rng.getrandbits(width) for _ in range(depth)]
            m.submodules[name] = memory = Memory(shape=width, depth=depth, init=init)
            whole = granularity == width
            write = memory.write_port(granularity=None if whole else granularity)
            read = memory.read_port()
            m.d.comb += [
                write.addr.eq(self.waddr),
                write.data.eq(self.data),
                write.en.eq(self.enable),
                read.addr.eq(self.raddr),
                read.en.eq(self.read),
                getattr(self, f"{name}_o").eq(read.data),
            ]
        for name in SINGLE:
            m.submodules[name] = memory = Memory(shape=18, depth=1024, init=[])
            write = memory.write_port()
            read = memory.read_port(transparent_for=(write,) if name == "new" else ())
            m.d.comb += [
                write.addr.eq(self.waddr),
                write.data.eq(self.data),
                write.en.eq(self.enable[0]),
                read.addr.eq(self.waddr),
                read.en.eq(self.read & ~self.enable[0] if name == "no_change" else 1),
                getattr(self, f"{name}_o").eq(read.data),
            ]
        for name, (width, depth) in FOLDED.items():
            register = Signal(width, reset_less=True)
            m.d.sync += register.eq(self._stored(m, f"folded_{name}", width, depth))
            m.d.comb += getattr(self, f"folded_{name}_o").eq(register)
        for name, (enabled, reset, used) in UNFOLDED.items():
            word = self._stored(m, f"unfolded_{name}", 18, 1024)
            register = Signal(18, reset_less=not reset)
            with m.If(self.read | Const(not enabled)):
                m.d.sync += register.eq(word)
            m.d.comb += getattr(self, f"unfolded_{name}_o").eq(register ^ Mux(used, word, 0))
        init = [rng.getrandbits(18) for _ in range(1024)]
        m.submodules.rom = rom = Memory(shape=18, depth=1024, init=init)
        port = rom.read_port()
        m.d.comb += [port.addr.eq(self.raddr), port.en.eq(self.read), self.rom_o.eq(port.data)]
        a, b = Signal(signed(18)), Signal(signed(18))
        m.d.sync += [
            a.eq(self.data[:18]),
            b.eq(self.data[18:]),
            self.product_o.eq(a * b),
        ]
        return m

    def _stored(self, m: Module, name: str, width: int, depth: int) -> Signal:
        """The output of a memory that is read in every cycle, but never where it is written."""
        attrs = {"no_rw_check": 1}
        m.submodules[name] = memory = Memory(shape=width, depth=depth, init=[], attrs=attrs)
        write, read = memory.write_port(), memory.read_port(domain="comb")
        answer = Signal(width, reset_less=True)
        m.d.sync += answer.eq(read.data)
        m.d.comb += [
            write.addr.eq(self.waddr),
            write.data.eq(self.data),
            write.en.eq(self.enable[0] & (write.addr != read.addr)),
            read.addr.eq(self.raddr),
        ]
        return answer


def netlist() -> Netlist:
    return netlist_of(
        Memories(), name="gates", device=device("LFE5U-25F"), progress=lambda _line: None
    )


def both(gates: Netlist) -> str:
    """The netlist and the RTL with the same inputs; ``differs`` has a bit per output."""
    component = Memories()
    inputs, outputs = {}, {}
    for name, member in component.signature.members.items():
        (inputs if member.flow is In else outputs)[name] = member.shape
    ports = [f"input [{bits - 1}:0] {name}" for name, bits in inputs.items()]
    same = [f".{name}({name})" for name in ("clk", "rst", *inputs)]
    lines = [f"  wire [{bits - 1}:0] {o}_rtl, {o}_gates;" for o, bits in outputs.items()]
    for kind in ("rtl", "gates"):
        wired = ", ".join([*same, *(f".{o}({o}_{kind})" for o in outputs)])
        lines.append(f"  {kind} {kind}_part({wired});")
    for k, o in enumerate(outputs):
        lines.append(f"  assign differs[{k}] = {o}_rtl !== {o}_gates;")
        lines.append(f"  assign active[{k}] = ^{o}_rtl;")
    head = f"module dut(input clk, input rst, {', '.join(ports)}, "
    head += f"output [{len(outputs) - 1}:0] differs, output [{len(outputs) - 1}:0] active);"
    models = "\n".join(cell_models("ecp5").values())
    rtl = verilog.emit(component, name="rtl")
    return "\n".join([models, gates.verilog, rtl, head, *lines, "endmodule\n"])


@cocotb.test()
async def netlist_equals_rtl(dut):
    options = bench_options()
    rng = random.Random(options["seed"])
    await start(dut, inputs=dict.fromkeys(("waddr", "raddr", "data", "enable", "read"), 0))
    addresses = [rng.getrandbits(14) for _ in range(16)]
    moving = 0
    for cycle in range(options["cycles"]):
        if cycle % 300 == 0:
            addresses = [rng.getrandbits(14) for _ in range(16)]
        dut.waddr.value, dut.raddr.value = rng.choices(addresses, k=2)
        dut.data.value, dut.read.value = rng.getrandbits(36), rng.random() < 0.8
        dut.enable.value = rng.choice([0, 0, 15, rng.getrandbits(4)])
        await FallingEdge(dut.clk)
        moving |= dut.active.value.to_unsigned()
        differs = dut.differs.value
        if cycle > 2:
            assert differs.is_resolvable and differs.to_unsigned() == 0, (cycle, str(differs))
    assert moving == (1 << len(dut.active)) - 1, "an output never moved"


def test_netlist_equals_rtl():
    run_bench(
        both(netlist()),
        module="test_cells_mapped",
        testcase="netlist_equals_rtl",
        options={"cycles": 2000},
        seed=4,
    )


def test_every_width_is_there():
    """What yosys makes of the memories: all widths that the mapping knows, and the write modes."""
    text = netlist().verilog
    found = {int(width) for width in re.findall(r"\.DATA_WIDTH_[AB]\(32'[sd]+(\d+)\)", text)}
    assert found == {1, 2, 4, 9, 18, 36}
    for mode in ("NORMAL", "WRITETHROUGH", "READBEFOREWRITE"):
        assert f'"{mode}"' in text


def test_output_registers_are_folded():
    """Registers go into the blocks exactly where nothing else needs what they hide."""
    modes: dict[str, set[str]] = {}
    for cell in re.split(r"\bDP16KD #", netlist().verilog)[1:]:
        name = re.search(r"\) \\?(\w+?)\.", cell)
        assert name
        modes.setdefault(name[1], set()).update(re.findall(r'REGMODE_[AB]\("(\w+)', cell))
    for name in FOLDED:
        assert "OUTREG" in modes[f"folded_{name}"], name
    assert modes["folded_long"] == {"OUTREG"}  # one read takes the pins of both sides
    plain = [*DUAL, *SINGLE, *(f"unfolded_{name}" for name in UNFOLDED)]
    assert all(modes[name] == {"NOREG"} for name in plain)
