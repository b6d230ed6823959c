"""All claims, rows and figures on one page that asks nobody for anything.

The page is a file: styles, program and pictures are inside, and a policy in its head forbids the
browser to fetch anything else.
"""

import base64
import io
import math
import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from reproduce.declared import Claim, Quantity, Reproduction, Row
from reproduce.verdicts import Decision, Verdict, bound, decide, measured, told_p
from reproduce.words import cost
from shared.report import Summary, summaries
from shared.run import REPOSITORY

WIDTH = 900  # pixels: a column of text at nearly two pixels a point
WIDTH_BESIDE = 500  # of the pictures behind a run's first: all in full width made a page too large
QUALITY, SPEED = 45, 8  # to the eye as WebP at 72, in three quarters of its bytes
SESSION = "nox -s reproduce --"  # makes a row, a claim or a figure


@dataclass(frozen=True)
class Picture:
    """An image that the page holds.

    Attributes:
        title: what it shows, in words.
        uri: its bytes, as a data URI.
        width: in pixels.
        height: in pixels.
    """

    title: str
    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class Paper:
    """A folder that declares rows.

    Attributes:
        name: of the folder.
        title: of its README.
        readme: where that lies, from the page.
        deviations: where the page of deviations speaks of it; "" if it does not.
    """

    name: str
    title: str
    readme: str
    deviations: str


@dataclass(frozen=True)
class Bar:
    """An interval as a drawing, all in percent of its width.

    Attributes:
        low: end of the interval.
        high: the other one.
        difference: that was measured.
        zero: no difference.
        holds: from where to where the claim holds.
    """

    low: float
    high: float
    difference: float
    zero: float
    holds: tuple[float, float]


@dataclass(frozen=True)
class Sentence:
    """A claim as it is shown.

    Attributes:
        anchor: of the page.
        paper: that it is of.
        decision: the claim, its verdict and the numbers.
        ours: the difference with its interval, in words.
        p: the corrected p-value, in words.
        margin: where it holds, in words.
        bar: the same as a drawing; None where there is no interval.
        criterion: what decides it, in words.
        session: the command that makes what it needs.
        rows: anchors of the rows that it needs, by their names.
    """

    anchor: str
    paper: Paper
    decision: Decision
    ours: str
    p: str
    margin: str
    bar: Bar | None
    criterion: str
    session: str
    rows: dict[str, str]


@dataclass(frozen=True)
class Entry:
    """A row as it is shown: what was declared, and what its runs say.

    Attributes:
        anchor: of the page.
        paper: that it is of.
        name: of the experiment.
        dataset: as result.json names it.
        epochs: of a run.
        size: what is smaller or shorter than in the paper, in words.
        missing: seeds that are declared and have no run, and what they cost, in words.
        summary: of the runs; None where there are none.
        session: the command that makes what is missing or, where nothing is, computes the row
            anew and compares; "" for what is not declared.
        commands: of the script itself, one per seed.
        sentences: the claims that need it.
        pictures: drawn from its runs.
    """

    anchor: str
    paper: Paper
    name: str
    dataset: str
    epochs: int
    size: str
    missing: str
    summary: Summary | None
    session: str
    commands: tuple[str, ...]
    sentences: tuple[Sentence, ...]
    pictures: tuple[Picture, ...]

    @property
    def verdicts(self) -> str:
        """Those of its claims, as anchors."""
        return _verdicts(self.sentences)


@dataclass(frozen=True)
class Plate:
    """A figure of several experiments.

    Attributes:
        anchor: of the page.
        paper: that it is of; None where its name tells none.
        picture: the figure.
        session: the command that makes it anew; "" for what is not declared.
        entries: the rows that it shows, as far as they are declared or have runs.
    """

    anchor: str
    paper: Paper | None
    picture: Picture
    session: str
    entries: tuple[Entry, ...]

    @property
    def verdicts(self) -> str:
        """Those of the claims that its rows decide, as anchors."""
        return _verdicts(s for entry in self.entries for s in entry.sentences)


def _verdicts(sentences: Iterable[Sentence]) -> str:
    return " ".join(sorted({anchor_of(s.decision.verdict) for s in sentences}))


def anchor_of(words: str) -> str:
    """Words as a part of an address: lower case, hyphens for spaces, as GitHub makes them."""
    return re.sub(r"[^\w. -]", "", words.lower()).replace(" ", "-")


