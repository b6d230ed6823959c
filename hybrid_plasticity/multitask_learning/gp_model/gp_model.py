"""The multitask network under global plasticity, by the names of the published module."""

from hybrid_plasticity.multitask_learning.published import *  # noqa: F403
from hybrid_plasticity.multitask_learning.published import MaskedUpdates, PublishedTaskModel
from hybrid_plasticity.multitask_learning.shared_parameters import *  # noqa: F403
from hybrid_plasticity.multitask_learning.shared_parameters import SETTINGS
from hybrid_plasticity.published import *  # noqa: F403

mem_update = MaskedUpdates("gp").mem_update


class SNN_Model(PublishedTaskModel):
    """A network 784-1024-1024-10 with masks and no trace, drawn from torch's global generator."""

    def __init__(self) -> None:
        super().__init__(SETTINGS.network("gp"))
