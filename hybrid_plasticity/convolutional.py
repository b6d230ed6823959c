"""The convolutional classifiers of MNIST, Fashion-MNIST and CIFAR-10, and their training.

The program behind `classification/`: each of its scripts names a network and how it is trained.

Layer by layer at step t, with k(t) = exp(-t / tau_w) and z the layer's input,

    I[t] = conv(k(t) z[t])        3 x 3, padding 1; the first layer sees the image itself, without k
    V[t] = decay (V[t-1] - theta s[t-1]) + I[t]       (soft reset; hard: decay V[t-1] (1 - s[t-1]))
    s[t] = 1 where V[t] > theta,  z of the next layer: s, behind some layers averaged over 2 x 2

and behind the convolutions fully connected layers, one of them with a Hebbian trace. A presentation
ends early once enough samples of the batch have an output neuron above threshold.
Source: the paper's Methods and its programs for figures 2 and 3.
"""

import argparse
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, Literal, NamedTuple, cast

import matplotlib.pyplot as plt
import pandas as pd
import torch
from jaxtyping import Float, Int, UInt8
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn import functional

from hybrid_plasticity.figures import draw_constants, draw_curves
from hybrid_plasticity.networks import PlasticNetwork, Response, attenuation
from hybrid_plasticity.plastic import Hebbian, Neuron, PlasticLayer, Reset, State
from hybrid_plasticity.training import (
    Protocol,
    evaluate,
    generators,
    optimisers,
    train_epoch,
)
from shared import datasets
from shared.device import prepare
from shared.errors import UserError
from shared.options import add_common_options, check_positive
from shared.run import Run, carry_out

Rule = Literal["hp", "gp"]
Coding = Literal["rank", "rate"]

Shown = Callable[[Tensor], Tensor]

CLASSES = 10
SHIFT_BASE = 1.1
KEPT = 0.5  # share of a convolution's inputs that dropout leaves
PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16}
PADDING = 4  # pixels around an image that a random crop may move into


# ------------------------------------------------------------------------------------- network


@dataclass(frozen=True)
class Initial:
    """How a network's weights and constants start; eta starts at 0.

    Weights and biases are torch's own, uniform within 1 / sqrt(inputs of a neuron).

    Attributes:
        alpha, beta: initial values.
        random_local: alpha and beta start uniform between 0 and these values instead.
        halved_output: the output layer's weights are halved.
        shifted: the weights W of layer k, from the second to the last but one, become
            W + 1.1^k mean(W).
    """

    alpha: float = 0.1
    beta: float = 1e-3
    random_local: bool = False
    halved_output: bool = False
    shifted: bool = False

    @torch.no_grad()
    def start(self, alpha: Tensor, beta: Tensor) -> None:
        """Give a layer's alpha [1] and beta [1, n_in] their initial values."""
        for value, size in ((alpha, self.alpha), (beta, self.beta)):
            value.fill_(size)
            if self.random_local:
                value.mul_(torch.rand(value.shape))


@dataclass(frozen=True)
class Wiring:
    """What a network is made of.

    Attributes:
        image: channels and side of the input.
        channels: channels of the convolutions.
        pooled: numbers, from 1, of the convolutions that average pooling by 2 follows.
        hidden: neurons of the fully connected layers before the output layer.
        plastic: numbers, from 1, of the fully connected layers that have a trace.
        neuron, hebbian: constants of neurons and trace.
        tau_w: time constant of the inputs' attenuation, in steps.
        steps: time steps T of a presentation.
        exit_share: from the second step on, a presentation ends when the share of samples with an
            output potential above threshold passes this.
        attenuate_plastic: a plastic layer's input is attenuated like all others.
        dropped: numbers, from 1, of the fully connected layers half of whose inputs are dropped in
            training mode, as those of the convolutions are; a layer with a trace sees all of them.
        output_reset: reset of the output neurons.
        ceiling: outputs V / theta end there; None leaves them as they are.
        coding: what the output is: "rank", V / theta of the last step, or "rate", spikes / T, with
            which no presentation ends early.
        initial: how weights and constants start.
    """

    image: tuple[int, int]
    channels: tuple[int, ...]
    pooled: tuple[int, ...]
    hidden: tuple[int, ...]
    plastic: tuple[int, ...]
    neuron: Neuron
    hebbian: Hebbian
    tau_w: float
    steps: int
    exit_share: float
    attenuate_plastic: bool = True
    dropped: tuple[int, ...] = ()
    output_reset: Reset = "soft"
    ceiling: float | None = None
    coding: Coding = "rank"
    initial: Initial = Initial()

    def scaled(self, width: float) -> "Wiring":
        """The same with that many times the channels and hidden neurons, at least one each."""

        def scale(sizes: tuple[int, ...]) -> tuple[int, ...]:
            return tuple(max(1, round(width * size)) for size in sizes)

        return dataclasses.replace(self, channels=scale(self.channels), hidden=scale(self.hidden))

    @property
    def features(self) -> int:
        """Inputs of the first fully connected layer."""
        return self.channels[-1] * (self.image[1] >> len(self.pooled)) ** 2


