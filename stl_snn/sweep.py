"""Trainings that differ in one option, and a figure of what it changes.

    python stl_snn/sweep.py depth                         energy against the number of convolutions
    python stl_snn/sweep.py theta                         the initial threshold, Theta_0
    python stl_snn/sweep.py theta --values 0.5 1 2 -data fashion_mnist --width 0.25

Other options are those of train.py and hold for every training. Trainings that are there already
are not done again.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.figure import Figure

from shared.device import prepare
from shared.errors import UserError
from shared.figures import counted, save_figure
from shared.options import script
from shared.run import carry_out
from stl_snn.figures import draw_depth, draw_theta
from stl_snn.param import MNIST, SETTINGS, smallest_depth
from stl_snn.train import completed, make_parser, name_of, run_experiment


class Sweep(NamedTuple):
    """An option's values where none are asked for, of a data set's settings, and the figure."""

    values: Callable[[MNIST], tuple[float, ...]]
    draw: Callable[[Sequence[float], Sequence[Mapping[str, float]], str], Figure]


def depths(setting: MNIST) -> tuple[float, ...]:
    """The fewest convolutions that the data set's network can have, and some more."""
    return tuple(smallest_depth(setting) + more for more in (0, 1, 2, 4))


SWEEPS = {
    "depth": Sweep(depths, draw_depth),
    "theta": Sweep(lambda _: (0.5, 1.0, 2.0, 3.0), draw_theta),
}


def trainings(option: str, values: Sequence[float], words: list[str]) -> list[argparse.Namespace]:
    """The options of every training.

    Raises:
        UserError: one of them cannot be.
    """
    found = []
    for value in values:
        args = make_parser().parse_args([*words, f"--{option}", f"{value:g}"])
        try:
            found.append(completed(args))
        except UserError as error:
            raise UserError(f"--values {value:g} cannot be: {error}") from error
    return found


def main() -> None:
    """Train and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("option", choices=tuple(SWEEPS), help="what differs")
    parser.add_argument(
        "--values",
        type=float,
        nargs="+",
        help="its values (depth: the fewest convolutions that the data set's network can have, 1, "
        "2 and 4 more; theta: 0.5 1 2 3)",
    )
    parser.add_argument(
        "--into", type=Path, default=Path("runs"), help="folder of the runs and figures/ (runs)"
    )
    own, words = parser.parse_known_args()
    sweep = SWEEPS[own.option]
    common = completed(make_parser().parse_args(words))
    if common.out:
        raise UserError("--out names one run's folder: give --into for all")
    values = sorted(own.values or sweep.values(SETTINGS[common.data]()))
    runs = trainings(own.option, values, words)
    found = []
    for args in runs:
        args.out = own.into / name_of(args) / f"seed{args.seed}"
        train_one(args)
        found.append(json.loads((args.out / "result.json").read_text()))
    last = found[-1]
    title = (
        f"{last['dataset']}, {runs[0].learning.upper()}, width {runs[0].width:g}, "
        f"{counted(last['epochs'], 'epoch')}, seed {last['seed']}"
    )
    figure = sweep.draw(values, [result["metrics"] for result in found], title)
    session = SETTINGS[runs[0].data].session
    path = save_figure(figure, own.into / "figures" / f"{session}_{own.option}")
    print(f"\n{path}")


def train_one(args: argparse.Namespace) -> None:
    """Train and test one network, unless that has been done."""
    device = prepare(args.device, args.seed, args.threads, args.deterministic)
    carry_out(args, name_of(args), device, lambda run: run_experiment(args, run, device))


if __name__ == "__main__":
    script(main)
