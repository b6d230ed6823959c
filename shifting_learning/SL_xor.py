"""XOR with a 2-8-2 network of one-spike neurons: one run, or a thousand at once.

    python shifting_learning/SL_xor.py                  one network
    python shifting_learning/SL_xor.py --repeat 1000    a success rate with its 95 % interval

The networks of --repeat train as one batch of independent networks. A network has succeeded where
all four patterns make the right output neuron spike first.

Published settings: 400 epochs, one batch of the four patterns, eta_s 1e-3, eta_p 1e-2
(`--preset published`). So small steps of the timings do not arrive in 400 epochs, and in more of
them the passing times run away: two networks in five fail, after 4000 epochs still three in ten.
The authors' older program has eta_s 1e-2, eta_p 1e-4 (`--preset older`) and also a network with two
hidden layers, eta_p 1e-3 and 300 epochs (`--hidden 8 8`). The tuned preset learns the timings only.
"""

import shared.waiting

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from scipy.stats import binomtest
from torch import Tensor

from shared import experiment
from shared.experiment import (
    UNNAMED,
    Experiment,
    Made,
    Named,
    NonNegative,
    Positive,
    as_published,
    paper,
)
from shared.figures import integer_ticks, styles_of
from shared.options import script
from shared.run import Run
from shifting_learning.Dataset import code
from shifting_learning.figures import draw_potentials, look_at_last_layer
from shifting_learning.network import Network, decide, reward_error
from shifting_learning.rules import Rule
from shifting_learning.SL_Layer import SNNLayer, Ties

LEVELS = (0.01, 0.99)  # intensities that stand for 0 and 1


@dataclass(frozen=True)
class Settings(experiment.Settings):
    """The options; a preset fixes those behind it: `as_published`, `OLDER` or the defaults here."""

    hidden: Annotated[tuple[Positive[int], ...], paper((8,))] = (8,)
    """Neurons of each hidden layer; the older program also has 8 8."""
    repeat: Annotated[Positive[int], UNNAMED] = 1
    """Networks to train."""
    epochs: Annotated[Positive[int], paper(400)] = 400
    """Steps, each on all four patterns."""
    threads: Annotated[Positive[int] | None, UNNAMED] = 1
    """CPU threads; more would wait for each other longer than they work."""
    preset: Annotated[Literal["published", "older", "tuned"], Named("{}")] = "tuned"
    """Values of the following options where they are not given."""
    lr_ets: Annotated[Positive[float], paper(1e-3)] = 1e-2
    """Step size eta_s of the timings."""
    lr_etp: Annotated[NonNegative[float], paper(1e-2)] = 0.0
    """Step size eta_p of the passing times."""
    ties: Annotated[Ties, paper("published")] = "event"
    """How inputs of one time are taken, see `SL_Layer.ShiftingLayer`."""
    rule: Annotated[Rule, Named("{}"), paper("shifting")] = "shifting"
    """Learning rule."""


OLDER: dict[str, Any] = {"lr_ets": 1e-2, "lr_etp": 1e-4, "ties": "published"}
"""What the authors' older program has, of April 2024."""

OLDER_DEEP: dict[str, Any] = {"lr_etp": 1e-3, "epochs": 300}
"""What it has besides where there are several hidden layers."""


def defaults(asked: Settings) -> Settings:
    """What options that are not given start from, by the preset."""
    settings = Settings()
    if asked.preset == "published":
        settings = as_published(settings)
    if asked.preset == "older":
        deep = OLDER_DEEP if len(asked.hidden) > 1 else {}
        settings = replace(settings, **(OLDER | deep))
    return replace(settings, epochs=100, repeat=20) if asked.quick else settings


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


def draw(rows: list[dict[str, float]], repeat: int, rule: Rule) -> Figure:
    """Error and share of networks that are right on all patterns, over epochs."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    ((style, _),) = styles_of([rule])
    for axes, name, factor, words in (
        (left, "error", 1, "summed squared error, mean over networks"),
        (right, "success_rate", 100, "all four patterns right (%)"),
    ):
        values = [factor * row[name] for row in rows]
        axes.plot([row["epoch"] for row in rows], values, color=style.color)
        axes.set(xlabel="epoch", ylabel=words)
        integer_ticks(axes.xaxis)
        axes.grid(alpha=0.3)
    left.set_ylim(bottom=0)
    right.set_ylim(-2, 102)
    figure.suptitle(f"{rule}, {repeat} network{'s' if repeat > 1 else ''}", fontsize=10)
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


def train(settings: Settings, data: Made, device: torch.device, run: Run) -> None:
    """Train the networks, write the figures and the result."""
    repeat, epochs = settings.repeat, settings.epochs
    z, labels = (x.to(device) for x in patterns())
    names = [f"{a}, {b}" for a, b in itertools.product((0, 1), repeat=2)]
    z = z.expand(repeat, -1, -1)
    right = labels.tolist()
    labels = labels.expand(repeat, -1)
    generator = torch.Generator().manual_seed(settings.seed)
    network = build(repeat, settings.hidden, settings.rule, settings.ties, generator).to(device)
    before = look_at_last_layer(network, z)
    first = run.restore(network=network)

    for epoch in range(first + 1, epochs + 1):
        success = solved(network, z, labels).double().mean()
        error = learn(network, z, labels, settings.lr_ets, settings.lr_etp).mean()
        show = epoch % 100 == 0 or epoch == epochs
        row = {"error": error.item(), "success_rate": success.item()}
        run.log(epoch, row, show=show)
        if show:
            run.checkpoint(epoch, network=network)

    successes = int(solved(network, z, labels).sum())
    interval = binomtest(successes, repeat).proportion_ci(method="wilson")
    potentials = draw_potentials(before, look_at_last_layer(network, z), names, right)
    run.save_figure(potentials, "potentials")
    run.finish(
        epochs=epochs,
        metrics={
            "networks": repeat,
            "success_rate": successes / repeat,
            "success_rate_low_95": interval.low,
            "success_rate_high_95": interval.high,
        },
        figure=run.save_figure(draw(run.metrics(), repeat, settings.rule), "xor"),
    )


def Xor() -> int:
    """Train one network with the published settings, from torch's random state.

    Returns:
        1 where it is right on all four patterns, else 0.
    """
    settings = as_published(Settings())
    generator = torch.default_generator
    network = build(1, settings.hidden, settings.rule, settings.ties, generator)
    z, labels = (x[None] for x in patterns())
    for _ in range(settings.epochs):
        learn(network, z, labels, settings.lr_ets, settings.lr_etp)
    return int(solved(network, z, labels))


EXPERIMENT = Experiment(
    paper="shifting_learning",
    description=__doc__,
    settings=Settings,
    load=lambda settings, device: Made("xor"),
    session=lambda settings, data: f"sl_{data}",
    defaults=defaults,
)


def main() -> None:
    """Train the networks."""
    EXPERIMENT.main(train)


if __name__ == "__main__":
    script(main)
