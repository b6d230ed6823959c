"""Small tables, Iris first, with networks of one-spike neurons and cross-validation.

    python shifting_learning/SL_small.py                      Iris, five folds, ten seeds
    python shifting_learning/SL_small.py --fold 0 --repeat 1  one fold, one seed
    python shifting_learning/SL_small.py --dataset wine       another table of scikit-learn's
    python shifting_learning/SL_small.py --preset published   the paper's settings
    python shifting_learning/SL_small.py --test FOLDER        test the networks of a run again

Every feature is one input spike; the class whose output neuron spikes first is the decision. The
networks of all folds and seeds train side by side. The tuned preset is nested cross-validation:
step size and reference spike of a network are chosen by folds of its own training samples. There is
no part to choose an epoch by: the accuracy is that of the last epoch.
"""

import shared.waiting

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from jaxtyping import Float
from matplotlib.figure import Figure
from torch import Tensor

from shared import datasets
from shared.errors import UserError
from shared.experiment import Experiment
from shared.figures import RULES, count_of_seeds, legend_of_all, parts_of, plot_columns
from shared.options import script
from shared.run import Run as RunFolder
from shared.run import read_checkpoint
from shifting_learning import Dataset
from shifting_learning.figures import draw_roc, logarithmic
from shifting_learning.network import (
    decide,
    lead,
    published_network,
    reward_error,
    step_size,
)
from shifting_learning.tables import (
    CANDIDATES,
    FOLDS,
    Groups,
    Settings,
    choose,
    defaults,
    outer_folds,
    shares,
)


def load(settings: Settings, device: torch.device | None = None) -> datasets.Table:
    """The table that was asked for."""
    if settings.dataset == "wine_quality":
        return Dataset.load_wine_quality(settings.data_root)
    return datasets.load_table(settings.dataset)


EXPERIMENT = Experiment(
    paper="shifting_learning",
    description=__doc__,
    settings=Settings,
    load=load,
    session=lambda settings, data: f"sl_{data}",
    defaults=defaults,
    grows=lambda settings: False,  # the step size falls over all epochs
)


def draw(
    rows: list[dict[str, float]],
    accuracies: Float[Tensor, "repeats folds"],
    title: str,
    only: int | None = None,
) -> Figure:
    """Accuracy and loss over epochs, and the accuracy of each fold and seed in the last.

    Args:
        rows: the metrics of the epochs.
        accuracies: of the folds 0, 1, ... or of the only one.
        title: of the figure.
        only: number of the only fold that was tested, None for all.
    """
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 3.2), layout="constrained")
    plot_columns(left, rows, parts_of("accuracy"), "accuracy (%)", factor=100)
    plot_columns(middle, rows, {"loss": "train"}, "mean over samples of sum d²")
    if len(rows) > 1:  # what has one epoch is points, not curves
        logarithmic(middle)
    repeats, folds = accuracies.shape
    spread = (torch.arange(repeats) - (repeats - 1) / 2) * 0.04
    numbers = torch.arange(folds) if only is None else torch.tensor([only])
    x = numbers + spread[:, None]
    right.scatter(x, 100 * accuracies, s=10, alpha=0.6, color=RULES["test"].color, label="one seed")
    means = 100 * accuracies.mean(dim=0)
    right.plot(numbers, means, "k_", ms=18, label="mean of the seeds")
    right.set(xlabel="fold", ylabel="test accuracy (%)", xticks=numbers.tolist())
    right.set_title(
        f"{100 * accuracies.mean():.2f} % over {folds} fold{'s' if folds > 1 else ''}, "
        f"{count_of_seeds(repeats)}",
        fontsize=9,
    )
    right.grid(alpha=0.3)
    legend_of_all(figure)
    figure.suptitle(title, fontsize=10)
    return figure


