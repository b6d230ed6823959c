"""MNIST, Fashion-MNIST or small digits with a 784-800-10 network of one-spike neurons.

    python shifting_learning/SL_mnist.py                            MNIST
    python shifting_learning/SL_mnist.py --dataset fashion_mnist    Fashion-MNIST
    python shifting_learning/SL_mnist.py --rule exact               gradient descent, same network
    python shifting_learning/SL_mnist.py --preset published         the paper's settings
    python shifting_learning/SL_mnist.py --test FOLDER              a run's saved network again

Every pixel is one input spike, bright pixels first; the class whose output neuron spikes first is
the decision. The tuned preset holds out a tenth of the training set, which picks the epoch of the
"selected" accuracy. The accuracy of the last epoch is the result; test data choose nothing.
"""

import shared.waiting

import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from shared import datasets, experiment
from shared.errors import UserError
from shared.experiment import (
    UNNAMED,
    Experiment,
    Named,
    NonNegative,
    Positive,
    Share,
    as_published,
    paper,
)
from shared.options import script
from shared.run import RUNS, Run, progress, read_checkpoint
from shared.tensors import random_order
from shifting_learning.Dataset import Preprocess, cut_codes, published_test_codes
from shifting_learning.figures import draw_confusion, draw_curves, draw_layers_raster, draw_roc
from shifting_learning.images import Images, accuracy, codes_of, evaluate, shifted
from shifting_learning.network import (
    Network,
    Reward,
    decide,
    decide_latest,
    lead,
    reward_error,
    step_size,
)
from shifting_learning.rules import Rule
from shifting_learning.SL_Layer import Silent, SNNLayer, Ties

QUICK_SAMPLES = 1000


@dataclass(frozen=True)
class Settings(experiment.Settings):
    """The options; the defaults are the tuned preset, the paper's values the published one."""

    dataset: Annotated[Literal["mnist", "fashion_mnist", "digits"], UNNAMED] = "mnist"
    """Data set; where MNIST cannot be had, the 5,000 digits of mnist5k stand in."""
    preprocess: Annotated[Preprocess, Named("{}")] = "none"
    """Edges, pixels cut at 0.5, or these at the times 0.01 (bright) and 2.3."""
    hidden: Annotated[tuple[Positive[int], ...], paper((800,))] = (800,)
    """Neurons of each hidden layer; the older program has 400 400."""
    epochs: Annotated[Positive[int], paper(20)] = 20
    """Passes over the training set."""
    batch_size: Annotated[Positive[int], paper(128)] = 128
    """Images per step."""
    test: Annotated[Path | None, UNNAMED] = None
    """Only test the network that is saved in a run's folder."""
    preset: Annotated[Literal["published", "tuned"], Named("{}")] = "tuned"
    """Values of the following options where they are not given."""
    hidden_spread: Annotated[Positive[float], paper(8.0)] = 40.0
    """Initial timings of hidden layers are uniform in [0, spread / inputs)."""
    output_spread: Annotated[Positive[float], paper(8.0)] = 8.0
    """The same of the output layer."""
    lr_ets: Annotated[Positive[float], paper(1e-4)] = 1.5e-3
    """Step size of the timings in the first epoch."""
    lr_ets_end: Annotated[Positive[float], paper(1e-6)] = 4.5e-5
    """Step size that they would have after the last."""
    output_rate: Annotated[Positive[float], paper(1.0)] = 1 / 3
    """Step size of the output layer relative to the hidden ones'."""
    decay: Annotated[Literal["exponential", "cosine"], paper("exponential")] = "cosine"
    """How the step size falls in between, per epoch."""
    lr_etp: Annotated[NonNegative[float], paper(1e-4)] = 0.0
    """Step size of the passing times."""
    reward: Annotated[Reward, paper("published")] = "first_spike"
    """The reward signal, see `network.reward_error`."""
    sharpness: Annotated[Positive[float], paper(1.0)] = 20.0
    """Of the reward signal."""
    smoothing: Annotated[Share, paper(0.0)] = 0.1
    """Of the reward signal."""
    silent: Annotated[Silent, paper("published")] = "ignore"
    """What neurons without a spike learn, see `SL_Layer.ShiftingLayer`."""
    wake: Annotated[NonNegative[float], paper(0.0)] = 0.1
    """How strongly silent neurons are woken, see there."""
    ties: Annotated[Ties, paper("published")] = "event"
    """How inputs of one time are taken, see there."""
    shift: Annotated[NonNegative[int], paper(0)] = 1
    """Training images are moved by up to so many pixels in both directions."""
    shuffle: Annotated[Literal["every", "once"], paper("once")] = "every"
    """Every epoch, or once before the first."""
    validation: Annotated[Share, paper(0.0)] = 0.1
    """Share of the training set held out to select an epoch."""
    rule: Annotated[Rule, Named("{}"), paper("shifting")] = "shifting"
    """The paper's rule, or the exact gradient on the same network."""

    def check(self) -> None:
        """Refuse a network without a hidden layer; raises `UserError`."""
        if not self.hidden:
            raise UserError("--hidden needs a number of neurons for each hidden layer, such as 800")


