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

# As the readme has them: the best test epoch of each script, said to be of 100.
PUBLISHED = {"fashion_mnist": {"hp": 0.882, "gp": 0.885}}


def experiment(dataset: str, rule: Rule) -> Experiment:
    """Fault tolerance of a rule on a data set: all distortions of figure 4c, d."""
    accuracy = PUBLISHED.get(dataset, {}).get(rule)
    return Experiment(
        f"hp_tolerance_{dataset}",
        dataset,
        rule,
        SETTINGS,
        KINDS,
        None if accuracy is None else {"test_accuracy_best": accuracy},
    )
