"""The declared figures of several experiments, from results/."""

from collections.abc import Collection, Sequence
from pathlib import Path

import pandas as pd

from reproduce.declared import Reproduction
from shared.figures import save_figure
from shared.report import Comparison, draw_comparison


def draw_figures(
    reproductions: Sequence[Reproduction],
    results: pd.DataFrame,
    folder: Path,
    names: Collection[str] | None = None,
) -> list[str]:
    """Draw declared figures that have two curves at least.

    Args:
        reproductions: what declares them.
        results: as `shared.report.load_results` gives them.
        folder: where they go.
        names: of those to draw; None: all.

    Returns:
        The names of those that were drawn.
    """
    drawn = []
    for declared in (figure for reproduction in reproductions for figure in reproduction.figure):
        if names is not None and declared.name not in names:
            continue
        comparison = Comparison(**declared.model_dump(exclude={"name"}))
        if figure := draw_comparison(results, comparison):
            save_figure(figure, folder / declared.name)
            drawn.append(declared.name)
    return drawn
