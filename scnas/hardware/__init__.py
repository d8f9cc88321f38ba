"""Hardware: schedule, Verilog, co-simulation, synthesis, cost."""
