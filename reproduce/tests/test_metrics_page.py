"""docs/metrics.md explains what result.json holds: all of it, and nothing else."""

import json
import re
from collections import defaultdict

import pytest

from shared.run import REPOSITORY

TITLES = {
    "Shifting learning": "shifting_learning",
    "BRP-SNN": "brp_snn",
    "STL-SNN": "stl_snn",
    "Hybrid plasticity": "hybrid_plasticity",
    "Smooth exact gradient descent": "smooth_gd",
    "The comparison": "comparison",
}
STANDS_FOR = {"part": "train|validation|test", "neuron": "QIF|LIF", "kind": r"[a-z&]+"}
ANY = {"metric", "candidate"}


def pattern(words: str) -> re.Pattern[str]:
    def stands_for(match: re.Match[str]) -> str:
        number = r"\d+(?:\.\d+)?"
        return f"(?:{'.+' if match[1] in ANY else STANDS_FOR.get(match[1], number)})"

    return re.compile(re.sub(r"\\\{(\w+)\\\}", stands_for, re.escape(words)))


def explained() -> dict[str, list[str]]:
    """What stands in the first column of the tables, by section."""
    found = defaultdict(list)
    section = ""
    for line in (REPOSITORY / "docs" / "metrics.md").read_text().splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        elif line.startswith("| `"):
            found[section] += re.findall(r"`([^`]+)`", line.split("|")[1])
    return dict(found)


@pytest.fixture(scope="module")
def results() -> list[dict]:
    paths = (REPOSITORY / "results").rglob("seed*/result.json")
    return [json.loads(path.read_text()) for path in paths]


def test_every_key_is_explained(results):
    keys = {key for result in results for key in result}
    assert keys == set(explained()["result.json"])


def test_every_metric_is_explained_in_its_section(results):
    sections, unexplained = explained(), set()
    for result in results:
        titles = [title for title, paper in TITLES.items() if paper == result["paper"]]
        words = [word for title in ("Everywhere", *titles) for word in sections[title]]
        metrics = [key for key in result["metrics"] if key not in words]
        patterns = [pattern(word) for word in words if "{" in word]
        unexplained |= {m for m in metrics if not any(p.fullmatch(m) for p in patterns)}
    assert not unexplained


def test_nothing_is_explained_that_no_run_has(results):
    for section, words in explained().items():
        paper = TITLES.get(section)
        if section == "result.json":
            continue
        there = {
            key for r in results if paper in (None, r["paper"]) for key in r["metrics"]
        }  # fmt: skip
        missing = [w for w in words if not any(pattern(w).fullmatch(key) for key in there)]
        assert not missing, section


def test_numbers_of_a_name_are_numbers():
    assert pattern("theta_mean_lif{layer}").fullmatch("theta_mean_lif3")
    assert not pattern("theta_mean_lif{layer}").fullmatch("theta_mean_lifx")
    assert pattern("{part}_cosine_last").fullmatch("test_cosine_last")
    assert not pattern("{part}_cosine_last").fullmatch("best_cosine_last")
