from pathlib import Path

import pytest

from reproduce.declared import read, read_all
from reproduce.prose import published_numbers, strays, strays_in

PATH = Path("README.md")

DECLARED = """
[[row]]
name = "a"
script = "run.py"
dataset = "mnist"
epochs = 2
minutes = 1

[[claim]]
name = "c"
says = "It learns."
where = "figure 1"
kind = "above"
left = { row = "a", metric = "test_accuracy_last" }
right = 0.976
published = "97.60 ± 0.1 %, ten seeds"
"""


def numbers(text: str, *published: str) -> list[tuple[int, str]]:
    return [(s.line, s.number) for s in strays_in(text, PATH, frozenset(published))]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It reaches 98.58 ± 0.06 % on MNIST.", ["98.58 ± 0.06 %"]),
        ("right in 3.2% of the images, 90 % before", ["3.2%", "90 %"]),
        ("a loss of 0.14 ± 0.01", ["0.14 ± 0.01"]),
        ("an accuracy of 0.97, and accuracy 0.5", ["0.97", "0.5"]),
        ("| parity | 98.70 % |", ["98.70 %"]),
    ],
)
def test_typed_results_are_found(text, found):
    assert numbers(text) == [(1, number) for number in found]


@pytest.mark.parametrize(
    "text",
    [
        "100 epochs of 20 steps at 0.05, version 3.12",
        "`--share 10%` of the batches",
        "```sh\necho 98.6 %\n```",
        "<!-- claims: written by `nox -s report` -->\n| 97.6 % |\n<!-- end of claims -->",
        "10 % of the training set validates. <!-- no result -->",
        "| validation | 10 % <!-- no result --> |",
        "<!-- 98 % -->",
    ],
)
def test_what_is_no_prose_and_what_is_marked_is_not(text):
    assert numbers(text) == []


def test_lines_are_counted_through_what_is_left_out():
    assert numbers("```\n1 %\n2 %\n```\n\n3 % `4 %`\n") == [(6, "3 %")]


def test_published_numbers_may_be_written(tmp_path):
    paper = tmp_path / "paper"
    paper.mkdir()
    (paper / "reproduction.toml").write_text(DECLARED)
    declared = read(paper / "reproduction.toml")
    assert published_numbers([declared]) == {"97.6", "0.1"}
    (tmp_path / "README.md").write_text("All is well.\n")
    (paper / "README.md").write_text("# Paper\n\nThe paper has 97.6 ± 0.1 %, we have 97.54 %.\n")
    assert list(map(str, strays(tmp_path, [declared]))) == ["paper/README.md:3: 97.54 %"]


def test_another_papers_numbers_are_no_excuse(tmp_path):
    other = DECLARED.replace("97.60", "88.00").replace('"a"', '"b"').replace('"c"', '"d"')
    for name, text in (("one", DECLARED), ("two", other)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "README.md").write_text("We have 97.6 %.\n")
        (tmp_path / name / "reproduction.toml").write_text(text)
    found = strays(tmp_path, read_all(tmp_path))
    assert list(map(str, found)) == ["two/README.md:1: 97.6 %"]
