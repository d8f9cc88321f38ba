"""Spiking networks whose synapses are stochastic numbers: streams, neurons, networks, training."""
