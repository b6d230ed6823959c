"""Accuracies that DRTP's paper gives of rate networks, the mean over its trials.

Source: Frenkel, Lefebvre and Bol, Frontiers in Neuroscience 15:629892 (2021).
"""

IMAGES = "CONV_32_5_1_2_FC_1000_FC_10"
DEEP = "CONV_64_3_1_1_CONV_256_3_1_1_FC_1000_FC_1000_FC_10"


def _accuracies(*errors: float) -> dict[str, float]:
    """Accuracies by mode from test errors in % of BP, FA, DFA and, if given, DRTP."""
    modes = ("BP", "FA", "DFA", "DRTP")
    return {mode: round(1 - error / 100, 4) for mode, error in zip(modes, errors, strict=False)}


ACCURACIES: dict[tuple[str, str, bool], dict[str, float]] = {
    ("MNIST", "FC_500_FC_10", False): _accuracies(1.72, 1.92, 2.59, 4.58),
    ("MNIST", "FC_1000_FC_10", False): _accuracies(1.76, 1.90, 2.12, 4.03),
    ("MNIST", "FC_500_FC_500_FC_10", False): _accuracies(1.62, 1.95, 4.35, 4.57),
    ("MNIST", "FC_1000_FC_1000_FC_10", False): _accuracies(1.67, 1.90, 3.46, 4.04),
    ("MNIST", IMAGES, True): _accuracies(1.31, 1.55, 1.66, 1.87),
    ("MNIST", IMAGES, False): _accuracies(0.99, 1.38, 2.38, 1.81),
    ("CIFAR10aug", "FC_1000_FC_10", False): _accuracies(47.58, 48.56, 48.45, 52.99),
    ("CIFAR10aug", DEEP, True): _accuracies(30.13, 30.28, 30.40, 32.69),
    ("CIFAR10aug", DEEP, False): _accuracies(27.45, 29.84, 32.06, 35.45),
    ("classification_synth", "FC_500_FC_10", False): {
        "shallow": 0.9043,
        "sDFA": 0.9593,
        **_accuracies(1.84, 1.81, 3.48),
    },
}
"""By data set, topology, and whether convolutions are frozen: accuracies by mode."""

HIDDEN_ON_MNIST = ("FC_500_FC_10", "FC_1000_FC_10")
BATCH_ON_MNIST = 60
STEPS_ON_MNIST = {"BP": 1.5e-4, "FA": 5e-4, "DFA": 1.5e-4, "DRTP": 1.5e-4}
"""Batch and step sizes of the table's networks with one hidden layer.

They are not in DRTP's program. A public program gives its steps of BP, sDFA and DRTP as the paper's
table 3, with Adam and these batches; those of FA and DFA are from a script of a fork of DRTP's
program, which has the same one for BP.
"""

RUNS = {
    "MNIST": ("mnist", 100),
    "CIFAR10aug": ("cifar10", 200),
    "classification_synth": ("classification_synth", 500),
}
"""What must have been loaded for them, and their length in epochs, by data set.

The lengths are the default and the example command of DRTP's program, whose CIFAR-10 is the
mirrored one, and the paper's of the synthetic task. All were trained on the whole training set.
"""