# Where the best choice of the tuned preset depends on the data set, or on it and the rule: moved
# images help MNIST and hurt clothes and images of 8 x 8 pixels, whose few inputs also want smaller
# timings; on MNIST the exact gradient needs no slower output layer.
TUNED_FOR: dict[str, dict[str, float]] = {
    "fashion_mnist": {"shift": 0},
    "digits": {"shift": 0, "hidden_spread": 20.0},
    "mnist exact": {"output_rate": 1.0},
}


def defaults(asked: Settings) -> Settings:
    """What options that are not given start from: by preset, data set and rule."""
    changes: dict[str, Any] = {"epochs": 2} if asked.quick else {}
    if asked.preset == "published":
        return replace(as_published(Settings()), **changes)
    for key in (asked.dataset, f"{asked.dataset} {asked.rule}"):
        changes |= TUNED_FOR.get(key, {})
    return Settings(**changes)


def build(settings: Settings, n_in: int, n_out: int, generator: torch.Generator) -> Network:
    """The network n_in - hidden - ... - n_out with its initial timings, float32."""

    def layer(n_in: int, n_out: int, spread: float) -> SNNLayer:
        e_ts = torch.rand(n_in, n_out, generator=generator) * (spread / n_in)
        return SNNLayer(
            n_in,
            n_out,
            e_ts,
            rule=settings.rule,
            silent=settings.silent,
            wake=settings.wake,
            ties=settings.ties,
        )

    sizes = [n_in, *settings.hidden]
    hidden = [layer(*pair, settings.hidden_spread) for pair in itertools.pairwise(sizes)]
    output = layer(sizes[-1], n_out, settings.output_spread)
    return Network(*hidden, output, output_rate=settings.output_rate)


def train_epoch(
    settings: Settings,
    network: Network,
    images: Images,
    lr_ets: float,
    generator: torch.Generator,
) -> dict[str, float]:
    """One pass over the training set.

    Returns:
        Loss and accuracy as seen before each step, and the share of silent hidden neurons.
    """
    device = images.samples.device
    once = torch.Generator().manual_seed(settings.seed)
    order = random_order(len(images), device, generator if settings.shuffle == "every" else once)
    # Summed where the network is: reading them at every step would hold a GPU up.
    totals = torch.zeros(3, dtype=torch.float64, device=device)
    batches = images.samples.batches(settings.batch_size, order)
    for pixels, labels in progress(batches, len(batches), "train"):
        if settings.shift:
            pixels = shifted(pixels, settings.shift, generator)
        z_out = network(codes_of(pixels, images.coding))
        delta = reward_error(z_out, labels, settings.reward, settings.sharpness, settings.smoothing)
        network.learn(delta, lr_ets, settings.lr_etp)
        right = (decide(z_out) == labels).sum()
        silent = network.silent_share() * len(labels)
        totals += torch.stack([delta.square().sum(), right, silent])
    n = len(images)
    names = ("loss", "train_accuracy", "silent_hidden")
    return dict(zip(names, (totals / n).tolist(), strict=True))


