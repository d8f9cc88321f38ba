"""A network as Verilog."""
