"""Trainings that differ in one option, and a figure of what it changes.

    python stl_snn/sweep.py depth                         energy against the number of convolutions
    python stl_snn/sweep.py theta                         the initial threshold, Theta_0
    python stl_snn/sweep.py theta --values 0.5 1 2 -data fashion_mnist --width 0.25

Other options are those of train.py and hold for every training. Trainings that are there already
are not done again.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import tyro
from matplotlib.figure import Figure

from shared.errors import UserError
from shared.experiment import UNNAMED, check_bounds, parse
from shared.figures import counted, save_figure
from shared.options import script
from shared.run import RUNS
from stl_snn import train
from stl_snn.figures import draw_depth, draw_theta
from stl_snn.param import MNIST, SETTINGS, smallest_depth
from stl_snn.train import EXPERIMENT


@dataclass(frozen=True)
class Settings(train.Settings):
    """The options: those of every training, and what differs."""

    option: Annotated[tyro.conf.Positional[Literal["depth", "theta"]], UNNAMED] = "depth"
    """What differs."""
    values: Annotated[tuple[float, ...], UNNAMED] = ()
    """Its values; without them of depth the fewest convolutions that the data set's network can
    have, 1, 2 and 4 more, of theta 0.5 1 2 3."""
    into: Annotated[Path, UNNAMED] = RUNS
    """Folder of the runs, in <paper>/<experiment>/seed<N>/, and of figures/."""


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


def trainings(settings: Settings, values: Sequence[float]) -> list[train.Settings]:
    """The settings of every training.

    Raises:
        UserError: one of them cannot be.
    """
    common: dict[str, Any] = {
        field.name: getattr(settings, field.name) for field in dataclasses.fields(train.Settings)
    }
    kind = int if settings.option == "depth" else float
    found = []
    for value in values:
        try:
            if kind(value) != value:
                raise UserError(f"--{settings.option} {value:g} is no whole number")
            one = train.Settings(**common | {settings.option: kind(value)})
            check_bounds(one)
            one.check()
        except UserError as error:
            raise UserError(f"--values {value:g} cannot be: {error}") from error
        found.append(one)
    return found


def main() -> None:
    """Train and draw."""
    settings = parse(Settings, __doc__, defaults=train.defaults, shorthands=EXPERIMENT.shorthands)
    if settings.out:
        raise UserError("--out names one run's folder: give --into for all")
    sweep = SWEEPS[settings.option]
    values = sorted(settings.values or sweep.values(SETTINGS[settings.data]()))
    found = [results_of(one, settings.into) for one in trainings(settings, values)]
    last = found[-1]
    title = (
        f"{last['dataset']}, {settings.learning.upper()}, width {settings.width:g}, "
        f"{counted(last['epochs'], 'epoch')}, seed {last['seed']}"
    )
    figure = sweep.draw(values, [result["metrics"] for result in found], title)
    of_all = trainings(settings, values[:1])[0]
    plain = getattr(train.defaults(of_all), settings.option)
    name = EXPERIMENT.name(replace(of_all, **{settings.option: plain}), last["dataset"])
    path = settings.into / "figures" / f"{name}_{settings.option}"
    save_figure(figure, path, pdf=settings.pdf)
    print(f"\n{path}.png")


def results_of(settings: train.Settings, into: Path) -> dict[str, Any]:
    """Train and test one network, unless that has been done; the content of its result.json."""
    device = EXPERIMENT.device(settings)
    data = EXPERIMENT.load(settings, device)
    name = EXPERIMENT.name(settings, data.name)
    out = into / EXPERIMENT.paper / name / f"seed{settings.seed}"
    loaded = replace(EXPERIMENT, load=lambda settings, device: data)
    loaded.run(replace(settings, out=out), train.train)
    result: dict[str, Any] = json.loads((out / "result.json").read_text())
    return result


if __name__ == "__main__":
    script(main)
