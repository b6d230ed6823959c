import json
import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from shared.errors import UserError
from shared.report import (
    BEGIN,
    END,
    Comparison,
    curves_of,
    draw_comparison,
    load_results,
    mean_and_spread,
    table,
    with_table,
)
from shared.run import REPOSITORY


def write_run(folder: Path, experiment: str, seed: int, **metrics: float | None) -> None:
    run = folder / experiment / f"seed{seed}"
    run.mkdir(parents=True)
    result = {
        "experiment": experiment,
        "dataset": "toy",
        "seed": seed,
        "epochs": 2,
        "device": "cpu",
        "metrics": metrics,
        "published": {"test_accuracy_last": 0.9714},
        "commit": "0123456789",
    }
    (run / "result.json").write_text(json.dumps(result))
    rows = [{"epoch": k, "test_accuracy": 0.4 + k / 10} for k in (1, 2)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def results(tmp_path):
    write_run(tmp_path, "toy", 0, test_accuracy_last=0.5, test_accuracy_selected=None)
    write_run(tmp_path, "toy", 1, test_accuracy_last=0.7, test_accuracy_selected=None)
    write_run(
        *(tmp_path, "toss", 0),
        networks=9,
        success_rate=0.5,
        success_rate_low_95=0.4,
        success_rate_high_95=0.6,
    )
    return load_results(tmp_path)


def test_table_states_mean_spread_seeds_and_the_published_number(results):
    rows = table(results).splitlines()
    assert rows[2].startswith(
        "| toss | toy | 0 (9 networks) | 2 | runs that succeed: 50.00 (40.0 to 60.0) % |"
    )
    assert rows[3] == (
        "| toy | toy | 0, 1 | 2 | test, last epoch: 60.00 ± 14.14 % | "
        "test, last epoch: 97.14 % | cpu | 0123456 |"
    )


def test_the_interval_of_one_run_is_not_stated_of_several(tmp_path):
    for seed, share in enumerate((0.5, 0.7)):
        ends = {"test_accuracy_last_low_95": share - 0.1, "test_accuracy_last_high_95": share + 0.1}
        write_run(tmp_path, "draws", seed, test_accuracy_last=share, **ends)
    runs = load_results(tmp_path)
    assert mean_and_spread("test_accuracy_last", runs[:1]) == "50.00 (40.0 to 60.0) %"
    assert mean_and_spread("test_accuracy_last", runs) == "60.00 ± 14.14 %"


def test_a_number_published_for_some_of_the_runs_is_stated(results):
    results["published"] = results["published"].where(results["seed"] == 1, None)
    assert "| test, last epoch: 97.14 % |" in table(results).splitlines()[3]


def test_table_takes_its_place_between_the_marks():
    readme = f"above\n{BEGIN}\nold\n{END}\nbelow"
    assert with_table(readme, "new") == f"above\n{BEGIN}\nnew\n{END}\nbelow"
    with pytest.raises(UserError, match="lost the marks"):
        with_table("above", "new")


def test_comparison_is_drawn_from_the_metrics(results):
    comparison = Comparison({"BRP": "toy", "DFA": "toss", "BP": "none"}, title="toys")
    figure = draw_comparison(results, comparison)
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    assert lines["BRP (2 seeds)"].get_ydata().tolist() == pytest.approx([50, 60])
    assert {"BRP (2 seeds)", "DFA (1 seed)"} < set(lines)
    assert figure.axes[0].get_title() == "toys"
    plt.close(figure)


def test_a_logarithmic_axis_begins_below_the_least_value(results):
    comparison = Comparison({"BRP": "toy", "DFA": "toss"}, scale="log")
    figure = draw_comparison(results, comparison)
    axes = figure.axes[0]
    least = min(line.get_ydata().min() for line in axes.get_lines())
    assert axes.get_yscale() == "log"
    assert axes.get_ylim()[0] == pytest.approx(0.7 * least)
    plt.close(figure)


def test_the_longest_runs_of_the_set_are_compared(results):
    results.loc[results["seed"] == 1, "epochs"] = 5
    (curve,) = curves_of(results, Comparison({"BRP": "toy"}, dataset="toy"))
    assert len(curve.runs) == 1
    assert curves_of(results, Comparison({"BRP": "toy"}, dataset="another")) == []


def test_one_experiment_makes_no_comparison(results):
    assert draw_comparison(results, Comparison({"BRP": "toy", "BP": "none"})) is None


def test_no_results_and_broken_results_are_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"no result\.json under"):
        load_results(tmp_path)
    write_run(tmp_path, "toy", 0)
    (tmp_path / "toy" / "seed0" / "result.json").write_text("{")
    with pytest.raises(UserError, match="is not JSON"):
        load_results(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[]", "is no result of a run (it has no experiment)"),
        (b"null", "is no result of a run (it has no experiment)"),
        (b"{}", "is no result of a run (it has no experiment)"),
        (b"\xff\xfe", "is not JSON"),
        (b'{"experiment": "a", "dataset": "d"}', "it has no epochs"),
        (
            b'{"experiment": "a", "dataset": "d", "epochs": 1, "seed": 0, "metrics": {"m": "x"}}',
            "has the metric 'x', no number",
        ),
        (
            b'{"experiment": "a", "dataset": "d", "epochs": 1, "seed": 0, "metrics": [1]}',
            "has the metric [1], no number",
        ),
    ],
)
def test_a_file_that_is_no_result_is_named(tmp_path, content, words):
    path = tmp_path / "toy" / "seed0" / "result.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(UserError, match=re.escape(words)) as error:
        load_results(tmp_path)
    assert str(path) in str(error.value)


def test_the_page_says_what_the_committed_results_hold():
    page = (REPOSITORY / "docs" / "results.md").read_text()
    assert with_table(page, table(load_results(REPOSITORY / "results"))) == page
