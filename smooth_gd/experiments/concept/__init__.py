"""Figure 1: spikes of a quadratic neuron come and go at the end of the trial only."""
