"""Small tables, Iris first, with a network of one-spike neurons and cross-validation.

    python shifting_learning/SL_small.py                      Iris, five folds, ten seeds
    python shifting_learning/SL_small.py --fold 0 --repeat 1  one fold, one seed
    python shifting_learning/SL_small.py --dataset wine       another table of scikit-learn's

Every feature is one input spike; the class whose output neuron spikes first is the decision. The
networks of all folds and seeds train side by side as one batch of independent networks. There is
no part to choose an epoch by: the accuracy is that of the last epoch.
"""

import argparse
from dataclasses import dataclass, replace
from typing import Any, get_args

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Bool, Float
from matplotlib.figure import Figure
from torch import Tensor

from shared import datasets
from shared.device import prepare
from shared.options import (
    add_common_options,
    add_preset_options,
    check_positive,
    experiment_name,
    parse,
    script,
)
from shared.run import Run, carry_out
from shifting_learning.Dataset import Scaling, code, table_intensities, with_reference
from shifting_learning.network import Network, Reward, decide, reward_error, step_size
from shifting_learning.SL_Layer import Rule, Silent, SNNLayer

EPOCHS = 400
FOLDS = 5


@dataclass(frozen=True)
class Settings:
    """What a preset fixes; every field is an option of the same name.

    Attributes:
        scaling: min-max over the whole table ("global") or over each column ("feature").
        reference: "spike" gives every trial one input more that fires at time 0, "none" does not.
        hidden_spread, output_spread: initial timings are uniform in [0, spread / n_in).
        lr_ets, lr_ets_end: step size of the timings in the first epoch and at the end.
        decay: how it falls in between, "exponential" or "cosine".
        lr_etp: step size of the passing times.
        reward, sharpness, smoothing: the reward signal, see `network.reward_error`.
        silent, wake: what silent neurons learn, see `SL_Layer.ShiftingLayer`.
    """

    scaling: Scaling
    reference: str
    hidden_spread: float
    output_spread: float
    lr_ets: float
    lr_ets_end: float
    decay: str
    lr_etp: float
    reward: Reward
    sharpness: float
    smoothing: float
    silent: Silent
    wake: float


PRESETS = {
    "published": Settings(
        scaling="global",
        reference="none",
        hidden_spread=8.0,
        output_spread=8.0,
        lr_ets=1e-2,
        lr_ets_end=1e-2,
        decay="exponential",
        lr_etp=1e-6,
        reward="published",
        sharpness=1.0,
        smoothing=0.0,
        silent="published",
        wake=0.0,
    ),
    "tuned": Settings(
        scaling="global",
        reference="spike",
        hidden_spread=8.0,
        output_spread=8.0,
        lr_ets=3e-2,
        lr_ets_end=1e-3,
        decay="cosine",
        lr_etp=0.0,
        reward="first_spike",
        sharpness=10.0,
        smoothing=0.1,
        silent="deadline",
        wake=0.1,
    ),
}

# Tables whose columns have units of their own are scaled column by column, and need smaller steps;
# so does the exact gradient.
TUNED_FOR: dict[str, dict[str, Any]] = {
    "wine": {"scaling": "feature", "lr_ets": 1e-2, "lr_ets_end": 3e-4},
    "breast_cancer": {"scaling": "feature", "lr_ets": 1e-2, "lr_ets_end": 3e-4},
    "iris exact": {"lr_ets": 2e-2, "lr_ets_end": 6e-4},
}


def presets_for(dataset: str, rule: str) -> dict[str, Settings]:
    """The presets, with what the table and the rule change in the tuned one."""
    changes = TUNED_FOR.get(dataset, {}) | TUNED_FOR.get(f"{dataset} {rule}", {})
    return PRESETS | {"tuned": replace(PRESETS["tuned"], **changes)}


def assign_folds(n: int, repeat: int, fold: int | None, seed: int) -> Bool[Tensor, "networks n"]:
    """Which samples each network is tested on.

    Args:
        n: number of samples.
        repeat: how often the samples are dealt out anew to the folds, with seeds seed, seed + 1...
        fold: the one fold to test on, or None for all.
        seed: of the first deal.

    Returns:
        A row a network, in order of seed, then fold.
    """
    is_test = []
    for k in range(repeat):
        for number, (_, test) in enumerate(datasets.folds(n, FOLDS, seed + k)):
            if fold is None or number == fold:
                row = np.zeros(n, bool)
                row[test] = True
                is_test.append(row)
    return torch.from_numpy(np.array(is_test))


def build(args: argparse.Namespace, sizes: tuple[int, int, int], n_nets: int) -> Network:
    """Networks n_in - hidden - n_out, float64."""
    generator = torch.Generator().manual_seed(args.seed)

    def layer(n_in: int, n_out: int, spread: float) -> SNNLayer:
        e_ts = torch.rand(n_nets, n_in, n_out, generator=generator, dtype=torch.float64)
        e_ts *= spread / n_in
        return SNNLayer(n_in, n_out, e_ts, rule=args.rule, silent=args.silent, wake=args.wake)

    n_in, hidden, n_out = sizes
    return Network(
        layer(n_in, hidden, args.hidden_spread), layer(hidden, n_out, args.output_spread)
    )


