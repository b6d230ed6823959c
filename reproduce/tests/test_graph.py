"""Names, seeds, budgets, stored runs and the engine's options; no engine is started but for -n."""

import importlib.util
import json
import math
import shutil
from pathlib import Path

import pandas as pd
import pytest

from reproduce import __main__ as all_claims
from reproduce import again, budget, engine, job, make, states
from reproduce.declared import Reproduction
from reproduce.graph import MOST_SEEDS, Graph, Job, parse_seeds
from shared.errors import UserError

ROW = {"script": "x.py", "dataset": "d", "epochs": 2, "seeds": [0, 1]}


def declared(**minutes: float) -> Reproduction:
    """Rows a, b, ... and a claim about each, and one about the first two."""
    rows = [{**ROW, "name": name, "minutes": value} for name, value in minutes.items()]

    def claim(name: str, *sides: str) -> dict[str, object]:
        left, right = ({"row": side, "metric": "m"} for side in (sides * 2)[:2])
        number = right if len(sides) > 1 else 0.0
        return {"name": name, "says": "so", "where": "here", "kind": "above", "seeds": 2,
                "left": left, "right": number}  # fmt: skip

    claims = [*(claim(f"is_{name}", name) for name in minutes), claim("both", *list(minutes)[:2])]
    figure = {"name": "f", "title": "t", "dataset": "d", "curves": {"one": "a", "two": "b"}}
    content = {"paper": "p", "row": rows, "claim": claims, "figure": [figure]}
    return Reproduction.model_validate(content)


def results(*runs: tuple[str, int, float]) -> pd.DataFrame:
    common = {"dataset": "d", "epochs": 2}
    rows = [common | {"experiment": n, "seed": s, "metrics": {"m": m}} for n, s, m in runs]
    return pd.DataFrame(rows) if rows else states.NO_RESULTS


def names(jobs) -> list[str]:
    return [f"{job.row.name}{job.seed}" for job in jobs]


def test_names_stand_for_jobs_each_once():
    graph = Graph((declared(a=1, b=2, c=3),))
    assert names(graph.select(["b", "a", "b"]).jobs) == ["b0", "b1", "a0", "a1"]
    assert names(graph.select(["p"]).jobs) == ["a0", "a1", "b0", "b1", "c0", "c1"]
    assert names(graph.select(["claim:both"]).jobs) == ["a0", "a1", "b0", "b1"]
    assert names(graph.select(["figure:f", "c"], [5]).jobs) == ["a5", "b5", "c5"]
    wanted = graph.select(["claim:is_c", "figure:f"])
    assert [claim.name for claim in wanted.claims] == ["is_c"]
    assert [figure.name for figure in wanted.figures] == ["f"]


def test_a_run_that_logs_parts_is_measured_by_these(tmp_path, monkeypatch):
    monkeypatch.setattr("reproduce.graph.REPOSITORY", tmp_path)
    of_epochs = declared(a=10).row[0]
    of_parts = of_epochs.model_copy(update={"logged": 8})
    jobs = [Job("p", row, 0) for row in (of_epochs, of_parts)]
    folder = tmp_path / jobs[0].folder
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text('{"epoch": 1}\n{"epoch": 2}\n')
    assert [job.minutes_left for job in jobs] == [0, 7.5]
    assert "from epoch 2 of 2" in make.plan(jobs[:1])
    assert "from part 2 of 8" in make.plan(jobs[1:])
    assert "seed 0 at part 2 of 8 (25 %)" in states.state("p", of_parts, states.NO_RESULTS)
    (folder / "result.json").touch()
    assert [job.minutes_left for job in jobs] == [0, 0]


