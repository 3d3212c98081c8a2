// The bench around a core: clock, external memory, and a recorder of scratchpad writes.
//
// It runs a number of samples without the help of Python. All files are in the working folder:
//
//   job.txt      decimal numbers: memory beats, entry, samples, read latency, idle cycles between
//                bursts, stall probability in 1/256, seed, cycles without any
//                progress that count as a hang;
//                then the number of input regions and for each its first beat and its beats;
//                then the same of the output regions
//   image.bin    initial content of the memory, all of it
//   inputs.bin   for each sample, the input regions one after the other
//   outputs.hex  (written) for each sample, the output regions, one beat per line
//   trace.hex    (written) one line per accepted scratchpad write, see `TRACE RECORD` below
//   samples.txt  (written) per sample: cycles from start to done, then all counters
//   status.txt   (written) "ok", or what went wrong
//
// `finished` rises when all is written; `failed` is then 1 if something went wrong.

`timescale 1ns / 1ps

module core_tb #(
    parameter integer BUS_BYTES = 4,
    parameter integer LANES = 4,
    parameter integer COUNTERS = 22
);
    localparam integer BEAT = 8 * BUS_BYTES;
    localparam integer UNITS = 6;
    localparam integer REGIONS = 64;
    localparam integer WIDE_DATA = 16 * LANES;

    reg finished = 0;
    reg failed = 0;
    reg clk = 0;
    reg rst = 1;
    always #5 clk = ~clk;

    // ------------------------------------------------------------------ the core
    reg start = 0;
    reg [31:0] entry = 0;
    wire busy, done, error;
    reg [7:0] counter_addr = 0;
    wire [31:0] counter_data;
    wire cmd_valid, cmd_ready, wdata_valid, wdata_ready, rdata_valid, rdata_ready;
    wire [40:0] cmd;
    wire [BEAT-1:0] wdata, rdata;
    wire [9*LANES+24:0] trace_act;
    wire [17*LANES+24:0] trace_wide;
    wire trace_act_valid, trace_wide_valid;
    wire [UNITS-1:0] trace_done, trace_busy;

    core dut (
        .clk(clk),
        .rst(rst),
        .start(start),
        .entry(entry),
        .busy(busy),
        .done(done),
        .error(error),
        .counter_addr(counter_addr),
        .counter_data(counter_data),
        .mem__cmd__valid(cmd_valid),
        .mem__cmd__ready(cmd_ready),
        .mem__cmd__payload(cmd),
        .mem__wdata__valid(wdata_valid),
        .mem__wdata__ready(wdata_ready),
        .mem__wdata__payload(wdata),
        .mem__rdata__valid(rdata_valid),
        .mem__rdata__ready(rdata_ready),
        .mem__rdata__payload(rdata),
        .trace_act(trace_act),
        .trace_act_valid(trace_act_valid),
        .trace_wide(trace_wide),
        .trace_wide_valid(trace_wide_valid),
        .trace_done(trace_done),
        .trace_busy(trace_busy)
    );

    // ------------------------------------------------------------------ the job
    integer memory_beats, job_entry, samples, latency, gap, stall, seed, idle_limit;
    integer input_regions, output_regions;
    integer input_first[0:REGIONS-1], input_beats[0:REGIONS-1];
    integer output_first[0:REGIONS-1], output_beats[0:REGIONS-1];
    integer inputs_file, outputs_file, trace_file, samples_file;

    burst_memory #(.BUS_BYTES(BUS_BYTES)) memory (
        .clk(clk),
        .rst(rst),
        .latency(latency),
        .gap(gap),
        .stall(stall),
        .seed(seed),
        .cmd_valid(cmd_valid),
        .cmd_ready(cmd_ready),
        .cmd(cmd),
        .wdata_valid(wdata_valid),
        .wdata_ready(wdata_ready),
        .wdata(wdata),
        .rdata_valid(rdata_valid),
        .rdata_ready(rdata_ready),
        .rdata(rdata)
    );

    // ------------------------------------------------------------------ trace
    // TRACE RECORD, hexadecimal digits: sample 4, cycle since start 8, unit 1, instruction of that
    // unit 6, memory 1 (0 act, 1 wide), word 5, lane group 1, mask 4, data 4 per lane (act: the last 2).
    integer sample = 0;
    integer cycle = 0;
    integer quiet = 0;  // cycles since something was seen to happen
    reg [23:0] steps[0:UNITS-1];
    integer u;

    always @(posedge clk) begin
        cycle <= cycle + 1;
        quiet <= start || trace_done != 0 || trace_act_valid || trace_wide_valid ||
            rdata_valid || (wdata_valid && wdata_ready) ? 0 : quiet + 1;
        if (start) begin
            cycle <= 1;
            for (u = 0; u < UNITS; u = u + 1) steps[u] <= 0;
        end else begin
            for (u = 0; u < UNITS; u = u + 1) if (trace_done[u]) steps[u] <= steps[u] + 1;
        end
        if (trace_act_valid)
            $fwrite(trace_file, "%h\n", {
                sample[15:0], cycle, 1'b0, trace_act[2:0], steps[trace_act[2:0]], 4'd0,
                2'd0, trace_act[20:3], trace_act[24:21],
                {16 - LANES{1'b0}}, trace_act[25+:LANES],
                {8 * LANES{1'b0}}, trace_act[25+LANES+:8*LANES]});
        if (trace_wide_valid)
            $fwrite(trace_file, "%h\n", {
                sample[15:0], cycle, 1'b0, trace_wide[2:0], steps[trace_wide[2:0]], 4'd1,
                2'd0, trace_wide[20:3], trace_wide[24:21],
                {16 - LANES{1'b0}}, trace_wide[25+:LANES],
                trace_wide[25+LANES+:WIDE_DATA]});
    end

    // ------------------------------------------------------------------ running
    integer region, i, code, value;
    integer job_file, image_file, status_file;
    reg [BEAT-1:0] beat;

    // Ends the run; what is in the files until here counts.
    task finish(input bad);
        begin
            failed = bad;
            $fclose(outputs_file);
            $fclose(trace_file);
            $fclose(samples_file);
            $fclose(status_file);
            finished = 1;
        end
    endtask

    task read_number(output integer number);
        code = $fscanf(job_file, "%d", number);
    endtask

    // A beat of a binary file: byte 0 is the least significant.
    task read_beat(input integer file);
        integer j;
        begin
            code = $fread(beat, file);
            // $fread puts the first byte into the most significant place.
            for (j = 0; j < BUS_BYTES / 2; j = j + 1) begin
                value = {24'd0, beat[8*j+:8]};
                beat[8*j+:8] = beat[BEAT-8-8*j+:8];
                beat[BEAT-8-8*j+:8] = value[7:0];
            end
        end
    endtask

    task read_job;
        begin
            job_file = $fopen("job.txt", "r");
            read_number(memory_beats);
            read_number(job_entry);
            read_number(samples);
            read_number(latency);
            read_number(gap);
            read_number(stall);
            read_number(seed);
            read_number(idle_limit);
            read_number(input_regions);
            for (region = 0; region < input_regions; region = region + 1) begin
                read_number(input_first[region]);
                read_number(input_beats[region]);
            end
            read_number(output_regions);
            for (region = 0; region < output_regions; region = region + 1) begin
                read_number(output_first[region]);
                read_number(output_beats[region]);
            end
            $fclose(job_file);
        end
    endtask

    task open_files;
        begin
            image_file = $fopen("image.bin", "rb");
            memory.beats = new[memory_beats];
            memory.size = memory_beats;
            for (i = 0; i < memory_beats; i = i + 1) begin
                read_beat(image_file);
                memory.beats[i] = beat;
            end
            $fclose(image_file);
            inputs_file = $fopen("inputs.bin", "rb");
            outputs_file = $fopen("outputs.hex", "w");
            trace_file = $fopen("trace.hex", "w");
            samples_file = $fopen("samples.txt", "w");
            status_file = $fopen("status.txt", "w");
        end
    endtask

    task write_inputs;
        for (region = 0; region < input_regions; region = region + 1)
            for (i = 0; i < input_beats[region]; i = i + 1) begin
                read_beat(inputs_file);
                memory.beats[input_first[region]+i] = beat;
            end
    endtask

    task read_outputs;
        for (region = 0; region < output_regions; region = region + 1)
            for (i = 0; i < output_beats[region]; i = i + 1)
                $fwrite(outputs_file, "%h\n", memory.beats[output_first[region]+i]);
    endtask

    // Everything here happens at falling edges, between those of the core.
    initial begin
        read_job;
        open_files;
        entry = job_entry;
        repeat (4) @(negedge clk);
        rst = 0;
        repeat (2) @(negedge clk);
        while (sample < samples && !finished) begin
            write_inputs;
            start = 1;
            @(negedge clk);
            start = 0;
            // The core shows `done` in cycle `cycle`, counted from `start`.
            while (!done && !error && !memory.fault && quiet < idle_limit) @(negedge clk);
            if (!done || error || memory.fault) begin
                // Kind, sample, cycle, units that hold an instruction, instructions done per unit.
                if (memory.fault) $fwrite(status_file, "memory-fault");
                else if (error) $fwrite(status_file, "unknown-operation");
                else $fwrite(status_file, "hang");
                $fwrite(status_file, " %0d %0d %b", sample, cycle, trace_busy);
                for (i = 0; i < UNITS; i = i + 1) $fwrite(status_file, " %0d", steps[i]);
                $fwrite(status_file, "\n");
                finish(1);
            end else begin
                read_outputs;
                $fwrite(samples_file, "%0d", cycle);
                // Events are counted some cycles late.
                repeat (4) @(negedge clk);
                for (region = 0; region < COUNTERS; region = region + 1) begin
                    counter_addr = region[7:0];
                    repeat (3) @(negedge clk);
                    $fwrite(samples_file, " %0d", counter_data);
                end
                $fwrite(samples_file, "\n");
                $fflush(samples_file);
                sample = sample + 1;
            end
        end
        if (!finished) begin
            $fwrite(status_file, "ok\n");
            finish(0);
        end
    end
endmodule
