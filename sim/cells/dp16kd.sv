// DP16KD of the ECP5 for simulation: the 18-kbit block RAM with two ports, after Lattice
// FPGA-TN-02204 "ECP5 and ECP5-5G Memory Usage Guide" (before: TN1264).
//
// What is modelled
//   - widths 1, 2, 4, 9 and 18 of each port on its own (true dual port), and DATA_WIDTH_A = 36 (pseudo
//     dual port: A writes 36 bits, B reads 1 to 36); addresses count bits of the memory, so that the
//     lowest 0, 1, 2, 3, 4 or 5 of them do not take part; the ninth bit of a byte is out of reach of
//     widths below 9;
//   - byte enables in the unused low address bits of ports of 18 and 36 bits;
//   - WRITEMODE NORMAL (a write leaves the output), WRITETHROUGH, READBEFOREWRITE;
//   - clock enable, chip select (CSDECODE), output register (REGMODE = OUTREG) with its enable;
//   - reset of the output, at the clock or at once (RESETMODE), whatever the clock enable says;
//   - INITVAL_00 to INITVAL_3F: 16 rows of 20 bits each, of which 18 are memory.
//
// What the two ports do to the same bits at the same edge is undefined, and so it is here: bits that
// the other port writes are read as x; bits that both write become x. (Verilator makes x random with
// --x-assign unique.)
//
// What is not modelled stops the simulation: two clocks on one memory, a write while its port is in
// reset, a reset with an output register, an asynchronous reset that is released with the clock, other
// values of the parameters. A parameter or port that is not declared here is an error of elaboration.
// The global set/reset (GSR) is taken to be over.

