"""What a network costs on a chip, before and after training."""
