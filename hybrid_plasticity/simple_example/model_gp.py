"""The simple example's network under global plasticity."""

from hybrid_plasticity.networks import FullyConnected
from hybrid_plasticity.simple_example.shared_parameters import SETTINGS


def SNN_Model() -> FullyConnected:
    """The network 784-512-10; its alpha, beta and eta are still 0, see `draw_local`."""
    return SETTINGS.network("gp")
