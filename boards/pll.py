"""PLLs: dividers for a wanted clock, the vendor's primitive, reset after lock.

Limits are those of the data sheets: Lattice FPGA-TN-02200 (ECP5, speed grade 6), FPGA-TN-02052
(iCE40), Gowin UG286 and DS102 (GW2A, speed grade C8/I7).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

from amaranth.hdl import ClockDomain, ClockSignal, Const, Instance, Module, ResetSignal, Signal
from amaranth.lib import io
from amaranth.lib.cdc import ResetSynchronizer

from intformer.errors import UserError

__all__ = ["PllSettings", "add_clock", "settle"]

RESET_CYCLES = 64
"""Cycles that reset lasts after lock. An iCE40's block RAM needs some microseconds after
configuration before it can be read."""

_ECP5_INPUT = (8e6, 400e6)
_ECP5_COMPARE = (3.125e6, 400e6)
_ECP5_VCO = (400e6, 800e6)
_ECP5_OUTPUT = (3.125e6, 400e6)
_ICE40_INPUT = (10e6, 133e6)
_ICE40_VCO = (533e6, 1066e6)
_ICE40_OUTPUT = (16e6, 275e6)
_ICE40_FILTER = ((17e6, 1), (26e6, 2), (44e6, 3), (66e6, 4), (101e6, 5), (133e6, 6))
"""Loop filter range by the largest frequency at the phase comparator."""
_GOWIN_COMPARE = (3e6, 500e6)
_GOWIN_VCO = (500e6, 1250e6)
_GOWIN_OUTPUT = (3.90625e6, 625e6)
_GOWIN_ODIV = (2, 4, 8, 16, 32, 48, 64, 80, 96, 112, 128)


@dataclass(frozen=True, kw_only=True)
class PllSettings:
    """Dividers of one PLL; the output is ``input_hz / reference * feedback``.

    Attributes
    ----------
    target: ``"ecp5"``, ``"ice40"`` or ``"gowin"``.
    input_hz: the oscillator's frequency.
    reference: divider in front of the phase comparator.
    feedback: output cycles per cycle of the phase comparator.
    output: VCO cycles per output cycle.
    """

    target: str
    input_hz: int
    reference: int
    feedback: Fraction
    output: int

    @property
    def output_hz(self) -> Fraction:
        """The frequency that comes out, exactly."""
        return Fraction(self.input_hz, self.reference) * self.feedback

    @property
    def vco_hz(self) -> Fraction:
        return self.output_hz * self.output


@cache
def settle(
    target: str, *, input_hz: int, wanted_hz: float, tolerance: float = 0.001
) -> PllSettings | None:
    """Find the dividers that come nearest to ``wanted_hz``; None if that is ``input_hz``.

    Parameters
    ----------
    target: ``"ecp5"``, ``"ice40"`` or ``"gowin"``.
    tolerance: largest relative error.

    Raises
    ------
    UserError
        If no dividers come near enough; the message names the nearest frequency.
    """
    if wanted_hz == input_hz:
        return None
    choices = {"ecp5": _ecp5, "ice40": _ice40, "gowin": _gowin}
    if target not in choices:
        raise UserError(f"target must be one of {', '.join(choices)}, not {target!r}")
    found = list(choices[target](input_hz))
    asked = f"{wanted_hz / 1e6:g} MHz from {input_hz / 1e6:g} MHz"
    if not found:
        raise UserError(f"the PLL of {target} cannot make {asked}: it takes no such input")
    # Of equal outputs: the highest frequency at the comparator, then the slowest VCO.
    best = min(found, key=lambda s: (abs(s.output_hz - wanted_hz), s.reference, s.output))
    if abs(best.output_hz - wanted_hz) > tolerance * wanted_hz:
        raise UserError(
            f"the PLL of {target} cannot make {asked}; "
            f"the nearest is {float(best.output_hz) / 1e6:.6g} MHz"
        )
    return best


def _within(value: Fraction | float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]


def _ecp5(input_hz: int) -> Iterator[PllSettings]:
    """EHXPLLL with its first output as feedback."""
    if not _within(input_hz, _ECP5_INPUT):
        return
    for reference in range(1, 129):
        compare = Fraction(input_hz, reference)
        if not _within(compare, _ECP5_COMPARE):
            continue
        for feedback in range(1, 129):
            out = compare * feedback
            if not _within(out, _ECP5_OUTPUT):
                continue
            # The VCO in the middle of its range.
            middle = sum(_ECP5_VCO) / 2
            output = min(max(round(middle / out), 1), 128)
            if _within(out * output, _ECP5_VCO):
                yield PllSettings(
                    target="ecp5",
                    input_hz=input_hz,
                    reference=reference,
                    feedback=Fraction(feedback),
                    output=output,
                )


def _ice40(input_hz: int) -> Iterator[PllSettings]:
    """SB_PLL40 with simple feedback: the VCO itself is compared."""
    for reference in range(1, 17):
        compare = Fraction(input_hz, reference)
        if not _within(compare, _ICE40_INPUT):
            continue
        for multiple in range(1, 129):
            if not _within(compare * multiple, _ICE40_VCO):
                continue
            for power in range(1, 7):
                if _within(compare * multiple / 2**power, _ICE40_OUTPUT):
                    yield PllSettings(
                        target="ice40",
                        input_hz=input_hz,
                        reference=reference,
                        feedback=Fraction(multiple, 2**power),
                        output=2**power,
                    )


def _gowin(input_hz: int) -> Iterator[PllSettings]:
    """rPLL with internal feedback."""
    for reference in range(1, 65):
        compare = Fraction(input_hz, reference)
        if not _within(compare, _GOWIN_COMPARE):
            continue
        for feedback in range(1, 65):
            out = compare * feedback
            if not _within(out, _GOWIN_OUTPUT):
                continue
            for output in _GOWIN_ODIV:
                if _within(out * output, _GOWIN_VCO):
                    yield PllSettings(
                        target="gowin",
                        input_hz=input_hz,
                        reference=reference,
                        feedback=Fraction(feedback),
                        output=output,
                    )


def add_clock(
    m: Module, port: io.PortLike, *, target: str, device: str, settings: PllSettings | None
) -> None:
    """Make the domain ``sync`` of ``m`` from the oscillator at ``port``.

    Its reset begins with configuration, lasts until the PLL has locked and 64 cycles more, and
    ends synchronously.

    Parameters
    ----------
    port: the pin of the oscillator.
    target: ``"ecp5"``, ``"ice40"`` or ``"gowin"``.
    device: the device's name as the vendor's tools want it, for the PLL of ``"gowin"``.
    settings: of :func:`settle`; None for the oscillator's own clock.
    """
    m.domains += ClockDomain("sync")
    locked = Signal()
    if settings is None:
        m.submodules.clock_buffer = buffer = io.Buffer("i", port)
        m.d.comb += [ClockSignal().eq(buffer.i), locked.eq(1)]
    elif target == "ice40":
        m.submodules.pll = _sb_pll40_pad(port, settings, locked)
    else:
        m.submodules.clock_buffer = buffer = io.Buffer("i", port)
        make = _ehxplll if target == "ecp5" else _rpll
        m.submodules.pll = make(buffer.i, settings, locked, device=device)
    # Domain `lock`: the same clock, reset while there is no lock.
    m.domains += ClockDomain("lock", local=True)
    m.d.comb += ClockSignal("lock").eq(ClockSignal())
    m.submodules.lock_reset = ResetSynchronizer(~locked, domain="lock")
    left = Signal(range(RESET_CYCLES), init=RESET_CYCLES - 1)
    reset = Signal(init=1)
    m.d.lock += reset.eq(left != 0)
    with m.If(left != 0):
        m.d.lock += left.eq(left - 1)
    m.d.comb += ResetSignal().eq(reset)


def _ehxplll(clock: Signal, settings: PllSettings, locked: Signal, *, device: str) -> Instance:
    del device
    out = ClockSignal()
    return Instance(
        "EHXPLLL",
        a_FREQUENCY_PIN_CLKI=f"{settings.input_hz / 1e6:.6f}",
        a_FREQUENCY_PIN_CLKOP=f"{float(settings.output_hz) / 1e6:.6f}",
        a_ICP_CURRENT="12",
        a_LPF_RESISTOR="8",
        a_MFG_ENABLE_FILTEROPAMP="1",
        a_MFG_GMCREF_SEL="2",
        p_PLLRST_ENA="DISABLED",
        p_INTFB_WAKE="DISABLED",
        p_STDBY_ENABLE="DISABLED",
        p_DPHASE_SOURCE="DISABLED",
        p_OUTDIVIDER_MUXA="DIVA",
        p_OUTDIVIDER_MUXB="DIVB",
        p_OUTDIVIDER_MUXC="DIVC",
        p_OUTDIVIDER_MUXD="DIVD",
        p_CLKI_DIV=settings.reference,
        p_CLKFB_DIV=int(settings.feedback),
        p_CLKOP_ENABLE="ENABLED",
        p_CLKOP_DIV=settings.output,
        p_CLKOP_CPHASE=settings.output - 1,
        p_CLKOP_FPHASE=0,
        p_FEEDBK_PATH="CLKOP",
        i_RST=Const(0, 1),
        i_STDBY=Const(0, 1),
        i_PHASESEL0=Const(0, 1),
        i_PHASESEL1=Const(0, 1),
        i_PHASEDIR=Const(1, 1),
        i_PHASESTEP=Const(1, 1),
        i_PHASELOADREG=Const(1, 1),
        i_PLLWAKESYNC=Const(0, 1),
        i_ENCLKOP=Const(0, 1),
        i_CLKI=clock,
        i_CLKFB=out,
        o_CLKOP=out,
        o_LOCK=locked,
    )


def _sb_pll40_pad(port: io.PortLike, settings: PllSettings, locked: Signal) -> Instance:
    compare = settings.input_hz / settings.reference
    multiple = settings.feedback * settings.output
    return Instance(
        "SB_PLL40_PAD",
        p_FEEDBACK_PATH="SIMPLE",
        p_DIVR=Const(settings.reference - 1, 4),
        p_DIVF=Const(int(multiple) - 1, 7),
        p_DIVQ=Const(settings.output.bit_length() - 1, 3),
        p_FILTER_RANGE=Const(next(k for limit, k in _ICE40_FILTER if compare <= limit), 3),
        io_PACKAGEPIN=port.io,  # type: ignore[attr-defined]
        i_RESETB=Const(1, 1),
        i_BYPASS=Const(0, 1),
        o_PLLOUTGLOBAL=ClockSignal(),
        o_LOCK=locked,
    )


def _rpll(clock: Signal, settings: PllSettings, locked: Signal, *, device: str) -> Instance:
    zero = {f"i_{name}": Const(0, width) for name, width in _RPLL_UNUSED.items()}
    return Instance(
        "rPLL",
        p_FCLKIN=f"{settings.input_hz / 1e6:g}",
        p_DEVICE=device,
        p_IDIV_SEL=settings.reference - 1,
        p_FBDIV_SEL=int(settings.feedback) - 1,
        p_ODIV_SEL=settings.output,
        p_DYN_IDIV_SEL="false",
        p_DYN_FBDIV_SEL="false",
        p_DYN_ODIV_SEL="false",
        p_DYN_DA_EN="false",
        p_PSDA_SEL="0000",
        p_DUTYDA_SEL="1000",
        p_DYN_SDIV_SEL=2,
        p_CLKFB_SEL="internal",
        p_CLKOUT_BYPASS="false",
        p_CLKOUTP_BYPASS="false",
        p_CLKOUTD_BYPASS="false",
        p_CLKOUTD_SRC="CLKOUT",
        p_CLKOUTD3_SRC="CLKOUT",
        i_CLKIN=clock,
        o_CLKOUT=ClockSignal(),
        o_LOCK=locked,
        **zero,
    )


_RPLL_UNUSED = {
    "CLKFB": 1,
    "RESET": 1,
    "RESET_P": 1,
    "FBDSEL": 6,
    "IDSEL": 6,
    "ODSEL": 6,
    "PSDA": 4,
    "DUTYDA": 4,
    "FDLY": 4,
}
