// Traffic for an SDRAM controller and its chip (`sdram_pair`), made and checked at simulator speed.
//
// Arguments: +mode (below), +commands, +seed, +stall (probability in 1/256 of a lost cycle at the
// command and at the write data channel). Every read beat is compared with what was written; at the
// end all of the chip's content is compared. Memory begins as a hash of its addresses, put into the
// chip by the mapping that is documented: row, bank, column, byte.
//
// figures.txt (written): cycles from the first command to the last beat, commands, words read,
// words written, wrong words, the chip's violations, their rules as a mask, cycles until awake.
// `finished` rises when it is there; `failed` is then 1 if anything was wrong.

`timescale 1ns / 1ps

module sdram_tb #(
    parameter integer BUS_BYTES = 4,
    parameter integer DATA_BITS = 16,
    parameter integer ROW_BITS = 13,
    parameter integer COL_BITS = 9,
    parameter integer PERIOD_PS = 10000
);
    localparam integer LINEAR_READS = 0;
    localparam integer RANDOM_READS = 1;
    localparam integer MIXED = 2;
    localparam integer LINEAR_WRITES = 3;
    localparam integer RANDOM = 4;
    localparam integer SINGLE_READS = 5;

    localparam integer BEAT = 8 * BUS_BYTES;
    localparam integer WORD_BYTES = DATA_BITS / 8;
    localparam integer WORDS = 4 << (ROW_BITS + COL_BITS);
    localparam integer BEATS = WORDS / BUS_BYTES * WORD_BYTES;
    localparam integer QUEUE = 8192;
    localparam integer HANG = 100000;

    reg finished = 0;
    reg failed = 0;
    reg clk = 0;
    reg rst = 1;
    localparam real HALF = PERIOD_PS / 2000.0;
    always #(HALF) clk = ~clk;

    // ------------------------------------------------------------------ the pair
    reg cmd_valid = 0;
    wire cmd_ready;
    reg [40:0] cmd = 0;
    reg wdata_valid = 0;
    wire wdata_ready;
    reg [BEAT-1:0] wdata = 0;
    wire rdata_valid;
    wire [BEAT-1:0] rdata;
    wire [31:0] violations, seen;

    sdram_pair pair (
        .clk(clk),
        .rst(rst),
        .mem__cmd__valid(cmd_valid),
        .mem__cmd__ready(cmd_ready),
        .mem__cmd__payload(cmd),
        .mem__wdata__valid(wdata_valid),
        .mem__wdata__ready(wdata_ready),
        .mem__wdata__payload(wdata),
        .mem__rdata__valid(rdata_valid),
        .mem__rdata__payload(rdata),
        .violations(violations),
        .seen(seen)
    );

    // ------------------------------------------------------------------ what memory must hold
    reg [DATA_BITS-1:0] flat[0:WORDS-1];

    function automatic [31:0] chip_index(input integer word);
        chip_index = (32'(word) >> COL_BITS & 3) << (ROW_BITS + COL_BITS) |
            (32'(word) >> (COL_BITS + 2)) << COL_BITS | 32'(word) & ((1 << COL_BITS) - 1);
    endfunction

    function automatic [BEAT-1:0] beat_at(input integer beat);
        integer k, at;
        for (k = 0; k < BUS_BYTES; k = k + 1) begin
            at = beat * BUS_BYTES + k;
            beat_at[8*k+:8] = flat[at/WORD_BYTES][8*(at%WORD_BYTES)+:8];
        end
    endfunction

    task set_beat(input integer beat, input [BEAT-1:0] value);
        integer k, at;
        for (k = 0; k < BUS_BYTES; k = k + 1) begin
            at = beat * BUS_BYTES + k;
            flat[at/WORD_BYTES][8*(at%WORD_BYTES)+:8] = value[8*k+:8];
        end
    endtask

    // ------------------------------------------------------------------ random numbers
    reg [63:0] state;
    task step;
        begin
            state = state ^ (state << 13);
            state = state ^ (state >> 7);
            state = state ^ (state << 17);
        end
    endtask

    function automatic [31:0] hash(input integer number);
        reg [31:0] x;
        x = number * 32'h9e3779b1;
        x = (x ^ (x >> 15)) * 32'h85ebca77;
        hash = x ^ (x >> 13);
    endfunction

    // ------------------------------------------------------------------ the job
    integer mode, commands, seed, stall;
    integer issued = 0;
    integer place, length, write_place, other, region;
    integer cycle = 0, begun = 0, ended = 0, awake = 0, quiet = 0;
    longint words_read = 0, words_written = 0, wrong = 0;
    reg [BEAT-1:0] expected[0:QUEUE-1];
    reg [BEAT-1:0] to_write[0:QUEUE-1];
    integer expected_head = 0, expected_tail = 0, write_head = 0, write_tail = 0;
    reg probing = 1, flushing = 0, done = 0;
    reg write;
    integer pause = 0;
    integer i, file;

    // The next command: place (beat), length (beats), write.
    task choose;
        begin
            step;
            write = 0;
            length = 16;
            case (mode)
                LINEAR_READS: begin
                    place = other;
                    other = (other + 16) % BEATS;
                end
                LINEAR_WRITES: begin
                    place = other;
                    other = (other + 16) % BEATS;
                    write = 1;
                end
                RANDOM_READS: place = int'(state[62:32] % 31'(BEATS));
                SINGLE_READS: begin
                    place = int'(state[62:32] % 31'(BEATS));
                    length = 1;
                end
                MIXED: begin
                    // Weights, and after three of their bursts one of activations that are stored.
                    write = issued % 4 == 3;
                    if (write) begin
                        place = write_place;
                        write_place = (write_place + 16) % BEATS;
                    end else begin
                        place = other;
                        other = (other + 16) % BEATS;
                    end
                end
                default: begin
                    write = state[0];
                    length = state[1] ? 1 + int'(state[4:2]) : 1 + int'(state[7:2]) % 16;
                    if (state[15:9] == 0) length = 1 + int'(state[24:17]);
                    // Often near the last one, often in another row of the same bank.
                    if (state[26:25] == 0) place = other + int'(state[60:54]) - 64;
                    else if (state[26:25] == 1)
                        place = other + int'(state[60:54]) * (4 << COL_BITS) * WORD_BYTES / BUS_BYTES;
                    else place = int'(state[62:32] % 31'(BEATS));
                    place = (place % BEATS + BEATS) % BEATS;
                    other = place;
                    step;
                    if (state[31:24] < 2) pause = int'(state[40:32]);
                    if (state[31:20] == 0) pause = 4000;
                end
            endcase
            if (place + length > BEATS) place = BEATS - length;
        end
    endtask

    // The effect of the command that is taken, and what must come of it.
    task take;
        for (i = 0; i < length; i = i + 1) begin
            if (write) begin
                step;
                to_write[write_tail] = BEAT'({state, state, ~state, state});
                set_beat(place + i, to_write[write_tail]);
                write_tail = (write_tail + 1) % QUEUE;
            end else begin
                expected[expected_tail] = beat_at(place + i);
                expected_tail = (expected_tail + 1) % QUEUE;
            end
        end
    endtask

    task offer(input integer beat, input integer beats, input is_write);
        begin
            cmd <= {is_write, 8'(beats - 1), 32'(beat * BUS_BYTES)};
            cmd_valid <= 1;
        end
    endtask

    wire idle = expected_head == expected_tail && write_head == write_tail;
    reg waiting = 0;  // a command is offered

    always @(posedge clk) if (!rst && !finished) begin
        cycle = cycle + 1;
        quiet = rdata_valid || (wdata_valid && wdata_ready) || (cmd_valid && cmd_ready) ? 0 : quiet + 1;
        // What was transferred in this cycle.
        if (rdata_valid) begin
            if (expected_head == expected_tail || rdata !== expected[expected_head]) begin
                if (wrong < 5) $display("sdram_tb: cycle %0d: read %h, not %h", cycle, rdata,
                                        expected[expected_head]);
                wrong = wrong + 1;
            end
            if (expected_head != expected_tail) expected_head = (expected_head + 1) % QUEUE;
            if (!probing && !(flushing && !waiting && expected_head == expected_tail)) words_read = words_read + 1;
            ended = cycle;
        end
        if (wdata_valid && wdata_ready) begin
            words_written = words_written + 1;
            write_head = (write_head + 1) % QUEUE;
        end
        if (cmd_valid && cmd_ready) begin
            if (!probing && !flushing) begin
                if (begun == 0) begun = cycle;
                issued = issued + 1;
            end
            take;
            waiting = 0;
            cmd_valid <= 0;
        end
        step;
        // The next cycle.
        if (probing && expected_tail != 0 && idle && expected_head == expected_tail) begin
            probing = 0;
            awake = cycle;
        end
        if (pause != 0) pause = pause - 1;
        else if (!waiting && !done && {24'd0, state[15:8]} >= stall) begin
            if (probing) begin
                if (expected_tail == 0) begin
                    place = 0;
                    length = 1;
                    write = 0;
                    offer(0, 1, 0);
                    waiting = 1;
                end
            end else if (issued < commands) begin
                // Room for the longest burst in the queues of this bench.
                if ((expected_tail - expected_head + QUEUE) % QUEUE < QUEUE - 600 &&
                    (write_tail - write_head + QUEUE) % QUEUE < QUEUE - 600) begin
                    choose;
                    offer(place, length, write);
                    waiting = 1;
                end
            end else if (!flushing) begin
                // Reads in order: when this one is back, all writes are done.
                flushing = 1;
                place = 0;
                length = 1;
                write = 0;
                offer(0, 1, 0);
                waiting = 1;
            end
        end
        if (flushing && !waiting && expected_head == expected_tail) done = 1;
        if (!(wdata_valid && !wdata_ready)) begin
            wdata_valid <= write_head != write_tail && {24'd0, state[23:16]} >= stall;
            wdata <= to_write[write_head];
        end
        if (done || quiet > HANG) finish;
    end

    task finish;
        begin
            if (quiet > HANG) begin
                $display("sdram_tb: hang in cycle %0d", cycle);
                wrong = wrong + 1;
            end
            for (i = 0; i < WORDS; i = i + 1)
                if (pair.chip.mem[chip_index(i)] !== flat[i]) wrong = wrong + 1;
            file = $fopen("figures.txt", "w");
            $fwrite(file, "%0d %0d %0d %0d %0d %0d %0d %0d\n", ended - begun, issued, words_read,
                    words_written, wrong, violations, seen, awake);
            $fclose(file);
            failed = wrong != 0 || violations != 0;
            finished = 1;
        end
    endtask

    initial begin
        if (!$value$plusargs("mode=%d", mode)) mode = LINEAR_READS;
        if (!$value$plusargs("commands=%d", commands)) commands = 1000;
        if (!$value$plusargs("seed=%d", seed)) seed = 1;
        if (!$value$plusargs("stall=%d", stall)) stall = 0;
        state = {32'h9e3779b9, 32'(seed)};
        repeat (20) step;
        other = int'(state[62:32] % 31'(BEATS));
        write_place = (other + BEATS / 2 + 1000) % BEATS;
        for (i = 0; i < WORDS; i = i + 1) begin
            flat[i] = DATA_BITS'(hash(i));
            pair.chip.mem[chip_index(i)] = flat[i];
        end
        repeat (4) @(negedge clk);
        rst = 0;
    end
endmodule
