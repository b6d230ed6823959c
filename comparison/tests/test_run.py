"""The programs: a run, a search, all rules; killed, given again, given wrongly."""

import dataclasses
import signal
import tomllib
from types import SimpleNamespace

import numpy as np
import pytest

from comparison import registry, rows, run, search, session, tuned
from comparison.data import Data, Part
from comparison.interface import Choice
from comparison.measures import N_DISTORTED
from comparison.session import Size, Speed, fitting
from shared.errors import UserError

QUICK = ("--rule", "relu", "--dataset", "digits", "--quick")


@pytest.fixture(scope="module")
def done(scripts, tmp_path_factory):
    """A quick run of the cheapest rule."""
    folder = tmp_path_factory.mktemp("run")
    ended = scripts.call(run.main, *QUICK, "--out", folder)
    assert ended.returncode == 0, ended.stderr
    return folder


def test_a_run_measures_all_there_is(scripts, done):
    result = scripts.result(done)
    assert (result["experiment"], result["paper"]) == ("cmp_digits_relu_quick", "comparison")
    metrics = result["metrics"]
    for name, value in metrics.items():
        assert value is None or "accuracy" not in name or 0 <= value <= 1
    named = {"test_accuracy_last", "silent_neurons", "energy_uj", "test_accuracy_4_bits"}
    named |= {"test_accuracy_gaussian_0.3", "test_accuracy_weight_noise_0.2"}
    assert named <= metrics.keys()
    assert not any("after" in name or "spikes_per" in name for name in metrics)  # it has no time
    assert [row["epoch"] for row in scripts.rows(done)] == [1, 2]
    assert result["data"]["name"] == "digits"


def test_a_killed_run_goes_on(scripts, done, tmp_path):
    scripts.assert_goes_on(
        done, tmp_path, signal.SIGKILL, "run.py", *QUICK, behind="checkpoint.pt", main=run.main
    )


@pytest.mark.parametrize(("rule", "endings"), [("relu", [""]), ("lp", ["", "_in_batch"])])
def test_shuffled_tasks_are_tested_after_each(scripts, tmp_path, rule, endings):
    words = ("--rule", rule, *QUICK[2:], "--permuted", "--epochs", "5", "--out", tmp_path)
    ended = scripts.call(run.main, *words)
    assert ended.returncode == 0, ended.stderr
    metrics = scripts.result(tmp_path)["metrics"]
    for ending in endings:
        tasks = [metrics[f"test_accuracy_task_{number}{ending}"] for number in range(1, 6)]
        assert metrics[f"test_accuracy_of_tasks{ending}"] == pytest.approx(sum(tasks) / 5)
        assert -1 <= metrics[f"forgetting{ending}"] <= 1
    assert len(metrics) == 8 * len(endings)


def test_the_step_size_falls_over_each_task_as_over_a_full_training(monkeypatch):
    """Over its four epochs in twenty stairs, and from its first value again with the next task."""
    rates, choice = [], Choice(lr=1.0, decay=0.01)
    learner = SimpleNamespace(
        begin=lambda epoch, of: rates.append(choice.rate(epoch, of)),
        step=lambda *_: 0.0,
        state=dict,
        adapting=lambda: None,
    )
    monkeypatch.setattr(run, "accuracy", lambda *_: 0.5)
    part = Part(np.zeros((1000, 4), np.uint8), np.zeros(1000, np.int64))
    data = Data("made", part, part, part, 1, {})
    logged = []
    folder = SimpleNamespace(
        log=lambda epoch, row: logged.append(row),
        save=lambda *_: None,
        metrics=lambda: logged,
    )
    run.learn_tasks(run.Settings(permuted=True), None, learner, data, folder, 0)
    assert rates == 5 * [choice.rate(stair, 20) for stair in range(20)]
    rates.clear()
    del logged[19:]
    run.learn_tasks(run.Settings(permuted=True), None, learner, data, folder, 19)
    assert rates == [choice.rate(stair, 20) for stair in range(15, 20)]


