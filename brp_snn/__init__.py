"""BRP-SNN: hidden layers of spiking networks learn from the label, by fixed random matrices."""

import shared.waiting
