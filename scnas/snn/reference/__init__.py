"""Neurons, synapses and Adam in torch: what all else is compared with; they run on any device."""
