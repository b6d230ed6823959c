"""Figures that compare what learns (STL, SL, TL), from the results of runs.

    python stl_snn/compare.py                                             of MNIST, in runs/
    python stl_snn/compare.py -data nmnist --width 0.0625 --epochs 15 --results results

Takes the options of `train.py` and looks in --results for such runs of everything that can learn.
Where there are none on the data set itself, those on what stands in for it are compared. A number
is the mean over the seeds. Figures: in <results>/figures, by the name of the run of STL: the
accuracy over epochs, and with _noise and _rates after the name accuracy under noise, firing rates
and energy.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import pandas as pd

from shared.errors import UserError
from shared.experiment import UNNAMED, parse
from shared.figures import counted, draw_curves, save_figure
from shared.options import script
from shared.report import Comparison, curves_of, load_results
from shared.run import RUNS
from stl_snn import train
from stl_snn.data import LOADED
from stl_snn.figures import draw_noise, draw_rates_and_energy
from stl_snn.train import EXPERIMENT


@dataclass(frozen=True)
class Settings(train.Settings):
    """The options: those of the trainings, and where their results are."""

    results: Annotated[Path, UNNAMED] = RUNS
    """Folder of the results, and of figures/."""


MODES: dict[str, dict[str, Any]] = {
    "STL": {"learning": "stl"},
    "SL": {"learning": "sl"},
    "TL": {"learning": "tl", "train_norm": False},
    "TL and norm": {"learning": "tl", "train_norm": True},
}
"""What learns, and the settings for it; "norm": batch normalization too."""


def names_of(settings: train.Settings, data: str) -> dict[str, str]:
    """Names of the runs by what learns.

    Args:
        settings: as read; what learns is the mode's.
        data: name of the data that were loaded.

    Raises:
        UserError: the settings say what learns.
    """
    if settings.learning != "stl":
        raise UserError("--learning, -tl and --no-tl say what learns, and all of it is compared: "
                        "leave them out")  # fmt: skip
    return {mode: EXPERIMENT.name(replace(settings, **own), data) for mode, own in MODES.items()}


def names_in(results: pd.DataFrame, settings: Settings) -> dict[str, str]:
    """Names of the runs that there are, on one data set, by what learns.

    Raises:
        UserError: there are none; or as `names_of`.
    """
    itself = LOADED.get(settings.data, settings.data)
    there = set(results["experiment"])
    for data in dict.fromkeys((itself, *sorted(results["dataset"].unique()))):
        names = names_of(settings, data)
        if found := {mode: name for mode, name in names.items() if name in there}:
            return found
    wanted = ", ".join(names_of(settings, itself).values())
    raise UserError(
        f"{settings.results} has no runs called {wanted}: run train.py with the same options "
        "first, or name another folder with --results"
    )


def metrics_of(results: pd.DataFrame, names: Mapping[str, str]) -> dict[str, pd.DataFrame]:
    """Metrics by what learns, a row per seed."""
    return {
        mode: pd.DataFrame(list(results.loc[results["experiment"] == name, "metrics"]))
        for mode, name in names.items()
    }


def main() -> None:
    """Draw the comparison.

    Raises:
        UserError: there are no runs to compare.
    """
    settings = parse(Settings, __doc__, defaults=train.defaults, shorthands=EXPERIMENT.shorthands)
    if settings.out:
        raise UserError("--out names one run's folder: the figures lie in --results, in figures/")
    results = load_results(settings.results)
    names = names_in(results, settings)
    first = results[results["experiment"] == next(iter(names.values()))].iloc[0]
    words = f"{first['dataset']}, {counted(first['epochs'], 'epoch')}"
    title = f"{words}, width {settings.width:g}"
    metrics, compared = metrics_of(results, names), Comparison(names)
    figures = {
        "": draw_curves(curves_of(results, compared), compared.label, title),
        "_rates": draw_rates_and_energy(metrics, title),
    }
    if any(table.get("noise_samples") is not None for table in metrics.values()):
        rows = {mode: table.to_dict("records") for mode, table in metrics.items()}
        figures["_noise"] = draw_noise(rows, title)
    stl = names_of(settings, first["dataset"])["STL"]
    path = settings.results / "figures" / stl
    for ending, figure in figures.items():
        save_figure(figure, path.with_name(path.name + ending), pdf=settings.pdf)
    drawn = ", ".join(f"{path}{ending}.png" for ending in figures)
    print(f"{', '.join(metrics)} on {words}: {drawn}")


if __name__ == "__main__":
    script(main)