def picture(path: Path, title: str, width: int = WIDTH) -> Picture:
    """A figure's file, no wider than so many pixels, as AVIF.

    Args:
        path: of an image; what is transparent becomes white.
        title: what it shows.
        width: in pixels, at most.
    """
    with Image.open(path) as file:
        drawn = Image.alpha_composite(Image.new("RGBA", file.size, "white"), file.convert("RGBA"))
    drawn.thumbnail((width, 4 * width), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    drawn.convert("RGB").save(buffer, "AVIF", quality=QUALITY, speed=SPEED)
    uri = "data:image/avif;base64," + base64.b64encode(buffer.getvalue()).decode()
    return Picture(title, uri, *drawn.size)


def paper_of(name: str, repository: Path, root: str) -> Paper:
    """A paper's folder: its title, and where the page of deviations speaks of it.

    Args:
        name: of the folder.
        repository: the folder's parent.
        root: the repository as the page's links name it.
    """
    title = (repository / name / "README.md").read_text().splitlines()[0].removeprefix("# ")
    page = repository / "docs" / "deviations.md"
    has_section = f"## {title}" in page.read_text().splitlines()
    deviations = f"{root}/docs/deviations.md#{anchor_of(title)}" if has_section else ""
    return Paper(name, title, f"{root}/{name}/README.md", deviations)


def bar(decision: Decision) -> Bar | None:
    """The interval of a claim beside where the claim holds; None where there is no interval."""
    found, claim = decision.comparison, decision.claim
    if found is None or math.isnan(found.low):
        return None
    end = claim.margin if claim.kind == "level" else math.inf
    start = -claim.margin if claim.kind == "level" else claim.margin
    seen = [0.0, found.low, found.high, start, *([end] if math.isfinite(end) else [])]
    room = 0.08 * (max(seen) - min(seen))
    left, right = min(seen) - room, max(seen) + room

    def place(value: float) -> float:
        return round(100 * (min(value, right) - left) / (right - left), 1)

    low, high, difference = map(place, (found.low, found.high, found.difference))
    return Bar(low, high, difference, zero=place(0.0), holds=(place(start), place(end)))


def criterion(claim: Claim) -> str:
    """What decides a claim, in words."""
    left, right = map(_side, (claim.left, claim.right))
    margin = f"{claim.margin:g}"
    if claim.kind == "level":
        rule = f"{left} and {right} differ by less than {margin}"
    elif claim.margin:
        rule = f"{left} exceeds {right} by more than {margin}"
    else:
        rule = f"{left} exceeds {right}"
    if claim.is_single:
        return f"{rule}, in one run."
    if claim.left.counted_in:
        return f"{rule}, over trials counted in {claim.left.counted_in}."
    return f"{rule}; all declared seeds decide, {claim.seeds} at least."


def _side(side: Quantity | float) -> str:
    return f"{side.metric} of {side.row}" if isinstance(side, Quantity) else f"{side:g}"


def _sentence(paper: Paper, decision: Decision, rows: Mapping[str, str]) -> Sentence:
    claim = decision.claim
    needed = {side.row: rows[side.row] for side in claim.sides}
    return Sentence(
        f"claim-{claim.name}",
        paper,
        decision,
        measured(decision),
        told_p(decision),
        bound(claim),
        bar(decision),
        criterion(claim),
        f"{SESSION} claim:{claim.name}",
        needed,
    )


def _missing(row: Row | None, summary: Summary | None) -> str:
    """The seeds of a declared row that have no run, and their cost."""
    if row is None:
        return ""
    there = set() if summary is None else set(summary.runs["seed"])
    missing = [seed for seed in row.seeds if seed not in there]
    if not missing:
        return ""
    seeds = "seed" if len(missing) == 1 else "seeds"
    words = f"{seeds} {', '.join(map(str, missing))}: {_needed(row, len(missing))}"
    on_gpu = row.on_gpu()
    return words if on_gpu is row else f"{words}; on a GPU {_needed(on_gpu, len(missing))}"


def _needed(row: Row, runs: int) -> str:
    return cost(row.minutes * runs) + ("" if row.is_measured else ", an estimate")


def _commands(paper: str, row: Row | None, summary: Summary | None) -> tuple[str, ...]:
    """What runs a row again: the runs' own commands, else what is declared."""
    if summary is not None:
        ordered = summary.runs.sort_values("seed")
        return tuple(dict.fromkeys(ordered["command"]))
    assert row is not None
    start = ["python", f"{paper}/{row.script}", *row.options]
    return tuple(shlex.join([*start, "--seed", str(seed)]) for seed in row.seeds)


def _pictures(summary: Summary | None) -> tuple[Picture, ...]:
    """The figures beside the first run that has some, that which a script names in front.

    Those of other seeds look alike, and all of them would make the page too large.
    """
    if summary is None:
        return ()
    for run in summary.runs.sort_values("seed").to_dict("records"):
        paths = sorted(run["folder"].glob("*.png"), key=lambda p: (p.name != run["figure"], p.name))
        if paths:
            names = [path.stem.replace("_", " ") for path in paths]
            titles = [f"{summary.experiment}, {name}, seed {run['seed']}" for name in names]
            widths = [WIDTH, *[WIDTH_BESIDE] * (len(paths) - 1)]
            return tuple(map(picture, paths, titles, widths))
    return ()


Key = tuple[str, str, int]


def _entries(
    reproduction: Reproduction,
    paper: Paper,
    decisions: Sequence[Decision],
    found: Mapping[Key, Summary],
) -> tuple[list[Sentence], list[Entry]]:
    """A paper's claims and rows; rows that have runs without being declared come last.

    Args:
        reproduction: what the paper declares.
        paper: its folder.
        decisions: on its claims.
        found: summaries of its runs by experiment, data set and epochs.
    """
    declared = {(row.name, row.dataset, row.epochs): row for row in reproduction.row}
    keys = [*declared, *(key for key in found if key not in declared)]
    names = [key[0] for key in keys]
    anchors = {key: f"row-{key[0] if key in declared else _unique(key, names)}" for key in keys}
    of_rows = {key[0]: anchors[key] for key in declared}
    sentences = [_sentence(paper, decision, of_rows) for decision in decisions]
    entries = []
    for key in keys:
        row, summary = declared.get(key), found.get(key)
        missing = _missing(row, summary)
        needing = tuple(s for s in sentences if row and row.name in s.rows)
        entries.append(
            Entry(
                anchors[key],
                paper,
                *key,
                row.size if row else "",
                missing,
                summary,
                f"{SESSION} {'' if missing else '--again '}{row.name}" if row else "",
                _commands(paper.name, row, summary),
                needing,
                _pictures(summary),
            )
        )
    return sentences, entries


def _unique(key: Key, names: Sequence[str]) -> str:
    """The name of what has runs and is not declared, with more words where it is not alone."""
    name, dataset, epochs = key
    return name if names.count(name) == 1 else f"{name}-{dataset}-{epochs}"


def _plates(
    reproductions: Sequence[Reproduction],
    papers: Mapping[str, Paper],
    entries: Sequence[Entry],
    folder: Path,
) -> list[Plate]:
    """The figures of several experiments: declared ones, then others that scripts drew.

    Args:
        reproductions: what is declared.
        papers: by the first word of their experiments' names.
        entries: of all papers.
        folder: of the figures' files.
    """
    declared = {figure.name: (r, figure) for r in reproductions for figure in r.figure}
    order = {name: number for number, name in enumerate(declared)}
    paths = sorted(folder.rglob("*.png"), key=lambda p: (order.get(p.stem, len(order)), p.name))
    plates = []
    for path in paths:
        name = path.relative_to(folder).with_suffix("").as_posix().replace("/", "_")
        shown: tuple[Entry, ...] = ()
        title = name.replace("_", " ")
        if name in declared:
            _, figure = declared[name]
            title = f"{figure.title}: {figure.label}"
            curves = set(figure.curves.values())
            shown = tuple(e for e in entries if e.name in curves and e.dataset == figure.dataset)
        paper = papers.get(name.split("_")[0])
        session = f"{SESSION} figure:{name}" if name in declared else ""
        plates.append(Plate(f"figure-{name}", paper, picture(path, title), session, shown))
    return plates


def render(
    reproductions: Sequence[Reproduction],
    results: pd.DataFrame,
    figures: Path,
    repository: Path = REPOSITORY,
    root: str = ".",
) -> str:
    """The page as HTML.

    Args:
        reproductions: what the papers declare.
        results: of all runs, as `shared.report.load_results` gives them.
        figures: folder of the figures that show several experiments.
        repository: the folder that has the papers' folders.
        root: the repository as the page's links name it.
    """
    sentences: list[Sentence] = []
    entries: list[Entry] = []
    papers: dict[str, Paper] = {}
    first_words: dict[str, Paper] = {}
    for reproduction in reproductions:
        name = reproduction.paper
        papers[name] = paper = paper_of(name, repository, root)
        runs = results[results["paper"] == name]
        found = {(s.experiment, s.dataset, s.epochs): s for s in summaries(runs)}
        some, more = _entries(reproduction, paper, decide(reproduction, results), found)
        first_words |= {entry.name.split("_")[0]: paper for entry in more}
        sentences += some
        entries += more
    environment = Environment(
        loader=PackageLoader("reproduce"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["anchor"] = anchor_of
    counted = [s.decision.verdict for s in sentences]
    return environment.get_template("page.html").render(
        papers=papers.values(),
        sentences=sentences,
        entries=entries,
        plates=_plates(reproductions, first_words, entries, figures),
        counts={verdict: counted.count(verdict) for verdict in Verdict},
        root=root,
    )


def write_page(
    reproductions: Sequence[Reproduction], results: pd.DataFrame, figures: Path, path: Path
) -> None:
    """Write the page; see `render`."""
    root = Path(os.path.relpath(REPOSITORY, path.resolve().parent)).as_posix()
    path.write_text(render(reproductions, results, figures, root=root), encoding="utf-8")
