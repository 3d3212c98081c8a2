"""Two 8x8 products with an addend each: one SB_MAC16 of iCE40 UltraPlus, or its twin."""

from __future__ import annotations

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["DualMac"]


class DualMac(wiring.Component):
    """``o0 = a0 * w0 + c0`` and ``o1 = a1 * w1 + c1``, modulo 2**16, for weights that stay.

    For uint8 activations ``u``: feed ``a = u - 128`` (the top bit flipped) and load ``c = 128*w``;
    then ``o = u * w``, which 16 bits hold. For int8 activations load ``c = 0``.

    Parameters
    ----------
    target: ``"ice40"`` for the primitive, else its behavioural twin.

    Members
    -------
    load: ``In(1)``; take ``w0``, ``w1`` (``In(signed(8))``) and ``c0``, ``c1`` (``In(16)``); used
        from the next cycle on.
    a0, a1: ``In(signed(8))``.
    o0, o1: ``Out(signed(16))``; :attr:`latency` cycles after ``a0``, ``a1``.
    """

    latency = 2
    """Cycles from activations to products."""

    def __init__(self, *, target: str | None = None) -> None:
        self._target = target
        super().__init__(
            {
                "load": In(1),
                "w0": In(signed(8)),
                "w1": In(signed(8)),
                "c0": In(16),
                "c1": In(16),
                "a0": In(signed(8)),
                "a1": In(signed(8)),
                "o0": Out(signed(16)),
                "o1": Out(signed(16)),
            }
        )

    def elaborate(self, _platform: object) -> Module:
        return self._primitive() if self._target == "ice40" else self._twin()

    def _twin(self) -> Module:
        m = Module()
        for lane in "01":
            weight, addend = Signal(signed(8), name=f"w{lane}_r"), Signal(16, name=f"c{lane}_r")
            code = Signal(signed(8), name=f"a{lane}_r")
            with m.If(self.load):
                m.d.sync += [
                    weight.eq(getattr(self, f"w{lane}")),
                    addend.eq(getattr(self, f"c{lane}")),
                ]
            m.d.sync += [
                code.eq(getattr(self, f"a{lane}")),
                getattr(self, f"o{lane}").eq(code * weight + addend),
            ]
        return m

    def _primitive(self) -> Module:
        m = Module()
        zero, one, hold, o = Const(0, 1), Const(1, 1), Signal(), Signal(32)
        m.d.comb += [hold.eq(~self.load), self.o0.eq(o[:16]), self.o1.eq(o[16:])]
        m.submodules.mac = Instance(
            "SB_MAC16",
            p_NEG_TRIGGER=Const(0, 1),
            p_A_REG=Const(1, 1),
            p_B_REG=Const(1, 1),
            p_C_REG=Const(1, 1),
            p_D_REG=Const(1, 1),
            p_TOP_8x8_MULT_REG=Const(0, 1),
            p_BOT_8x8_MULT_REG=Const(0, 1),
            p_PIPELINE_16x16_MULT_REG1=Const(0, 1),
            p_PIPELINE_16x16_MULT_REG2=Const(0, 1),
            # The registered sums of products and addends.
            p_TOPOUTPUT_SELECT=Const(1, 2),
            p_TOPADDSUB_LOWERINPUT=Const(1, 2),
            p_TOPADDSUB_UPPERINPUT=Const(1, 1),
            p_TOPADDSUB_CARRYSELECT=Const(0, 2),
            p_BOTOUTPUT_SELECT=Const(1, 2),
            p_BOTADDSUB_LOWERINPUT=Const(1, 2),
            p_BOTADDSUB_UPPERINPUT=Const(1, 1),
            p_BOTADDSUB_CARRYSELECT=Const(0, 2),
            p_MODE_8x8=Const(1, 1),
            p_A_SIGNED=Const(1, 1),
            p_B_SIGNED=Const(1, 1),
            i_CLK=ClockSignal(),
            i_CE=one,
            i_A=self._pair("a"),
            i_B=self._pair("w"),
            i_C=self.c1,
            i_D=self.c0,
            i_AHOLD=zero,
            i_BHOLD=hold,
            i_CHOLD=hold,
            i_DHOLD=hold,
            i_IRSTTOP=zero,
            i_IRSTBOT=zero,
            i_ORSTTOP=zero,
            i_ORSTBOT=zero,
            i_OLOADTOP=zero,
            i_OLOADBOT=zero,
            i_ADDSUBTOP=zero,
            i_ADDSUBBOT=zero,
            i_OHOLDTOP=zero,
            i_OHOLDBOT=zero,
            i_CI=zero,
            i_ACCUMCI=zero,
            i_SIGNEXTIN=zero,
            o_O=o,
        )
        return m

    def _pair(self, name: str) -> Value:
        """Lane 1 above lane 0."""
        return Cat(getattr(self, f"{name}0"), getattr(self, f"{name}1"))