def train(settings: Settings, table: datasets.Table, device: torch.device, run: RunFolder) -> None:
    """Choose settings, train all networks, write the figures and the result."""
    is_test = outer_folds(len(table.labels), settings.repeat, settings.fold, settings.seed)
    saved = run.load()
    if saved is None:
        chosen = torch.full((len(is_test),), -1)
        if settings.choose == "inner":
            chosen, _ = choose(settings, table, ~is_test, device)
        run.save(0, {"chosen": chosen})
        saved = 0, {"chosen": chosen}
    first, state = saved
    groups = Groups(settings, state["chosen"], table, is_test, device)
    if first:
        groups.load_state_dict(state["groups"])

    labels = torch.from_numpy(table.labels)
    for epoch in range(first, settings.epochs):
        row = {"loss": groups.train_epoch(epoch)}
        z_out = groups.outputs()
        for part, rows in (("train", ~is_test), ("test", is_test)):
            row[f"{part}_accuracy"] = shares(z_out, labels, rows).mean().item()
        show = (epoch + 1) % 50 == 0 or epoch + 1 == settings.epochs
        run.log(epoch + 1, row, show=show)
        if show:
            state = {"chosen": state["chosen"], "groups": groups.state_dict()}
            run.save(epoch + 1, state)

    report(settings, run, groups, state["chosen"], labels)


def report(
    settings: Settings, run: RunFolder, groups: Groups, chosen: Tensor, labels: Tensor
) -> None:
    """Draw the figures and write the result."""
    z_out, is_test, name = groups.outputs(), groups.is_test, run.experiment
    by_fold = shares(z_out, labels, is_test).reshape(settings.repeat, -1)
    by_seed = by_fold.mean(dim=1)
    tested = labels.expand(len(is_test), -1)[is_test]
    run.save_figure(draw_roc(tested.numpy(), lead(z_out)[is_test].numpy(), name), "roc")
    metrics: dict[str, float | None] = {
        "networks": len(is_test),
        "test_accuracy_last": by_seed.mean().item(),
        "test_accuracy_last_sd_of_seeds": by_seed.std().item() if settings.repeat > 1 else None,
        "test_accuracy_last_worst_fold": by_fold.min().item(),
        "train_accuracy_last": shares(z_out, labels, ~is_test).mean().item(),
    }
    if settings.choose == "inner":
        for k, changes in enumerate(CANDIDATES):
            words = "_".join(f"{key}-{value}" for key, value in sorted(changes.items()))
            metrics[f"chosen_{words}"] = (chosen == k).double().mean().item()
    run.finish(
        epochs=settings.epochs,
        metrics=metrics,
        figure=run.save_figure(draw(run.metrics(), by_fold, name, settings.fold), "folds"),
    )


def test_saved(settings: Settings, folder: Path) -> None:
    """Print the accuracy of a run's saved networks on the folds that they were tested on.

    Raises:
        UserError: the folder holds no trained networks of these options.
    """
    device = EXPERIMENT.device(settings)
    path = folder / "checkpoint.pt"
    if not path.exists():
        raise UserError(f"--test {folder}: there is no {path.name}; train first")
    EXPERIMENT.check_same(replace(settings, test=None), folder)
    state = read_checkpoint(path)["state"]
    table = load(settings)
    is_test = outer_folds(len(table.labels), settings.repeat, settings.fold, settings.seed)
    if "groups" not in state or len(state["chosen"]) != len(is_test):
        raise UserError(f"--test {folder}: give the options that the run was trained with")
    groups = Groups(settings, state["chosen"], table, is_test, device)
    groups.load_state_dict(state["groups"])
    accuracy = shares(groups.outputs(), torch.from_numpy(table.labels), is_test).mean().item()
    print(f"test accuracy of {len(is_test)} saved networks: {100 * accuracy:.2f} %")


# ------------------------------------------------------------------------------ published calls


def _published_path(name: str) -> Path:
    return Path("runs") / f"SL_{name}.pt"


