"""The multitask network of elastic weight consolidation, by the names of the published module."""

from hybrid_plasticity.multitask_learning.published import *  # noqa: F403
from hybrid_plasticity.multitask_learning.published import (
    PublishedEWC,
    mem_update,  # noqa: F401 - passed on
)
from hybrid_plasticity.multitask_learning.shared_parameters import *  # noqa: F403
from hybrid_plasticity.multitask_learning.shared_parameters import SETTINGS
from hybrid_plasticity.published import *  # noqa: F403

SNN_Model = PublishedEWC
decay = SETTINGS.decay
