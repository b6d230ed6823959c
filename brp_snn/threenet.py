"""A plain network of three layers without spikes on spoken digits: what the features are worth.

    python brp_snn/threenet.py                      TIDigits, or the stand-in fsdd
    python brp_snn/threenet.py --split speaker      tested on speakers that training never hears

Rectified linear hidden units and linear outputs, trained by back-propagation of the mean squared
error, the whole training set in every step. Inputs are 40 bands of 41 frames, divided by the root
of a recording's sum of squares. Nothing is chosen by a validation part, and none is held out.
"""

import argparse
from collections import OrderedDict

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from brp_snn.data import SPLITS
from brp_snn.tidigits import SCALINGS, SEED, SHARE, drawn, features, split_by_speaker
from shared import datasets
from shared.device import prepare
from shared.errors import UserError
from shared.figures import draw_run
from shared.options import add_common_options, check_positive, script
from shared.run import Run, carry_out, progress

STEPS = 100
PLAIN = {"hidden": 500, "lr": 0.01, "bands": 40, "frames": 41, "scaling": "l2"}
"""The paper's values."""
CLASSES = 10
QUICK_SAMPLES, QUICK_STEPS = 300, 3
READERS = {"tidigits": datasets.load_tidigits_or_fsdd, "fsdd": datasets.load_fsdd}


class Net(nn.Sequential):
    """The network, by the published name.

    Args:
        n_feature: inputs.
        n_hidden: hidden units.
        n_output: outputs.
    """

    def __init__(self, n_feature: int, n_hidden: int, n_output: int) -> None:
        layers: list[tuple[str, nn.Module]] = [
            ("hidden", nn.Linear(n_feature, n_hidden)),
            ("relu", nn.ReLU()),
            ("predict", nn.Linear(n_hidden, n_output)),
        ]
        super().__init__(OrderedDict(layers))


Part = tuple[Float[Tensor, "n inputs"], Int[Tensor, " n"]]


def load(args: argparse.Namespace, device: torch.device) -> tuple[str, Part, Part]:
    """Name of the recordings, and features and labels to train and to test on.

    Raises:
        UserError: the recordings cannot be had, or too few of them.
    """
    speech = READERS[args.dataset](args.data_root)
    if args.split == "speaker":
        train, validation, test = split_by_speaker(speech.speakers)
        rest = np.concatenate([train, validation])
    else:
        rest, test = drawn(speech.labels, SHARE, SEED)
    if args.quick:
        rest, test = rest[:QUICK_SAMPLES], test[:QUICK_SAMPLES]
    chosen = np.concatenate([rest, test])
    few = datasets.Speech(
        speech.name,
        tuple(speech.waveforms[i] for i in chosen),
        speech.labels[chosen],
        tuple(speech.speakers[i] for i in chosen),
        speech.rate,
    )
    found = features(few, args.scaling, args.bands, args.frames).reshape(len(few), -1)
    inputs, labels = (torch.from_numpy(part).to(device) for part in (found, few.labels))
    n = len(rest)
    return speech.name, (inputs[:n], labels[:n]), (inputs[n:], labels[n:])


def scores(network: Net, part: Part, prefix: str) -> tuple[Float[Tensor, ""], dict[str, float]]:
    """The loss on a part, and loss and accuracy by name."""
    inputs, labels = part
    output = network(inputs)
    loss = functional.mse_loss(output, functional.one_hot(labels, CLASSES).to(output))
    accuracy = int((output.argmax(1) == labels).sum()) / len(labels)
    return loss, {f"{prefix}_loss": loss.item(), f"{prefix}_accuracy": accuracy}


def train(args: argparse.Namespace, name: str, run: Run, device: torch.device) -> None:
    """Train and test the network, write the figure and the result.

    Raises:
        UserError: the recordings cannot be had, or the loss is no number any more.
    """
    dataset, known, unknown = load(args, device)
    network = Net(known[0].shape[1], args.hidden, CLASSES).to(device)
    optimizer = torch.optim.Adam(network.parameters(), args.lr, fused=True)
    state = {"network": network, "optimizer": optimizer}
    first = run.restore(**state)
    for step in progress(range(first, args.epochs), args.epochs - first, "train"):
        loss, row = scores(network, known, "train")
        if not loss.isfinite():
            raise UserError(f"the loss is no number in step {step + 1}: lower --lr {args.lr}")
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        with torch.no_grad():
            row |= scores(network, unknown, "test")[1]
        run.log(step + 1, row)
        run.checkpoint(step + 1, **state)
    rows = run.metrics()
    last = rows[-1]
    run.finish(
        experiment=name,
        paper="brp_snn",
        dataset=dataset,
        epochs=args.epochs,
        metrics={
            "test_accuracy_last": last["test_accuracy"],
            "test_loss_last": last["test_loss"],
            "train_accuracy_last": last["train_accuracy"],
            "train_loss_last": last["train_loss"],
        },
        figure=run.save_figure(draw_run(rows, name), "curves"),
    )


def name_of(args: argparse.Namespace) -> str:
    """Name of the experiment, such as brp_threenet_fsdd_held-out-speakers."""
    words = ["brp_threenet", args.dataset]
    words += ["held-out-speakers"] if args.split == "speaker" else []
    for option, default in PLAIN.items():
        if getattr(args, option) != default:
            words.append(f"{option}-{getattr(args, option)}")
    return "_".join([*words, "quick"] if args.quick else words)


def main() -> None:
    """Read the options and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_common_options(parser, "brp_threenet_<dataset>", STEPS, threads=1)
    add = parser.add_argument
    add("--dataset", choices=tuple(READERS), default="tidigits", help="(tidigits)")
    add("--split", choices=SPLITS, default="random", help="70 to 30, or by speaker (random)")
    add("--hidden", type=int, default=PLAIN["hidden"], help="hidden units (paper: 500)")
    add("--lr", type=float, default=PLAIN["lr"], help="step size of Adam (paper: 0.01)")
    add("--bands", type=int, default=PLAIN["bands"], help="mel bands (paper: 40)")
    add("--frames", type=int, default=PLAIN["frames"], help="frames of a recording (paper: 41)")
    add(
        "--scaling",
        choices=SCALINGS,
        default=PLAIN["scaling"],
        help="of the features, see tidigits.py (paper: l2)",
    )
    args = parser.parse_args()
    args.epochs = min(args.epochs, QUICK_STEPS) if args.quick else args.epochs
    check_positive(
        epochs=args.epochs, hidden=args.hidden, lr=args.lr, bands=args.bands, frames=args.frames
    )
    device = prepare(args.device, args.seed, args.threads, args.deterministic)
    name = name_of(args)
    carry_out(args, name, device, lambda run: train(args, name, run, device))


if __name__ == "__main__":
    script(main)