`timescale 1ns / 1ps

// Where a port of WIDTH bits at `address` lies in its row of 36 bits.
module dp16kd_view #(
  parameter WIDTH = 18
) (
  input [13:0] address,
  input [35:0] data,
  output [8:0] row,
  output [5:0] offset,  // of its lowest bit
  output [35:0] span,  // the bits that it reads
  output [35:0] enabled,  // the bits that it writes
  output [35:0] aligned  // what it writes there
);
  wire [5:0] byte_offset = 6'd9 * {4'd0, address[4:3]};
  assign row = address[13:5];
  assign offset =
      WIDTH == 36 ? 6'd0 :
      WIDTH == 18 ? (address[4] ? 6'd18 : 6'd0) :
      WIDTH == 9 ? byte_offset :
      WIDTH == 4 ? byte_offset + {3'd0, address[2], 2'd0} :
      WIDTH == 2 ? byte_offset + {3'd0, address[2:1], 1'd0} :
      byte_offset + {3'd0, address[2:0]};
  wire [35:0] ones = {36{1'b1}} >> (36 - WIDTH);
  assign span = ones << offset;
  assign aligned = (data & ones) << offset;
  wire [35:0] bytes = {
      {9{WIDTH != 36 || address[3]}}, {9{WIDTH != 36 || address[2]}},
      {9{WIDTH < 18 || address[1]}}, {9{WIDTH < 18 || address[0]}}};
  assign enabled = WIDTH < 18 ? span : (bytes & ones) << offset;
endmodule

module DP16KD #(
  parameter DATA_WIDTH_A = 18,
  parameter REGMODE_A = "NOREG",
  parameter CSDECODE_A = "0b000",
  parameter WRITEMODE_A = "NORMAL",
  parameter CLKAMUX = "CLKA",
  parameter CEAMUX = "CEA",
  parameter OCEAMUX = "OCEA",
  parameter WEAMUX = "WEA",
  parameter RSTAMUX = "RSTA",
  parameter DATA_WIDTH_B = 18,
  parameter REGMODE_B = "NOREG",
  parameter CSDECODE_B = "0b000",
  parameter WRITEMODE_B = "NORMAL",
  parameter CLKBMUX = "CLKB",
  parameter CEBMUX = "CEB",
  parameter OCEBMUX = "OCEB",
  parameter WEBMUX = "WEB",
  parameter RSTBMUX = "RSTB",
  parameter RESETMODE = "SYNC",
  parameter ASYNC_RESET_RELEASE = "SYNC",
  parameter GSR = "ENABLED",
  parameter WID = 0,
  parameter INIT_DATA = "STATIC",
  parameter [319:0] INITVAL_00 = 320'd0,
  parameter [319:0] INITVAL_01 = 320'd0,
  parameter [319:0] INITVAL_02 = 320'd0,
  parameter [319:0] INITVAL_03 = 320'd0,
  parameter [319:0] INITVAL_04 = 320'd0,
  parameter [319:0] INITVAL_05 = 320'd0,
  parameter [319:0] INITVAL_06 = 320'd0,
  parameter [319:0] INITVAL_07 = 320'd0,
  parameter [319:0] INITVAL_08 = 320'd0,
  parameter [319:0] INITVAL_09 = 320'd0,
  parameter [319:0] INITVAL_0A = 320'd0,
  parameter [319:0] INITVAL_0B = 320'd0,
  parameter [319:0] INITVAL_0C = 320'd0,
  parameter [319:0] INITVAL_0D = 320'd0,
  parameter [319:0] INITVAL_0E = 320'd0,
  parameter [319:0] INITVAL_0F = 320'd0,
  parameter [319:0] INITVAL_10 = 320'd0,
  parameter [319:0] INITVAL_11 = 320'd0,
  parameter [319:0] INITVAL_12 = 320'd0,
  parameter [319:0] INITVAL_13 = 320'd0,
  parameter [319:0] INITVAL_14 = 320'd0,
  parameter [319:0] INITVAL_15 = 320'd0,
  parameter [319:0] INITVAL_16 = 320'd0,
  parameter [319:0] INITVAL_17 = 320'd0,
  parameter [319:0] INITVAL_18 = 320'd0,
  parameter [319:0] INITVAL_19 = 320'd0,
  parameter [319:0] INITVAL_1A = 320'd0,
  parameter [319:0] INITVAL_1B = 320'd0,
  parameter [319:0] INITVAL_1C = 320'd0,
  parameter [319:0] INITVAL_1D = 320'd0,
  parameter [319:0] INITVAL_1E = 320'd0,
  parameter [319:0] INITVAL_1F = 320'd0,
  parameter [319:0] INITVAL_20 = 320'd0,
  parameter [319:0] INITVAL_21 = 320'd0,
  parameter [319:0] INITVAL_22 = 320'd0,
  parameter [319:0] INITVAL_23 = 320'd0,
  parameter [319:0] INITVAL_24 = 320'd0,
  parameter [319:0] INITVAL_25 = 320'd0,
  parameter [319:0] INITVAL_26 = 320'd0,
  parameter [319:0] INITVAL_27 = 320'd0,
  parameter [319:0] INITVAL_28 = 320'd0,
  parameter [319:0] INITVAL_29 = 320'd0,
  parameter [319:0] INITVAL_2A = 320'd0,
  parameter [319:0] INITVAL_2B = 320'd0,
  parameter [319:0] INITVAL_2C = 320'd0,
  parameter [319:0] INITVAL_2D = 320'd0,
  parameter [319:0] INITVAL_2E = 320'd0,
  parameter [319:0] INITVAL_2F = 320'd0,
  parameter [319:0] INITVAL_30 = 320'd0,
  parameter [319:0] INITVAL_31 = 320'd0,
  parameter [319:0] INITVAL_32 = 320'd0,
  parameter [319:0] INITVAL_33 = 320'd0,
  parameter [319:0] INITVAL_34 = 320'd0,
  parameter [319:0] INITVAL_35 = 320'd0,
  parameter [319:0] INITVAL_36 = 320'd0,
  parameter [319:0] INITVAL_37 = 320'd0,
  parameter [319:0] INITVAL_38 = 320'd0,
  parameter [319:0] INITVAL_39 = 320'd0,
  parameter [319:0] INITVAL_3A = 320'd0,
  parameter [319:0] INITVAL_3B = 320'd0,
  parameter [319:0] INITVAL_3C = 320'd0,
  parameter [319:0] INITVAL_3D = 320'd0,
  parameter [319:0] INITVAL_3E = 320'd0,
  parameter [319:0] INITVAL_3F = 320'd0
) (
  input DIA0, DIA1, DIA2, DIA3, DIA4, DIA5, DIA6, DIA7, DIA8, DIA9, DIA10, DIA11, DIA12, DIA13,
    DIA14, DIA15, DIA16, DIA17,
  input ADA0, ADA1, ADA2, ADA3, ADA4, ADA5, ADA6, ADA7, ADA8, ADA9, ADA10, ADA11, ADA12, ADA13,
  input CEA, OCEA, CLKA, WEA, RSTA, CSA2, CSA1, CSA0,
  output DOA0, DOA1, DOA2, DOA3, DOA4, DOA5, DOA6, DOA7, DOA8, DOA9, DOA10, DOA11, DOA12, DOA13,
    DOA14, DOA15, DOA16, DOA17,
  input DIB0, DIB1, DIB2, DIB3, DIB4, DIB5, DIB6, DIB7, DIB8, DIB9, DIB10, DIB11, DIB12, DIB13,
    DIB14, DIB15, DIB16, DIB17,
  input ADB0, ADB1, ADB2, ADB3, ADB4, ADB5, ADB6, ADB7, ADB8, ADB9, ADB10, ADB11, ADB12, ADB13,
  input CEB, OCEB, CLKB, WEB, RSTB, CSB2, CSB1, CSB0,
  output DOB0, DOB1, DOB2, DOB3, DOB4, DOB5, DOB6, DOB7, DOB8, DOB9, DOB10, DOB11, DOB12, DOB13,
    DOB14, DOB15, DOB16, DOB17
);
  // ------------------------------------------------------------------ parameters
  function is_width(input integer width);
    is_width = width == 1 || width == 2 || width == 4 || width == 9 || width == 18;
  endfunction

  localparam PSEUDO_DUAL = DATA_WIDTH_A == 36;

  initial begin
    if (!(is_width(DATA_WIDTH_A) || PSEUDO_DUAL) ||
        !(is_width(DATA_WIDTH_B) || (PSEUDO_DUAL && DATA_WIDTH_B == 36)))
      $fatal(1, "%m: DATA_WIDTH %0d and %0d", DATA_WIDTH_A, DATA_WIDTH_B);
    if (RESETMODE != "SYNC" && RESETMODE != "ASYNC") $fatal(1, "%m: RESETMODE %0s", RESETMODE);
    if (INIT_DATA != "STATIC") $fatal(1, "%m: INIT_DATA %0s", INIT_DATA);
    if (REGMODE_A != "NOREG" && REGMODE_A != "OUTREG") $fatal(1, "%m: REGMODE_A %0s", REGMODE_A);
    if (WRITEMODE_A != "NORMAL" && WRITEMODE_A != "WRITETHROUGH" && WRITEMODE_A != "READBEFOREWRITE")
      $fatal(1, "%m: WRITEMODE_A %0s", WRITEMODE_A);
    if (CLKAMUX != "CLKA" && CLKAMUX != "INV") $fatal(1, "%m: CLKAMUX %0s", CLKAMUX);
    if (CEAMUX != "CEA" && CEAMUX != "INV") $fatal(1, "%m: CEAMUX %0s", CEAMUX);
    if (OCEAMUX != "OCEA" && OCEAMUX != "INV") $fatal(1, "%m: OCEAMUX %0s", OCEAMUX);
    if (WEAMUX != "WEA" && WEAMUX != "INV") $fatal(1, "%m: WEAMUX %0s", WEAMUX);
    if (RSTAMUX != "RSTA" && RSTAMUX != "INV") $fatal(1, "%m: RSTAMUX %0s", RSTAMUX);
    if (REGMODE_B != "NOREG" && REGMODE_B != "OUTREG") $fatal(1, "%m: REGMODE_B %0s", REGMODE_B);
    if (WRITEMODE_B != "NORMAL" && WRITEMODE_B != "WRITETHROUGH" && WRITEMODE_B != "READBEFOREWRITE")
      $fatal(1, "%m: WRITEMODE_B %0s", WRITEMODE_B);
    if (CLKBMUX != "CLKB" && CLKBMUX != "INV") $fatal(1, "%m: CLKBMUX %0s", CLKBMUX);
    if (CEBMUX != "CEB" && CEBMUX != "INV") $fatal(1, "%m: CEBMUX %0s", CEBMUX);
    if (OCEBMUX != "OCEB" && OCEBMUX != "INV") $fatal(1, "%m: OCEBMUX %0s", OCEBMUX);
    if (WEBMUX != "WEB" && WEBMUX != "INV") $fatal(1, "%m: WEBMUX %0s", WEBMUX);
    if (RSTBMUX != "RSTB" && RSTBMUX != "INV") $fatal(1, "%m: RSTBMUX %0s", RSTBMUX);
  end

  function [2:0] selected(input [8*5-1:0] code);  // the last digits of "0b000"
    selected = {code[16], code[8], code[0]};
  endfunction

  // ------------------------------------------------------------------ ports
  wire clk_a = CLKAMUX == "INV" ? ~CLKA : CLKA;
  wire ce_a = CEAMUX == "INV" ? ~CEA : CEA;
  wire oce_a = OCEAMUX == "INV" ? ~OCEA : OCEA;
  wire we_a = WEAMUX == "INV" ? ~WEA : WEA;
  wire rst_a = RSTAMUX == "INV" ? ~RSTA : RSTA;
  wire active_a = ce_a && {CSA2, CSA1, CSA0} == selected(CSDECODE_A);
  wire write_a = active_a && we_a;
  wire [13:0] address_a = {ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3,
    ADA2, ADA1, ADA0};
  wire [17:0] di_a = {DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7,
    DIA6, DIA5, DIA4, DIA3, DIA2, DIA1, DIA0};
  wire [8:0] row_a;
  wire [5:0] offset_a;
  wire [35:0] span_a, enabled_a, aligned_a;
  dp16kd_view #(.WIDTH(DATA_WIDTH_A)) view_a (
      .address(address_a), .data(PSEUDO_DUAL ? {di_b, di_a} : {18'd0, di_a}), .row(row_a),
      .offset(offset_a), .span(span_a), .enabled(enabled_a), .aligned(aligned_a));

  wire clk_b = CLKBMUX == "INV" ? ~CLKB : CLKB;
  wire ce_b = CEBMUX == "INV" ? ~CEB : CEB;
  wire oce_b = OCEBMUX == "INV" ? ~OCEB : OCEB;
  wire we_b = WEBMUX == "INV" ? ~WEB : WEB;
  wire rst_b = RSTBMUX == "INV" ? ~RSTB : RSTB;
  wire active_b = ce_b && {CSB2, CSB1, CSB0} == selected(CSDECODE_B);
  wire write_b = active_b && we_b;
  wire [13:0] address_b = {ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3,
    ADB2, ADB1, ADB0};
  wire [17:0] di_b = {DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7,
    DIB6, DIB5, DIB4, DIB3, DIB2, DIB1, DIB0};
  wire [8:0] row_b;
  wire [5:0] offset_b;
  wire [35:0] span_b, enabled_b, aligned_b;
  dp16kd_view #(.WIDTH(DATA_WIDTH_B)) view_b (
      .address(address_b), .data({18'd0, di_b}), .row(row_b),
      .offset(offset_b), .span(span_b), .enabled(enabled_b), .aligned(aligned_b));

  // ------------------------------------------------------------------ memory
  reg [35:0] rows[0:511];

  task fill(input integer first, input [319:0] initial_value);
    integer i;
    for (i = 0; i < 8; i = i + 1)
      rows[8*first+i] = {initial_value[40*i+20+:18], initial_value[40*i+:18]};
  endtask

  initial begin
    fill(0, INITVAL_00);
    fill(1, INITVAL_01);
    fill(2, INITVAL_02);
    fill(3, INITVAL_03);
    fill(4, INITVAL_04);
    fill(5, INITVAL_05);
    fill(6, INITVAL_06);
    fill(7, INITVAL_07);
    fill(8, INITVAL_08);
    fill(9, INITVAL_09);
    fill(10, INITVAL_0A);
    fill(11, INITVAL_0B);
    fill(12, INITVAL_0C);
    fill(13, INITVAL_0D);
    fill(14, INITVAL_0E);
    fill(15, INITVAL_0F);
    fill(16, INITVAL_10);
    fill(17, INITVAL_11);
    fill(18, INITVAL_12);
    fill(19, INITVAL_13);
    fill(20, INITVAL_14);
    fill(21, INITVAL_15);
    fill(22, INITVAL_16);
    fill(23, INITVAL_17);
    fill(24, INITVAL_18);
    fill(25, INITVAL_19);
    fill(26, INITVAL_1A);
    fill(27, INITVAL_1B);
    fill(28, INITVAL_1C);
    fill(29, INITVAL_1D);
    fill(30, INITVAL_1E);
    fill(31, INITVAL_1F);
    fill(32, INITVAL_20);
    fill(33, INITVAL_21);
    fill(34, INITVAL_22);
    fill(35, INITVAL_23);
    fill(36, INITVAL_24);
    fill(37, INITVAL_25);
    fill(38, INITVAL_26);
    fill(39, INITVAL_27);
    fill(40, INITVAL_28);
    fill(41, INITVAL_29);
    fill(42, INITVAL_2A);
    fill(43, INITVAL_2B);
    fill(44, INITVAL_2C);
    fill(45, INITVAL_2D);
    fill(46, INITVAL_2E);
    fill(47, INITVAL_2F);
    fill(48, INITVAL_30);
    fill(49, INITVAL_31);
    fill(50, INITVAL_32);
    fill(51, INITVAL_33);
    fill(52, INITVAL_34);
    fill(53, INITVAL_35);
    fill(54, INITVAL_36);
    fill(55, INITVAL_37);
    fill(56, INITVAL_38);
    fill(57, INITVAL_39);
    fill(58, INITVAL_3A);
    fill(59, INITVAL_3B);
    fill(60, INITVAL_3C);
    fill(61, INITVAL_3D);
    fill(62, INITVAL_3E);
    fill(63, INITVAL_3F);
  end

  wire [35:0] x = 36'bx;
  wire same_row = row_a == row_b;
  wire [35:0] writes_a = write_a ? enabled_a : 36'd0;
  wire [35:0] writes_b = write_b ? enabled_b : 36'd0;
  // What the other port writes in this port's row.
  wire [35:0] foreign_a = same_row ? writes_b : 36'd0;
  wire [35:0] foreign_b = same_row ? writes_a : 36'd0;
  wire [35:0] clash = writes_a & foreign_a;
  wire [35:0] old_a = rows[row_a];
  wire [35:0] old_b = rows[row_b];
  // The rows after this edge. If it is the same row, both are the same value.
  wire [35:0] new_a = (old_a & ~writes_a & ~foreign_a) | (aligned_a & writes_a & ~clash) |
      (aligned_b & foreign_a & ~clash) | (x & clash);
  wire [35:0] new_b = (old_b & ~writes_b & ~foreign_b) | (aligned_b & writes_b & ~clash) |
      (aligned_a & foreign_b & ~clash) | (x & clash);

  always @(posedge clk_a) if (write_a) rows[row_a] <= new_a;
  always @(posedge clk_b) if (write_b) rows[row_b] <= new_b;

  // ------------------------------------------------------------------ outputs
  // The latch behind the memory, and the register behind that.
  reg [35:0] latch_a = 0, latch_b = 0, out_a = 0, out_b = 0;

  wire arst_a = RESETMODE == "ASYNC" && rst_a;
  wire [35:0] row_read_a = WRITEMODE_A == "WRITETHROUGH" && write_a ? new_a : old_a;
  wire [35:0] known_a = (row_read_a & ~foreign_a) | (x & foreign_a);
  wire reads_a = active_a && !(WRITEMODE_A == "NORMAL" && write_a);
  always @(posedge clk_a or posedge arst_a)
    if (arst_a) latch_a <= 0;
    else if (rst_a) latch_a <= 0;
    else if (reads_a) latch_a <= (known_a & span_a) >> offset_a;
  always @(posedge clk_a) if (oce_a) out_a <= latch_a;
  wire [35:0] read_a = REGMODE_A == "OUTREG" ? out_a : latch_a;

  wire arst_b = RESETMODE == "ASYNC" && rst_b;
  wire [35:0] row_read_b = WRITEMODE_B == "WRITETHROUGH" && write_b ? new_b : old_b;
  wire [35:0] known_b = (row_read_b & ~foreign_b) | (x & foreign_b);
  wire reads_b = active_b && !(WRITEMODE_B == "NORMAL" && write_b);
  always @(posedge clk_b or posedge arst_b)
    if (arst_b) latch_b <= 0;
    else if (rst_b) latch_b <= 0;
    else if (reads_b) latch_b <= (known_b & span_b) >> offset_b;
  always @(posedge clk_b) if (oce_b) out_b <= latch_b;
  wire [35:0] read_b = REGMODE_B == "OUTREG" ? out_b : latch_b;

  // Reads of 36 bits come from both ports' pins, narrower ones of a pseudo dual port from B's.
  assign {DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6, DOA5,
    DOA4, DOA3, DOA2, DOA1, DOA0} = !PSEUDO_DUAL ? read_a[17:0] : DATA_WIDTH_B == 36 ?
    read_b[17:0] : x[17:0];
  assign {DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6, DOB5,
    DOB4, DOB3, DOB2, DOB1, DOB0} = DATA_WIDTH_B == 36 ? read_b[35:18] : read_b[17:0];

  // ------------------------------------------------------------------ what is not modelled
  // Edges of both ports, counted modulo 2: equal at every edge if there is one clock.
  reg phase_a = 0, phase_b = 0;
  always @(posedge clk_a) phase_a <= !phase_a;
  always @(posedge clk_b) phase_b <= !phase_b;

  always @(posedge clk_a) begin
    if (active_a && active_b && phase_a != phase_b) $fatal(1, "%m: the ports have different clocks");
    if (write_a && rst_a) $fatal(1, "%m: a write while port A is in reset");
    if (rst_a && REGMODE_A == "OUTREG") $fatal(1, "%m: reset of an output register");
    if (rst_a && RESETMODE == "ASYNC" && ASYNC_RESET_RELEASE != "ASYNC")
      $fatal(1, "%m: an asynchronous reset that is released with the clock");
  end
  always @(posedge clk_b) begin
    if (active_a && active_b && phase_a != phase_b) $fatal(1, "%m: the ports have different clocks");
    if (write_b && rst_b) $fatal(1, "%m: a write while port B is in reset");
    if (PSEUDO_DUAL && write_b) $fatal(1, "%m: a write on the read port");
    if (rst_b && REGMODE_B == "OUTREG") $fatal(1, "%m: reset of an output register");
    if (rst_b && RESETMODE == "ASYNC" && ASYNC_RESET_RELEASE != "ASYNC")
      $fatal(1, "%m: an asynchronous reset that is released with the clock");
  end
endmodule
