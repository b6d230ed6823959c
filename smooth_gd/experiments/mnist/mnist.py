"""A network of theta neurons learns to classify by its first spike (figure 4).

    python smooth_gd/experiments/mnist/mnist.py                        MNIST, 784-100-100-10
    python smooth_gd/experiments/mnist/mnist.py --dataset yin_yang     points in the plane

Spike times follow exactly from event to event, and so do their gradients. At the start no hidden
neuron spikes within the trial: it learns by pseudospikes, which come after the trial's end and
join ordinary ones continuously. The class is the output neuron that spikes first. Accuracy is
given twice: with pseudospikes, as in the paper's headline, and by ordinary spikes only.

Training is on the whole training set, and the result is the last epoch's: nothing is chosen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from shared.errors import UserError
from shared.experiment import (
    UNNAMED,
    Experiment,
    Named,
    NonNegative,
    Positive,
    Share,
    paper,
)
from shared.options import script
from shared.run import Run
from smooth_gd.experiments import jax_runtime
from smooth_gd.experiments.jax_runtime import Device, Dtype, prepare
from smooth_gd.experiments.mnist.data import IMAGES, POINTS, QUICK_SAMPLES, load, sized
from smooth_gd.experiments.mnist.figures import (
    draw_activity,
    draw_curves,
    draw_example,
    draw_raster,
    plot_error,
    plot_spikes,
    plot_traces,
)
from smooth_gd.experiments.mnist.model import (
    eventffwd,
    init_phi0,
    init_weights,
    lossfn,
    outfn,
    transform_image,
)
from smooth_gd.experiments.mnist.network import Network, Parameters, check_levels
from smooth_gd.experiments.mnist.runs import (
    example_of,
    load_data,
    p_of,
    probefn,
    run,
    run_example,
    simulatefn,
    transform_dataset,
)
from smooth_gd.experiments.mnist.training import Classification, State, Trainer
from smooth_gd.experiments.trials import numbered, restored
from smooth_gd.spikegd.layered import Bounds, Response
from smooth_gd.spikegd.utils import plotting
from smooth_gd.spikegd.utils.events import room_for

__all__ = [
    "eventffwd",
    "init_phi0",
    "init_weights",
    "load_data",
    "lossfn",
    "outfn",
    "plot_error",
    "plot_spikes",
    "plot_traces",
    "probefn",
    "run",
    "run_example",
    "simulatefn",
    "transform_dataset",
    "transform_image",
]

PAPER = Network()
PAPER_EPOCHS = 100

# Mean and standard deviation of ten seeds, on MNIST's test set.
PUBLISHED = {
    "test_accuracy_last": 0.976,
    "test_accuracy_last_sd": 0.001,
    "test_accuracy_ordinary_last": 0.973,
    "test_accuracy_ordinary_last_sd": 0.001,
    "test_loss_last": 0.139,
    "test_loss_last_sd": 0.007,
    "test_loss_ordinary_last": 1.684,
    "test_loss_ordinary_last_sd": 0.008,
    "test_silent_in_trial_last": 0.0,
    "test_silent_until_first_last": 0.001,
    "test_silent_until_first_last_sd": 0.002,
    "test_activity_in_trial_last": 0.417,
    "test_activity_in_trial_last_sd": 0.012,
    "test_activity_until_first_last": 0.317,
    "test_activity_until_first_last_sd": 0.010,
    "initial_accuracy": 0.104,
    "initial_accuracy_sd": 0.007,
    "initial_accuracy_ordinary": 0.098,
    "initial_loss": 2.344,
    "initial_loss_ordinary": 2.320,
    "initial_silent_in_trial": 0.997,
    "initial_silent_until_first": 0.997,
    "initial_activity_in_trial": 0.0,
    "initial_activity_until_first": 0.0,
}


@dataclass(frozen=True)
class Settings(jax_runtime.Settings):
    """The options."""

    dataset: Annotated[Literal["mnist", "fashion_mnist", "digits", "yin_yang"], UNNAMED] = "mnist"
    """Data set; where MNIST cannot be had, the 5,000 digits of mnist5k stand in."""
    threads: Annotated[Positive[int] | None, UNNAMED] = None
    """CPU threads; without a number all cores."""
    epochs: Annotated[Positive[int], paper(PAPER_EPOCHS)] = PAPER_EPOCHS
    """Passes over the training set."""
    hidden: Annotated[tuple[Positive[int], ...], Named("{}"), paper(PAPER.sizes[1:-1])] = (
        PAPER.sizes[1:-1]
    )
    """Neurons of each hidden layer."""
    Nin_virtual: Annotated[Positive[int], paper(PAPER.Nin_virtual)] = PAPER.Nin_virtual
    """Times at which pixels can spike, one for each level of brightness."""
    spread: Annotated[Positive[float], paper(PAPER.spread)] = PAPER.spread
    """Weights start in +-spread / sqrt(presynaptic neurons)."""
    T: Annotated[Positive[float], paper(PAPER.T)] = PAPER.T
    """Length of a trial."""
    gamma: Annotated[NonNegative[float], paper(PAPER.gamma)] = PAPER.gamma
    """Weight of the term that draws the label's spike forward."""
    batch_size: Annotated[Positive[int], paper(1000)] = 1000
    """Trials per step; 100 for yin_yang."""
    lr: Annotated[Positive[float], paper(4e-3)] = 4e-3
    """Step size of AdaBelief."""
    flip: Annotated[Share, paper(0.02)] = 0.02
    """Probability that a pixel is turned over in training; 0 for yin_yang."""
    dtype: Annotated[Dtype, paper("float32")] = "float32"
    """Floating point type."""

    def check(self) -> None:
        """Refuse levels of brightness that never spike, and no hidden layer; raises `UserError`."""
        if not self.hidden:
            raise UserError("--hidden needs a number of neurons for each hidden layer, such as 100")
        check_levels(self.Nin_virtual)