def train(settings: Settings, data: datasets.Dataset, device: torch.device, run: Run) -> None:
    """Train and test the network, write figures and result."""
    parts = {
        part: Images(getattr(data, part), settings.preprocess, device)
        for part in ("train", "validation", "test")
    }
    generator = torch.Generator().manual_seed(settings.seed)
    n_in = parts["train"].pixels[0].numel()
    network = build(settings, n_in, data.n_classes, generator).to(device)
    first = run.restore(network=network, generator=generator)

    for epoch in range(first, settings.epochs):
        lr_ets = step_size(
            epoch, settings.epochs, settings.lr_ets, settings.lr_ets_end, settings.decay
        )
        row = train_epoch(settings, network, parts["train"], lr_ets, generator)
        for part in ("validation", "test"):
            if len(parts[part]):
                z_out = evaluate(network, parts[part])
                row[f"{part}_accuracy"] = accuracy(z_out, parts[part].labels)
        run.log(epoch + 1, row)
        run.checkpoint(epoch + 1, network=network, generator=generator)

    report(run, network, parts["test"])


def other_tests(network: Network, test: Images) -> list[tuple[str, float]]:
    """Accuracies on images cut at 0.5: bright pixels early, and as published."""
    latest = decide_latest(evaluate(network, test, published_test_codes))
    return [
        ("cut", accuracy(evaluate(network, test, cut_codes), test.labels)),
        ("published_test", (latest == test.labels).double().mean().item()),
    ]


def report(run: Run, network: Network, test: Images) -> None:
    """Draw the figures and write the result."""
    rows, name = run.metrics(), run.experiment
    labels = test.labels.cpu().numpy()
    z_out = evaluate(network, test).cpu()
    run.save_figure(draw_confusion(labels, decide(z_out).numpy(), name), "confusion")
    run.save_figure(draw_roc(labels, lead(z_out).numpy(), name), "roc")
    codes = [codes_of(test.pixels[:1], test.coding)]
    for layer in network.layers:
        codes.append(layer(codes[-1]))
    raster = draw_layers_raster(
        [z[0].cpu().numpy() for z in codes],
        ("input", *(["hidden"] * (len(codes) - 2)), "output"),
        f"one test image of class {labels[0]}",
    )
    run.save_figure(raster, "raster")
    last = rows[-1]
    selected = max(rows, key=lambda row: row.get("validation_accuracy", 0.0))
    has_validation = "validation_accuracy" in last
    run.finish(
        epochs=int(last["epoch"]),
        metrics={
            "test_accuracy_last": last["test_accuracy"],
            "test_accuracy_selected": selected["test_accuracy"] if has_validation else None,
            "selected_epoch": selected["epoch"] if has_validation else None,
            "validation_accuracy_last": last.get("validation_accuracy"),
            "train_accuracy_last": last["train_accuracy"],
            "silent_hidden_last": last["silent_hidden"],
            **{f"test_accuracy_last_{how}": value for how, value in other_tests(network, test)},
        },
        figure=run.save_figure(draw_curves(rows, name), "curves"),
    )


def load(settings: Settings, device: torch.device | None = None) -> datasets.Dataset:
    """The data set that was asked for."""
    data = datasets.load(
        settings.dataset, settings.data_root, validation=settings.validation, fallback=True
    )
    return data.first(QUICK_SAMPLES) if settings.quick else data


EXPERIMENT = Experiment(
    paper="shifting_learning",
    description=__doc__,
    settings=Settings,
    load=load,
    session=lambda settings, data: f"sl_{data.removesuffix('_mnist')}",
    defaults=defaults,
    grows=lambda settings: False,  # the step size falls over all epochs
)


