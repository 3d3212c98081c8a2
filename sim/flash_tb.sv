// A flash controller (module `controller`) and its chip; the ports are those of the controller's burst port.
// PAD_REGISTERS is 1 where each input pin has a register.

`timescale 1ns / 1ps

module flash_tb #(
    parameter integer BUS_BYTES = 4,
    parameter integer SIZE = 1 << 20,
    parameter integer DUMMY_CLOCKS = 4,
    parameter integer QUAD_REGISTER = 2,
    parameter integer QUAD_BIT = 1,
    parameter integer QUAD_ENABLED = 0,
    parameter integer PROGRAM_CYCLES = 40,
    parameter integer ERASE_CYCLES = 100,
    parameter integer MIN_PERIOD_PS = 9615,
    parameter integer DESELECT_NS = 50,
    parameter integer WAKE_NS = 3000,
    parameter integer ASLEEP = 1,
    parameter integer PAD_REGISTERS = 0
) (
    input wire clk,
    input wire rst,
    input wire dump,
    input wire mem__cmd__valid,
    output wire mem__cmd__ready,
    input wire [40:0] mem__cmd__payload,
    input wire mem__wdata__valid,
    output wire mem__wdata__ready,
    input wire [8*BUS_BYTES-1:0] mem__wdata__payload,
    output wire mem__rdata__valid,
    input wire mem__rdata__ready,
    output wire [8*BUS_BYTES-1:0] mem__rdata__payload,
    output wire [31:0] violations,
    output wire [31:0] kinds,
    output wire [31:0] programs,
    output wire [31:0] erases,
    output wire [31:0] addresses,
    output wire [31:0] clocks
);
    wire cs, sck;
    wire [3:0] host_o, host_oe, chip_o, chip_oe;
    // Lines that nobody drives are pulled up.
    wire [3:0] line = (host_o & host_oe) | (chip_o & chip_oe) | ~(host_oe | chip_oe);
    reg [3:0] pad = 0;
    always @(posedge clk) pad <= line;

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
        .mem__rdata__ready(mem__rdata__ready),
        .mem__rdata__payload(mem__rdata__payload),
        .pins__cs(cs),
        .pins__clk(sck),
        .pins__dq_o(host_o),
        .pins__dq_oe(host_oe),
        .pins__dq_i(PAD_REGISTERS != 0 ? pad : line)
    );

    qspi_flash #(
        .SIZE(SIZE),
        .DUMMY_CLOCKS(DUMMY_CLOCKS),
        .QUAD_REGISTER(QUAD_REGISTER),
        .QUAD_BIT(QUAD_BIT),
        .QUAD_ENABLED(QUAD_ENABLED),
        .PROGRAM_CYCLES(PROGRAM_CYCLES),
        .ERASE_CYCLES(ERASE_CYCLES),
        .MIN_PERIOD_PS(MIN_PERIOD_PS),
        .DESELECT_NS(DESELECT_NS),
        .WAKE_NS(WAKE_NS),
        .ASLEEP(ASLEEP)
    ) chip (
        .clk(clk),
        .dump(dump),
        .cs_n(~cs),
        .sck(sck),
        .io_i(line),
        .io_i_oe(host_oe),
        .io_o(chip_o),
        .io_oe(chip_oe)
    );

    assign violations = chip.violations;
    assign kinds = chip.kinds;
    assign programs = chip.programs;
    assign erases = chip.erases;
    assign addresses = chip.addresses;
    assign clocks = chip.clocks;
endmodule
