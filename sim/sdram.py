"""Simulates the SDRAM controller with a model of its chip, under traffic made in the simulator."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from intformer.config import CoreConfig
from intformer.errors import IntformerError
from intformer.hw import verilog
from intformer.hw.external.sdram import Sdram, SdramChip
from intformer.sim.builds import Bench, build
from intformer.sim.runner import run_module

__all__ = [
    "MODES",
    "RULES",
    "SdramFailed",
    "SdramFigures",
    "SdramSimulator",
    "model_parameters",
    "model_source",
    "pair_source",
]

MODES = ("linear_reads", "random_reads", "mixed", "linear_writes", "random", "single_reads")
"""Kinds of traffic, in the order of the numbers in ``sdram_tb.sv``.

Bursts of 16 beats: reads along the memory, reads anywhere, three reads along and then a write
along another place, writes along; then anything of 1 to 256 beats with pauses; then reads of single
beats anywhere.
"""

RULES = (
    "power-up wait",
    "not initialized",
    "mode register",
    "tMRD",
    "activate of an open bank",
    "tRP",
    "tRC",
    "tRRD",
    "tRFC",
    "column command to a closed bank",
    "tRCD",
    "tRAS",
    "tRAS max",
    "tWR",
    "refresh with open rows",
    "refresh interval",
    "bus contention",
    "write without data",
    "tCK",
    "column out of range",
    "clock enable",
    "auto precharge",
    "unknown command",
    "row not refreshed in time",
)
"""The rules that the chip's model checks, in the order of the bits of ``seen``."""

_ARGS = ("--timing", "--no-public-flat-rw", "--x-assign", "fast", "--x-initial", "fast", "-O3")
_VISIBLE = """\
`verilator_config
public_flat_rw -module "sdram_tb" -var "finished"
public_flat_rw -module "sdram_tb" -var "failed"
"""


class SdramFailed(IntformerError):
    """A read word was wrong, or a rule of the chip was broken."""


@dataclass(frozen=True, kw_only=True)
class SdramFigures:
    """What a run measured.

    Attributes
    ----------
    cycles: from the first command to the last beat.
    commands, beats_read, beats_written: what was transferred.
    violations: broken rules of the chip.
    rules: which ones.
    share: of the bandwidth of the chip's pins, or of the bus if that is narrower.
    """

    cycles: int
    commands: int
    beats_read: int
    beats_written: int
    violations: int
    rules: tuple[str, ...]
    share: float


def _picoseconds(ns: float) -> int:
    return round(ns * 1000)


def model_source(name: str = "sdram.sv") -> str:
    """The text of a file of ``sim/chips``."""
    return (resources.files("intformer.sim") / "chips" / name).read_text(encoding="utf-8")


def model_parameters(chip: SdramChip) -> dict[str, int]:
    """The parameters of the module ``sdram`` for ``chip``."""
    clocks = dict(chip.t_ck)
    return {
        "DATA_BITS": chip.data_bits,
        "ROW_BITS": chip.row_bits,
        "COL_BITS": chip.col_bits,
        "T_RCD": _picoseconds(chip.t_rcd),
        "T_RP": _picoseconds(chip.t_rp),
        "T_RAS": _picoseconds(chip.t_ras),
        "T_RAS_MAX": _picoseconds(chip.t_ras_max),
        "T_RC": _picoseconds(chip.t_rc),
        "T_RFC": _picoseconds(chip.t_rfc),
        "T_WR": _picoseconds(chip.t_wr),
        "WR_CLOCKS": chip.wr_clocks,
        "T_RRD": _picoseconds(chip.t_rrd),
        "T_MRD": _picoseconds(chip.t_mrd),
        "MRD_CLOCKS": chip.mrd_clocks,
        "T_HZ": _picoseconds(chip.t_hz),
        "T_CK2": _picoseconds(clocks.get(2, 0)),
        "T_CK3": _picoseconds(clocks.get(3, 0)),
        "POWER_UP": _picoseconds(chip.power_up_us * 1e3),
        "REFRESH_NS": round(chip.refresh_ms * 1e6),
        "REFRESH_ROWS": chip.refresh_rows,
    }


