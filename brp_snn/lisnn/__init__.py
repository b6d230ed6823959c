"""LISNN: a convolutional spiking network with lateral interactions, trained through time."""