def defaults(asked: Settings) -> Settings:
    """What options that are not given start from, by the data set."""
    settings = Settings()
    if asked.dataset in POINTS:
        settings = replace(settings, batch_size=100, flip=0.0)
    if asked.quick:
        settings = replace(settings, epochs=2, batch_size=min(settings.batch_size, 200))
    return settings


def unsized_network(settings: Settings) -> Network:
    """The network, with one input and one output."""
    return Network(
        sizes=(1, *settings.hidden, 1),
        T=settings.T,
        Nin_virtual=settings.Nin_virtual,
        gamma=settings.gamma,
        spread=settings.spread,
    )


def load_for(settings: Settings, device: Device) -> Classification:
    """The data set that was asked for."""
    samples = QUICK_SAMPLES if settings.quick else None
    network = unsized_network(settings)
    return load(settings.dataset, settings.data_root, network, settings.flip, samples)


def published(settings: Settings, data: str) -> dict[str, float] | None:
    """The paper's numbers, where the settings are the paper's too."""
    is_paper = EXPERIMENT.name(settings, data) == "gd_mnist"
    return PUBLISHED if is_paper else None


def response_to(
    network: Network, data: Classification, parameters: Parameters, sample: int, bounds: Bounds
) -> Response:
    """The response to one sample of the test set."""
    inputs = jnp.asarray(data.test.inputs[sample : sample + 1])
    local = jax.tree.map(np.asarray, parameters)
    respond = jax.jit(lambda p, x: network.respond(p, data.shown(x), bounds))
    response: Response = respond(local, inputs)
    return response


