"""The few-shot network under global plasticity: the trace stays 0."""

from hybrid_plasticity.few_shot_learning.network import HybridNet


def hybridNet(ways: int = 5) -> HybridNet:
    """The network of four convolutions of 128 channels and a plastic layer of 512 to `ways`."""
    return HybridNet("gp", ways)
