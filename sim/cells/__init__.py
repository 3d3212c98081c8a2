"""Simulation models of FPGA cells: Verilog, and which of them a family needs."""