def test_rows_that_others_read_come_first():
    rows = [
        {**ROW, "name": "last", "minutes": 1, "after": ["middle"]},
        {**ROW, "name": "middle", "minutes": 1, "seeds": [3], "after": ["first"]},
        {**ROW, "name": "first", "minutes": 1, "seeds": [0]},
    ]
    graph = Graph((Reproduction.model_validate({"paper": "p", "row": rows}),))

    def made(name, seeds=None):
        return names(graph.with_those_before(graph.select([name], seeds).jobs))

    assert made("last") == ["first0", "middle3", "last0", "last1"]
    assert made("last", [7]) == ["first0", "middle3", "last7"]
    assert made("first") == ["first0"]
    # Computed again is what was asked for alone.
    assert names(graph.select(["last"]).jobs) == ["last0", "last1"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("claim:bothe", "did you mean claim:both?"),
        ("figure:both", "there is no row, paper, claim: or figure: figure:both"),
        ("zzzzzzzz", "--list shows all names"),
        ("claim:", "there is no row"),
        ("", "there is no row"),
    ],
)
def test_a_name_that_stands_for_nothing(name, words):
    with pytest.raises(UserError, match=words.replace("?", r"\?")):
        Graph((declared(a=1, b=2),)).select([name])


def test_seeds():
    assert parse_seeds("3") == (3,)
    assert parse_seeds("0-3") == (0, 1, 2, 3)
    assert parse_seeds("0, 5-7,6") == (0, 5, 6, 7)
    assert len(parse_seeds(f"1-{MOST_SEEDS}")) == MOST_SEEDS


@pytest.mark.parametrize(
    "text", ["", "x", "-1", "3-1", "1,,2", "1.5", "0-99999999", "1_0", "0-", f"0-{MOST_SEEDS}"]
)
def test_seeds_that_are_none(text):
    with pytest.raises(UserError, match="must look like"):
        parse_seeds(text)


# ------------------------------------------------------------------------------------- budget


def chosen(runs: pd.DataFrame, hours: float, cores: int = 1, **minutes: float) -> list[str]:
    needs = budget.needs(declared(**minutes), runs)
    return [need.claim.name for need in budget.choose(needs, hours, cores)]


def test_a_budget_takes_most_claims():
    # Two seeds each: a and b decide three claims in 60 min, c and d two in 44.
    minutes = {"a": 15.0, "b": 15.0, "c": 11.0, "d": 11.0}
    assert chosen(results(), 1.0, **minutes) == ["is_a", "is_b", "both"]
    assert chosen(results(), 0.75, **minutes) == ["is_c", "is_d"]
    assert chosen(results(), 0.375, 2, **minutes) == ["is_c", "is_d"]
    assert chosen(results(), 0.3, **minutes) == []
    assert len(chosen(results(), 1.75, **minutes)) == 5


def with_gpu(reproduction: Reproduction, **changes: object) -> Reproduction:
    """The reproduction where there is a GPU, its row a changed before."""
    rows = (row.model_copy(update=changes if row.name == "a" else {}) for row in reproduction.row)
    return reproduction.model_copy(update={"row": tuple(rows)}).on_gpu()


def test_a_gpu_takes_the_minutes_that_a_row_states_for_it():
    a, b = with_gpu(declared(a=60, b=60), gpu_minutes=3.0, is_gpu_measured=False).row
    assert (a.minutes, a.is_measured) == (3.0, False)
    assert (b.minutes, b.is_measured) == (60.0, True)


def test_the_list_and_the_plan_count_minutes_on_a_gpu():
    reproduction = with_gpu(declared(a=60, b=60), gpu_minutes=3.0, is_gpu_measured=False)
    lines = states.listing((reproduction,), results(), has_gpu=True).splitlines()
    assert lines[1].endswith("missing seeds 0, 1: 6 min (estimate)")
    assert lines[2].endswith("missing seeds 0, 1: 2.0 h")
    total = "missing: 4 runs, 2.0 h by measured rows and 6 min by estimates, on one core, or on"
    assert lines[-1].startswith(total)
    planned = make.plan(list(Graph((reproduction,)).jobs()), has_gpu=True).splitlines()
    assert "3 min (estimate), 1 core" in planned[0]
    assert planned[-1].startswith("4 runs, 2.1 h on one core, or on a GPU")


