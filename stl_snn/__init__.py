"""STL-SNN: spiking networks whose thresholds and synapses learn together."""

import shared.waiting
