// A serial NOR flash with quad I/O, as a data sheet describes it (W25Q128JV, IS25LP128 and their
// like): what the pins do, and what must not be done with them. Written without regard to any
// controller.
//
// Every violation is counted in `violations`, leaves its bit in `kinds`, and is told in words. The chip
// then goes on as a real one might. Commands: 03, 0B, EB (with continuous read mode), 9F, 05, 35,
// 01, 31, 06, 04, 50, 02, 32, 20, D8, B9, AB, FF; others are violations.
//
// Times are in nanoseconds; those of programming and erasing in cycles of `clk`, which counts
// nothing else. Content: all ones, then the bytes of the file named by the plusarg `+flash=FILE` from
// address `FLASH_FROM` on.

`timescale 1ns / 1ps

module qspi_flash #(
    parameter integer SIZE = 1 << 20,  // bytes, a power of two; higher address bits are ignored
    parameter integer FLASH_FROM = 0,
    parameter integer DUMMY_CLOCKS = 4,  // of EB, after the mode bits
    parameter integer QUAD_REGISTER = 2,  // status register with the quad enable bit: 1 or 2
    parameter integer QUAD_BIT = 1,
    parameter integer QUAD_ENABLED = 0,  // whether the bit is set at first
    parameter integer PROGRAM_CYCLES = 40,
    parameter integer ERASE_CYCLES = 100,
    parameter integer MIN_PERIOD_PS = 9615,  // 104 MHz
    parameter integer DESELECT_NS = 50,
    parameter integer WAKE_NS = 3000,
    parameter integer SETUP_NS = 2,
    parameter integer ASLEEP = 1  // whether the chip begins in power down
) (
    input wire clk,
    input wire dump,  // writes the content to dump.hex
    input wire cs_n,
    input wire sck,
    input wire [3:0] io_i,  // what the host puts on the lines
    input wire [3:0] io_i_oe,  // which lines it drives
    output reg [3:0] io_o,
    output reg [3:0] io_oe
);
    localparam integer PAGE = 256;

    // Kinds of violations: bits of `kinds`.
    localparam integer UNKNOWN = 0;
    localparam integer WHILE_ASLEEP = 1;
    localparam integer WHILE_BUSY = 2;
    localparam integer NOT_ENABLED = 3;
    localparam integer NOT_QUAD = 4;
    localparam integer CONTENTION = 5;
    localparam integer TOO_FAST = 6;
    localparam integer DESELECT = 7;
    localparam integer CUT_OFF = 8;
    localparam integer PAGE_WRAP = 9;
    localparam integer FLOATING = 10;
    localparam integer WAKING = 11;
    localparam integer SETUP = 12;
    localparam integer HOLD = 13;
    localparam integer NOT_ERASED = 14;

    localparam integer OPCODE = 0, ADDRESS = 1, MODE = 2, DUMMY = 3, OUT = 4, IN = 5, IGNORE = 6;

    reg [7:0] store[0:SIZE-1];
    reg [31:0] violations = 0;
    reg [31:0] kinds = 0;
    reg [31:0] reads = 0, programs = 0, erases = 0, addresses = 0;
    reg [31:0] clocks = 0;  // with the chip selected

    reg asleep = ASLEEP != 0;
    reg continuous = 0, latch = 0, volatile_latch = 0;
    reg [7:0] status_1 = QUAD_ENABLED != 0 && QUAD_REGISTER == 1 ? 8'd1 << QUAD_BIT : 8'd0;
    reg [7:0] status_2 = QUAD_ENABLED != 0 && QUAD_REGISTER == 2 ? 8'd1 << QUAD_BIT : 8'd0;
    reg [31:0] busy = 0;

    reg [7:0] opcode = 0, shift = 0;
    integer phase = OPCODE;
    integer bits = 0;  // of the byte, or clocks of the dummy phase
    integer count = 0;  // bytes of the phase
    integer total = 0;  // clocks since the chip was selected
    reg quad = 0;
    reg [23:0] address = 0;
    reg [7:0] page[0:PAGE-1];
    reg [PAGE-1:0] page_mask = 0;
    reg [7:0] out = 0;
    reg out_first = 0;

    realtime rose = -1e9, deselected = -1e9, woken = -1e9, changed = -1e9;
    integer k, file, got;
    string name;

    initial begin
        io_o = 0;
        io_oe = 0;
        for (k = 0; k < SIZE; k = k + 1) store[k] = 8'hff;
        for (k = 0; k < PAGE; k = k + 1) page[k] = 8'hff;
        if ($value$plusargs("flash=%s", name)) begin
            file = $fopen(name, "rb");
            if (file == 0) begin
                $display("flash: cannot read %0s", name);
                $finish;
            end
            k = FLASH_FROM;
            got = $fgetc(file);
            while (got != -1 && k < SIZE) begin
                store[k] = got[7:0];
                k = k + 1;
                got = $fgetc(file);
            end
            $fclose(file);
        end
    end

    always @(posedge dump) $writememh("dump.hex", store);

    task report(input integer kind, input string what);
        begin
            violations = violations + 1;
            kinds[kind] = 1;
            if (violations <= 50)
                $display("flash, %0t: %0s (command %h, address %h)", $realtime, what, opcode, address);
        end
    endtask

    wire quad_enabled = QUAD_REGISTER == 2 ? status_2[QUAD_BIT] : status_1[QUAD_BIT];
    wire [7:0] status_now = {status_1[7:2], latch, busy != 0};

    // ------------------------------------------------------------------ bits in
    wire [3:0] wanted = quad ? 4'b1111 : 4'b0001;  // lines that the host has to drive
    wire takes = phase != OUT && phase != DUMMY && phase != IGNORE;

    always @(io_i, io_i_oe) changed = $realtime;

    always @(posedge sck)
        if (!cs_n) begin
            clocks = clocks + 1;
            total = total + 1;
            if (($realtime - rose) * 1000.0 < MIN_PERIOD_PS) report(TOO_FAST, "the clock is too fast");
            rose = $realtime;
            if ((io_i_oe & io_oe) != 0) report(CONTENTION, "host and chip drive the same line");
            if (!quad_enabled && io_i_oe[3] && !io_i[3] && !quad) report(HOLD, "IO3 low holds the chip");
            if (takes) begin
                if ((wanted & ~io_i_oe) != 0) report(FLOATING, "a line floats that the chip reads");
                if ($realtime - changed < SETUP_NS) report(SETUP, "data changed just before the clock");
                shift = quad ? {shift[3:0], io_i} : {shift[6:0], io_i[0]};
                bits = bits + (quad ? 4 : 1);
                if (bits == 8) begin
                    bits = 0;
                    take_byte;
                end
            end else if (phase == DUMMY) begin
                bits = bits + 1;
                if (bits == (opcode == 8'heb ? DUMMY_CLOCKS : 8)) begin
                    bits = 0;
                    phase = OUT;
                    out_first = 1;
                end
            end
        end

    task take_byte;
        begin
            case (phase)
                OPCODE: begin
                    opcode = shift;
                    count = 0;
                    begin_command;
                end
                ADDRESS: begin
                    address = {address[15:0], shift};
                    count = count + 1;
                    if (count == 3) begin
                        count = 0;
                        addresses = addresses + 1;
                        after_address;
                    end
                end
                MODE: begin
                    continuous = shift[5:4] == 2'b10;
                    phase = DUMMY;
                end
                IN: begin
                    if (opcode == 8'h02 || opcode == 8'h32) begin
                        if (page_mask[address[7:0]]) report(PAGE_WRAP, "programs over the end of a page");
                        else if (count > 0 && address[7:0] == 0)
                            report(PAGE_WRAP, "programs over the end of a page");
                        page[address[7:0]] = shift;
                        page_mask[address[7:0]] = 1;
                        address[7:0] = address[7:0] + 1;
                    end
                    count = count + 1;
                end
                default: ;
            endcase
        end
    endtask

    task begin_command;
        begin
            phase = IGNORE;
            if (asleep) begin
                if (opcode != 8'hab && opcode != 8'hff) report(WHILE_ASLEEP, "command in power down");
            end else if ($realtime - woken < WAKE_NS) report(WAKING, "command before the chip has woken");
            else if (busy != 0 && opcode != 8'h05 && opcode != 8'h35) begin
                if (opcode != 8'hff && opcode != 8'hab) report(WHILE_BUSY, "command while the chip is busy");
            end else
                case (opcode)
                    8'hff, 8'hab, 8'hb9, 8'h06, 8'h04, 8'h50: ;
                    8'h03, 8'h0b, 8'h20, 8'hd8, 8'h02: phase = ADDRESS;
                    8'heb, 8'h32: begin
                        phase = ADDRESS;
                        quad = opcode == 8'heb;
                        if (!quad_enabled) report(NOT_QUAD, "quad command without quad enable");
                    end
                    8'h05, 8'h35, 8'h9f: begin
                        phase = OUT;
                        out_first = 1;
                    end
                    8'h01, 8'h31: phase = IN;
                    default: report(UNKNOWN, "unknown command");
                endcase
            if ((opcode == 8'h02 || opcode == 8'h32 || opcode == 8'h20 || opcode == 8'hd8) &&
                phase == ADDRESS && !latch)
                report(NOT_ENABLED, "program or erase without write enable");
            if ((opcode == 8'h01 || opcode == 8'h31) && phase == IN && !latch && !volatile_latch)
                report(NOT_ENABLED, "status write without write enable");
        end
    endtask

    task after_address;
        case (opcode)
            8'h03: begin
                phase = OUT;
                out_first = 1;
            end
            8'h0b: phase = DUMMY;
            8'heb: phase = MODE;
            8'h02, 8'h32: begin
                phase = IN;
                quad = opcode == 8'h32;
            end
            default: phase = IGNORE;
        endcase
    endtask

    // ------------------------------------------------------------------ bits out
    task next_out;
        begin
            case (opcode)
                8'h05: out = status_now;
                8'h35: out = status_2;
                8'h9f: out = count == 0 ? 8'hef : count == 1 ? 8'h40 : 8'h18;
                default: begin
                    out = store[address%SIZE];
                    address = address + 1;
                    reads = reads + 1;
                end
            endcase
            count = count + 1;
        end
    endtask

    always @(negedge sck)
        if (!cs_n && phase == OUT) begin
            if (out_first || bits == 8) begin
                bits = 0;
                next_out;
            end
            out_first = 0;
            if (quad) begin
                io_oe <= 4'b1111;
                io_o <= out[7:4];
                out = {out[3:0], 4'd0};
                bits = bits + 4;
            end else begin
                io_oe <= 4'b0010;
                io_o <= {2'b00, out[7], 1'b0};
                out = {out[6:0], 1'b0};
                bits = bits + 1;
            end
        end

    // ------------------------------------------------------------------ chip select
    always @(negedge cs_n) begin
        if ($realtime - deselected < DESELECT_NS) report(DESELECT, "deselected for too short a time");
        bits = 0;
        count = 0;
        total = 0;
        page_mask = 0;
        quad = continuous;
        phase = continuous ? ADDRESS : OPCODE;
        if (continuous) begin
            opcode = 8'heb;
            if (busy != 0) report(WHILE_BUSY, "read while the chip is busy");
        end
    end

    always @(posedge cs_n) begin
        deselected = $realtime;
        io_oe <= 0;
        if (phase == IN || phase == IGNORE) begin
            if (phase == IN ? bits != 0 : total % 8 != 0) report(CUT_OFF, "deselected within a byte");
            else if (!asleep || opcode == 8'hab) end_command;
        end else if (phase == OPCODE && bits != 0) report(CUT_OFF, "deselected within a command");
        else if (phase == ADDRESS && (opcode == 8'h20 || opcode == 8'h02))
            report(CUT_OFF, "deselected within an address");
    end

    task end_command;
        case (opcode)
            8'hab:
            if (asleep) begin
                asleep = 0;
                woken = $realtime;
            end
            8'hb9: asleep = 1;
            8'h06: if (busy == 0) latch = 1;
            8'h04: latch = 0;
            8'h50: volatile_latch = 1;
            8'h01, 8'h31:
            if (phase == IN && count != 0 && (latch || volatile_latch)) begin
                if (opcode == 8'h31) status_2 = shift;
                else status_1 = {shift[7:2], 2'b00};
                if (latch) busy = PROGRAM_CYCLES;
                latch = 0;
                volatile_latch = 0;
            end
            8'h02, 8'h32: if (phase == IN && count != 0 && latch) program_page;
            8'h20: if (latch && total == 32) erase(4096);
            8'hd8: if (latch && total == 32) erase(65536);
            default: ;
        endcase
    endtask

    task program_page;
        begin
            for (k = 0; k < PAGE; k = k + 1)
                if (page_mask[k]) begin
                    if ((page[k] & ~store[((address&~24'd255)+k)%SIZE]) != 0)
                        report(NOT_ERASED, "programs ones over zeros");
                    store[((address&~24'd255)+k)%SIZE] = store[((address&~24'd255)+k)%SIZE] & page[k];
                end
            latch = 0;
            busy = PROGRAM_CYCLES;
            programs = programs + 1;
        end
    endtask

    task erase(input integer size);
        begin
            for (k = 0; k < size; k = k + 1) store[((address/size)*size+k)%SIZE] = 8'hff;
            latch = 0;
            busy = ERASE_CYCLES;
            erases = erases + 1;
        end
    endtask

    always @(posedge clk) if (busy != 0) busy = busy - 1;

    always @(negedge clk)
        if (!cs_n && (io_i_oe & io_oe) != 0) report(CONTENTION, "host and chip drive the same line");
endmodule
