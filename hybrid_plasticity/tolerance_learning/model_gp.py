"""The fault-tolerance network under global plasticity, by the names of the published module."""

from hybrid_plasticity.published import *  # noqa: F403
from hybrid_plasticity.published import UNREAD_SPREAD, PublishedFullyConnected, Updates
from hybrid_plasticity.tolerance_learning.shared_parameters import *  # noqa: F403
from hybrid_plasticity.tolerance_learning.shared_parameters import SETTINGS

w_decay = 0.8  # as the published module has it, where nothing reads it
mem_update_nonplastic = Updates(SETTINGS.neuron, SETTINGS.hebbian).mem_update_beside_trace


class SNN_Model(PublishedFullyConnected):
    """A network 784-512-10, drawn from torch's global generator."""

    def __init__(self) -> None:
        super().__init__(SETTINGS.undrawn("gp"))
        self.draw_constants(UNREAD_SPREAD)