class _Fire(torch.autograd.Function):
    """A step of a convolutional layer's neurons with as few passes and new arrays as possible.

    Between steps it carries what the reset leaves, decay (V - theta s) or decay V (1 - s), in one
    array that it writes over; for the gradient it keeps V alone.
    """

    @staticmethod
    def forward(
        ctx: Any,
        current: Tensor,
        carried: Tensor | None,
        scratch: Tensor,
        neuron: Neuron,
        pooled: bool,
    ) -> tuple[Tensor, Tensor]:
        potential = current if carried is None else current + carried
        room = scratch if pooled else torch.empty_like(potential)
        spikes = torch.gt(potential, neuron.theta, out=room)
        if carried is None:
            carried = torch.empty_like(potential)
        else:
            ctx.mark_dirty(carried)
        if neuron.reset == "hard":
            torch.addcmul(potential, potential, spikes, value=-1, out=carried)
        else:
            torch.sub(potential, spikes, alpha=neuron.theta, out=carried)
        carried.mul_(neuron.decay)
        ctx.neuron, ctx.pooled = neuron, pooled
        ctx.save_for_backward(potential)
        return functional.avg_pool2d(spikes, 2) if pooled else spikes, carried

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor | None, None, None, None]:
        neuron: Neuron = ctx.neuron
        (potential,) = ctx.saved_tensors
        carried = grads[1]
        if neuron.reset == "hard":
            inner = (carried * potential).mul_(-neuron.decay)
        else:
            inner = carried * (-neuron.decay * neuron.theta)
        if ctx.pooled:
            height, width = grads[0].shape[2:]
            square = inner[:, :, : 2 * height, : 2 * width]
            square = square.unflatten(3, (width, 2)).unflatten(2, (height, 2))
            square.add_(grads[0][:, :, :, None, :, None], alpha=0.25)
        else:
            inner.add_(grads[0])
        # hardtanh has the derivative that the surrogate says: 1 inside the window, 0 outside.
        window = (neuron.theta - neuron.lens, neuron.theta + neuron.lens)
        torch.ops.aten.hardtanh_backward(inner, potential, *window, grad_input=inner)
        if neuron.reset == "hard":
            inner.addcmul_(
                carried, (potential <= neuron.theta).to(carried.dtype), value=neuron.decay
            )
        else:
            inner.add_(carried, alpha=neuron.decay)
        return inner, inner if ctx.needs_input_grad[1] else None, None, None, None


class Membrane(NamedTuple):
    """State of a convolutional layer within a presentation.

    Attributes:
        carried: what reset and decay left of the potentials [batch, channels, height, width].
        scratch: room for the spikes of a step, of the same shape.
    """

    carried: Tensor
    scratch: Tensor


def fire(
    current: Float[Tensor, "batch channels height width"],
    membrane: Membrane | None,
    neuron: Neuron,
    pooled: bool,
) -> tuple[Float[Tensor, "batch channels h w"], Membrane]:
    """Spikes of a step, averaged over 2 x 2 neurons where `pooled`, and the new state.

    Args:
        current: what reaches the neurons.
        membrane: of the step before, which is written over; None before the first step.
        neuron: constants; its reset is "soft" or "hard".
        pooled: average the spikes.
    """
    before, scratch = membrane or (None, torch.empty_like(current))
    spikes, carried = _Fire.apply(current, before, scratch, neuron, pooled)
    return spikes, Membrane(carried, scratch)