def pair_source(
    config: CoreConfig, chip: SdramChip, *, input_registers: int = 0, tied: bool = False
) -> str:
    """A module ``sdram_pair``: the module ``controller`` and a chip, on the inverted clock.

    ``input_registers`` stand between the chip's outputs and the controller. With ``tied`` the chip
    is always enabled and selected, and no byte is ever masked.
    """
    clk_en, cs_n, dqm = ("1'b1", "1'b0", "'0") if tied else ("clk_en", "~cs", "dqm")
    parameters = ",\n".join(f"        .{n}({v})" for n, v in model_parameters(chip).items())
    beat, bits = 8 * config.bus_bytes, chip.data_bits
    registers = "".join(
        f"    reg [{bits - 1}:0] dq_{k + 1};\n    always @(posedge clk) dq_{k + 1} <= dq_{k};\n"
        for k in range(input_registers)
    )
    return f"""\
`timescale 1ns / 1ps
module sdram_pair (
    input wire clk,
    input wire rst,
    input wire mem__cmd__valid,
    output wire mem__cmd__ready,
    input wire [40:0] mem__cmd__payload,
    input wire mem__wdata__valid,
    output wire mem__wdata__ready,
    input wire [{beat - 1}:0] mem__wdata__payload,
    output wire mem__rdata__valid,
    output wire [{beat - 1}:0] mem__rdata__payload,
    output wire [31:0] violations,
    output wire [31:0] seen
);
    wire clk_en, cs, ras, cas, we, dq_oe, chip_oe;
    wire [1:0] ba;
    wire [{chip.row_bits - 1}:0] a;
    wire [{chip.data_bytes - 1}:0] dqm;
    wire [{bits - 1}:0] dq_o, dq_0;
{registers}
    controller dut (
        .clk(clk),
        .rst(rst),
        .mem__cmd__valid(mem__cmd__valid),
        .mem__cmd__ready(mem__cmd__ready),
        .mem__cmd__payload(mem__cmd__payload),
        .mem__wdata__valid(mem__wdata__valid),
        .mem__wdata__ready(mem__wdata__ready),
        .mem__wdata__payload(mem__wdata__payload),
        .mem__rdata__valid(mem__rdata__valid),
        .mem__rdata__ready(1'b1),
        .mem__rdata__payload(mem__rdata__payload),
        .pins__clk_en(clk_en),
        .pins__cs(cs),
        .pins__ras(ras),
        .pins__cas(cas),
        .pins__we(we),
        .pins__ba(ba),
        .pins__a(a),
        .pins__dqm(dqm),
        .pins__dq_o(dq_o),
        .pins__dq_oe(dq_oe),
        .pins__dq_i(dq_{input_registers})
    );

    sdram #(
{parameters}
    ) chip (
        .clk(~clk),
        .clk_en({clk_en}),
        .cs_n({cs_n}),
        .ras_n(~ras),
        .cas_n(~cas),
        .we_n(~we),
        .ba(ba),
        .a(a),
        .dqm({dqm}),
        .dq_in(dq_o),
        .dq_in_oe(dq_oe),
        .dq_out(dq_0),
        .dq_out_oe(chip_oe),
        .violations(violations),
        .seen(seen)
    );
endmodule
"""


class SdramSimulator:
    """A controller, its chip, and traffic, in Verilator.

    Parameters
    ----------
    config, chip, clock_hz: of the controller.
    input_registers, tied: see :func:`pair_source`.
    controller: instead of the right one; for tests of this bench.
    """

    def __init__(
        self,
        config: CoreConfig,
        *,
        chip: SdramChip,
        clock_hz: float,
        input_registers: int = 0,
        tied: bool = False,
        controller: Sdram | None = None,
    ) -> None:
        self.config = config
        self.chip = chip
        self._clock_hz = clock_hz
        self._inputs = input_registers
        self._tied = tied
        self._controller = controller
        self._bench: Bench | None = None

    def _make_bench(self) -> Bench:
        controller = self._controller or Sdram(
            self.config, chip=self.chip, clock_hz=self._clock_hz, read_delay=self._inputs
        )
        return Bench(
            sources={
                "controller.sv": verilog.emit(controller, name="controller"),
                "visible.vlt": _VISIBLE,
                "sdram.sv": model_source(),
                "sdram_pair.sv": pair_source(
                    self.config, self.chip, input_registers=self._inputs, tied=self._tied
                ),
                "sdram_tb.sv": model_source("sdram_tb.sv"),
            },
            toplevel="sdram_tb",
            optimize="-O2",
            parameters={
                "BUS_BYTES": self.config.bus_bytes,
                "DATA_BITS": self.chip.data_bits,
                "ROW_BITS": self.chip.row_bits,
                "COL_BITS": self.chip.col_bits,
                # Rounded up: never faster than the controller was made for.
                "PERIOD_PS": 2 * -(-round(1e12 / self._clock_hz * 1000) // 2000),
            },
            build_args=_ARGS,
        )

    def run(self, mode: str, *, commands: int, seed: int = 1, stall: float = 0.0) -> SdramFigures:
        """Run ``commands`` commands of the traffic ``mode``, one of :data:`MODES`.

        Every read is compared with what was written before, and all of the chip's content at the
        end. ``stall`` is the probability of a lost cycle of the commands and of the write data.

        Raises
        ------
        SdramFailed
            If a word was wrong, the controller hung, or a rule of the chip was broken; the message
            holds the first ones.
        """
        if mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, not {mode!r}")
        if self._bench is None:
            self._bench = self._make_bench()
        folder = build(self._bench)
        (folder / "runs").mkdir(exist_ok=True)
        run_dir = Path(tempfile.mkdtemp(dir=folder / "runs"))
        try:
            run_module(
                self._bench,
                "intformer.sim.sdram_bench",
                folder=folder,
                run_dir=run_dir,
                seed=seed,
                plusargs=[
                    f"+mode={MODES.index(mode)}",
                    f"+commands={commands}",
                    f"+seed={seed}",
                    f"+stall={round(256 * stall)}",
                ],
            )
        except AssertionError as error:
            lines = [line for line in str(error).splitlines() if "sdram" in line]
            raise SdramFailed("\n".join(lines) or str(error)) from None
        figures = self._read(run_dir / "figures.txt")
        shutil.rmtree(run_dir)
        return figures

    def _read(self, path: Path) -> SdramFigures:
        cycles, commands, read, written, _wrong, violations, seen, _awake = (
            int(number) for number in path.read_text().split()
        )
        width = min(self.config.bus_bytes, self.chip.data_bytes)
        moved = (read + written) * self.config.bus_bytes
        return SdramFigures(
            cycles=cycles,
            commands=commands,
            beats_read=read,
            beats_written=written,
            violations=violations,
            rules=tuple(rule for bit, rule in enumerate(RULES) if seen >> bit & 1),
            share=moved / (width * cycles),
        )
