"""Many tasks one after the other: hybrid plasticity, global plasticity, spiking EWC."""