def test_a_budget_is_bounded_by_the_slots_of_gpus():
    reproduction = with_gpu(declared(a=60, b=60), gpu_minutes=30.0, gpu_slots=2)
    waiting = budget.needs(reproduction, results())

    def claims(hours: float, slots: int | None) -> list[str]:
        return [need.claim.name for need in budget.choose(waiting, hours, 8, None, slots)]

    # On their cores alone all fit into an hour; of slots, a and b take two hours each.
    assert claims(1.0, None) == ["is_a", "is_b", "both"]
    assert claims(1.0, 4) == ["is_a", "is_b", "both"]
    assert claims(1.0, 3) == ["is_a"]
    assert claims(4.0, 1) == ["is_b"]


def test_no_run_is_longer_than_the_budget():
    assert chosen(results(), 1.0, 10, a=61.0, b=5.0) == ["is_b"]


def test_a_claim_waits_for_what_is_missing_of_its_seeds():
    runs = results(("a", 0, 0.5), ("b", 0, 0.5), ("b", 1, 0.6))
    waiting = {need.claim.name: names(need.jobs) for need in budget.needs(declared(a=1, b=1), runs)}
    # is_b has all of its seeds, whatever its verdict.
    assert waiting == {"is_a": ["a1"], "both": ["a1"]}


# -------------------------------------------------------------------------------------- again

STORED = {
    "experiment": "a",
    "seed": 0,
    "device": "cpu",
    "processor": "P",
    "metrics": {"m": 0.5, "none": None, "nan": math.nan, "s": 3.0},
    "options": {"lr": 0.1, "old": 1},
}


def moved(row: dict[str, object], metrics: dict[str, object], **changes: object) -> list[str]:
    new = {**STORED, "metrics": {**STORED["metrics"], **metrics}, **changes}
    found = again.compare(STORED, new, declared(a=1, b=1).rows["a"].model_copy(update=row))
    assert again.table(STORED, new, found)
    return [difference.name for difference in found if difference.has_moved]


def test_on_the_same_machine_nothing_may_differ():
    assert moved({}, {}) == []
    assert moved({}, {"m": 0.5 + 1e-12}) == ["m"]
    assert moved({}, {"m": math.nan}) == ["m"]
    assert moved({}, {"none": 0.1, "nan": 0.1}) == ["none", "nan"]
    assert moved({}, {"new": 1.0}) == ["new"]


def test_what_may_differ_is_stated():
    assert moved({"tolerance": 0.01}, {"m": 0.509}) == []
    assert moved({"tolerance": 0.01}, {"m": 0.489}) == ["m"]
    assert moved({"unsteady": ("s",)}, {"s": 4.0}) == []
    assert moved({}, {"s": 4.0}) == ["s"]


def test_another_machine_may_differ_unless_a_tolerance_is_stated():
    assert moved({}, {"m": 0.6}, processor="Q") == []
    assert moved({"tolerance": 0.0}, {"m": 0.6}, processor="Q") == ["m"]


def test_an_option_that_means_something_else_is_found():
    assert moved({}, {}, options={"lr": 0.2, "new": 3}) == ["--lr"]


@pytest.mark.parametrize(
    ("command", "threads", "words"),
    [
        ("python p/x.py --lr 0.1", None, "p/x.py --lr 0.1 --seed 4"),
        ("python p/x.py --seed=4 --threads 1", 2, "p/x.py --seed=4 --threads 1"),
        ("python p/x.py", 2, "p/x.py --seed 4 --threads 2"),
        ("python p/sweep.py --values 1 2", None, "p/x.py --mine --seed 4"),
    ],
)
def test_the_command_of_a_stored_run(command, threads, words):
    row = declared(a=1, b=1).rows["a"].model_copy(update={"options": ("--mine",)})
    stored = {"command": command, "seed": 4} | ({"threads": threads} if threads else {})
    assert job.words_of(stored, Job("p", row, 4)) == words.split()


# ------------------------------------------------------------------------------- command line


