"""What starts the tools: synthesis, place and route, simulation."""
