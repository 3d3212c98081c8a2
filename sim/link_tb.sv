// The bench around the link's controller: bytes from a file or from cocotb, external memory, and a
// small thing in the place of a core.
//
// Files in the working folder:
//
//   job.txt       decimal numbers: memory beats, read latency, stall probability in 1/256, seed,
//                 cycles from byte to byte into the controller, and out of it
//   image.bin     initial content of the memory, all of it
//   stimulus.txt  (not with +interactive) one line each, X hexadecimal, N decimal:
//                   b X  a byte     w N  wait until nothing was answered for N cycles
//                   p N  N cycles without a byte      e 0  an error on the line
//                   d N  memory answers (0), or not (1)
//   answers.txt   (written) a line per byte: its cycle and the byte; "m" where a `w` ended
//   memory.hex    (written at the end) the memory, one beat per line
//   status.txt    (written) "ok", or what went wrong
//
// With +interactive cocotb hands over `push_count` bytes in `push` and changes `go`; the bench
// runs for `steps` cycles, leaves what was answered in `pull`, and lets `went` follow.

`timescale 1ns / 1ps

// In the place of a core: reads 16 bytes at `entry` (source, target, bytes, cycles to wait), waits,
// copies with every bit inverted, reads on a little as an instruction fetch does, and is done.
// Wait for ever: bytes = 32'hFFFFFFFF. An error: source = 32'hFFFFFFFF.
module link_core #(
    parameter integer BUS_BYTES = 4
) (
    input wire clk,
    input wire rst,
    input wire start,
    input wire [31:0] entry,
    output reg busy,
    output reg done,
    output reg error,
    input wire [7:0] counter_addr,
    output wire [31:0] counter_data,
    output reg cmd_valid,
    input wire cmd_ready,
    output reg [40:0] cmd,
    output reg wdata_valid,
    input wire wdata_ready,
    output reg [8*BUS_BYTES-1:0] wdata,
    input wire rdata_valid,
    input wire [8*BUS_BYTES-1:0] rdata
);
    reg [127:0] job;
    reg [31:0] cycles, at, left, wait_left, begun_at;
    reg [3:0] state;
    integer got;
    reg [31:0] counter_1, counter_2, counter_3;
    assign counter_data = counter_3;

    localparam integer BEATS = 16 / BUS_BYTES;

    always @(posedge clk) begin
        counter_1 <= counter_addr == 0 ? cycles : {24'hC0FFEE, counter_addr};
        counter_2 <= counter_1;
        counter_3 <= counter_2;
        done <= 0;
        if (rst) begin
            busy <= 0;
            error <= 0;
            cmd_valid <= 0;
            wdata_valid <= 0;
            state <= 0;
            cycles <= 0;
        end else begin
            if (busy) cycles <= cycles + 1;
            case (state)
                0: if (start && !busy) begin
                    busy <= 1;
                    error <= 0;
                    cycles <= 0;
                    got <= 0;
                    begun_at <= entry;
                    cmd <= {1'b0, 8'(BEATS - 1), entry};
                    cmd_valid <= 1;
                    state <= 1;
                end
                1: begin
                    if (cmd_valid && cmd_ready) cmd_valid <= 0;
                    if (rdata_valid) begin
                        job[got*8*BUS_BYTES +: 8*BUS_BYTES] <= rdata;
                        got <= got + 1;
                        if (got == BEATS - 1) state <= 2;
                    end
                end
                2: begin
                    at <= 0;
                    left <= job[95:64];
                    wait_left <= job[127:96];
                    state <= 3;
                    if (job[31:0] == 32'hFFFFFFFF) begin
                        error <= 1;
                        done <= 1;
                        busy <= 0;
                        state <= 0;
                    end
                end
                3: begin
                    if (left != 32'hFFFFFFFF) wait_left <= wait_left - 1;
                    if (wait_left == 0) state <= left == 0 ? 8 : 4;
                end
                4: begin
                    cmd <= {1'b0, 8'd0, job[31:0] + at};
                    cmd_valid <= 1;
                    state <= 5;
                end
                5: begin
                    if (cmd_valid && cmd_ready) cmd_valid <= 0;
                    if (rdata_valid) begin
                        wdata <= ~rdata;
                        cmd <= {1'b1, 8'd0, job[63:32] + at};
                        cmd_valid <= 1;
                        state <= 6;
                    end
                end
                6: if (cmd_ready) begin
                    cmd_valid <= 0;
                    wdata_valid <= 1;
                    state <= 7;
                end
                7: if (wdata_ready) begin
                    wdata_valid <= 0;
                    at <= at + BUS_BYTES;
                    left <= left - BUS_BYTES;
                    state <= left == BUS_BYTES ? 8 : 4;
                end
                8: begin
                    cmd <= {1'b0, 8'd7, begun_at};
                    cmd_valid <= 1;
                    got <= 0;
                    state <= 9;
                end
                default: begin
                    if (cmd_valid && cmd_ready) cmd_valid <= 0;
                    if (rdata_valid) begin
                        got <= got + 1;
                        if (got == 7) begin
                            done <= 1;
                            busy <= 0;
                            state <= 0;
                        end
                    end
                end
            endcase
        end
    end
endmodule

module link_tb #(
    parameter integer BUS_BYTES = 4
);
    localparam integer BEAT = 8 * BUS_BYTES;
    localparam integer CHUNK = 256;
    localparam integer PATIENCE = 64;  // cycles within which a byte must be taken

    reg finished = 0;
    reg failed = 0;
    reg clk = 0;
    reg rst = 1;
    always #5 clk = ~clk;

    reg i_valid = 0;
    reg [7:0] i_payload = 0;
    reg o_ready = 0;
    reg line_error = 0;
    reg dead = 0;
    wire i_ready, o_valid, start, busy, done, error, link_reset;
    wire [7:0] o_payload, counter_addr;
    wire [31:0] entry, base, counter_data;

    wire core_cmd_valid, core_cmd_ready, core_wdata_valid, core_wdata_ready, core_rdata_valid;
    wire [40:0] core_cmd;
    wire [BEAT-1:0] core_wdata, core_rdata;
    wire cmd_valid, cmd_ready, wdata_valid, wdata_ready, rdata_valid, rdata_ready;
    wire [40:0] cmd;
    wire [BEAT-1:0] wdata, rdata;

    link dut (
        .clk(clk),
        .rst(rst),
        .i__valid(i_valid),
        .i__ready(i_ready),
        .i__payload(i_payload),
        .o__valid(o_valid),
        .o__ready(o_ready),
        .o__payload(o_payload),
        .line_error(line_error),
        .start(start),
        .entry(entry),
        .busy(busy),
        .done(done),
        .error(error),
        .counter_addr(counter_addr),
        .counter_data(counter_data),
        .base(base),
        .reset(link_reset),
        .core_mem__cmd__valid(core_cmd_valid),
        .core_mem__cmd__ready(core_cmd_ready),
        .core_mem__cmd__payload(core_cmd),
        .core_mem__wdata__valid(core_wdata_valid),
        .core_mem__wdata__ready(core_wdata_ready),
        .core_mem__wdata__payload(core_wdata),
        .core_mem__rdata__valid(core_rdata_valid),
        .core_mem__rdata__ready(1'b1),
        .core_mem__rdata__payload(core_rdata),
        .mem__cmd__valid(cmd_valid),
        .mem__cmd__ready(cmd_ready && !dead),
        .mem__cmd__payload(cmd),
        .mem__wdata__valid(wdata_valid),
        .mem__wdata__ready(wdata_ready),
        .mem__wdata__payload(wdata),
        .mem__rdata__valid(rdata_valid),
        .mem__rdata__ready(rdata_ready),
        .mem__rdata__payload(rdata)
    );

    link_core #(.BUS_BYTES(BUS_BYTES)) core (
        .clk(clk),
        .rst(rst || link_reset),
        .start(start),
        .entry(entry),
        .busy(busy),
        .done(done),
        .error(error),
        .counter_addr(counter_addr),
        .counter_data(counter_data),
        .cmd_valid(core_cmd_valid),
        .cmd_ready(core_cmd_ready),
        .cmd(core_cmd),
        .wdata_valid(core_wdata_valid),
        .wdata_ready(core_wdata_ready),
        .wdata(core_wdata),
        .rdata_valid(core_rdata_valid),
        .rdata(core_rdata)
    );

    integer memory_beats, latency, stall, seed, in_gap, out_gap;

    burst_memory #(.BUS_BYTES(BUS_BYTES)) memory (
        .clk(clk),
        .rst(rst || link_reset),
        .latency(latency),
        .gap(0),
        .stall(stall),
        .seed(seed),
        .cmd_valid(cmd_valid && !dead),
        .cmd_ready(cmd_ready),
        .cmd(cmd),
        .wdata_valid(wdata_valid),
        .wdata_ready(wdata_ready),
        .wdata(wdata),
        .rdata_valid(rdata_valid),
        .rdata_ready(rdata_ready),
        .rdata(rdata)
    );

    // ------------------------------------------------------------------ answers
    integer cycle = 0;
    integer quiet = 0;  // cycles since the last byte was answered
    integer out_left = 0;
    integer answers_file;
    reg [7:0] answered[$];
    reg interactive = 0;

    always @(posedge clk) begin
        cycle <= cycle + 1;
        quiet <= quiet + 1;
        if (o_valid && o_ready) begin
            quiet <= 0;
            if (interactive) answered.push_back(o_payload);
            else $fwrite(answers_file, "%0d %h\n", cycle, o_payload);
        end
        o_ready <= out_left == 0;
        out_left <= out_left == 0 ? out_gap - 1 : out_left - 1;
    end

    // ------------------------------------------------------------------ running
    integer job_file, image_file, status_file, memory_file, stimulus_file;
    integer i, j, code, number, waited;
    reg [8*2-1:0] kind;
    reg [BEAT-1:0] beat;
    reg [7:0] byte_;

    task read_number(output integer result);
        code = $fscanf(job_file, "%d", result);
    endtask

    task open_files;
        begin
            job_file = $fopen("job.txt", "r");
            read_number(memory_beats);
            read_number(latency);
            read_number(stall);
            read_number(seed);
            read_number(in_gap);
            read_number(out_gap);
            $fclose(job_file);
            memory.beats = new[memory_beats];
            memory.size = memory_beats;
            image_file = $fopen("image.bin", "rb");
            for (i = 0; i < memory_beats; i = i + 1) begin
                for (j = 0; j < BUS_BYTES; j = j + 1) begin
                    code = $fread(byte_, image_file);
                    beat[8*j+:8] = byte_;
                end
                memory.beats[i] = beat;
            end
            $fclose(image_file);
            answers_file = $fopen("answers.txt", "w");
            status_file = $fopen("status.txt", "w");
        end
    endtask

    // Hand one byte over; it must be taken soon.
    task send(input [7:0] value);
        begin
            i_valid = 1;
            i_payload = value;
            waited = 0;
            #1;
            while (!i_ready && waited < PATIENCE) begin
                @(negedge clk);
                #1;
                waited = waited + 1;
            end
            if (waited == PATIENCE) stop("a byte was not taken");
            @(negedge clk);
            i_valid = 0;
            repeat (in_gap - 1) @(negedge clk);
        end
    endtask

    task stop(input [8*24-1:0] message);
        if (!finished) begin
            failed = 1;
            $fwrite(status_file, "%0s in cycle %0d\n", message, cycle);
            finish;
        end
    endtask

    task finish;
        begin
            memory_file = $fopen("memory.hex", "w");
            for (i = 0; i < memory_beats; i = i + 1) $fwrite(memory_file, "%h\n", memory.beats[i]);
            $fclose(memory_file);
            $fclose(answers_file);
            $fclose(status_file);
            finished = 1;
        end
    endtask

    task play;
        begin
            stimulus_file = $fopen("stimulus.txt", "r");
            while (!finished && !$feof(stimulus_file)) begin
                code = $fscanf(stimulus_file, "%s", kind);
                if (code == 1) begin
                    if (kind[7:0] == "b") begin
                        code = $fscanf(stimulus_file, "%h", byte_);
                        send(byte_);
                    end else begin
                        code = $fscanf(stimulus_file, "%d", number);
                        case (kind[7:0])
                            "w": begin
                                quiet = 0;
                                while (quiet < number) @(negedge clk);
                                $fwrite(answers_file, "m\n");
                            end
                            "p": repeat (number) @(negedge clk);
                            "e": begin
                                line_error = 1;
                                @(negedge clk);
                                line_error = 0;
                            end
                            default: dead = number[0];
                        endcase
                    end
                end
                if (memory.fault) stop("a fault at memory");
            end
            $fclose(stimulus_file);
        end
    endtask

    // ------------------------------------------------------------------ with cocotb
    reg [8*CHUNK-1:0] push = 0;
    reg [8*CHUNK-1:0] pull = 0;
    integer push_count = 0;
    integer pull_count = 0;
    integer steps = 0;
    reg go = 0;
    reg went = 0;
    reg quit = 0;
    reg [7:0] sent[$];

    task converse;
        while (!quit) begin
            while (go == went) @(negedge clk);
            for (i = 0; i < push_count; i = i + 1) sent.push_back(push[8*i+:8]);
            number = cycle + steps;
            @(negedge clk);
            while (!finished && $signed(cycle - number) < 0)
                if (sent.size() != 0) send(sent.pop_front());
                else @(negedge clk);
            if (memory.fault) stop("a fault at memory");
            pull_count = 0;
            while (pull_count < CHUNK && answered.size() != 0) begin
                pull[8*pull_count+:8] = answered.pop_front();
                pull_count = pull_count + 1;
            end
            went = go;
        end
    endtask

    initial begin
        interactive = $test$plusargs("interactive") != 0;
        open_files;
        repeat (4) @(negedge clk);
        rst = 0;
        repeat (2) @(negedge clk);
        if (interactive) converse;
        else play;
        if (!finished) begin
            $fwrite(status_file, "ok\n");
            finish;
        end
    end
endmodule