def load_saved(
    settings: Settings, folder: Path, data: datasets.Dataset, device: torch.device
) -> Network:
    """The network that a run of these options saved.

    Raises:
        UserError: the folder holds none, or one of other sizes.
    """
    path = folder / "checkpoint.pt"
    if not path.exists():
        raise UserError(f"there is no {path}: train first")
    network = build(settings, data.test.inputs[0].size, data.n_classes, torch.Generator())
    try:
        network.load_state_dict(read_checkpoint(path)["state"]["network"])
    except (KeyError, RuntimeError) as error:
        raise UserError(f"{path} holds another network: give the options of its run") from error
    return network.to(device)


def test_saved(settings: Settings, folder: Path) -> None:
    """Print the test accuracies of the network that is saved in a run's folder.

    Raises:
        UserError: the folder holds none, or one of other options.
    """
    if (folder / "checkpoint.pt").exists():
        EXPERIMENT.check_same(replace(settings, test=None), folder)
    device = EXPERIMENT.device(settings)
    data = load(settings)
    network = load_saved(settings, folder, data, device)
    test = Images(data.test, settings.preprocess, device)
    as_trained = accuracy(evaluate(network, test), test.labels)
    for how, value in [("as_trained", as_trained), *other_tests(network, test)]:
        print(f"test_accuracy_{how:16} {100 * value:6.2f} %")


# ------------------------------------------------------------------------------ published calls


def _published(data_set: str, bs: int) -> Settings:
    folder = RUNS / "shifting_learning" / f"sl_{data_set}_published" / "seed0"
    words = ["--preset", "published", "--dataset", data_set, "--batch-size", str(bs)]
    return EXPERIMENT.parse([*words, "--out", str(folder)])


def MNIST_train(sn: int = 60000, bs: int = 128, data_set: str = "mnist") -> None:
    """Train with the published settings, in runs/shifting_learning/sl_mnist_published/seed0.

    Args:
        sn: images to train on, the first so many.
        bs: images per step.
        data_set: "mnist" or "fashion_mnist".
    """

    def first(settings: Settings, device: torch.device) -> datasets.Dataset:
        data = load(settings)
        return replace(data, train=datasets.Split(data.train.inputs[:sn], data.train.labels[:sn]))

    replace(EXPERIMENT, load=first).run(_published(data_set, bs), train)


def MNIST_test(
    sn: int = 10000, bs: int = 100, data_set: str = "mnist", isConMx: bool = False
) -> tuple[Tensor, int]:
    """Test the network that `MNIST_train` saved, by the published test.

    That test codes images otherwise than training does and decides for the latest spike, see
    `Dataset.published_test_codes`. For the test as trained: `SL_mnist.py --test FOLDER`.

    Args:
        sn: images to test, the first so many.
        bs: images at once; the results do not depend on it.
        data_set: "mnist" or "fashion_mnist".
        isConMx: print the confusion matrix, a row per true class.

    Returns:
        Number of right decisions, and of images.
    """
    settings = _published(data_set, 128)
    device = EXPERIMENT.device(settings)
    data = load(settings)
    assert settings.out is not None
    network = load_saved(settings, settings.out, data, device)
    first = datasets.Split(data.test.inputs[:sn], data.test.labels[:sn])
    test = Images(first, "none", device)
    decided = decide_latest(evaluate(network, test, published_test_codes))
    if isConMx:
        from sklearn.metrics import confusion_matrix  # here, since it takes a second of every start

        print(confusion_matrix(test.labels.cpu(), decided.cpu(), labels=range(data.n_classes)))
    return (decided == test.labels).sum(), len(test)


def run_MNIST() -> None:
    """Test the network that `MNIST_train` saved, as the published main program does."""
    correct, sn = MNIST_test(10000, 100, "mnist")
    print(f"accuracy: {int(correct)} of {sn} ({100 * int(correct) / sn:.3f} %)")


def main() -> None:
    """Train and test a network, or test a saved one."""
    settings = EXPERIMENT.parse()
    if settings.test:
        test_saved(settings, settings.test)
    else:
        EXPERIMENT.run(settings, train)


if __name__ == "__main__":
    script(main)
