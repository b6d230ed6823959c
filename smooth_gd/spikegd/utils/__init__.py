"""What the neuron models and the experiments share."""
