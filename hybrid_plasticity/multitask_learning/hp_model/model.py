"""The multitask network under hybrid plasticity."""

from hybrid_plasticity.multitask_learning.network import TaskNetwork
from hybrid_plasticity.multitask_learning.shared_parameters import SETTINGS


def SNN_Model() -> TaskNetwork:
    """The network 784-1024-1024-10 with its initial weights and constants."""
    return SETTINGS.network("hp")
