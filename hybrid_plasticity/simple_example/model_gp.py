"""The simple example's network under global plasticity."""

from hybrid_plasticity.networks import FullyConnected
from hybrid_plasticity.simple_example.shared_parameters import SETTINGS


def SNN_Model() -> FullyConnected:
    """A network 784-512-10, drawn from torch's global generator."""
    return SETTINGS.network("gp")
