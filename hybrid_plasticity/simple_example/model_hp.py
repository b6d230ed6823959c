"""The simple example's network under hybrid plasticity, by the names of the published module."""

from hybrid_plasticity.published import *  # noqa: F403
from hybrid_plasticity.published import PublishedFullyConnected, Updates
from hybrid_plasticity.simple_example.shared_parameters import *  # noqa: F403
from hybrid_plasticity.simple_example.shared_parameters import SETTINGS

mem_update_plastic = Updates(SETTINGS.neuron, SETTINGS.hebbian).mem_update_plastic


class SNN_Model(PublishedFullyConnected):
    """A network 784-512-10, drawn from torch's global generator."""

    def __init__(self) -> None:
        super().__init__(SETTINGS.undrawn("hp"))
        self.draw_constants(SETTINGS.local_spread)
