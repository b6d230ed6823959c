"""The network of CIFAR-10: what it is made of."""

from hybrid_plasticity.convolutional import Classifier, Rule, Wiring
from hybrid_plasticity.plastic import Hebbian, Neuron

WIRING = Wiring(
    image=(3, 32),
    channels=(128, 256, 512, 1024, 512),
    pooled=(2, 3),
    hidden=(1024, 512),
    plastic=2,
    neuron=Neuron(theta=0.5, decay=0.7),
    hebbian=Hebbian(decay=0.9, scale=-1.0, post="identity"),
    tau_w=50.0,
    steps=8,
    exit_share=0.7,
    attenuate_plastic=False,
    output_reset="none",
    ceiling=1.1,
)


def SNN_Model(rule: Rule = "hp") -> Classifier:
    """The network at full width; its alpha, beta and eta are still 0."""
    return Classifier(WIRING, rule)