class Classifier(PlasticNetwork):
    """Spiking convolutions, then fully connected spiking layers, some with a Hebbian trace.

    In training mode half of the inputs of every convolution but the first are dropped, drawn anew
    at every step. Initial values come from torch's global generator, those of weights first: a seed
    gives the same weights under both rules.

    Args:
        wiring: what it is made of.
        rule: "hp", or "gp": without the trace.

    Attributes:
        convs: the convolutions.
        layers: the fully connected layers, `PlasticLayer` all of them; those without a trace have
            the rule "gp".
        precision: number format of all convolutions but the first, None for that of the weights;
            membranes and everything behind the convolutions keep the format of the weights.
        exit_share: see `Wiring`; None shows every batch for all steps.

    Raises:
        ValueError: the reset of the neurons is neither "soft" nor "hard".
    """

    exit_share: float | None
    precision: torch.dtype | None = None

    def __init__(self, wiring: Wiring, rule: Rule = "hp") -> None:
        super().__init__()
        if wiring.neuron.reset == "none":
            raise ValueError("neurons behind a convolution have a soft or a hard reset")
        self.wiring, self.rule = wiring, rule
        self.exit_share = wiring.exit_share
        planes = (wiring.image[0], *wiring.channels)
        self.convs = nn.ModuleList(
            nn.Conv2d(n_in, n_out, 3, padding=1) for n_in, n_out in pairwise(planes)
        )
        sizes = (wiring.features, *wiring.hidden, CLASSES)
        output = dataclasses.replace(wiring.neuron, reset=wiring.output_reset)
        neurons = [wiring.neuron] * len(wiring.hidden) + [output]
        self.layers = nn.ModuleList(
            PlasticLayer(n_in, n_out, neuron, wiring.hebbian, rule if j in wiring.plastic else "gp")
            for j, (n_in, n_out, neuron) in enumerate(
                zip(sizes[:-1], sizes[1:], neurons, strict=True), start=1
            )
        )
        self._initialise(wiring.initial)
        self.to(memory_format=torch.channels_last)

    @torch.no_grad()
    def _initialise(self, initial: Initial) -> None:
        weights = [conv.weight for conv in self.convolutions()]
        weights += [layer.fc.weight for layer in self.connected()]
        if initial.halved_output:
            weights[-1].mul_(0.5)
        if initial.shifted:
            for k, weight in enumerate(weights[1:-1], start=2):
                weight.add_(SHIFT_BASE**k * weight.mean())
        for layer in self.plastic_layers():
            initial.start(layer.alpha, layer.beta)

    def convolutions(self) -> list[nn.Conv2d]:
        """`convs` as a list."""
        return cast(list[nn.Conv2d], list(self.convs))

    def connected(self) -> list[PlasticLayer]:
        """`layers` as a list."""
        return cast(list[PlasticLayer], list(self.layers))

    @contextmanager
    def all_steps(self) -> Iterator[None]:
        """Inside the context no presentation ends early."""
        before, self.exit_share = self.exit_share, None
        try:
            yield
        finally:
            self.exit_share = before

    def convolved(
        self, i: int, x: Float[Tensor, "batch n_in height width"], k: float
    ) -> Float[Tensor, "batch n_out height width"]:
        """Current of convolution i, from 0, for input k x, some of it dropped in training mode."""
        x = self.dropped(x, k) if self.training else x * k
        conv = self.convolutions()[i]
        if self.precision is None:
            return cast(Tensor, conv(x))
        assert conv.bias is not None
        low, weight, bias = (value.to(self.precision) for value in (x, conv.weight, conv.bias))
        return functional.conv2d(low, weight, bias, padding=1).to(x.dtype)

    def dropped(self, x: Float[Tensor, "..."], k: float = 1.0) -> Float[Tensor, "..."]:
        """Half of k x dropped and the rest doubled, in training mode or not."""
        return x * torch.rand_like(x).lt_(KEPT).mul_(k / KEPT)

    def decided(self, potential: Float[Tensor, "batch classes"]) -> bool:
        """Whether so many samples have an output above threshold that the presentation ends."""
        if self.exit_share is None or self.wiring.coding == "rate":
            return False
        above = (potential.amax(1) > self.wiring.neuron.theta).sum()
        return int(above) / len(potential) > self.exit_share

    def forward(self, images: Float[Tensor, "batch channels side side"]) -> Response:
        """Show a batch; the traces go on from the batch before.

        Args:
            images: intensities.

        Returns:
            The output, the spikes of each layer (those of a pooled convolution are averages over
            2 x 2 neurons), and the number of steps until the end, early or not.
        """
        return self.present(images)[0]

    def present(
        self, images: Float[Tensor, "batch channels side side"]
    ) -> tuple[Response, list[State]]:
        """`forward`, and the state of every fully connected layer after it."""
        wiring, layers = self.wiring, self.connected()
        images = images.contiguous(memory_format=torch.channels_last)
        # The image does not change, so the first convolution is computed once.
        first = self.convolutions()[0](images).contiguous(memory_format=torch.channels_last)
        membranes: list[Membrane | None] = [None] * len(self.convs)
        states = [layer.start() for layer in layers]
        counts: list[Tensor] = []
        rate = first.new_zeros(())
        for t in range(wiring.steps):
            k = attenuation(t, wiring.tau_w)
            x, outputs = images, []
            for i in range(len(self.convs)):
                current = self.convolved(i, x, k) if i else first
                x, membranes[i] = fire(current, membranes[i], wiring.neuron, i + 1 in wiring.pooled)
                outputs.append(x.detach())
            x = x.flatten(1)
            for j, layer in enumerate(layers):
                plastic = j + 1 in wiring.plastic
                if self.training and j + 1 in wiring.dropped and not plastic:
                    x = self.dropped(x)
                full = plastic and not wiring.attenuate_plastic
                x, states[j] = layer(x, 1.0 if full else k, states[j])
                outputs.append(x.detach())
            counts = added(counts, outputs)
            if wiring.coding == "rate":
                rate = rate + x / wiring.steps
            potential = cast(Tensor, states[-1].potential)
            if t and self.decided(potential):
                break
        for layer, state in zip(layers, states, strict=True):
            layer.keep(state)
        output = rate if wiring.coding == "rate" else potential / wiring.neuron.theta
        if wiring.ceiling is not None:
            output = output.clamp(max=wiring.ceiling)
        return Response(output, counts, t + 1), states


