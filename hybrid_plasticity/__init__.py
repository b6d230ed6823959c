"""Hybrid plasticity: global-local learning (Wu et al., Nature Communications 2022).

Weights learned by surrogate gradients beside a Hebbian trace, both in one synapse.
"""

import shared.waiting
