// MULT9X9 and MULT18X18 of Gowin for simulation, after UG287 "Gowin DSP User Guide": operand,
// pipeline and output registers. Not modelled: shift chains, asynchronous reset.
module gowin_mult #(
  parameter BITS = 18, parameter AREG = 0, parameter BREG = 0, parameter PIPE_REG = 0,
  parameter OUT_REG = 0
) (
  input [BITS-1:0] A, B, input ASIGN, BSIGN, CE, CLK, RESET, output [2*BITS-1:0] DOUT
);
  reg [BITS-1:0] a_reg, b_reg;
  reg [2*BITS-1:0] pipe_reg, out_reg;
  wire [BITS-1:0] a = AREG ? a_reg : A;
  wire [BITS-1:0] b = BREG ? b_reg : B;
  wire signed [BITS:0] a_wide = {ASIGN & a[BITS-1], a};
  wire signed [BITS:0] b_wide = {BSIGN & b[BITS-1], b};
  wire signed [2*BITS+1:0] full = a_wide * b_wide;
  wire [2*BITS-1:0] piped = PIPE_REG ? pipe_reg : full[2*BITS-1:0];
  always @(posedge CLK)
    if (RESET) begin
      a_reg <= 0;
      b_reg <= 0;
      pipe_reg <= 0;
      out_reg <= 0;
    end else if (CE) begin
      a_reg <= A;
      b_reg <= B;
      pipe_reg <= full[2*BITS-1:0];
      out_reg <= piped;
    end
  assign DOUT = OUT_REG ? out_reg : piped;
endmodule

module MULT9X9 #(
  parameter AREG = 0, parameter BREG = 0, parameter OUT_REG = 0, parameter PIPE_REG = 0,
  parameter ASIGN_REG = 0, parameter BSIGN_REG = 0, parameter SOA_REG = 0,
  parameter MULT_RESET_MODE = "SYNC"
) (
  input [8:0] A, SIA, B, SIB, input ASIGN, BSIGN, ASEL, BSEL, CE, CLK, RESET,
  output [17:0] DOUT, output [8:0] SOA, SOB
);
  gowin_mult #(.BITS(9), .AREG(AREG), .BREG(BREG), .PIPE_REG(PIPE_REG), .OUT_REG(OUT_REG)) mult (
    .A(A), .B(B), .ASIGN(ASIGN), .BSIGN(BSIGN), .CE(CE), .CLK(CLK), .RESET(RESET), .DOUT(DOUT));
endmodule

module MULT18X18 #(
  parameter AREG = 0, parameter BREG = 0, parameter OUT_REG = 0, parameter PIPE_REG = 0,
  parameter ASIGN_REG = 0, parameter BSIGN_REG = 0, parameter SOA_REG = 0,
  parameter MULT_RESET_MODE = "SYNC"
) (
  input [17:0] A, SIA, B, SIB, input ASIGN, BSIGN, ASEL, BSEL, CE, CLK, RESET,
  output [35:0] DOUT, output [17:0] SOA, SOB
);
  gowin_mult #(.BITS(18), .AREG(AREG), .BREG(BREG), .PIPE_REG(PIPE_REG), .OUT_REG(OUT_REG)) mult (
    .A(A), .B(B), .ASIGN(ASIGN), .BSIGN(BSIGN), .CE(CE), .CLK(CLK), .RESET(RESET), .DOUT(DOUT));
endmodule
