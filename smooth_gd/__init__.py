"""Smooth exact gradient descent learning in spiking neural networks: event-based, in JAX."""

import shared.waiting
