// An SDR SDRAM chip with four banks, and a check of every rule of its data sheet.
//
// Pins have the chip's own polarity (cs_n, ras_n, cas_n, we_n low active); the data bus is split:
// `dq_in`, `dq_in_oe` from the controller, `dq_out`, `dq_out_oe` to it. While the chip does not
// drive, `dq_out` holds noise.
//
// A word that is asked for at one rising edge of `clk` stands at `dq_out` right after the edge
// CAS latency - 1 later, until the next one. Access and hold times within the cycle are not modelled.
//
// Times are taken from the simulation ($realtime) and compared with the parameters, in ps and so
// in whole numbers: the model knows nothing of the controller's clock or of its cycles. A broken
// rule is counted in `violations`, marked in `seen` (bit = number of the rule, below), counted by
// rule in `counts`, and said in words, the first times, on standard output ("sdram: ...").
//
// Burst length 1 only; no auto precharge, no self refresh, no power-down: asking for them is a
// violation, too.

`timescale 1ns / 1ps

module sdram #(
    parameter integer DATA_BITS = 16,
    parameter integer ROW_BITS = 13,
    parameter integer COL_BITS = 9,
    // The data sheet's times, in ps.
    parameter integer T_RCD = 21000,
    parameter integer T_RP = 21000,
    parameter integer T_RAS = 42000,
    parameter integer T_RAS_MAX = 120000000,
    parameter integer T_RC = 63000,
    parameter integer T_RFC = 63000,
    parameter integer T_WR = 14000,
    parameter integer WR_CLOCKS = 2,
    parameter integer T_RRD = 14000,
    parameter integer T_MRD = 14000,
    parameter integer MRD_CLOCKS = 2,
    parameter integer T_HZ = 5400,
    // Shortest clock periods by CAS latency; 0: the chip has none of that.
    parameter integer T_CK2 = 10000,
    parameter integer T_CK3 = 7000,
    parameter integer POWER_UP = 200000000,
    parameter integer INIT_REFRESHES = 8,
    // The time in which every row must be refreshed, in ns, and the refreshes that takes.
    parameter integer REFRESH_NS = 64000000,
    parameter integer REFRESH_ROWS = 8192,
    // How many intervals a refresh may come late.
    parameter integer REFRESH_SLACK = 2,
    parameter integer MESSAGES = 20
) (
    input wire clk,
    input wire clk_en,
    input wire cs_n,
    input wire ras_n,
    input wire cas_n,
    input wire we_n,
    input wire [1:0] ba,
    input wire [ROW_BITS-1:0] a,
    input wire [DATA_BITS/8-1:0] dqm,
    input wire [DATA_BITS-1:0] dq_in,
    input wire dq_in_oe,
    output reg [DATA_BITS-1:0] dq_out,
    output reg dq_out_oe,
    output reg [31:0] violations,
    output reg [31:0] seen
);
    localparam integer BYTES = DATA_BITS / 8;
    localparam integer WORDS = 4 << (ROW_BITS + COL_BITS);
    localparam integer RULES = 24;

    // ------------------------------------------------------------------ the rules
    localparam integer POWER_UP_WAIT = 0;
    localparam integer NOT_INITIALIZED = 1;
    localparam integer MODE = 2;
    localparam integer MRD = 3;
    localparam integer ROW_IS_OPEN = 4;
    localparam integer RP = 5;
    localparam integer RC = 6;
    localparam integer RRD = 7;
    localparam integer RFC = 8;
    localparam integer ROW_IS_CLOSED = 9;
    localparam integer RCD = 10;
    localparam integer RAS = 11;
    localparam integer RAS_MAX = 12;
    localparam integer WR = 13;
    localparam integer REFRESH_WITH_OPEN_ROW = 14;
    localparam integer REFRESH_LATE = 15;
    localparam integer CONTENTION = 16;
    localparam integer NO_WRITE_DATA = 17;
    localparam integer CLOCK_TOO_FAST = 18;
    localparam integer COLUMN = 19;
    localparam integer CLOCK_ENABLE = 20;
    localparam integer AUTO_PRECHARGE = 21;
    localparam integer UNKNOWN_COMMAND = 22;
    localparam integer ROW_NOT_REFRESHED = 23;

    reg [31:0] counts[0:RULES-1];
    reg [DATA_BITS-1:0] mem[0:WORDS-1];  // {bank, row, column}

    // ------------------------------------------------------------------ state
    // Times in ps since the start of the simulation.
    longint now, last_edge, period, first_edge;
    longint activated[0:3], precharged[0:3], written[0:3];
    longint any_activated, refreshed, mode_set, driven_until, awake_since;
    longint cycle, mode_cycle;
    longint written_cycle[0:3];
    longint refreshes;
    longint refresh_times[0:REFRESH_ROWS-1];
    reg [3:0] open;
    reg [ROW_BITS-1:0] row[0:3];
    reg clock_runs, all_precharged, mode_known, was_late;
    integer init_refreshes;
    reg [2:0] cas_latency;

    // Reads under way: word and masks for the edges to come.
    reg [2:0] pending;
    reg [DATA_BITS-1:0] pending_word[0:2];
    reg [BYTES-1:0] mask_before;  // dqm of the edge before this one: outputs obey two edges later
    reg [BYTES-1:0] mask_now;
    reg [31:0] noise;
    integer i;

    localparam longint NEVER = -64'd1_000_000_000_000;
    localparam longint REFRESH_PS = 64'(REFRESH_NS) * 1000;
    localparam longint INTERVAL = REFRESH_PS / 64'(REFRESH_ROWS);

    initial begin
        violations = 0;
        seen = 0;
        for (i = 0; i < RULES; i = i + 1) counts[i] = 0;
        open = 0;
        for (i = 0; i < 4; i = i + 1) begin
            activated[i] = NEVER;
            precharged[i] = NEVER;
            written[i] = NEVER;
            written_cycle[i] = -100;
            row[i] = 0;
        end
        any_activated = NEVER;
        refreshed = NEVER;
        mode_set = NEVER;
        mode_cycle = -100;
        driven_until = NEVER;
        awake_since = 0;
        refreshes = 0;
        cycle = 0;
        last_edge = 0;
        first_edge = 0;
        period = 0;
        clock_runs = 0;
        all_precharged = 0;
        mode_known = 0;
        was_late = 0;
        init_refreshes = 0;
        cas_latency = 0;
        pending = 0;
        mask_before = 0;
        mask_now = 0;
        dq_out = 0;
        dq_out_oe = 0;
        noise = 32'h2545f491;
    end

    // ------------------------------------------------------------------ reports
    task violation(input integer rule, input string text);
        begin
            violations = violations + 1;
            seen[rule] = 1;
            counts[rule] = counts[rule] + 1;
            if (violations <= MESSAGES) $display("sdram: %0d ps: %s", now, text);
        end
    endtask

    // At least `least` ps since `event_time`.
    task at_least(input integer rule, input longint event_time, input integer least,
                  input string what);
        if (now - event_time < 64'(least))
            violation(rule, $sformatf("%s: %0d ps, not %0d", what, now - event_time, least));
    endtask

    // ------------------------------------------------------------------ commands
    task check_idle_command(input string name);
        begin
            // What no command but a NOP may break.
            at_least(RFC, refreshed, T_RFC, {"tRFC: ", name, " after a refresh"});
            at_least(MRD, mode_set, T_MRD, {"tMRD: ", name, " after a mode register set"});
            if (cycle - mode_cycle < 64'(MRD_CLOCKS) && now - mode_set >= 64'(T_MRD))
                violation(MRD, {"tMRD: ", name, " too few clocks after a mode register set"});
        end
    endtask

    task check_initialized(input string name);
        if (!mode_known) violation(NOT_INITIALIZED, {name, " before the mode register is set"});
    endtask

    task do_activate;
        begin
            check_initialized("activate");
            if (open[ba]) violation(ROW_IS_OPEN, $sformatf("activate: bank %0d has an open row", ba));
            at_least(RP, precharged[ba], T_RP, $sformatf("tRP: activate of bank %0d", ba));
            at_least(RC, activated[ba], T_RC, $sformatf("tRC: activate of bank %0d", ba));
            at_least(RRD, any_activated, T_RRD, $sformatf("tRRD: activate of bank %0d", ba));
            open[ba] = 1;
            row[ba] = a;
            activated[ba] = now;
            any_activated = now;
        end
    endtask

    task close_bank(input integer bank);
        if (open[bank]) begin
            at_least(RAS, activated[bank], T_RAS, $sformatf("tRAS: precharge of bank %0d", bank));
            if (now - activated[bank] > 64'(T_RAS_MAX))
                violation(RAS_MAX, $sformatf("tRAS: bank %0d was open for %0d ps", bank,
                                             now - activated[bank]));
            at_least(WR, written[bank], T_WR, $sformatf("tWR: precharge of bank %0d", bank));
            if (cycle - written_cycle[bank] < 64'(WR_CLOCKS) && now - written[bank] >= 64'(T_WR))
                violation(WR, $sformatf("tWR: precharge of bank %0d after too few clocks", bank));
            open[bank] = 0;
            precharged[bank] = now;
        end
    endtask

    task do_precharge;
        if (a[10]) begin
            for (i = 0; i < 4; i = i + 1) close_bank(i);
            if (!mode_known) for (i = 0; i < 4; i = i + 1) precharged[i] = now;
            all_precharged = 1;
        end else close_bank({30'd0, ba});
    endtask

    task do_refresh;
        begin
            if (!all_precharged) violation(NOT_INITIALIZED, "refresh before a precharge of all banks");
            if (open != 0)
                violation(REFRESH_WITH_OPEN_ROW, $sformatf("refresh: banks %b have open rows", open));
            for (i = 0; i < 4; i = i + 1) begin
                at_least(RP, precharged[i], T_RP, $sformatf("tRP: refresh after bank %0d's", i));
                at_least(RC, activated[i], T_RC, $sformatf("tRC: refresh after bank %0d's", i));
            end
            // The refresh so many ones ago was of the same row.
            if (mode_known && refreshes >= 64'(REFRESH_ROWS) &&
                now - refresh_times[int'(refreshes % 64'(REFRESH_ROWS))] > REFRESH_PS)
                violation(ROW_NOT_REFRESHED, "a row was refreshed later than it must be");
            refresh_times[int'(refreshes % 64'(REFRESH_ROWS))] = now;
            refreshed = now;
            refreshes = refreshes + 1;
            was_late = 0;
            if (!mode_known) init_refreshes = init_refreshes + 1;
        end
    endtask

    task do_mode;
        begin
            if (!all_precharged || init_refreshes < INIT_REFRESHES)
                violation(NOT_INITIALIZED, "mode register set before precharge and refreshes");
            if (open != 0) violation(MODE, "mode register set with open rows");
            for (i = 0; i < 4; i = i + 1)
                at_least(RP, precharged[i], T_RP, "tRP: mode register set");
            if (a[2:0] != 0) violation(MODE, "mode register: only burst length 1 is modelled");
            if (a[6:4] != 2 && a[6:4] != 3) violation(MODE, "mode register: CAS latency is not 2 or 3");
            if (a[8:7] != 0 || (a >> 10) != 0 || ba != 0)
                violation(MODE, "mode register: reserved bits are not 0");
            cas_latency = a[6:4];
            if (!mode_known) begin
                awake_since = now;
                refreshes = 0;
            end
            mode_known = 1;
            mode_set = now;
            mode_cycle = cycle;
        end
    endtask

    task check_column(input string name);
        begin
            check_initialized(name);
            if (!open[ba]) violation(ROW_IS_CLOSED, $sformatf("%s: bank %0d has no open row", name, ba));
            at_least(RCD, activated[ba], T_RCD, $sformatf("tRCD: %s of bank %0d", name, ba));
            if (a[10]) violation(AUTO_PRECHARGE, {name, ": auto precharge is not modelled"});
            if ((a[9:0] >> COL_BITS) != 0) violation(COLUMN, {name, ": there is no such column"});
        end
    endtask

    function automatic [31:0] place;
        place = {30'd0, ba} << (ROW_BITS + COL_BITS) | {{32 - ROW_BITS{1'b0}}, row[ba]} << COL_BITS |
            ({22'd0, a[9:0]} & ((1 << COL_BITS) - 1));
    endfunction

    task do_read;
        begin
            check_column("read");
            // Position 0 goes out at the next edge.
            if (cas_latency != 0) begin
                pending[cas_latency-2] = 1;
                pending_word[cas_latency-2] = mem[place()];
            end
        end
    endtask

    task do_write;
        begin
            check_column("write");
            if (!dq_in_oe && dqm != {BYTES{1'b1}}) violation(NO_WRITE_DATA, "write: no data on the bus");
            for (i = 0; i < BYTES; i = i + 1)
                if (!dqm[i]) mem[place()][8*i+:8] = dq_in[8*i+:8];
            written[ba] = now;
            written_cycle[ba] = cycle;
        end
    endtask

    // ------------------------------------------------------------------ the clock
    task check_clock;
        begin
            if (clock_runs) begin
                period = now - last_edge;
                // 2 ps for the rounding of the clock's own edges.
                if (mode_known && cas_latency == 2 && (T_CK2 == 0 || period + 2 < 64'(T_CK2)))
                    violation(CLOCK_TOO_FAST, $sformatf("tCK: period of %0d ps at latency 2", period));
                if (mode_known && cas_latency == 3 && (T_CK3 == 0 || period + 2 < 64'(T_CK3)))
                    violation(CLOCK_TOO_FAST, $sformatf("tCK: period of %0d ps at latency 3", period));
            end else first_edge = now;
            clock_runs = 1;
            last_edge = now;
            cycle = cycle + 1;
        end
    endtask

    task check_refresh;
        if (mode_known && !was_late &&
            now - awake_since > (refreshes + 64'(REFRESH_SLACK)) * INTERVAL) begin
            violation(REFRESH_LATE, $sformatf("refresh %0d is late", refreshes));
            was_late = 1;
        end
    endtask

    // What the chip drives from this edge on.
    task drive;
        begin
            noise = noise ^ (noise << 13);
            noise = noise ^ (noise >> 17);
            noise = noise ^ (noise << 5);
            dq_out = noise[DATA_BITS-1:0];
            if (dq_out_oe) driven_until = now + 64'(T_HZ);  // the word before this edge
            dq_out_oe = pending[0] && mask_before != {BYTES{1'b1}};
            if (pending[0])
                for (i = 0; i < BYTES; i = i + 1)
                    if (!mask_before[i]) dq_out[8*i+:8] = pending_word[0][8*i+:8];
            if (dq_out_oe && dq_in_oe) violation(CONTENTION, "both drive the bus: read data begin");
            pending = pending >> 1;
            pending_word[0] = pending_word[1];
            pending_word[1] = pending_word[2];
        end
    endtask

    always @(posedge clk) begin
        now = longint'($realtime * 1000.0);
        check_clock;
        if (dq_out_oe && dq_in_oe) violation(CONTENTION, "both drive the bus");
        check_refresh;
        mask_before = mask_now;
        mask_now = dqm;
        drive;
        if (!clk_en) begin
            if (mode_known) violation(CLOCK_ENABLE, "clock enable is low: not modelled");
        end else if (!cs_n && {ras_n, cas_n, we_n} != 3'b111) begin
            if (now - first_edge < 64'(POWER_UP)) begin
                if (!mode_known) violation(POWER_UP_WAIT, "a command too soon after power-up");
            end
            check_idle_command(command_name());
            case ({ras_n, cas_n, we_n})
                3'b011: do_activate;
                3'b010: do_precharge;
                3'b001: do_refresh;
                3'b000: do_mode;
                3'b101: do_read;
                3'b100: do_write;
                default: violation(UNKNOWN_COMMAND, "burst stop is not modelled");
            endcase
        end
    end

    // The controller begins to drive between edges of this clock.
    always @(posedge dq_in_oe) begin
        now = longint'($realtime * 1000.0);
        if (dq_out_oe || now < driven_until)
            violation(CONTENTION, "both drive the bus: written data begin");
    end

    function automatic string command_name;
        case ({ras_n, cas_n, we_n})
            3'b011: command_name = "activate";
            3'b010: command_name = "precharge";
            3'b001: command_name = "refresh";
            3'b000: command_name = "mode register set";
            3'b101: command_name = "read";
            3'b100: command_name = "write";
            default: command_name = "burst stop";
        endcase
    endfunction
endmodule
