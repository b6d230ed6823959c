"""XOR with a 2-8-2 network of one-spike neurons: one run, or a thousand at once.

    python shifting_learning/SL_xor.py                  one network
    python shifting_learning/SL_xor.py --repeat 1000    a success rate with its 95 % interval

The networks of --repeat train as one batch of independent networks. A network has succeeded where
all four patterns make the right output neuron spike first.

Published settings: 400 epochs, one batch of the four patterns, eta_s 1e-3, eta_p 1e-2
(`--preset published`). With them the passing times outrun the timings, and two runs in five fail.
The tuned preset learns the timings only, ten times faster.
"""

import argparse
from dataclasses import dataclass
from typing import get_args

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from scipy.stats import binomtest

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
from shifting_learning.network import Network, decide, reward_error
from shifting_learning.SL_Layer import Rule, SNNLayer

EPOCHS = 400
HIDDEN = 8
LEVELS = (0.01, 0.99)  # intensities that stand for 0 and 1


@dataclass(frozen=True)
class Settings:
    """Step sizes of the exponential shifting timings (eta_s) and passing times (eta_p)."""

    lr_ets: float
    lr_etp: float


PRESETS = {
    "published": Settings(lr_ets=1e-3, lr_etp=1e-2),
    "tuned": Settings(lr_ets=1e-2, lr_etp=0.0),
}


def patterns() -> tuple[torch.Tensor, torch.Tensor]:
    """Input codes [4, 2] of the four patterns and the index [4] of the right output neuron."""
    low, high = LEVELS
    x = torch.tensor([[low, low], [low, high], [high, low], [high, high]], dtype=torch.float64)
    return code(x), torch.tensor([0, 1, 1, 0])


def build(repeat: int, rule: Rule, generator: torch.Generator) -> Network:
    """Networks 2-8-2 with timings uniform in [0, 8/n_in), float64."""

    def layer(n_in: int, n_out: int) -> SNNLayer:
        e_ts = torch.rand(repeat, n_in, n_out, generator=generator, dtype=torch.float64)
        return SNNLayer(n_in, n_out, e_ts * (8 / n_in), rule=rule)

    return Network(layer(2, HIDDEN), layer(HIDDEN, 2))


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


def train(args: argparse.Namespace, name: str, run: Run, device: torch.device) -> None:
    """Train the networks, write the figure and the result."""
    z, labels = (x.to(device) for x in patterns())
    z = z.expand(args.repeat, -1, -1)
    labels = labels.expand(args.repeat, -1)
    generator = torch.Generator().manual_seed(args.seed)
    network = build(args.repeat, args.rule, generator).to(device)
    first = run.restore(network=network)

    for epoch in range(first + 1, args.epochs + 1):
        z_out = network(z)
        right = (decide(z_out) == labels).all(dim=1).double()
        delta = reward_error(z_out, labels, "published")
        network.learn(delta, args.lr_ets, args.lr_etp)
        error = delta.square().sum(dim=(1, 2)).mean()
        show = epoch % 100 == 0 or epoch == args.epochs
        row = {"error": error.item(), "success_rate": right.mean().item()}
        run.log(epoch, row, show=show)
        if show:
            run.checkpoint(epoch, network=network)

    right = (decide(network(z)) == labels).all(dim=1)
    successes = int(right.sum())
    interval = binomtest(successes, args.repeat).proportion_ci(method="wilson")
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


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=1, help="networks to train (default: 1)")
    parser.add_argument(
        "--rule",
        choices=get_args(Rule),
        default="shifting",
        help="learning rule (default: shifting, the paper's)",
    )
    add_preset_options(parser, PRESETS)
    add_common_options(parser, "sl_xor", EPOCHS, threads=1)
    args = parse(parser, lambda args: PRESETS[args.preset])
    if args.quick:
        args.epochs, args.repeat = 100, min(args.repeat, 20)
    check_positive(epochs=args.epochs, repeat=args.repeat)
    device = prepare(args.device, args.seed, args.threads, args.deterministic)
    name = experiment_name("sl_xor", args, PRESETS[args.preset])
    carry_out(args, name, device, lambda run: train(args, name, run, device))


if __name__ == "__main__":
    script(main)
