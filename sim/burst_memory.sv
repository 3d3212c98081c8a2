// External memory behind the core's burst port, accurate to the cycle.
//
// Commands are taken in order, up to OUTSTANDING at a time. A read that is taken in cycle t has its
// first beat in cycle t + latency at the earliest, a write takes its first beat from cycle t + 1
// on; then one beat per cycle. Commands share the data channel: the next one begins `gap` cycles
// after the last beat of the one before. With `stall` > 0 every cycle is lost with
// probability stall/256, on the data channel and on the command channel independently.
//
// `fault` rises, and stays, when the core breaks the rules of the port.

`timescale 1ns / 1ps

module burst_memory #(
    parameter integer BUS_BYTES = 4,
    parameter integer OUTSTANDING = 8
) (
    input wire clk,
    input wire rst,
    input wire [31:0] latency,
    input wire [31:0] gap,
    input wire [31:0] stall,
    input wire [31:0] seed,
    input wire cmd_valid,
    output reg cmd_ready,
    input wire [40:0] cmd,
    input wire wdata_valid,
    output reg wdata_ready,
    input wire [8*BUS_BYTES-1:0] wdata,
    output reg rdata_valid,
    input wire rdata_ready,
    output reg [8*BUS_BYTES-1:0] rdata
);
    localparam integer SHIFT = $clog2(BUS_BYTES);

    reg [8*BUS_BYTES-1:0] beats[];
    reg [31:0] size = 0;
    reg fault = 0;

    // Commands that were taken and not begun: first beat, beats, direction, earliest cycle.
    reg [31:0] queue_first[0:OUTSTANDING-1];
    reg [8:0] queue_beats[0:OUTSTANDING-1];
    reg queue_write[0:OUTSTANDING-1];
    reg [31:0] queue_due[0:OUTSTANDING-1];
    reg [31:0] head, tail, waiting;

    // The command on the data channel.
    reg active, write;
    reg [31:0] place, left, idle, now;
    reg [31:0] random;
    reg [40:0] asked;
    reg held;

    function [31:0] next_random(input [31:0] state);
        reg [31:0] x;
        begin
            x = state ^ (state << 13);
            x = x ^ (x >> 17);
            next_random = x ^ (x << 5);
        end
    endfunction

    task report(input [8*40-1:0] message);
        begin
            if (!fault) $display("burst port, cycle %0d: %0s", now, message);
            fault = 1;
        end
    endtask

    task take_command;
        begin
            if ((cmd[31:0] & (BUS_BYTES - 1)) != 0) report("address is not a multiple of a beat");
            if ((cmd[31:0] >> SHIFT) + {24'd0, cmd[39:32]} >= size) report("address past the memory's end");
            queue_first[tail] = cmd[31:0] >> SHIFT;
            queue_beats[tail] = cmd[39:32] + 1;
            queue_write[tail] = cmd[40];
            queue_due[tail] = cmd[40] ? now + 1 : now + latency;
            tail = (tail + 1) % OUTSTANDING;
            waiting = waiting + 1;
        end
    endtask

    task begin_command;
        begin
            place = queue_first[head];
            left = {23'd0, queue_beats[head]};
            write = queue_write[head];
            head = (head + 1) % OUTSTANDING;
            waiting = waiting - 1;
            active = 1;
        end
    endtask

    always @(posedge clk) begin
        if (rst) begin
            head = 0;
            tail = 0;
            waiting = 0;
            active = 0;
            write = 0;
            idle = 0;
            now = 0;
            held = 0;
            random = seed | 32'h1;
            cmd_ready <= 0;
            wdata_ready <= 0;
            rdata_valid <= 0;
        end else begin
            // What was transferred in this cycle.
            if (held && (!cmd_valid || cmd !== asked)) report("command changed before it was taken");
            held = cmd_valid && !cmd_ready;
            asked = cmd;
            if (cmd_valid && cmd_ready) take_command;
            if (rdata_valid && !rdata_ready) report("read data was not taken");
            if (rdata_valid || (wdata_valid && wdata_ready)) begin
                if (write && place < size) beats[place] = wdata;
                place = place + 1;
                left = left - 1;
            end
            // The next cycle.
            if (active && left == 0) begin
                active = 0;
                idle = gap;
            end else if (idle != 0) idle = idle - 1;
            if (!active && idle == 0 && waiting != 0 && queue_due[head] <= now + 1) begin_command;
            if (stall != 0) random = next_random(random);
            cmd_ready <= waiting < OUTSTANDING && {24'd0, random[23:16]} >= stall;
            wdata_ready <= active && write && {24'd0, random[15:8]} >= stall;
            rdata_valid <= active && !write && {24'd0, random[15:8]} >= stall && !fault;
            rdata <= active && !write && place < size ? beats[place] : 0;
            now = now + 1;
        end
    end
endmodule
