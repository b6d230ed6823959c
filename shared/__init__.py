"""What the five papers have in common: data sets, devices and seeds, runs. No neuron, no rule."""

import shared.waiting
