import json
import re
from pathlib import Path

import pandas as pd
import pytest

from reproduce.__main__ import draw_figures, listing, page, pages
from reproduce.declared import read, read_all
from reproduce.prose import strays
from reproduce.verdicts import runs_of
from shared.errors import UserError
from shared.report import load_results
from shared.run import REPOSITORY

GOOD = """
[[row]]
name = "a"
script = "train.py"
dataset = "mnist"
epochs = 3
minutes = 2.5

[[claim]]
name = "c"
says = "A learns."
where = "abstract"
link = "https://doi.org/10.1/a"
kind = "above"
left = { row = "a", metric = "test_accuracy_last" }
right = 0.1
published = "above chance"

[[figure]]
name = "f"
title = "A and B"
dataset = "mnist"
[figure.curves]
BRP = "a"
"BRP, longer" = "b"
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "paper" / "reproduction.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return path


def test_a_file_is_read(tmp_path):
    found = read(written(tmp_path, GOOD))
    assert found.paper == "paper"
    assert found.rows["a"].seeds == (0, 1, 2)
    assert found.claim[0].right == 0.1


def test_a_claim_written_after_a_look_says_so(tmp_path):
    seen = GOOD.replace('kind = "above"', 'kind = "above"\nseen = true')
    declared = read(written(tmp_path, seen))
    text = page((declared,), made([0, 1, 2]))
    assert "| [abstract (after a look)](https://doi.org/10.1/a) |" in text
    assert read(written(tmp_path / "other", GOOD)).claim[0].source == "abstract"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("epochs = 3", "epochs = 0", "row.0.epochs"),
        ('name = "a"', 'name = "../a"', "row.0.name"),
        ('name = "a"', 'name = "a; b"', "row.0.name"),
        ('name = "a"', 'name = ""', "row.0.name"),
        ('name = "c"', 'name = "c d"', "claim.0.name"),
        ('name = "f"', 'name = "/tmp/f"', "figure.0.name"),
        ("epochs = 3", "epochs = 3\nseeds = [-1]", "row.0.seeds.0"),
        ("epochs = 3", "epochs = 3\nseeds = []", "row.0.seeds"),
        ("minutes = 2.5", "minute = 2.5", "row.0.minute"),
        ("minutes = 2.5", 'minutes = 2.5\nafter = ["b"]', "row a comes after b, which is not here"),
        ("minutes = 2.5", 'minutes = 2.5\nafter = ["a"]', "row a comes after itself"),
        ('row = "a"', 'row = "b"', "claim c needs a row b"),
        ('kind = "above"', 'kind = "over"', "claim.0.kind"),
        ('kind = "above"', 'kind = "level"', "level needs a margin"),
        ("https://doi.org/10.1/a", "doi.org/10.1/a", "claim.0.link"),
        ("https://doi.org/10.1/a", "https://doi.org/10.1/a|b", "claim.0.link"),
        ("[[claim]]", "[[claim]", "cannot be read"),
        ('published = "above chance"', "seeds = 1", "one seed decides nothing"),
        ("right = 0.1", "right = 0.1\nis_single = true", "c is of one run, but a has more"),
        (
            'metric = "test_accuracy_last" }\nright = 0.1',
            'metric = "m", counted_in = "n" }\nright = { row = "a", metric = "m" }',
            "counted_in is needed on both sides",
        ),
        ('"BRP, longer" = "b"', "", "figure.0.curves"),
        ('longer" = "b"', 'longer" = "a"', "figure f shows one experiment by two names"),
        ("[[figure]]", '[[figure]]\nlegend = "left"', "figure.0.legend"),
    ],
)
def test_what_is_declared_wrongly_is_named(tmp_path, old, new, words):
    path = written(tmp_path, GOOD.replace(old, new))
    with pytest.raises(UserError, match=words) as error:
        read(path)
    assert str(path) in str(error.value)


def test_names_are_unique(tmp_path):
    row = GOOD[: GOOD.index("[[claim]]")]
    with pytest.raises(UserError, match="two rows are called a"):
        read(written(tmp_path, row + GOOD))


def test_names_of_figures_are_unique(tmp_path):
    figure = GOOD[GOOD.index("[[figure]]") :]
    with pytest.raises(UserError, match="two figures are called f"):
        read(written(tmp_path, GOOD + figure))


def test_declared_figures_are_drawn_if_two_curves_have_runs(tmp_path):
    declared = (read(written(tmp_path, GOOD)),)
    for name in ("a", "b"):
        run = tmp_path / "results" / "paper" / name / "seed0"
        run.mkdir(parents=True)
        result = {"experiment": name, "dataset": "mnist", "epochs": 2, "seed": 0}
        (run / "result.json").write_text(json.dumps(result))
        rows = [{"epoch": k, "test_accuracy": k / 4} for k in (1, 2)]
        (run / "metrics.jsonl").write_text("\n".join(map(json.dumps, rows)))
    results = load_results(tmp_path / "results")
    assert draw_figures(declared, results, tmp_path / "figures") == ["f"]
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["f.png"]
    assert draw_figures(declared, results[results["experiment"] == "a"], tmp_path / "none") == []


def test_two_papers_share_no_name(tmp_path):
    written(tmp_path, GOOD)
    other = tmp_path / "other" / "reproduction.toml"
    other.parent.mkdir()
    other.write_text(GOOD.replace('"a"', '"q"'))
    with pytest.raises(UserError, match="other and paper both declare a claim c"):
        read_all(tmp_path)


def test_without_declarations_the_folder_is_named(tmp_path):
    with pytest.raises(UserError, match=r"has a reproduction\.toml"):
        read_all(tmp_path)


def made(seeds: list[int]) -> pd.DataFrame:
    common = {"experiment": "a", "dataset": "mnist", "epochs": 3}
    return pd.DataFrame(
        [
            {**common, "seed": seed, "metrics": {"test_accuracy_last": 0.9 + seed / 1000}}
            for seed in seeds
        ]
    )


def test_page_and_list_say_what_is_there(tmp_path):
    declared = (read(written(tmp_path, GOOD)),)
    text = page(declared, made([0, 1, 2]))
    source = "[abstract](https://doi.org/10.1/a)"
    ours = "+80.10 (+79.85 to +80.35) points | above 0, from 10 %"
    assert f"| A learns. | {source} | above chance | {ours} | 3 |" in text
    assert "**holds**" in text
    assert "done, 3 seeds" in listing(declared, made([0, 1, 2]))
    figure = re.search(r"figure:f +(.*)", listing(declared, made([0])))
    assert figure
    assert figure[1].endswith("needs 5 min (1 of 2 curves without a row)")
    text = listing(declared, made([0]))
    assert "missing seeds 1, 2: 5 min" in text
    assert "undecided" in text


def test_the_pages_say_what_the_committed_results_hold():
    declared, results = read_all(), load_results(REPOSITORY / "results")
    written = pages(REPOSITORY / "docs" / "claims.md", REPOSITORY, declared, results)
    assert len(written) == 2 + len(declared)
    for path, text in written.items():
        assert path.read_text() == text, f"run `nox -s report`: {path}"


def test_no_result_is_typed_into_a_readme():
    assert not strays(REPOSITORY, read_all())


def test_the_papers_declarations_are_of_scripts_and_results_that_exist():
    results = load_results(REPOSITORY / "results")
    for reproduction in read_all():
        for row in reproduction.row:
            assert (REPOSITORY / reproduction.paper / row.script).is_file(), row.name
            for folder in runs_of(row, results)["folder"]:
                last = (folder / "metrics.jsonl").read_text().splitlines()[-1]
                assert json.loads(last)["epoch"] == row.length, folder
        for claim in reproduction.claim:
            for side in claim.sides:
                runs = runs_of(reproduction.rows[side.row], results)
                for metrics in runs["metrics"]:
                    assert side.metric in metrics, f"{claim.name}: {side.row} has no {side.metric}"