def added(counts: list[Tensor], spikes: list[Tensor]) -> list[Tensor]:
    """Running sums of a step's spikes, written over; an empty list before the first step."""
    if not counts:
        return [step.clone() for step in spikes]
    return [count.add_(step) for count, step in zip(counts, spikes, strict=True)]


# ------------------------------------------------------------------------------------ training


@dataclass(frozen=True)
class Experiment:
    """One script: the network that it trains, on what and how.

    Attributes:
        session: name of the runs.
        dataset: "mnist", "fashion_mnist" or "cifar10".
        wiring: of the network.
        published: the paper's test accuracy, of the best test epoch.
        epochs: passes over the training set.
        batch_size: samples a step; the trace is a mean over them.
        optimiser: of the weights: Adam, or SGD with momentum and weight decay; alpha, beta and eta
            have Adam.
        lr, lr_local: step sizes of the weights, and of alpha, beta and eta.
        schedule: "constant"; "step", both step sizes times 0.1 after 41 and after 81 epochs;
            "cosine", the weights' step size falls to 0 over the epochs of the run.
        augmented: training images are cropped at random and flipped at random.
        means, spreads: of the channels' intensities, which the network is shown less the mean and
            divided by the spread.
        codings: what the script offers as output, the default first.
        quick_width: width of the network with --quick.
    """

    session: str
    dataset: str
    wiring: Wiring
    published: float
    epochs: int
    batch_size: int
    optimiser: Literal["adam", "sgd"] = "adam"
    lr: float = 5e-4
    lr_local: float = 5e-4
    schedule: Literal["constant", "step", "cosine"] = "constant"
    augmented: bool = False
    means: tuple[float, ...] = (0.0,)
    spreads: tuple[float, ...] = (1.0,)
    codings: tuple[Coding, ...] = ("rank",)
    quick_width: float = 0.25

    def shown(self, device: torch.device) -> Shown:
        """Makes of a batch of uint8 pixels on a device what the network is given, float32."""
        # On the device once: made for each batch, they would hold a GPU up.
        means, spreads = (
            torch.tensor(values, device=device)[:, None, None]
            for values in (self.means, self.spreads)
        )
        return lambda pixels: (pixels.float() / 255 - means) / spreads


