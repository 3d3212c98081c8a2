// MULT18X18D of the ECP5 for simulation: the 18 x 18 multiplier, signed or unsigned, after Lattice
// FPGA-TN-02205 "ECP5 and ECP5-5G sysDSP Usage Guide".
//
// What is modelled: input registers of A and B, pipeline and output register, each with one of four
// clocks (or "NONE": no register), clock enables and resets; resets at the clock or at once
// (RESETMODE). Registers begin undefined (Verilator makes them random with --x-initial unique).
//
// What is not modelled stops the simulation: the shift chains (SOURCEA, SOURCEB), registered signs
// (SIGNEDA and SIGNEDB may change only while no register is in use), a divided or high-speed clock,
// other values of the parameters. The operand C goes nowhere here: it only passes to the ALU behind.
// What is not declared (shift chains, operands passed on to the ALU) is an error of elaboration.

`timescale 1ns / 1ps

module MULT18X18D #(
  parameter REG_INPUTA_CLK = "NONE",
  parameter REG_INPUTA_CE = "CE0",
  parameter REG_INPUTA_RST = "RST0",
  parameter REG_INPUTB_CLK = "NONE",
  parameter REG_INPUTB_CE = "CE0",
  parameter REG_INPUTB_RST = "RST0",
  parameter REG_INPUTC_CLK = "NONE",
  parameter REG_INPUTC_CE = "CE0",
  parameter REG_INPUTC_RST = "RST0",
  parameter REG_PIPELINE_CLK = "NONE",
  parameter REG_PIPELINE_CE = "CE0",
  parameter REG_PIPELINE_RST = "RST0",
  parameter REG_OUTPUT_CLK = "NONE",
  parameter REG_OUTPUT_CE = "CE0",
  parameter REG_OUTPUT_RST = "RST0",
  parameter CLK0_DIV = "ENABLED", parameter CLK1_DIV = "ENABLED",
  parameter CLK2_DIV = "ENABLED", parameter CLK3_DIV = "ENABLED",
  parameter HIGHSPEED_CLK = "NONE", parameter GSR = "ENABLED",
  parameter CAS_MATCH_REG = "FALSE", parameter SOURCEB_MODE = "B_SHIFT",
  parameter MULT_BYPASS = "DISABLED", parameter RESETMODE = "SYNC"
) (
  input A0, A1, A2, A3, A4, A5, A6, A7, A8, A9, A10, A11, A12, A13, A14, A15, A16, A17,
  input B0, B1, B2, B3, B4, B5, B6, B7, B8, B9, B10, B11, B12, B13, B14, B15, B16, B17,
  input C0, C1, C2, C3, C4, C5, C6, C7, C8, C9, C10, C11, C12, C13, C14, C15, C16, C17,
  input SIGNEDA, SIGNEDB, SOURCEA, SOURCEB,
  input CLK3, CLK2, CLK1, CLK0,
  input CE3, CE2, CE1, CE0,
  input RST3, RST2, RST1, RST0,
  output P0, P1, P2, P3, P4, P5, P6, P7, P8, P9, P10, P11, P12, P13, P14, P15, P16, P17, P18, P19,
    P20, P21, P22, P23, P24, P25, P26, P27, P28, P29, P30, P31, P32, P33, P34, P35
);
  // ------------------------------------------------------------------ parameters
  localparam IN_USE = REG_INPUTA_CLK != "NONE" || REG_INPUTB_CLK != "NONE" ||
      REG_PIPELINE_CLK != "NONE" || REG_OUTPUT_CLK != "NONE";

  initial begin
    if (RESETMODE != "SYNC" && RESETMODE != "ASYNC") $fatal(1, "%m: RESETMODE %0s", RESETMODE);
    if (HIGHSPEED_CLK != "NONE") $fatal(1, "%m: HIGHSPEED_CLK %0s", HIGHSPEED_CLK);
    if (CAS_MATCH_REG != "FALSE") $fatal(1, "%m: CAS_MATCH_REG %0s", CAS_MATCH_REG);
    if (SOURCEB_MODE != "B_SHIFT") $fatal(1, "%m: SOURCEB_MODE %0s", SOURCEB_MODE);
    if (MULT_BYPASS != "DISABLED") $fatal(1, "%m: MULT_BYPASS %0s", MULT_BYPASS);
    if (CLK0_DIV != "ENABLED" || CLK1_DIV != "ENABLED" || CLK2_DIV != "ENABLED" ||
        CLK3_DIV != "ENABLED")
      $fatal(1, "%m: CLK0_DIV to CLK3_DIV must be ENABLED");
  end

  // ------------------------------------------------------------------ registers
  wire [17:0] a_in = {A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1,
    A0};
  wire [17:0] b_in = {B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1,
    B0};
  wire [17:0] a, b;
  wire signed [18:0] a_wide = {SIGNEDA & a[17], a};
  wire signed [18:0] b_wide = {SIGNEDB & b[17], b};
  wire signed [37:0] full = a_wide * b_wide;
  wire [35:0] pipelined, p;

  mult18x18d_register #(
      .BITS(18), .CLOCK(REG_INPUTA_CLK), .ENABLE(REG_INPUTA_CE), .RESET(REG_INPUTA_RST),
      .RESETMODE(RESETMODE)) a_register (
      .clk({CLK3, CLK2, CLK1, CLK0}), .ce({CE3, CE2, CE1, CE0}), .rst({RST3, RST2, RST1, RST0}),
      .d(a_in), .q(a));
  mult18x18d_register #(
      .BITS(18), .CLOCK(REG_INPUTB_CLK), .ENABLE(REG_INPUTB_CE), .RESET(REG_INPUTB_RST),
      .RESETMODE(RESETMODE)) b_register (
      .clk({CLK3, CLK2, CLK1, CLK0}), .ce({CE3, CE2, CE1, CE0}), .rst({RST3, RST2, RST1, RST0}),
      .d(b_in), .q(b));
  mult18x18d_register #(
      .BITS(36), .CLOCK(REG_PIPELINE_CLK), .ENABLE(REG_PIPELINE_CE), .RESET(REG_PIPELINE_RST),
      .RESETMODE(RESETMODE)) pipeline_register (
      .clk({CLK3, CLK2, CLK1, CLK0}), .ce({CE3, CE2, CE1, CE0}), .rst({RST3, RST2, RST1, RST0}),
      .d(full[35:0]), .q(pipelined));
  mult18x18d_register #(
      .BITS(36), .CLOCK(REG_OUTPUT_CLK), .ENABLE(REG_OUTPUT_CE), .RESET(REG_OUTPUT_RST),
      .RESETMODE(RESETMODE)) output_register (
      .clk({CLK3, CLK2, CLK1, CLK0}), .ce({CE3, CE2, CE1, CE0}), .rst({RST3, RST2, RST1, RST0}),
      .d(pipelined), .q(p));
  assign {P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19,
    P18, P17, P16, P15, P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0} = p;

  // ------------------------------------------------------------------ what is not modelled
  always_comb if (SOURCEA === 1'b1 || SOURCEB === 1'b1) $fatal(1, "%m: a shift chain");

  reg seen = 0;
  reg [1:0] signs;
  wire any_clock = |{CLK3, CLK2, CLK1, CLK0};
  always @(posedge any_clock) begin
    if (IN_USE && seen && signs != {SIGNEDA, SIGNEDB})
      $fatal(1, "%m: SIGNEDA or SIGNEDB changes while registers are in use");
    seen <= 1;
    signs <= {SIGNEDA, SIGNEDB};
  end
endmodule

// A register of the multiplier on one of four clocks, or a wire.
module mult18x18d_register #(
  parameter BITS = 18,
  parameter CLOCK = "NONE",
  parameter ENABLE = "CE0",
  parameter RESET = "RST0",
  parameter RESETMODE = "SYNC"
) (
  input [3:0] clk, ce, rst,
  input [BITS-1:0] d,
  output [BITS-1:0] q
);
  localparam PRESENT = CLOCK != "NONE";
  initial if (PRESENT) begin
    if (CLOCK != "CLK0" && CLOCK != "CLK1" && CLOCK != "CLK2" && CLOCK != "CLK3")
      $fatal(1, "%m: clock %0s", CLOCK);
    if (ENABLE != "CE0" && ENABLE != "CE1" && ENABLE != "CE2" && ENABLE != "CE3")
      $fatal(1, "%m: clock enable %0s", ENABLE);
    if (RESET != "RST0" && RESET != "RST1" && RESET != "RST2" && RESET != "RST3")
      $fatal(1, "%m: reset %0s", RESET);
  end

  wire clock = CLOCK == "CLK3" ? clk[3] : CLOCK == "CLK2" ? clk[2] : CLOCK == "CLK1" ? clk[1] : clk[0];
  wire enable = ENABLE == "CE3" ? ce[3] : ENABLE == "CE2" ? ce[2] : ENABLE == "CE1" ? ce[1] : ce[0];
  wire reset = RESET == "RST3" ? rst[3] : RESET == "RST2" ? rst[2] : RESET == "RST1" ? rst[1] : rst[0];
  wire at_once = RESETMODE == "ASYNC" && reset;
  reg [BITS-1:0] state;
  always @(posedge clock or posedge at_once)
    if (at_once) state <= 0;
    else if (reset) state <= 0;
    else if (enable) state <= d;
  assign q = PRESENT ? state : d;
endmodule