def test_bad_input_is_one_sentence(scripts_of):
    scripts = scripts_of("reproduce")
    name = make.read_all()[0].row[0].name
    for words, sentence in (
        ([name[:-1]], f"did you mean {name}?"),
        (["claim:nothing_at_all"], "there is no row, paper, claim: or figure: claim:nothing"),
        ([name, "--seeds", "a-b"], "--seeds a-b must look like 3, 0-9 or 0,2,5-7"),
        ([], "say what: a row, a paper, claim:NAME, figure:NAME or --hours"),
        (["--hours", "-1"], "--hours -1.0 must be above 0"),
        (["--hours", "1e-9"], "no claim can be decided in 1e-09 hours"),
        (["--hours", "x"], "invalid float value"),
        ([name, "--cores", "0"], "--cores 0 must be above 0"),
        ([name, "--seeds", "999", "-n", "--profile", "locl"], "did you mean local?"),
        ([name, "--seeds", "999", "-n", "--profile", ""], "there is no profile ''"),
        ([name, "--seeds", "999", "-n", "--profile", "docs"], "no folder of that name with a"),
        ([name, "--seeds", "999", "-n", "--resources", "gpu"], "must look like gpu_slots=4"),
        ([name, "--seeds", "999", "-n", "--resources", "gpu_slots=0"], "must look like"),
        (["--list", name], "--list and names do not go together"),
        (["--again", name, "--hours", "1"], "--again and --hours do not go together"),
        (["--hours", "1", "--seeds", "7"], "--seeds needs names"),
        (["--nightly", "--seeds", "7"], "--seeds needs names"),
        (["--again", name, "--seeds", "999"], f"nothing is stored of {name}"),
    ):
        scripts.assert_refused(scripts.call(make.main, *words), sentence)


def test_the_list_is_told_of_a_gpu(scripts_of):
    for words, end in (([], "on one core"), (["--resources", "gpu_slots=1"], "there is known")):
        done = scripts_of("reproduce").call(make.main, "--list", *words)
        assert done.stdout.strip().endswith(end), done.stderr


def test_the_list_needs_no_results(scripts_of, tmp_path):
    done = scripts_of("reproduce").call(all_claims.main, "--list", "--results", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "not run" in done.stdout


def test_without_the_engine_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install '\.\[reproduce\]'"):
        engine.make([Path("results/a")], engine.Machine())


@pytest.fixture
def own_profile(tmp_path):
    """Makes a folder that names an executor, and the machine that it stands for."""

    def make_one(executor: str) -> engine.Machine:
        (tmp_path / "profile.yaml").write_text(f"jobs: 1\nexecutor: {executor}\n")
        return engine.Machine(str(tmp_path))

    return make_one


def test_a_cluster_needs_a_plugin_of_the_engine(monkeypatch, own_profile):
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if "executor" in name else name
    )
    for executor, wanted in (
        ("slurm", r"'\.\[cluster\]'"),
        ("lsf", "snakemake-executor-plugin-lsf"),
    ):
        with pytest.raises(UserError, match=f"needs snakemake-exec.*: pip install {wanted}$"):
            engine.make([Path("results/a")], own_profile(executor), is_dry=True)


def test_a_job_is_submitted_only_where_there_is_a_cluster(monkeypatch, own_profile):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(engine, "call_and_wait", lambda words: 0)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    machine = own_profile("slurm")
    with pytest.raises(UserError, match="there is no sbatch here"):
        engine.make([Path("results/a")], machine)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert engine.make([Path("results/a")], machine) == 0


@pytest.mark.parametrize("profile", ["slurm", "kubernetes"])
def test_a_cluster_is_given_what_a_row_needs(scripts_of, profile):
    scripts = scripts_of("reproduce")
    name = make.read_all()[0].row[0].name
    done = scripts.call(make.main, name, "--seeds", "998,999", "-n", "--profile", profile)
    assert done.returncode == 0, done.stderr
    assert "2 runs" in done.stdout


def test_a_result_that_is_none_is_named(tmp_path):
    path = tmp_path / "result.json"
    path.write_text(json.dumps({})[:1])
    with pytest.raises(UserError, match=f"{path} cannot be read"):
        job.read_result(path)