def test_few_labels_are_looked_at_in_the_end(scripts, tmp_path):
    words = ("--rule", "lp", *QUICK[2:], "--labels", "10", "--batch-size", "25", "--epochs", "50")
    ended = scripts.call(run.main, *words, "--out", tmp_path)
    assert ended.returncode == 0, ended.stderr
    rows = scripts.rows(tmp_path)
    assert [row["epoch"] for row in rows] == list(range(2, 51, 2))
    assert [row["epoch"] for row in rows if "validation_accuracy" in row] == [50]
    late = {row["epoch"]: row["test_accuracy"] for row in rows if "test_accuracy" in row}
    assert list(late) == [42, 44, 46, 48, 50]
    metrics = scripts.result(tmp_path)["metrics"]
    assert metrics["test_accuracy_last"] == late[50]
    assert metrics["test_accuracy_mean_of_last_looks"] == pytest.approx(np.mean([*late.values()]))
    assert 0 <= metrics["train_accuracy_last"] <= 1
    assert {
        "test_accuracy_last",
        "test_accuracy_last_in_batch",
        "energy_uj_in_batch",
    } <= metrics.keys()
    assert not any("gaussian" in name or "after" in name for name in metrics)


def test_a_quick_run_has_a_step_with_few_labels_too(scripts, tmp_path):
    ended = scripts.call(run.main, *QUICK, "--labels", "10", "--out", tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert scripts.result(tmp_path)["options"]["batch_size"] == 100


def test_few_labels_that_are_interrupted_between_looks_go_on(scripts, tmp_path, monkeypatch):
    """To the same log, whose losses are means over the epochs since the line before."""
    words = (*QUICK, "--labels", "10", "--batch-size", "50", "--epochs", "50")
    assert scripts.call(run.main, *words, "--out", tmp_path / "whole").returncode == 0
    real, n_calls = run.train_epoch, []

    def interrupted(*args, **more):
        n_calls.append(args)
        if len(n_calls) == 45:
            raise KeyboardInterrupt
        return real(*args, **more)

    monkeypatch.setattr(run, "train_epoch", interrupted)
    assert scripts.call(run.main, *words, "--out", tmp_path / "parts").returncode == 130
    assert scripts.call(run.main, *words, "--out", tmp_path / "parts").returncode == 0
    assert len(n_calls) == 45 + 6  # from behind epoch 44
    assert scripts.rows(tmp_path / "parts") == scripts.rows(tmp_path / "whole")
    losses = [row["train_loss"] for row in scripts.rows(tmp_path / "whole")]
    monkeypatch.setattr(run, "LOOKS", 50)
    assert scripts.call(run.main, *words, "--out", tmp_path / "all").returncode == 0
    each = [row["train_loss"] for row in scripts.rows(tmp_path / "all")]
    assert losses == pytest.approx(np.reshape(each, (25, 2)).mean(1))


@pytest.mark.parametrize(("epochs", "n_stops"), [(20, 20), (50, 25), (1000, 20), (3, 3), (45, 23)])
def test_stops_are_evenly_spaced_and_end_with_the_last_epoch(epochs, n_stops):
    stops = run.stops_of(epochs)
    assert (len(stops), stops[-1]) == (n_stops, epochs)
    assert len(set(np.diff([0, *stops[: epochs // stops[0]]]))) == 1


def test_rows_that_claims_compare_have_many_seeds():
    """And rows of rules with short steps; the others have three."""
    assert run.n_seeds("hp", "mnist") == run.n_seeds("hp", "fashion_mnist", 1) == 3
    assert run.n_seeds("relu", "fashion_mnist", 10) == 5
    claims = tomllib.loads(rows.CLAIMS.read_text())["claim"]
    names = {claim[side]["row"] for claim in claims for side in ("left", "right")
             if isinstance(claim[side], dict)}  # fmt: skip
    found = {entry["name"]: entry.get("seeds", [0, 1, 2])
             for rule in registry.found()[0] for entry in rows.rows_of(rule, "mnist")}  # fmt: skip
    compared = {name for name in names if "permuted" in name or "1-percent" in name}
    assert len(compared) == 12
    assert {len(found[name]) for name in compared} == {5}


def test_few_labels_get_as_many_steps_however_few_they_are():
    steps = {percent: epochs * percent for percent, epochs in run.EPOCHS.items()}
    assert steps[10] == steps[1] == steps[100] / 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--rule", "brb"), "--rule brb is not there; did you mean brp?"),
        (("--rule", "relu", "--permuted", "--epochs", "4"), "--permuted has 5 tasks"),
        (("--rule", "relu", "--knob", "2"), "--knob 2 must lie between 0 and 0.7"),
        (("--rule", "bp", "--dropout", "0.5"), "--dropout: bp drops nothing; the rules that can"),
        (("--rule", "relu", "--labels", "7"), "--labels"),
        (("--rule", "relu", "--decay", "0"), "--decay 0.0 must be above 0 and 1"),
        (("--rule", "relu", "--images", "0"), "--images 0 must be above 0"),
        ((*QUICK, "--batch-size", "900"), "--batch-size 900: there are 500 training images"),
        (
            ("--rule", "shifting", "--dataset", "digits", "--quick", "--lr", "1e30"),
            "the layer's timings are no longer finite",
        ),
        ((*QUICK, "--edition", "tuned"), "no search of relu on digits is stored"),
    ],
)
def test_wrong_input_is_refused_in_a_sentence(scripts, tmp_path, options, words):
    ended = scripts.call(run.main, *options, "--out", tmp_path)
    assert ended.returncode == 2
    assert words in " ".join(ended.stderr.split())
    assert not (tmp_path / "result.json").exists()


def test_names_say_what_differs():
    def name(*words):
        return run.EXPERIMENT.name(run.EXPERIMENT.parse(words), "fashion_mnist")

    assert name("--rule", "brp") == "cmp_fashion_brp"
    assert name("--rule", "brp", "--labels", "1") == "cmp_fashion_brp_1-percent"
    assert name("--rule", "brp", "--permuted") == "cmp_fashion_brp_permuted"
    assert name("--rule", "brp", "--images", "600", "--epochs", "3") == (
        "cmp_fashion_brp_600-images_3-epochs"
    )


# ------------------------------------------------------------------------------------- search


def test_a_search_keeps_its_trials_and_names_the_best(scripts, tmp_path, monkeypatch):
    out = tmp_path / "comparison" / "cmp_digits_relu_search" / "seed0"
    searched = ("--rule", "relu", "--dataset", "digits", "--quick")
    ended = scripts.call(lambda: search.EXPERIMENT.main(search.search), *searched, "--out", out)
    assert ended.returncode == 0, ended.stderr
    rows, metrics = scripts.rows(out), scripts.result(out)["metrics"]
    paper = registry.rule_of("relu").choice
    assert [row["is_long"] for row in rows] == [0, 0, 0, 1, 1]
    assert (rows[0]["lr"], rows[0]["scale"]) == (paper.lr, 1.0)
    assert [row["trial"] for row in rows[:4]] == [1, 2, 3, 1]
    assert rows[4]["trial"] == max(rows[1:3], key=lambda row: row["validation_accuracy"])["trial"]
    best = max(rows[3:], key=lambda row: row["validation_accuracy"])
    assert (metrics["best_lr"], metrics["best_trial"]) == (best["lr"], best["trial"])
    assert metrics["validation_accuracy_paper"] == rows[3]["validation_accuracy"]
    monkeypatch.setattr(tuned, "FOLDERS", (tmp_path,))
    found = tuned.tuned_choice("relu", "digits")
    assert found == Choice(best["lr"], best["decay"], best["scale"], best["knob"])
    asked = run.EXPERIMENT.parse([*searched, "--edition", "tuned"])
    assert asked.choice == found
    assert run.EXPERIMENT.name(asked, "digits") == "cmp_digits_relu_tuned_quick"
    other = registry.rule_of("relu").knob._replace(high=0.9)
    monkeypatch.setattr(tuned.registry, "rule_of", lambda name: SimpleNamespace(knob=other))
    with pytest.raises(UserError, match=r"knobs from 0.02 to 0.7, but relu now has 0.02 to 0.9"):
        tuned.tuned_choice("relu", "digits")


@pytest.mark.parametrize("stopped_at", [2, 4])
def test_a_search_goes_on_behind_its_last_trial(scripts, tmp_path, monkeypatch, stopped_at):
    words = ("--rule", "relu", "--dataset", "digits", "--quick", "--out", tmp_path)
    tried = []

    def score(settings, choice, data, device, *, is_long):
        if len(tried) == stopped_at:
            tried.append("stopped")
            raise KeyboardInterrupt
        tried.append(choice)
        return choice.lr

    monkeypatch.setattr(search, "score", score)
    main = lambda: search.EXPERIMENT.main(search.search)  # noqa: E731
    assert scripts.call(main, *words).returncode == 130
    assert scripts.call(main, *words).returncode == 0
    assert len(tried) == 6  # three short trials, two long ones, and the one that was stopped
    lrs = [row["lr"] for row in scripts.rows(tmp_path)]
    assert lrs == [choice.lr for choice in tried if choice != "stopped"]
    # The paper's and, of the others, the one of the larger step size, which scored best.
    assert lrs[3:] == [lrs[0], max(lrs[1:3])]


def test_a_search_without_a_step_is_refused(scripts, tmp_path):
    words = ("--rule", "relu", "--dataset", "digits", "--images", "50", "--out", tmp_path)
    ended = scripts.call(lambda: search.EXPERIMENT.main(search.search), *words)
    assert ended.returncode == 2
    assert "--images 50: a step takes 100 images" in ended.stderr


def test_more_finalists_than_trials_are_refused(scripts, tmp_path):
    words = ("--rule", "relu", "--trials", "3", "--out", tmp_path)
    ended = scripts.call(lambda: search.EXPERIMENT.main(search.search), *words)
    assert ended.returncode == 2
    assert "--finalists 4 are more than --trials 3" in ended.stderr


@pytest.mark.parametrize(("images", "epochs"), [(1000, 4), (1000, 3), (500, 1), (700, 5)])
def test_the_step_size_falls_over_a_trial_as_over_a_full_training(images, epochs):
    """From its first value nearly to its last, in equal stairs as far as there are steps."""
    rates, current = [], []
    choice = Choice(lr=1.0, decay=0.01)
    learner = SimpleNamespace(
        begin=lambda epoch, of: current.append(choice.rate(epoch, of)),
        step=lambda *_: rates.append(current[-1]) or 0.0,
    )
    part = Part(np.zeros((images, 1), np.uint8), np.zeros(images, np.int64))
    search.learn(learner, part, 100, 0, epochs)
    n = epochs * images // 100
    assert rates == [choice.rate(step * 20 // n, 20) for step in range(n)]
    if n >= 20:
        full = np.mean([choice.rate(epoch, 20) for epoch in range(20)])
        assert np.mean(rates) == pytest.approx(full, rel=0.05)


def test_choices_are_within_their_ranges():
    rule = registry.rule_of("brp")
    choices = search.drawn(rule, search.Settings())
    assert choices[0] == rule.choice
    assert len(choices) == 20
    assert choices == search.drawn(rule, search.Settings())
    for choice in choices[1:]:
        assert rule.choice.lr / 20 <= choice.lr <= rule.choice.lr * 20
        assert 0.01 <= choice.decay <= 1
        assert 0.2 <= choice.scale <= 5
        assert rule.knob.low <= choice.knob <= rule.knob.high


def test_a_trial_that_runs_away_counts_as_nothing(monkeypatch):
    def run_away(*_):
        raise UserError("the loss became nan")

    learner = SimpleNamespace(begin=lambda *_: None, step=run_away)
    monkeypatch.setattr(run, "build", lambda *_: learner)
    data = SimpleNamespace(train=Part(np.zeros((200, 1), np.uint8), np.zeros(200, np.int64)))
    settings = search.Settings(rule="relu")
    assert search.score(settings, Choice(1.0), data, None, is_long=False) == 0.0


# ------------------------------------------------------------------------------------ all rules


def test_all_rules_end_in_a_page(scripts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("--quick", "--dataset", "digits", "--rules", "relu", "lp", "--out", tmp_path / "page")
    there = registry.found()[0]
    monkeypatch.setattr(registry, "found", lambda: (there, {"absent": "x is missing"}))
    ended = scripts.call(session.main, *words)
    assert ended.returncode == 0, ended.stderr
    assert "left out: the rules of comparison/rules/absent.py: x is missing" in ended.stderr
    page = (tmp_path / "page" / "comparison.md").read_text()
    assert "**A reduced edition**" in page
    assert "| ReLU | 1 |" in page
    assert "| LP | 1 |" in page
    assert (tmp_path / "page" / "cmp_digits_paper_robustness.png").stat().st_size > 5000
    result = scripts.result(tmp_path / "runs/comparison/cmp_digits_lp_quick/seed0")
    assert result["command"].startswith("python comparison/run.py --rule lp --dataset digits")


def test_a_rule_without_its_data_is_left_out_by_name(scripts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ("--quick", "--dataset", "digits", "--rules", "relu", "lp", "--out", tmp_path / "page")
    real = run.load_data

    def without(settings, device):
        if settings.rule == "lp":
            raise UserError("its data are not there")
        return real(settings, device)

    monkeypatch.setattr(run, "load_data", without)
    monkeypatch.setattr(run, "EXPERIMENT", dataclasses.replace(run.EXPERIMENT, load=without))
    ended = scripts.call(session.main, *words)
    assert ended.returncode == 0, ended.stderr
    assert "left out: --rule lp" in ended.stderr
    assert "| ReLU | 1 |" in (tmp_path / "page" / "comparison.md").read_text()


def test_rules_that_cannot_be_built_are_left_out(monkeypatch, capsys):
    real, options = run.build, session.Options(dataset="digits", minutes=1e6)

    def without(settings, *others):
        if settings.rule == "lp":
            raise ModuleNotFoundError("No module named 'x'")
        return real(settings, *others)

    monkeypatch.setattr(run, "build", without)
    assert session.buildable(options, ["lp", "relu"]) == ["relu"]
    assert "left out: lp: No module named 'x'" in capsys.readouterr().err
    assert session.chosen_size(options, ["relu"]) == Size(3, 20, None)
    with pytest.raises(UserError, match="no rule could be run"):
        session.buildable(options, ["lp"])


def test_rules_that_are_asked_for_and_left_out_are_named(monkeypatch, capsys):
    there = {"relu": registry.rule_of("relu")}
    with pytest.raises(UserError, match="did you mean relu"):
        session.names_of(["rely"])
    monkeypatch.setattr(registry, "found", lambda: (there, {"smooth": "jax is not installed"}))
    assert session.names_of(["smooth", "relu"]) == ["relu"]
    assert session.names_of([]) == ["relu"]
    assert "--rule smooth is not there" in capsys.readouterr().err


def test_a_rule_without_its_framework_is_named(monkeypatch):
    real = registry.importlib.import_module

    def absent(name):
        if name.endswith(".surrogate"):
            raise ModuleNotFoundError("No module named 'snntorch'", name="snntorch")
        return real(name)

    monkeypatch.setattr(registry.importlib, "import_module", absent)
    registry.families.cache_clear()
    try:
        assert registry.found()[1] == {"surrogate": "snntorch is not installed"}
        with pytest.raises(UserError, match=r"surrogate\.py \(snntorch is not installed\)"):
            registry.rule_of("snntorch")
        assert "brp" in registry.found()[0]
    finally:
        registry.families.cache_clear()


def test_a_size_that_fits():
    def of(n):
        return Part(np.zeros((n, 4), np.uint8), np.zeros(n, np.int64))

    data = Data("made", of(50_000), of(10_000), of(10_000), 10, {})
    speed = Speed(0.003, 0.002)
    assert fitting(speed, data, 1e9) == Size(3, 20, None)
    assert fitting(speed, data, 1.0) == Size(1, 2, 500)  # the least there is
    for minutes in (10, 30, 300):
        size = fitting(speed, data, 60 * minutes)
        assert speed.seconds(size, data) <= 54 * minutes
        assert size.words[:2] == ["--epochs", str(size.epochs)]
    few = Data("made", of(600), of(100), of(100), 10, {})
    assert fitting(speed, few, 1e9).images is None
    by_hand = 2 * (5 * 600 * 0.003 + (5 * 100 + 400 + N_DISTORTED * 100) * 0.002)
    assert speed.seconds(Size(2, 5, None), few) == pytest.approx(by_hand)


def test_a_session_goes_on_at_the_size_it_began_with(tmp_path, monkeypatch):
    sizes = iter([Size(3, 20, None), Size(1, 2, 500), Size(1, 5, 500)])
    monkeypatch.setattr(session, "chosen_size", lambda *_: next(sizes))
    options = session.Options(minutes=5)
    first = session.kept_size(options, ["relu"], tmp_path)
    assert session.kept_size(options, ["relu"], tmp_path) == first == Size(3, 20, None)
    assert session.kept_size(options, ["relu", "lp"], tmp_path) == Size(1, 2, 500)
    anew = dataclasses.replace(options, resume=False)
    assert session.kept_size(anew, ["relu", "lp"], tmp_path) == Size(1, 5, 500)
