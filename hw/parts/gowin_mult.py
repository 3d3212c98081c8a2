"""Gowin's multipliers MULT9X9 and MULT18X18 with all their registers."""

from __future__ import annotations

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal, Value

__all__ = ["gowin_product"]


def gowin_product(m: Module, a: Value, b: Value) -> Value:
    """``a * b``, signed, three cycles later, from one MULT9X9 (both up to 9 bits) or MULT18X18.

    Ports and parameters as in Gowin's "GW2A series of FPGA products, DSP User Guide" (UG287):
    input, pipeline and output registers in use, operands from the fabric, no reset.
    """
    bits = 9 if max(len(a), len(b)) <= 9 else 18
    product = Signal(2 * bits)
    registers = ("AREG", "BREG", "PIPE_REG", "OUT_REG", "ASIGN_REG", "BSIGN_REG")
    m.submodules.multiplier = Instance(
        f"MULT{bits}X{bits}",
        **{f"p_{name}": Const(1, 1) for name in registers},
        p_SOA_REG=Const(0, 1),
        p_MULT_RESET_MODE="SYNC",
        i_A=_extended(a, bits),
        i_B=_extended(b, bits),
        i_SIA=Const(0, bits),
        i_SIB=Const(0, bits),
        i_ASIGN=Const(1),
        i_BSIGN=Const(1),
        i_ASEL=Const(0),
        i_BSEL=Const(0),
        i_CE=Const(1),
        i_CLK=ClockSignal(),
        i_RESET=Const(0),
        o_DOUT=product,
    )
    return product.as_signed()


def _extended(value: Value, bits: int) -> Value:
    return Cat(value, value[-1].replicate(bits - len(value)))