QUICK_SAMPLES = 200
QUICK_SINGLE_SAMPLES = 20
MOMENTUM, WEIGHT_DECAY = 0.9, 1e-8
LOWERED = (41, 81)  # epochs, counted from 0, whose step sizes are lowered first


def build(args: argparse.Namespace, experiment: Experiment) -> Classifier:
    """The network that the options ask for, with its initial weights, on the CPU."""
    wiring = experiment.wiring.scaled(args.width)
    plastic = tuple(args.plastic or wiring.plastic)
    wiring = dataclasses.replace(wiring, coding=args.coding, plastic=plastic)
    network = Classifier(wiring, args.rule)
    network.precision = PRECISIONS[args.precision]
    return network


def learners(
    network: Classifier, experiment: Experiment, epochs: int
) -> tuple[dict[str, torch.optim.Optimizer], dict[str, torch.optim.lr_scheduler.LRScheduler]]:
    """Optimisers, grouped by role, and the schedules of their step sizes, which step by epoch."""
    made = optimisers(network, experiment.lr, experiment.lr_local)
    if experiment.optimiser == "sgd":
        made["optimiser"] = torch.optim.SGD(
            network.global_parameters(), experiment.lr, MOMENTUM, weight_decay=WEIGHT_DECAY
        )
    schedules: dict[str, torch.optim.lr_scheduler.LRScheduler] = {}
    if experiment.schedule == "step":
        for name, learner in made.items():
            schedules[f"{name}_schedule"] = torch.optim.lr_scheduler.MultiStepLR(learner, LOWERED)
    elif experiment.schedule == "cosine":
        schedules["optimiser_schedule"] = torch.optim.lr_scheduler.CosineAnnealingLR(
            made["optimiser"], epochs
        )
    return made, schedules


class Images(NamedTuple):
    """Images and their classes.

    Attributes:
        pixels: intensities [n, channels, side, side], uint8.
        labels: classes [n], int64.
    """

    pixels: UInt8[Tensor, "n channels side side"]
    labels: Int[Tensor, " n"]

    def first(self, n: int) -> "Images":
        """The first n of them."""
        return Images(self.pixels[:n], self.labels[:n])


def on_device(split: datasets.Split, device: torch.device) -> Images:
    """A split of a data set as tensors."""
    arrays = (split.inputs, split.labels)
    return Images(*(torch.from_numpy(array).to(device) for array in arrays))


