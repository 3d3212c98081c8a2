"""A signed multiplier of up to 18 x 18 bits with all its registers: a DSP block, or its twin."""

from __future__ import annotations

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from intformer.hw.parts.gowin_mult import gowin_product

__all__ = ["TARGETS", "Mul18"]

TARGETS = (None, "ecp5", "ice40", "gowin")
"""Families with primitives; ``None`` is the behavioural twin, which any tool can map."""


class Mul18(wiring.Component):
    """``a * b``, signed, with operand, pipeline and output registers; a result every cycle.

    Parameters
    ----------
    a_bits, b_bits: widths of the operands, 2 to 18.
    target: ``"ecp5"`` makes one MULT18X18D, ``"gowin"`` one MULT9X9 or MULT18X18. Otherwise the
        same registers around a ``*``. The clock is that of ``sync``; nothing is reset.

    Members
    -------
    a, b: ``In``, signed.
    p: ``Out``, signed, ``a_bits + b_bits`` wide; :attr:`latency` cycles later.

    Notes
    -----
    The registers of MULT18X18D are those of Lattice's "ECP5 and ECP5-5G sysDSP Usage Guide"
    (FPGA-TN-02205): input registers A and B, pipeline and output register, all on CLK0 with
    CE0 tied high. What follows it ought to be a register: the block answers late in the cycle.
    """

    latency = 3
    """Cycles from operands to product."""

    def __init__(self, *, a_bits: int, b_bits: int, target: str | None = None) -> None:
        for name, bits in (("a_bits", a_bits), ("b_bits", b_bits)):
            if not 2 <= bits <= 18:
                raise ValueError(f"{name} must be from 2 to 18, not {bits!r}")
        if target not in TARGETS:
            raise ValueError(f"target must be one of {TARGETS}, not {target!r}")
        self._target = target
        super().__init__(
            {
                "a": In(signed(a_bits)),
                "b": In(signed(b_bits)),
                "p": Out(signed(a_bits + b_bits)),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        if self._target == "ecp5":
            m.d.comb += self.p.eq(_mult18x18d(m, self.a, self.b))
        elif self._target == "gowin":
            m.d.comb += self.p.eq(gowin_product(m, self.a, self.b))
        else:
            a = Signal.like(self.a, reset_less=True)
            b = Signal.like(self.b, reset_less=True)
            product = Signal.like(self.p, reset_less=True)
            output = Signal.like(self.p, reset_less=True)
            m.d.sync += [a.eq(self.a), b.eq(self.b), product.eq(a * b), output.eq(product)]
            m.d.comb += self.p.eq(output)
        return m


def _mult18x18d(m: Module, a: Value, b: Value) -> Value:
    """One MULT18X18D; its ports are single bits."""
    product = Signal(36)
    ports: dict[str, Value] = {
        "i_CLK0": ClockSignal(),
        "i_CE0": Const(1),
        "i_RST0": Const(0),
        "i_SIGNEDA": Const(1),
        "i_SIGNEDB": Const(1),
        "i_SOURCEA": Const(0),
        "i_SOURCEB": Const(0),
    }
    # At the top of the ports: constant zeros need no wires, copies of a sign would.
    for name, value in (("A", a), ("B", b)):
        wide = Cat(Const(0, 18 - len(value)), value)
        ports |= {f"i_{name}{index}": wide[index] for index in range(18)}
    ports |= {f"o_P{index}": product[index] for index in range(36)}
    clocks = {
        f"p_REG_{register}_{what}": f"{what}0"
        for register in ("INPUTA", "INPUTB", "PIPELINE", "OUTPUT")
        for what in ("CLK", "CE", "RST")
    }
    m.submodules.mult18x18d = Instance("MULT18X18D", **clocks, **ports)
    return product[36 - len(a) - len(b) :].as_signed()
