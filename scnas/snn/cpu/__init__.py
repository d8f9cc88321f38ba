"""What a CPU does in compiled loops of its own, one candidate at a time in cache."""