def cropped_and_flipped(pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Each image moved by up to `PADDING` pixels each way over black, half of them mirrored.

    Args:
        pixels: a batch [batch, channels, side, side].
        generator: of the images' device; None takes the default one.
    """
    n, _, side, _ = pixels.shape
    device = pixels.device
    padded = functional.pad(pixels, (PADDING,) * 4)
    start = torch.randint(2 * PADDING + 1, (2, n, 1), generator=generator, device=device)
    rows, columns = start + torch.arange(side, device=device)
    mirrored = torch.randint(2, (n, 1), generator=generator, device=device).bool()
    columns = torch.where(mirrored, columns.flip(1), columns)
    image = torch.arange(n, device=device)[:, None, None]
    return padded[image, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def scored(
    network: Classifier, test: Images, experiment: Experiment, protocol: Protocol = "published"
) -> dict[str, float]:
    """`evaluate` on a test set."""
    size, shown = experiment.batch_size, experiment.shown(test.pixels.device)
    return evaluate(network, test.pixels, test.labels, size, protocol, shown)


def train(
    args: argparse.Namespace,
    experiment: Experiment,
    name: str,
    run: Run,
    data: datasets.Dataset,
    device: torch.device,
) -> None:
    """Train and test the network, write figures and result."""
    training, test = on_device(data.train, device), on_device(data.test, device)
    network = build(args, experiment).to(device)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    learning, schedules = learners(network, experiment, args.epochs)
    state = {"network": network, **learning, **schedules, **generators(device)}
    first = run.restore(**state)

    def step() -> None:
        for learner in learning.values():
            learner.step()

    as_shown = experiment.shown(device)

    def shown(pixels: Tensor) -> Tensor:
        return as_shown(cropped_and_flipped(pixels) if experiment.augmented else pixels)

    for epoch in range(first, args.epochs):
        row = train_epoch(
            network, training.pixels, training.labels, experiment.batch_size, step, args.rule, shown
        )
        for schedule in schedules.values():
            schedule.step()
        seen = scored(network, test, experiment)
        run.log(epoch + 1, row | {f"test_{key}": value for key, value in seen.items()})
        run.checkpoint(epoch + 1, **state)

    report(args, experiment, name, run, data, network, before, test)


def saved_steps(steps: float, network: Classifier) -> float:
    """Share of the time steps that the early exit saves, of the mean number that it leaves."""
    return 1 - steps / network.wiring.steps


def report(
    args: argparse.Namespace,
    experiment: Experiment,
    name: str,
    run: Run,
    data: datasets.Dataset,
    network: Classifier,
    before: Mapping[str, Tensor],
    test: Images,
) -> None:
    """Test under all protocols and without early exit, draw the figures and write the result."""
    rows = run.metrics()
    last = rows[-1]
    metrics: dict[str, float | None] = {
        "test_accuracy_last": last["test_accuracy"],
        "test_accuracy_best": max(row["test_accuracy"] for row in rows),
        "steps_last": last["test_steps"],
        "steps_saved_last": saved_steps(last["test_steps"], network),
    }
    with network.all_steps():
        metrics["test_accuracy_last_all_steps"] = scored(network, test, experiment)["accuracy"]
    if network.plastic_layers():
        frozen = scored(network, test, experiment, "frozen")
        metrics["test_accuracy_last_frozen"] = frozen["accuracy"]
        carried = scored(network, test, experiment, "carried")
        metrics["test_accuracy_last_carried"] = carried["accuracy"]
        few = test.first(args.single_samples)
        single = scored(network, few, experiment, "single")
        metrics["test_accuracy_last_single"] = single["accuracy"]
        metrics["samples_single"] = float(len(few.labels))
        run.save_figure(draw_constants(before, network.state_dict(), name), "constants")
    metrics |= {
        "train_accuracy_last": last["train_accuracy"],
        "train_loss_last": last["train_loss"],
        "test_spikes_last": last["test_spikes"],
    }
    run.save_figure(draw_steps(rows, network.wiring.steps, name), "steps")
    run.finish(
        experiment=name,
        paper="hybrid_plasticity",
        dataset=data.name,
        epochs=int(last["epoch"]),
        metrics=metrics,
        published=published(args, experiment, name),
        figure=run.save_figure(draw_curves(rows, name), "curves"),
    )


def published(
    args: argparse.Namespace, experiment: Experiment, name: str
) -> dict[str, float] | None:
    """The published accuracy of a run in the paper's configuration and length, else None.

    Args:
        args: the options.
        experiment: what the script is about.
        name: of the run, which tells where it differs from the paper, but for its length.
    """
    as_published = (name, args.epochs) == (experiment.session, experiment.epochs)
    return {"test_accuracy_best": experiment.published} if as_published else None


def draw_steps(rows: Sequence[Mapping[str, float]], steps: int, title: str) -> Figure:
    """Share of a test presentation's steps that the early exit saves, over epochs."""
    table = pd.DataFrame(rows).set_index("epoch")
    figure, axes = plt.subplots(figsize=(4.5, 3.2), layout="constrained")
    axes.plot(100 * (1 - table["test_steps"] / steps), marker=".", markersize=3)
    axes.set(xlabel="epoch", ylabel=f"saved of {steps} steps (%)", ylim=(-3, 103), title=title)
    axes.grid(alpha=0.3)
    return figure


def options(experiment: Experiment, description: str | None) -> argparse.ArgumentParser:
    """The parser of a script."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rule",
        choices=("hp", "gp"),
        default="hp",
        help="hp: weights by gradient beside a Hebbian trace; gp: weights alone (default: hp)",
    )
    parser.add_argument(
        "--coding",
        choices=experiment.codings,
        default=experiment.codings[0],
        help="output: rank, the last potential / threshold; rate, spikes / steps (default and "
        f"paper: {experiment.codings[0]})",
    )
    layers = range(1, len(experiment.wiring.hidden) + 2)
    paper = " ".join(map(str, experiment.wiring.plastic))
    parser.add_argument(
        "--plastic",
        type=int,
        nargs="+",
        choices=layers,
        help=f"fully connected layers, from 1, that have a trace (default and paper: {paper})",
    )
    parser.add_argument(
        "--width",
        type=float,
        help=f"factor of all channels and hidden neurons (default and paper: 1; with --quick "
        f"{experiment.quick_width:g})",
    )
    parser.add_argument(
        "--precision",
        choices=tuple(PRECISIONS),
        default="float32",
        help="number format of the convolutions behind the first one; bfloat16 is several times "
        "faster where the hardware has it (default and paper: float32)",
    )
    parser.add_argument(
        "--single-samples",
        type=int,
        default=10_000,
        help="first samples of the test set that are tested one by one; their number stands in the "
        "result (default: 10000)",
    )
    add_common_options(parser, experiment.session, experiment.epochs)
    return parser


def read(parser: argparse.ArgumentParser, experiment: Experiment) -> argparse.Namespace:
    """The options, checked, and with what --quick makes of them.

    Raises:
        UserError: a number is not above 0, or --plastic names a layer twice.
    """
    args = parser.parse_args()
    check_positive(epochs=args.epochs, width=args.width, single_samples=args.single_samples)
    if args.plastic is not None:
        if len({*args.plastic}) < len(args.plastic):
            raise UserError(
                f"--plastic {' '.join(map(str, args.plastic))} names a layer twice: name each once"
            )
        args.plastic.sort()
    if args.width is None:
        args.width = experiment.quick_width if args.quick else 1.0
    if args.quick:
        args.epochs = min(args.epochs, 2)
        args.single_samples = min(args.single_samples, QUICK_SINGLE_SAMPLES)
    return args


def run_name(args: argparse.Namespace, experiment: Experiment, dataset: str) -> str:
    """Name of a run: the session's, with what differs from the paper's hybrid network behind it."""
    words = [experiment.session.replace(experiment.dataset, dataset)]
    if args.rule != "hp":
        words.append(args.rule)
    if args.coding != experiment.codings[0]:
        words.append(args.coding)
    if args.plastic and tuple(args.plastic) != experiment.wiring.plastic:
        words.append("plastic-" + "-".join(map(str, args.plastic)))
    if args.width != 1:
        words.append(f"width-{args.width:g}")
    if args.precision != "float32":
        words.append(args.precision)
    if args.quick:
        words.append("quick")
    return "_".join(words)


def run_experiment(experiment: Experiment, description: str | None) -> None:
    """Read the options of a script, load its data and run it.

    Args:
        experiment: what the script is about.
        description: the script's docstring, for --help.
    """
    args = read(options(experiment, description), experiment)
    device = prepare(args.device, args.seed, args.threads, args.deterministic)
    data = datasets.load(
        experiment.dataset, args.data_root, validation=0, fallback=True
    )  # nothing is chosen by validation: the settings are the paper's, the epoch is the last
    if args.quick:
        data = data.first(QUICK_SAMPLES)
    name = run_name(args, experiment, data.name)
    do = partial(train, args, experiment, name, data=data, device=device)
    carry_out(args, name, device, do, data.fingerprint)
