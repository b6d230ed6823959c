"""What the programs of fault tolerance share."""

from hybrid_plasticity.distortions import KINDS
from hybrid_plasticity.fully_connected import Experiment, Settings
from hybrid_plasticity.plastic import Hebbian, Neuron, Rule

SETTINGS = Settings(
    epochs=51,
    neuron=Neuron(theta=0.4, decay=0.4),
    hebbian=Hebbian(decay=0.99, limit=4.0),
    tau_w=40.0,
    steps=5,
)

PUBLISHED = {"fashion_mnist": {"hp": 0.885, "gp": 0.882}}


def experiment(dataset: str, rule: Rule) -> Experiment:
    """Fault tolerance of a rule on a data set: all distortions of figure 4c, d."""
    accuracy = PUBLISHED.get(dataset, {}).get(rule)
    return Experiment(
        f"hp_tolerance_{dataset}",
        dataset,
        rule,
        SETTINGS,
        KINDS,
        None if accuracy is None else {"test_accuracy_last": accuracy},
    )
