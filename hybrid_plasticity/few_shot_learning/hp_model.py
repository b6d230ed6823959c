"""The few-shot network under hybrid plasticity, by the names of the published module.

The trace grows within an episode.
"""

from hybrid_plasticity.few_shot_learning.published import *  # noqa: F403
from hybrid_plasticity.few_shot_learning.published import PlasticUpdate, PublishedNet

mem_update_plastic = PlasticUpdate("hp").mem_update_plastic


class hybridNet(PublishedNet):
    """Four convolutions of 128 channels and a plastic layer of 512 to 5.

    Args:
        params: is not read.
    """

    def __init__(self, params: None = None) -> None:
        super().__init__("hp")