def Train(
    X: Float[Tensor, "n features"],
    y: Float[Tensor, "n classes"],
    f: int = 0,
    siz: int = 30,
    st: Sequence[int] = (4, 10, 3),
    totSn: int = 150,
    sn: int = 120,
    bs: int = 30,
    epN: int = 400,
    inv: int = 50,
    lr: Sequence[float] = (1e-2, 1e-2, 1e-6),
    name: str = "Iris",
) -> None:
    """Train one network by the published rule, all but one fold, and save it under runs/.

    Args:
        X: intensities of all samples, in their final order, shape [n, features].
        y: intensities of the targets, 0.99 for the right class and 0.01 for the others.
        f: number of the fold left out, from 0.
        siz: samples of a fold.
        st: neurons of each layer, inputs first.
        totSn: samples in all.
        sn: samples to train on.
        bs: samples per step.
        epN: epochs.
        inv: epochs between two lines of progress.
        lr: step size of the timings at first and after the last epoch, and of the passing times.
        name: of the file.
    """
    keep = torch.ones(totSn, dtype=torch.bool)
    keep[f * siz : (f + 1) * siz] = False
    z, labels = torch.exp(1 - X[:totSn][keep][:sn].float()), y[:totSn][keep][:sn].argmax(dim=1)
    network = published_network(st)
    for epoch in range(epN):
        lr_ets = step_size(epoch, epN, lr[0], lr[1], "exponential")
        for rows in torch.split(torch.arange(len(z)), bs):
            delta = reward_error(network(z[rows]), labels[rows], "published")
            network.learn(delta, lr_ets, lr[2])
        if epoch % inv == 0:
            loss = delta.square().sum() / len(delta)
            print(f"epoch {epoch + 1} of {epN}: error {loss:.6f}")
    path = _published_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), path)


def Test(
    X: Float[Tensor, "n features"],
    y: Float[Tensor, "n classes"],
    st: Sequence[int] = (4, 10, 3),
    sn: int = 30,
    bs: int = 30,
    name: str = "Iris",
) -> tuple[Tensor, int]:
    """Test the network that `Train` saved.

    Args:
        X: intensities of the samples, shape [n, features].
        y: intensities of the targets.
        st: neurons of each layer.
        sn: samples to test.
        bs: samples at once.
        name: of the file.

    Returns:
        Number of right decisions, and of samples.

    Raises:
        UserError: nothing was saved under this name.
    """
    path = _published_path(name)
    if not path.exists():
        raise UserError(f"{path} is not there: call Train first")
    network = published_network(st)
    network.load_state_dict(torch.load(path, weights_only=True))
    labels = y[:sn].argmax(dim=1)
    decided = [decide(network(torch.exp(1 - x.float()))) for x in torch.split(X[:sn], bs)]
    return (torch.cat(decided) == labels).sum(), sn


def Run(
    loader: tuple[Tensor, Tensor],
    f: int = 0,
    siz: int = 30,
    st: Sequence[int] = (4, 10, 3),
    totSn: int = 150,
    sn: int = 120,
    bs: int = 30,
    epN: int = 400,
    inv: int = 50,
    lr: Sequence[float] = (1e-2, 1e-2, 1e-6),
    name: str = "Iris",
) -> float:
    """`Train` and `Test` on one fold, arguments as there; prints and returns its accuracy."""
    X, y = loader
    Train(X, y, f, siz, st, totSn, sn, bs, epN, inv, lr, name)
    fold = slice(f * siz, (f + 1) * siz)
    correct, tested = Test(X[fold], y[fold], st, siz, bs, name)
    print(f"accuracy: {int(correct)} of {tested} ({100 * int(correct) / tested:.3f} %)")
    return int(correct) / tested


def run_Task(siz: int = 30, name: str = "Iris") -> float:
    """The first fold of Iris with the published settings; returns its accuracy."""
    return Run(Dataset.iris_loader(), siz=siz, name=name)


def Iris_fold() -> float:
    """Five folds of Iris with the published settings; prints and returns the mean accuracy."""
    loader = Dataset.iris_loader()
    mean = sum(Run(loader, f=f) for f in range(FOLDS)) / FOLDS
    print(f"{FOLDS}-fold accuracy: {100 * mean:.3f} %")
    return mean


def main() -> None:
    """Train and test the networks, or test saved ones."""
    settings = EXPERIMENT.parse()
    if settings.test:
        test_saved(settings, settings.test)
    else:
        EXPERIMENT.run(settings, train)


if __name__ == "__main__":
    script(main)
