"""XOR with a 2-8-2 network of one-spike neurons: one run, or a thousand at once.

    python shifting_learning/SL_xor.py                  one network
    python shifting_learning/SL_xor.py --repeat 1000    a success rate with its 95 % interval

The networks of --repeat train as one batch of independent networks. A network has succeeded where
all four patterns make the right output neuron spike first.

Published settings: 400 epochs, one batch of the four patterns, eta_s 1e-3, eta_p 1e-2
(`--preset published`). With them the passing times outrun the timings, and two runs in five fail.
The authors' older program has eta_s 1e-2, eta_p 1e-4 (`--preset older`) and also a network with two
hidden layers (`--hidden 8 8`). The tuned preset learns the timings only.
"""

import argparse
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from scipy.stats import binomtest
from torch import Tensor

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
from shifting_learning.Dataset import code
from shifting_learning.figures import draw_potentials, look_at_last_layer
from shifting_learning.network import Network, decide, named_sizes, reward_error
from shifting_learning.SL_Layer import Rule, SNNLayer, Ties

EPOCHS = 400
HIDDEN = [8]
LEVELS = (0.01, 0.99)  # intensities that stand for 0 and 1


@dataclass(frozen=True)
class Settings:
    """What a preset fixes; every field is an option of the same name.

    Attributes:
        lr_ets, lr_etp: step sizes of the timings (eta_s) and of the passing times (eta_p).
        ties: inputs of one time, see `SL_Layer.ShiftingLayer`.
    """

    lr_ets: float
    lr_etp: float
    ties: Ties


PRESETS = {
    "published": Settings(lr_ets=1e-3, lr_etp=1e-2, ties="published"),
    "older": Settings(lr_ets=1e-2, lr_etp=1e-4, ties="published"),
    "tuned": Settings(lr_ets=1e-2, lr_etp=0.0, ties="event"),
}


def patterns() -> tuple[torch.Tensor, torch.Tensor]:
    """Input codes [4, 2] of the four patterns and the index [4] of the right output neuron."""
    low, high = LEVELS
    x = torch.tensor([[low, low], [low, high], [high, low], [high, high]], dtype=torch.float64)
    return code(x), torch.tensor([0, 1, 1, 0])


def build(
    repeat: int, hidden: Sequence[int], rule: Rule, ties: Ties, generator: torch.Generator
) -> Network:
    """Networks 2-hidden-2 with timings uniform in [0, 8/n_in), float64."""

    def layer(n_in: int, n_out: int) -> SNNLayer:
        e_ts = torch.rand(repeat, n_in, n_out, generator=generator, dtype=torch.float64)
        return SNNLayer(n_in, n_out, e_ts * (8 / n_in), rule=rule, ties=ties)

    return Network(*(layer(*pair) for pair in itertools.pairwise([2, *hidden, 2])))


def draw(rows: list[dict[str, float]], repeat: int) -> Figure:
    """Error and share of networks that are right on all patterns, over epochs."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    epochs = [row["epoch"] for row in rows]
    left.plot(epochs, [row["error"] for row in rows], color="C0")
    left.set(xlabel="epoch", ylabel="summed squared error", title="error, mean over networks")
    right.plot(epochs, [100 * row["success_rate"] for row in rows], color="C1")
    right.set(xlabel="epoch", ylabel="all four patterns right (%)", ylim=(-2, 102))
    right.set_title(f"success, {repeat} network{'s' if repeat > 1 else ''}")
    return figure


def learn(network: Network, z: Tensor, labels: Tensor, lr_ets: float, lr_etp: float) -> Tensor:
    """One step on all four patterns.

    Returns:
        Summed squared error of each network as seen before the step, shape [networks].
    """
    delta = reward_error(network(z), labels, "published")
    network.learn(delta, lr_ets, lr_etp)
    return delta.square().sum(dim=(1, 2))


def solved(network: Network, z: Tensor, labels: Tensor) -> Tensor:
    """Whether each network is right on all four patterns, bool [networks]."""
    return (decide(network(z)) == labels).all(dim=1)


def train(args: argparse.Namespace, name: str, run: Run, device: torch.device) -> None:
    """Train the networks, write the figures and the result."""
    z, labels = (x.to(device) for x in patterns())
    names = [f"{a}, {b}" for a, b in itertools.product((0, 1), repeat=2)]
    z = z.expand(args.repeat, -1, -1)
    right = labels.tolist()
    labels = labels.expand(args.repeat, -1)
    generator = torch.Generator().manual_seed(args.seed)
    network = build(args.repeat, args.hidden, args.rule, args.ties, generator).to(device)
    before = look_at_last_layer(network, z)
    first = run.restore(network=network)

    for epoch in range(first + 1, args.epochs + 1):
        success = solved(network, z, labels).double().mean()
        error = learn(network, z, labels, args.lr_ets, args.lr_etp).mean()
        show = epoch % 100 == 0 or epoch == args.epochs
        row = {"error": error.item(), "success_rate": success.item()}
        run.log(epoch, row, show=show)
        if show:
            run.checkpoint(epoch, network=network)

    successes = int(solved(network, z, labels).sum())
    interval = binomtest(successes, args.repeat).proportion_ci(method="wilson")
    potentials = draw_potentials(before, look_at_last_layer(network, z), names, right)
    run.save_figure(potentials, "potentials")
    run.finish(
        experiment=name,
        paper="shifting_learning",
        dataset="xor",
        epochs=args.epochs,
        metrics={
            "networks": args.repeat,
            "success_rate": successes / args.repeat,
            "success_rate_low_95": interval.low,
            "success_rate_high_95": interval.high,
        },
        figure=run.save_figure(draw(run.metrics(), args.repeat), "xor"),
    )


def Xor() -> int:
    """Train one network with the published settings, from torch's random state.

    Returns:
        1 where it is right on all four patterns, else 0.
    """
    settings = PRESETS["published"]
    network = build(1, HIDDEN, "shifting", settings.ties, torch.default_generator)
    z, labels = (x[None] for x in patterns())
    for _ in range(EPOCHS):
        learn(network, z, labels, settings.lr_ets, settings.lr_etp)
    return int(solved(network, z, labels))


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--hidden",
        type=int,
        nargs="+",
        default=HIDDEN,
        help="neurons of each hidden layer (default and paper: 8; older program: 8 8)",
    )
    parser.add_argument("--repeat", type=int, default=1, help="networks to train (default: 1)")
    parser.add_argument(
        "--rule",
        choices=get_args(Rule),
        default="shifting",
        help="learning rule (default: shifting, the paper's)",
    )
    add_preset_options(parser, PRESETS, {"ties": get_args(Ties)})
    add_common_options(parser, "sl_xor", EPOCHS, threads=1)
    args = parse(parser, lambda args: PRESETS[args.preset])
    if args.quick:
        args.epochs, args.repeat = 100, min(args.repeat, 20)
    check_positive(epochs=args.epochs, repeat=args.repeat, hidden=min(args.hidden))
    device = prepare(args.device, args.seed, args.threads, args.deterministic)
    session = "sl_xor" + named_sizes(args.hidden, HIDDEN)
    name = experiment_name(session, args, PRESETS[args.preset])
    carry_out(args, name, device, lambda run: train(args, name, run, device))


if __name__ == "__main__":
    script(main)
