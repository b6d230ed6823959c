"""Shifting Learning: one-spike neurons that learn by local spike-time differences and a reward.

Shifting Learning: A Biologically Plausible Learning Paradigm for Spiking Neural Networks (2025).
"""

import shared.waiting
