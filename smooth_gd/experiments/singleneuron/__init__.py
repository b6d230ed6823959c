"""Figure 2: a single neuron learns spike times."""
