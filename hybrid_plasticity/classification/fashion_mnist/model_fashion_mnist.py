"""The network of Fashion-MNIST: what it is made of."""

from hybrid_plasticity.convolutional import Classifier, Rule, Wiring
from hybrid_plasticity.plastic import Hebbian, Neuron

WIRING = Wiring(
    image=(1, 28),
    channels=(128, 256, 256),
    pooled=(1, 2, 3),
    hidden=(512,),
    plastic=1,
    neuron=Neuron(theta=0.45, decay=0.75, reset="hard"),
    hebbian=Hebbian(decay=0.9, scale=-1.0, post="identity", limit=4.0),
    tau_w=30.0,
    steps=10,
    exit_share=0.9,
    output_reset="hard",
    ceiling=1.1,
)


def SNN_Model(rule: Rule = "hp") -> Classifier:
    """The network at full width; its alpha, beta and eta are still 0."""
    return Classifier(WIRING, rule)
