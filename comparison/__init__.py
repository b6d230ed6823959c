"""Five ways to train a spiking network, and what one would take instead, on one task."""

import shared.waiting
