"""Two products of a byte and an int8 each: one SB_MAC16 of the iCE40 UltraPlus, or its twin."""

from __future__ import annotations

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["DualProduct8"]


class DualProduct8(wiring.Component):
    """``a * b0`` and ``a * b1`` for an unsigned byte ``a`` and int8 ``b0``, ``b1``.

    Parameters
    ----------
    target: ``"ice40"`` makes one SB_MAC16 in its 8 x 8 mode; otherwise the same registers around
        two ``*``.

    Members
    -------
    a: ``In(8)``; unsigned.
    b0, b1: ``In``; signed, 8 bits.
    p0, p1: ``Out``; signed, 16 bits, :attr:`latency` cycles later: operand, product and output
        registers. A result every cycle; nothing is reset.

    Notes
    -----
    SB_MAC16 as in Lattice's "DSP Function Usage Guide for iCE40 Devices" (FPGA-TN-02007). The
    output registers hang on the adders behind the products: these add the zero on C and D.
    """

    latency = 3
    """Cycles from operands to products."""

    def __init__(self, *, target: str | None = None) -> None:
        self._target = target
        super().__init__(
            {
                "a": In(8),
                "b0": In(signed(8)),
                "b1": In(signed(8)),
                "p0": Out(signed(16)),
                "p1": Out(signed(16)),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        m = Module()
        if self._target == "ice40":
            m.d.comb += Cat(self.p0, self.p1).eq(_sb_mac16(m, self.a, self.b0, self.b1))
            return m
        a = Signal(8, reset_less=True)
        m.d.sync += a.eq(self.a)
        for index, (operand, product) in enumerate(((self.b0, self.p0), (self.b1, self.p1))):
            b = Signal(signed(8), name=f"b{index}_q", reset_less=True)
            pipeline = Signal(signed(16), name=f"product_{index}", reset_less=True)
            output = Signal(signed(16), name=f"output_{index}", reset_less=True)
            m.d.sync += [b.eq(operand), pipeline.eq(a * b), output.eq(pipeline)]
            m.d.comb += product.eq(output)
        return m


def _sb_mac16(m: Module, a: Value, b0: Value, b1: Value) -> Value:
    """The 32 output bits of one SB_MAC16; the upper half is ``a * b1``."""
    output = Signal(32)
    select = {  # product register, then adder with C or D, then output register
        f"{half}{name}": Const(value, width)
        for half in ("TOP", "BOT")
        for name, value, width in (
            ("OUTPUT_SELECT", 1, 2),
            ("ADDSUB_LOWERINPUT", 1, 2),
            ("ADDSUB_UPPERINPUT", 1, 1),
            ("ADDSUB_CARRYSELECT", 0, 2),
            ("_8x8_MULT_REG", 1, 1),
        )
    }
    parameters = select | {
        "NEG_TRIGGER": Const(0, 1),
        "C_REG": Const(0, 1),
        "A_REG": Const(1, 1),
        "B_REG": Const(1, 1),
        "D_REG": Const(0, 1),
        "PIPELINE_16x16_MULT_REG1": Const(1, 1),
        "PIPELINE_16x16_MULT_REG2": Const(1, 1),
        "MODE_8x8": Const(1, 1),
        "A_SIGNED": Const(0, 1),
        "B_SIGNED": Const(1, 1),
    }
    low = [f"{name}HOLD" for name in "ABCD"]
    for half in ("TOP", "BOT"):
        low += [f"{name}{half}" for name in ("IRST", "ORST", "OLOAD", "OHOLD", "ADDSUB")]
    low += ["CI", "ACCUMCI", "SIGNEXTIN"]
    m.submodules.sb_mac16 = Instance(
        "SB_MAC16",
        **{f"p_{name}": value for name, value in parameters.items()},
        **{f"i_{name}": Const(0) for name in low},
        i_CLK=ClockSignal(),
        i_CE=Const(1),
        i_A=Cat(a, a),
        i_B=Cat(b0, b1),
        i_C=Const(0, 16),
        i_D=Const(0, 16),
        o_O=output,
    )
    return output
