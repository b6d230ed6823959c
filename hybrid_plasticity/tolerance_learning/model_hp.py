"""The fault-tolerance network under hybrid plasticity."""

from hybrid_plasticity.networks import FullyConnected
from hybrid_plasticity.tolerance_learning.shared_parameters import SETTINGS


def SNN_Model() -> FullyConnected:
    """A network 784-512-10, drawn from torch's global generator."""
    return SETTINGS.network("hp")
