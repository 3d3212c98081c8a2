// A core whose memory is a flash with a block RAM over it; the host has the port while no program runs.

`timescale 1ns / 1ps

module flash_core_tb #(
    parameter integer SIZE = 1 << 20,
    parameter integer WAKE_NS = 3000
) (
    input wire clk,
    input wire rst,
    input wire dump,
    input wire start,
    input wire [31:0] entry,
    input wire [31:0] base,
    output wire busy,
    output wire done,
    output wire error,
    input wire mem__cmd__valid,
    output wire mem__cmd__ready,
    input wire [40:0] mem__cmd__payload,
    input wire mem__wdata__valid,
    output wire mem__wdata__ready,
    input wire [7:0] mem__wdata__payload,
    output wire mem__rdata__valid,
    input wire mem__rdata__ready,
    output wire [7:0] mem__rdata__payload,
    output wire [31:0] violations,
    output wire [31:0] programs,
    output wire [31:0] erases
);
    wire core_cmd_valid, core_wdata_valid, cmd_ready, wdata_ready, rdata_valid;
    wire [40:0] core_cmd;
    wire [7:0] core_wdata, rdata;
    assign mem__cmd__ready = cmd_ready && !busy;
    assign mem__wdata__ready = wdata_ready && !busy;
    assign mem__rdata__valid = rdata_valid && !busy;
    assign mem__rdata__payload = rdata;

    core core (
        .clk(clk),
        .rst(rst),
        .start(start),
        .entry(entry),
        .busy(busy),
        .done(done),
        .error(error),
        .counter_addr(8'd0),
        .counter_data(),
        .mem__cmd__valid(core_cmd_valid),
        .mem__cmd__ready(cmd_ready && busy),
        .mem__cmd__payload(core_cmd),
        .mem__wdata__valid(core_wdata_valid),
        .mem__wdata__ready(wdata_ready && busy),
        .mem__wdata__payload(core_wdata),
        .mem__rdata__valid(rdata_valid && busy),
        .mem__rdata__ready(),
        .mem__rdata__payload(rdata)
    );

    wire cs, sck;
    wire [3:0] host_o, host_oe, chip_o, chip_oe;
    wire [3:0] line = (host_o & host_oe) | (chip_o & chip_oe) | ~(host_oe | chip_oe);

    memory memory (
        .clk(clk),
        .rst(rst),
        .base(base),
        .mem__cmd__valid(busy ? core_cmd_valid : mem__cmd__valid),
        .mem__cmd__ready(cmd_ready),
        .mem__cmd__payload(busy ? core_cmd : mem__cmd__payload),
        .mem__wdata__valid(busy ? core_wdata_valid : mem__wdata__valid),
        .mem__wdata__ready(wdata_ready),
        .mem__wdata__payload(busy ? core_wdata : mem__wdata__payload),
        .mem__rdata__valid(rdata_valid),
        .mem__rdata__ready(1'b1),
        .mem__rdata__payload(rdata),
        .pins__cs(cs),
        .pins__clk(sck),
        .pins__dq_o(host_o),
        .pins__dq_oe(host_oe),
        .pins__dq_i(line)
    );

    qspi_flash #(.SIZE(SIZE), .WAKE_NS(WAKE_NS)) chip (
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
    assign programs = chip.programs;
    assign erases = chip.erases;
endmodule