def train_epoch(
    args: argparse.Namespace,
    network: Network,
    z: Float[Tensor, "n features"],
    labels: Tensor,
    is_test: Bool[Tensor, "networks n"],
    lr_ets: float,
    generator: torch.Generator,
) -> None:
    """One pass of every network over the training samples of its fold, in an order of its own.

    Folds may differ by one sample; then a random one of the larger training sets sits out.
    """
    key = torch.rand(is_test.shape, generator=generator).to(z.device)
    n_train = int((~is_test).sum(dim=1).min())
    order = key.masked_fill(is_test, 2.0).argsort(dim=1)[:, :n_train]
    for batch in torch.split(order, args.batch_size, dim=1):
        z_out = network(z[batch])
        delta = reward_error(z_out, labels[batch], args.reward, args.sharpness, args.smoothing)
        network.learn(delta, lr_ets, args.lr_etp)


def draw(
    rows: list[dict[str, float]], accuracies: Float[Tensor, "repeats folds"], title: str
) -> Figure:
    """Accuracy over epochs, and of each fold and seed in the last."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    epochs = [row["epoch"] for row in rows]
    for part in ("train", "test"):
        left.plot(epochs, [100 * row[f"{part}_accuracy"] for row in rows], label=part)
    left.set(xlabel="epoch", ylabel="accuracy (%)", title=title)
    left.legend()
    left.grid(alpha=0.3)
    repeats, folds = accuracies.shape
    spread = (torch.arange(repeats) - (repeats - 1) / 2) * 0.04
    x = torch.arange(1, folds + 1) + spread[:, None]
    right.scatter(x, 100 * accuracies, s=10, alpha=0.6, label="one seed")
    right.plot(range(1, folds + 1), 100 * accuracies.mean(dim=0), "k_", ms=18, label="mean")
    right.set(xlabel="fold", ylabel="test accuracy (%)", xticks=range(1, folds + 1))
    right.set_title(f"{100 * accuracies.mean():.2f} % over {folds} folds, {repeats} seeds")
    right.legend(loc="lower right")
    right.grid(alpha=0.3)
    return figure


def train(args: argparse.Namespace, name: str, run: Run, device: torch.device) -> None:
    """Train all networks, write the figure and the result."""
    table = datasets.load_table(args.dataset)
    intensity = torch.from_numpy(table_intensities(table.inputs, args.scaling)).to(device)
    z = code(intensity)
    if args.reference == "spike":
        z = with_reference(z)
    labels = torch.from_numpy(table.labels).to(device)
    n, n_in = z.shape
    is_test = assign_folds(n, args.repeat, args.fold, args.seed).to(device)
    n_nets = len(is_test)
    network = build(args, (n_in, args.hidden, len(table.class_names)), n_nets).to(device)
    generator = torch.Generator().manual_seed(args.seed)
    first = run.restore(network=network, generator=generator)

    def accuracies(chosen: Tensor) -> Tensor:
        right = decide(network(z.expand(n_nets, -1, -1))) == labels
        return (right & chosen).sum(dim=1) / chosen.sum(dim=1)

    for epoch in range(first, args.epochs):
        lr_ets = step_size(epoch, args.epochs, args.lr_ets, args.lr_ets_end, args.decay)
        train_epoch(args, network, z, labels, is_test, lr_ets, generator)
        row = {
            "train_accuracy": accuracies(~is_test).mean().item(),
            "test_accuracy": accuracies(is_test).mean().item(),
        }
        show = (epoch + 1) % 50 == 0 or epoch + 1 == args.epochs
        run.log(epoch + 1, row, show=show)
        if show:
            run.checkpoint(epoch + 1, network=network, generator=generator)

    by_fold = accuracies(is_test).reshape(args.repeat, -1).cpu()
    by_seed = by_fold.mean(dim=1)
    run.finish(
        experiment=name,
        paper="shifting_learning",
        dataset=args.dataset,
        epochs=args.epochs,
        metrics={
            "networks": n_nets,
            "test_accuracy_last": by_seed.mean().item(),
            "test_accuracy_last_sd_of_seeds": by_seed.std().item() if args.repeat > 1 else None,
            "test_accuracy_last_worst_fold": by_fold.min().item(),
            "train_accuracy_last": accuracies(~is_test).mean().item(),
        },
        figure=run.save_figure(draw(run.metrics(), by_fold, name), "folds"),
    )


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--dataset", choices=datasets.TABLE_NAMES, default="iris", help="table (default: iris)")
    add("--fold", type=int, choices=range(FOLDS), help="test on this fold only (default: all five)")
    add("--repeat", type=int, default=10, help="seeds, from --seed on (default: 10)")
    add("--hidden", type=int, default=10, help="hidden neurons (default and paper: 10)")
    add("--batch-size", type=int, default=30, help="samples a step (default and paper: 30)")
    add(
        "--rule",
        choices=get_args(Rule),
        default="shifting",
        help="the paper's rule, or the exact gradient on the same network (default: shifting)",
    )
    choices = {
        "decay": ("exponential", "cosine"),
        "scaling": get_args(Scaling),
        "reference": ("none", "spike"),
        "reward": get_args(Reward),
        "silent": get_args(Silent),
    }
    add_preset_options(parser, PRESETS, choices)
    add_common_options(parser, "sl_iris", EPOCHS, threads=1)
    args = parse(parser, lambda args: presets_for(args.dataset, args.rule)[args.preset])
    if args.quick:
        args.epochs, args.repeat = min(args.epochs, 50), 1
    positive = ("epochs", "repeat", "hidden", "batch_size", "hidden_spread", "output_spread")
    check_positive(**{name: getattr(args, name) for name in (*positive, "lr_ets", "lr_ets_end")})
    device = prepare(args.device, args.seed, args.threads, args.deterministic)
    name = experiment_name(
        f"sl_{args.dataset}", args, presets_for(args.dataset, args.rule)[args.preset]
    )
    carry_out(args, name, device, lambda run: train(args, name, run, device))


if __name__ == "__main__":
    script(main)