def train(settings: Settings, data: Classification, device: Device, run: Run) -> None:
    """Train and test one network.

    Raises:
        UserError: network or options cannot be had as asked.
    """
    network = sized(unsized_network(settings), data)
    trainer = Trainer(network, data, settings.batch_size, settings.lr, settings.seed, device.jax)
    untrained = trainer.initial(settings.dtype)
    state, epoch = untrained, 0
    if saved := run.load():
        epoch, content = saved
        state = trainer.placed(restored(untrained, content))
        trainer.bounds = Bounds(*map(tuple, content["bounds"]))
    for number in range(epoch + 1, settings.epochs + 1):
        state, row = trainer.train_epoch(state, number)
        tested = trainer.evaluate(state.parameters, data.test)
        run.log(number, row | {f"test_{name}": value for name, value in tested.items()})
        run.save(number, saved_state(state, trainer.bounds))
    initial = trainer.evaluate(untrained.parameters, data.test)
    finish(settings, run, trainer, (untrained, state), initial)


def saved_state(state: State, bounds: Bounds) -> dict[str, Any]:
    """What a checkpoint holds: all numbers that the next epoch depends on."""
    return {"network": numbered(state), "bounds": list(map(list, bounds))}


def examples_of(
    trainer: Trainer, states: tuple[State, State], epochs: int
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The first test sample before and after learning, for panels a and b, and a configuration.

    Hidden layers have one size.
    """
    network, part = trainer.network, trainer.data.test
    config = {
        "T": network.T,
        "K": room_for(sum(trainer.bounds.events) + network.sizes[-1] + network.Nin_virtual + 1),
        "dt": 0.001,
        "Nin_virtual": network.Nin_virtual,
        "Nhidden": network.sizes[1],
        "Nlayer": len(network.sizes) - 1,
        "Nout": network.sizes[-1],
        "Nepochs": epochs,
    }
    examples = []
    for state in states:
        p = p_of(jax.tree.map(np.asarray, state.parameters))
        inputs, label = part.inputs[0], int(part.labels[0])
        examples.append(example_of(p, network.neuron, inputs, label, config))
    return examples, config


def errors_of(
    rows: Sequence[Mapping[str, float]], initial: Mapping[str, float]
) -> dict[str, np.ndarray[Any, Any]]:
    """The accuracies of one network as `plot_error` wants them."""
    names = {"acc": "accuracy", "acc_ord": "accuracy_ordinary"}
    return {
        name: np.array([[initial[own], *(row[f"test_{own}"] for row in rows)]])
        for name, own in names.items()
    }


def finish(
    settings: Settings,
    run: Run,
    trainer: Trainer,
    states: tuple[State, State],
    initial: dict[str, float],
) -> None:
    """Draw the figures and write the result; states are the untrained one and the last."""
    rows, data, epochs = run.metrics(), trainer.data, settings.epochs
    curves = run.save_figure(draw_curves(rows, initial), "curves")
    run.save_figure(draw_activity(rows, initial), "activity")
    before, after = (
        response_to(trainer.network, data, state.parameters, 0, trainer.bounds) for state in states
    )
    label = int(data.test.labels[0])
    run.save_figure(draw_raster(before, after, label, trainer.network.T), "raster")
    if settings.dataset in IMAGES and len(set(settings.hidden)) == 1:
        examples, config = examples_of(trainer, states, epochs)
        networks = errors_of(rows, initial)
        with plt.style.context(plotting.STYLE):
            run.save_figure(draw_example(examples, networks, config), "example")
    metrics: dict[str, float | None] = {
        f"{name}_last": value for name, value in rows[-1].items() if name != "epoch"
    }
    metrics |= {f"initial_{name}": value for name, value in initial.items()}
    metrics["events_bound"] = max(trainer.bounds.events)
    print(f"compilation took {trainer.compile_seconds:.1f} s")
    run.finish(epochs=epochs, metrics=metrics, figure=curves)


EXPERIMENT = Experiment(
    paper="smooth_gd",
    description=__doc__,
    settings=Settings,
    load=load_for,
    session=lambda settings, data: f"gd_{data}",
    defaults=defaults,
    published=published,
    prepare=prepare,
)


def main() -> None:
    """Train a network, or show the result of the run that is there."""
    EXPERIMENT.main(train)


if __name__ == "__main__":
    script(main)
