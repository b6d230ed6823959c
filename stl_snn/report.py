"""What a run finds after training: accuracies, noise, spikes, operations, figures, the result."""

import copy
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from shared.figures import counted, draw_run
from shared.run import Run
from stl_snn.data import intensities, kinds_of_noise, spikes
from stl_snn.figures import draw_energy, draw_noise, draw_rates, draw_thresholds
from stl_snn.operations import Counter
from stl_snn.param import Learning
from stl_snn.spiking_model import SpikingNetwork
from stl_snn.training import (
    EVALUATION_SEED,
    Trainer,
    joint_accuracy,
    threshold_summary,
    under_noise,
)


class Untrained(NamedTuple):
    """What an untrained network was like: thresholds, and firing rates, by layer of neurons."""

    thresholds: dict[str, NDArray[np.float32]]
    rates: dict[str, float]


@torch.no_grad()
def rates_of(trainer: Trainer) -> dict[str, float]:
    """Firing rates of the untrained network, on a training batch normalized by itself."""
    network = copy.deepcopy(trainer.network).train()  # its running averages stay as they are
    inputs = trainer.data.train.inputs[: trainer.presentation.batch_size]
    generator = torch.Generator(trainer.device).manual_seed(EVALUATION_SEED)
    values = intensities(inputs, trainer.data.recorded)
    with torch.random.fork_rng(), Counter(network) as counter:
        network(spikes(values, trainer.presentation.steps, generator))
    return counter.rates()


def thresholds_of(network: SpikingNetwork) -> dict[str, NDArray[np.float32]]:
    """A copy of every layer's thresholds."""
    return {
        name: layer.thresh.detach().cpu().numpy().copy()
        for name, layer in network.neurons().items()
    }


def report(
    run: Run,
    trainer: Trainer,
    untrained: Untrained,
    *,
    learning: Learning,
    decisions: int,
    noise_samples: int,
    levels: Sequence[int],
) -> None:
    """Test the trained network, draw the figures and write the result.

    Args:
        run: all of whose epochs are done.
        trainer: with the trained network.
        untrained: what it was like before.
        learning: what learned.
        decisions: draws of the input whose votes are averaged for the joint decision.
        noise_samples: first test samples that are shown under noise; 0 for none.
        levels: of noise.
    """
    data, network, rows = trainer.data, trainer.network, run.metrics()
    title = f"{data.name}, {learning.upper()}, {counted(len(rows), 'epoch')}"
    metrics = accuracies(rows) | joint_decision(trainer, decisions)
    if noise_samples:
        found = accuracies_under_noise(trainer, noise_samples, levels)
        metrics |= found
        words = f"{title}, {found['noise_samples']} samples"
        run.save_figure(draw_noise({learning.upper(): [found]}, words), "noise")
    with Counter(network) as counter:
        trainer.votes(data.test)
    metrics |= {f"rate_{name}_before": rate for name, rate in untrained.rates.items()}
    metrics |= {f"rate_{name}": rate for name, rate in counter.rates().items()}
    metrics |= threshold_summary(network)
    metrics |= {"non_positive_thresholds": sum(network.non_positive().values())}
    metrics |= counter.metrics()
    before = {"epoch": 0, **{f"rate_{name}": rate for name, rate in untrained.rates.items()}}
    run.save_figure(draw_rates([before, *rows], title), "rates")
    run.save_figure(draw_thresholds(untrained.thresholds, thresholds_of(network)), "thresholds")
    run.save_figure(draw_energy(counter.counts(), title), "energy")
    curves = run.save_figure(draw_run(rows, title, "squared error of votes"), "curves")
    run.finish(epochs=len(rows), metrics=metrics, figure=curves)


def accuracies(rows: list[dict[str, float]]) -> dict[str, float]:
    """The run's accuracies: of the last epoch, of the selected one, and the best of all tests."""
    picked = max(rows, key=lambda row: row["validation_accuracy"])
    return {
        "test_accuracy_last": rows[-1]["test_accuracy"],
        "test_accuracy_selected": picked["test_accuracy"],
        "selected_epoch": picked["epoch"],
        "test_accuracy_best_published_protocol": max(row["test_accuracy"] for row in rows),
        "validation_accuracy_last": rows[-1]["validation_accuracy"],
        "train_accuracy_last": rows[-1]["train_accuracy"],
    }


def joint_decision(trainer: Trainer, decisions: int) -> dict[str, float]:
    """Accuracy of the mean votes of several draws of the input; nothing of one draw."""
    if decisions == 1:
        return {}
    test = trainer.data.test
    votes = [trainer.votes(test, draw=draw) for draw in range(decisions)]
    return {"decisions": decisions, "test_accuracy_joint": joint_accuracy(votes, test.labels)}


def accuracies_under_noise(
    trainer: Trainer, n_samples: int, levels: Sequence[int]
) -> dict[str, float]:
    """Accuracies on the first test samples under noise of every kind and level, by name."""
    part = trainer.data.test.first(n_samples)
    found = under_noise(trainer, part, kinds_of_noise(trainer.data.recorded), levels)
    by_name = {
        f"test_accuracy_{kind}_{level}": value
        for kind, values in found.items()
        for level, value in zip(levels, values, strict=True)
    }
    return {"noise_samples": len(part), **by_name}
