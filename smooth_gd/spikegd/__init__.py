"""Neuron models whose spike times follow exactly from event to event, differentiable by JAX."""
