"""Tables, figures and the page, from made results; the rows that are declared."""

import json
import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student

from comparison import registry, report, rows, run, tables
from comparison.figures import LEVELS, Cost, draw_against
from comparison.measures import SHARES
from comparison.tables import Column, Kind, cell, spread
from reproduce.declared import read
from shared.errors import UserError

RULES = ("brp", "relu", "shifting")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Three rules with three seeds on MNIST, one of them with two on few labels, and a search."""
    folder = tmp_path_factory.mktemp("results")
    for i, rule in enumerate(RULES):
        for seed in range(3):
            _put(folder, rule, seed, 0.9 + 0.02 * i + 0.001 * seed)
    for seed in range(2):
        _put(folder, "brp", seed, 0.5, labels=1)
        _put(folder, "brp", seed, 0.0, permuted=True)
    _put(folder, "brp", 0, 0.0, search=True)
    for share in (0.0, 0.9):
        _put(folder, "relu", 0, 0.4 + share / 10, labels=1, dropout=share)
    # Controls of other kinds, of which the table of controls says nothing.
    _put(folder, "relu", 0, 0.1, labels=1, dropout=0.9, permuted=True)
    _put(folder, "brp", 0, 0.1, labels=1, dropout=0.9, tuned=0.25)
    _put(folder, "relu", 0, 0.1, dropout=0.9, n_epochs=2)
    _put(folder, "hp", 0, 0.7, labels=1, adapted=0.75)
    for permuted in (False, True):
        _put(folder, "hp", 0, 0.8, permuted=permuted, adapted=0.85)
    return folder


def _put(
    folder, rule, seed, accuracy, *, labels=100, permuted=False, search=False, tuned=None,
    adapted=None, dropout=None, n_epochs=20,
):  # fmt: skip
    name = f"cmp_mnist_{rule}_{labels}_{permuted}_{search}_{tuned is not None}_{dropout}"
    place = folder / "comparison" / name / f"seed{seed}"
    place.mkdir(parents=True)
    metrics = {"test_accuracy_last": accuracy, "energy_uj": 0.5 + seed, "epochs_to_goal": None}
    levels = [f"{kind}_{level}" for kind, of in LEVELS.items() for level in of]
    levels += ["8_bits", "4_bits", *(f"after_{100 * share:.0f}" for share in SHARES)]
    levels.append("undistorted")
    metrics |= {f"test_accuracy_{level}": accuracy - 0.1 for level in levels}
    metrics["test_accuracy_4_bits"] -= 0.02 + 0.001 * seed
    options = {"rule": rule, "edition": "paper", "labels": labels, "permuted": permuted}
    options |= {"images": None, "quick": False}
    names = ("lr", "decay", "scale", "knob")
    if tuned is not None:
        options |= {"edition": "tuned", **dict.fromkeys(names, tuned)}
    if dropout is not None:  # older runs lack it
        options["dropout"] = dropout
    if labels < 100:
        metrics["test_accuracy_mean_of_last_looks"] = accuracy + 0.01
    if permuted:
        metrics = {"test_accuracy_of_tasks": 0.6, "forgetting": 0.2}
    if search:
        metrics = {f"best_{name}": 0.25 for name in names}
        metrics |= {"validation_accuracy_paper": 0.8, "validation_accuracy_best": 0.85}
        options = {"rule": rule}
    if adapted is not None:
        names = ("accuracy_last", "accuracy_undistorted", "accuracy_of_tasks")
        metrics |= dict.fromkeys((f"test_{name}_in_batch" for name in names), adapted)
        levels = ("gaussian_0.3", "occlusion_0.4")
        metrics |= {f"test_accuracy_{level}_in_batch": adapted for level in levels}
        metrics |= {"energy_uj_in_batch": 5.0, "forgetting_in_batch": 0.1}
    result = {"experiment": name, "dataset": "mnist", "seed": seed, "epochs": n_epochs}
    result |= {"metrics": metrics, "options": options}
    (place / "result.json").write_text(json.dumps(result))
    epochs = [{"epoch": k, "validation_accuracy": 0.9, "angle": 80 - k} for k in (1, 2, 3)]
    (place / "metrics.jsonl").write_text("\n".join(map(json.dumps, epochs)))


def test_an_interval_is_students():
    values = [90.0, 91.0, 93.0]
    mean, half = spread(values)
    assert mean == pytest.approx(np.mean(values))
    expected = student.ppf(0.975, 2) * np.std(values, ddof=1) / np.sqrt(3)
    assert half == pytest.approx(expected)
    assert spread([1.0, 2.0]) == (1.5, None)


def test_a_cell_says_how_many_seeds_it_is_of(results):
    runs = Kind("mnist").of(tables.stored(results / "comparison"))
    own = runs[runs["rule"] == "brp"]
    assert cell(own, Column("accuracy", "test_accuracy_last")) == "90.10 ± 0.25"
    assert cell(own, Column("epochs", "epochs_to_goal", 1)) == "–"
    assert cell(own, Column("none", "no_such_metric")) == "–"
    assert cell(own, Column("accuracy", "test_accuracy_last"), 5) == "90.10 ± 0.25 (3 seeds)"


def test_the_page_holds_what_is_there_and_names_what_is_not(results, tmp_path):
    runs = tables.stored(results / "comparison")
    page, figures = tmp_path / "docs" / "comparison.md", tmp_path / "figures"
    costs = tmp_path / "bench.json"
    walls = {"wall_median": 0.02, "wall_least": 0.018, "wall_most": 0.025}
    costs.write_text(json.dumps({"threads": 1, "cases": {"brp": {**walls, "memory_mb": 7.0}}}))
    report.write(runs, page, figures, costs)
    text = page.read_text()
    assert "| BRP | 3 | 90.10 ± 0.25 |" in text
    assert "| BRP | 3 | 90.10 ± 0.25 | – | – | – | 50.00 (2 seeds) | 51.00 (2 seeds) | – |" in text
    assert "## Five shuffled tasks in a row" in text
    assert "| BRP | 2 | 60.00 | – | 20.00 |" in text
    assert "| BRP | 20.0 (18.0 to 25.0) | 7 | 200 |" in text  # 10,000 steps of 20 ms
    assert "half the width of the surrogate derivative" in text
    assert "| ReLU | 0 | 1 | 40.00 | 41.00 | – |\n| ReLU | 0.9 | 1 | 49.00 | 50.00 | – |" in text
    assert "| BRP | its own" not in text
    assert (
        "| HP | 1 | 80.00 | 85.00 | 70.00 | 85.00 | 70.00 | 85.00 | 70.00 | 85.00 | 0.500 | 5.000 |"
        in text
    )
    assert "| HP | 1 | 60.00 | 85.00 | – | – | 20.00 | 10.00 |" in text  # of five tasks
    assert "MNIST, at the papers' settings, 1 % of the labels:" in text
    assert "| HP | 1 | 70.00 | 75.00 | 0.500 | 5.000 |" in text
    assert "- MNIST, paper settings: BP (3)" in text
    assert "- Fashion-MNIST, tuned settings: all rules" in text
    assert "- MNIST, paper settings, 1 % of the labels: BRP (3)" in text
    assert "reduced" not in text
    for name in ("robustness", "early-decisions", "angles", "accuracy-against-energy"):
        file = figures / f"cmp_mnist_paper_{name}.png"
        assert file.stat().st_size > 5000
        assert f"](../figures/{file.name})" in text
    assert (figures / "cmp_mnist_paper_accuracy-against-training-cost.png").exists()
    assert report.text(runs, page, figures, costs) == text


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["relu"], "3 seeds each, but 5 of ReLU:"),
        (["tl"], "3 seeds each:"),
        (["hp", "tl"], "but 5 with 1 % of MNIST's labels of HP; with shuffled tasks of HP:"),
    ],
)
def test_a_page_without_some_rules_says_what_is_missing(monkeypatch, names, words):
    there = {name: rule for name, rule in registry.found()[0].items() if name in names}
    monkeypatch.setattr(registry, "found", lambda: (there, {"others": "x is missing"}))
    text = report.missing(tables.load([]))
    assert words in text
    assert "not looked for: rules of others (x is missing)" in text


def test_a_complete_page_says_so(results, monkeypatch):
    there = {"brp": registry.found()[0]["brp"]}
    monkeypatch.setattr(registry, "found", lambda: (there, {}))
    monkeypatch.setattr(report, "WANTED", (Kind("mnist"),))
    more = "but 5 with 1 % of MNIST's labels of BRP"
    text = report.missing(tables.stored(results / "comparison"))
    assert text.startswith("Nothing is missing")
    assert text.endswith(f"all rules have their runs, 3 seeds each, {more}.\n")
    assert report.missing(tables.load([])).startswith("Missing")


def test_a_page_of_one_seed_is_a_reduced_edition(results):
    runs = tables.stored(results / "comparison")
    assert report.reduced(runs) == ""
    one = report.reduced(runs[runs["seed"] == 0])
    assert one == "**A reduced edition**: no rule with more than 1 seed.\n"


def test_a_page_of_other_results_is_told(results, tmp_path, monkeypatch):
    page, guide = tmp_path / "page.md", tmp_path / "README.md"
    guide.write_text(f"# Guide\n\n{report.BEGIN}\n{report.END}\n")
    words = ["report", "--results", str(results), "--page", str(page), "--guide", str(guide)]
    monkeypatch.setattr(sys, "argv", words)
    report.main()
    monkeypatch.setattr(sys, "argv", [*words, "--check"])
    report.main()
    head = "| Rule | Seeds | MNIST, paper (%) | energy (µJ) | lost with 4 bits (points) |"
    assert head in guide.read_text()
    assert "| BRP | 3 | 90.10 ± 0.25 | 1.50 ± 2.48 | 2.1 ± 0.2 | – |" in guide.read_text()
    page.write_text("other\n")
    with pytest.raises(UserError, match="run `nox -s report`"):
        report.main()


def test_tuned_runs_of_another_search_are_refused(tmp_path):
    _put(tmp_path, "brp", 0, 0.0, search=True)
    _put(tmp_path, "brp", 0, 0.9, tuned=0.25)
    runs = tables.stored(tmp_path / "comparison")
    report.check_tuned(runs)
    report.check_tuned(tables.load([]))
    with pytest.raises(
        UserError, match=r"seed0 was not trained with what the stored search of brp"
    ):
        report.check_tuned(runs[~runs["is_search"].astype(bool)])
    _put(tmp_path, "brp", 1, 0.9, tuned=0.5)
    with pytest.raises(UserError, match=r"seed1 was not trained .*delete it and train again"):
        report.check_tuned(tables.stored(tmp_path / "comparison"))


def test_the_pages_say_what_the_committed_results_hold(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["report", "--check"])
    report.main()


def test_without_results_all_is_missing(tmp_path):
    text = report.text(tables.load([]), tmp_path / "p.md", tmp_path, None)
    assert "- MNIST, paper settings: all rules" in text


# --------------------------------------------------------------------------------------- rows


def test_the_file_of_rows_is_the_written_one():
    assert rows.PAGE.read_text() == rows.text()


def test_every_row_is_named_as_its_program_names_it(monkeypatch):
    monkeypatch.setattr(run, "tuned_choice", lambda rule, data: run.Choice(0.5))
    declared = read(rows.PAGE)
    assert len(declared.row) > 150
    for row in declared.row:
        if row.script == "run.py" and {"brp", "smooth_ordinary"} & set(row.options):
            settings = run.EXPERIMENT.parse(row.options)
            assert run.EXPERIMENT.name(settings, row.dataset) == row.name
            assert settings.epochs == row.epochs
        if row.name.endswith("_tuned"):
            assert row.after == (row.name.removesuffix("tuned") + "search",)


def test_no_interval_of_an_accuracy_passes_100_percent():
    runs = pd.DataFrame({"rule": "brp", "test_accuracy_last": [0.98, 0.97, 0.88]})
    drawn = draw_against(runs, {"brp": Cost(2.0, 1.0, 3.0)}, "cost", "title")
    lines = [line for bars in drawn.axes[0].collections for line in bars.get_segments()]
    heights = [float(y) for line in lines for y in line[:, 1]]
    assert max(heights) == 100
    assert min(heights) < 90  # below the least of them
    plt.close(drawn)
