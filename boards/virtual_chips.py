"""SystemVerilog around the pads of a virtual board: the model of its memory chip."""

from __future__ import annotations

from importlib import resources

from intformer.boards.board import FlashMemory, SdramMemory

__all__ = ["FLASH_TIMES", "flash_chip", "sdram_chip"]

FLASH_TIMES = {"PROGRAM_CYCLES": 400, "ERASE_CYCLES": 1000}
"""Cycles that the virtual chip is busy for a page and for a sector: a real one takes some hundred
times as long, which changes nothing but the time of the simulation."""

_SDRAM_TIMES = (
    "T_RCD",
    "T_RP",
    "T_RAS",
    "T_RAS_MAX",
    "T_RC",
    "T_RFC",
    "T_WR",
    "T_RRD",
    "T_MRD",
    "T_HZ",
)
_SDRAM_INVERTED = ("cs", "ras", "cas", "we")


def _model(name: str) -> str:
    return (resources.files("intformer.sim") / "chips" / name).read_text(encoding="utf-8")


def flash_chip(memory: FlashMemory, *, pads: str) -> dict[str, str]:
    """Sources of module ``board`` with the flash chip of ``memory`` at module ``pads``."""
    chip = memory.chip
    command, value = chip.quad_enable or (0x31, 0x02)
    parameters = {
        "SIZE": chip.size,
        "DUMMY_CLOCKS": chip.dummy_clocks,
        "QUAD_REGISTER": 2 if command == 0x31 else 1,
        "QUAD_BIT": value.bit_length() - 1,
        "MIN_PERIOD_PS": round(1e12 / chip.max_clock_hz),
        "DESELECT_NS": round(chip.deselect_ns),
        "WAKE_NS": round(chip.wake_ns),
        **FLASH_TIMES,
    }
    board = f"""\
`timescale 1ns / 1ps
module board (input clk, input rst, input rx, output tx, output busy);
  wire cs, sck;
  wire [3:0] host, host_oe, chip, chip_oe;
  // Pull-ups on the lines that nobody drives.
  wire [3:0] lines = (host & host_oe) | (chip & chip_oe) | ~(host_oe | chip_oe);
  {pads} pads (
    .clk(clk), .rst(rst), .rx(rx), .tx(tx), .busy(busy),
    .cs_o(cs), .clk_o(sck), .dq_o(host), .dq_oe(host_oe), .dq_i(lines)
  );
  qspi_flash #({_parameters(parameters)}) flash (
    .clk(clk), .cs_n(~cs), .sck(sck), .io_i(host), .io_i_oe(host_oe),
    .io_o(chip), .io_oe(chip_oe)
  );
  always @(posedge clk)
    if (flash.violations != 0) $fatal(1, "the flash chip's data sheet was violated");
endmodule
"""
    return {"qspi_flash.sv": _model("qspi_flash.sv"), "board.sv": board}


def sdram_chip(memory: SdramMemory, *, pads: str) -> dict[str, str]:
    """Sources of module ``board`` with the SDRAM chip of ``memory`` at module ``pads``."""
    chip = memory.chip
    periods = dict(chip.t_ck)
    parameters = {
        "DATA_BITS": chip.data_bits,
        "ROW_BITS": chip.row_bits,
        "COL_BITS": chip.col_bits,
        "WR_CLOCKS": chip.wr_clocks,
        "MRD_CLOCKS": chip.mrd_clocks,
        "REFRESH_NS": round(chip.refresh_ms * 1e6),
        "REFRESH_ROWS": chip.refresh_rows,
        "POWER_UP": round(chip.power_up_us * 1e6),
        **{name: round(getattr(chip, name.lower()) * 1e3) for name in _SDRAM_TIMES},
        **{f"T_CK{cas}": round(periods.get(cas, 0) * 1e3) for cas in (2, 3)},
    }
    outputs = ("clk_en", "cs", "ras", "cas", "we", "ba", "a", "dqm")
    widths = {"ba": 2, "a": chip.row_bits, "dqm": chip.data_bytes}
    wires = "".join(f"  wire [{widths.get(name, 1) - 1}:0] {name};\n" for name in outputs)
    pins = ", ".join(f".{name}_o({name})" for name in outputs)
    at_chip = {name: f"~{name}" if name in _SDRAM_INVERTED else name for name in outputs}
    at_chip |= {name: {"clk_en": "1'b1", "cs": "1'b0", "dqm": "'0"}[name] for name in memory.tied}
    there = ", ".join(
        f".{name}{'_n' if name in _SDRAM_INVERTED else ''}({at_chip[name]})" for name in outputs
    )
    bits = chip.data_bits
    board = f"""\
`timescale 1ns / 1ps
module board (input clk, input rst, input rx, output tx, output busy);
{wires}\
  wire [{bits - 1}:0] host, host_oe, chip, lines;
  wire chip_oe;
  wire [31:0] violations, seen;
  assign lines = host_oe[0] ? host : chip;
  {pads} pads (
    .clk(clk), .rst(rst), .rx(rx), .tx(tx), .busy(busy), {pins},
    .dq_o(host), .dq_oe(host_oe), .dq_i(lines)
  );
  sdram #({_parameters(parameters)}) memory (
    .clk(~clk), {there}, .dq_in(host), .dq_in_oe(host_oe[0]), .dq_out(chip), .dq_out_oe(chip_oe),
    .violations(violations), .seen(seen)
  );
  always @(posedge clk)
    if (violations != 0) $fatal(1, "the SDRAM chip's data sheet was violated");
endmodule
"""
    return {"sdram.sv": _model("sdram.sv"), "board.sv": board}


def _parameters(parameters: dict[str, int]) -> str:
    return ", ".join(f".{name}({value})" for name, value in parameters.items())
