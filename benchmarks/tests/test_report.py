"""Tables of the page on speed: what they say of made numbers, and that the page is up to date."""

import json
from pathlib import Path

import pytest

from benchmarks import report
from shared.errors import UserError


def times(median: float) -> dict[str, float]:
    return {"wall_median": median, "wall_least": median / 2, "wall_most": 2 * median}


MADE = {
    "device": "cpu",
    "processor": "A  processor",
    "threads": 2,
    "load_before": 1.26,
    "commit": "0123456789+",
    "versions": {"torch": "9.9"},
    "cases": {
        "step": {
            "seconds": {"plain": times(1.0), "fast": times(0.0324)},
            "step_memory_mb": {"plain": 800.4, "fast": 20.0},
        },
        "layer": {"seconds": {"fast": times(0.002)}},
    },
}


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "stl_snn").mkdir()
    (tmp_path / "stl_snn" / "bench.json").write_text(json.dumps(MADE))
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    return tmp_path


def test_sides_with_times_memory_and_ratios(made):
    lines = report.section("stl_snn").splitlines()
    assert lines[0] == "| Step | plain | fast | plain / fast |"
    assert lines[2] == (
        "| training step, full width | 1000 ms (500 to 2000), 800 MB "
        "| 32.4 ms (16.2 to 64.8), 20 MB | 30.9 |"
    )
    assert lines[3].endswith("| - | 2 ms (1 to 4) | - |")  # a side that this case has not
    assert lines[5].endswith(
        "cpu, A processor, 2 threads, commit 0123456 with changes, torch 9.9, load of the machine "
        "before 1.3."
    )


def test_bars_that_are_missed_are_named():
    cases = {
        "fast": {"speed_ratio": 2.0, "bar": 2.0, "memory_ratio": 0.4, "memory_bar": None},
        "slow": {"speed_ratio": 1.987, "bar": 2.0, "memory_ratio": 0.4, "memory_bar": 1 / 3},
    }
    assert report.missed("brp_snn", cases) == (
        " Aimed at and missed: slow, plain / layerwise: 1.99 (at least 2); "
        "slow, memory, layerwise / plain: 0.4 (at most 0.333)."
    )
    by_side = {"step": {"speed_ratios": {"plain": 3.0, "before": 1.2}, "bars": {"before": 1.3}}}
    assert report.missed("stl_snn", by_side) == (
        " Aimed at and missed: step, before / fast: 1.2 (at least 1.3)."
    )
    assert report.missed("brp_snn", {"fast": cases["fast"]}) == ""


def test_what_stands_between_marks_is_written_anew(made):
    text = "before\n<!-- bench: stl_snn -->\ntyped: 99\n<!-- end of bench -->\nafter"
    filled = report.filled(text)
    assert "99 " not in filled
    assert "typed" not in filled
    assert filled.startswith("before\n<!-- bench: stl_snn -->\n| Step |")
    assert filled.endswith("<!-- end of bench -->\nafter")
    assert report.filled(filled) == filled


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("<!-- bench: stl_snn -->\ntable", "needs its"),
        ("table\n<!-- end of bench -->", "needs its"),
        (
            "<!-- bench: stl_snn -->\n<!-- bench: stl_snn -->\n<!-- end of bench -->",
            "needs its",
        ),
        ("<!-- bench: stl -->\n<!-- end of bench -->", "there are shifting_learning"),
        ("<!-- bench: brp_snn -->\n<!-- end of bench -->", "nox -s bench -- brp_snn"),
    ],
)
def test_refused(made, text, says):
    with pytest.raises(UserError, match=says):
        report.filled(text)


def test_check_writes_nothing(made, tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    monkeypatch.setattr(report, "PAGE", page)
    monkeypatch.setattr("sys.argv", ["report.py", "--check"])
    page.write_text("<!-- bench: stl_snn -->\nold\n<!-- end of bench -->")
    with pytest.raises(UserError, match="run `nox -s report`"):
        report.main()
    assert "old" in page.read_text()
    monkeypatch.setattr("sys.argv", ["report.py"])
    report.main()
    assert "old" not in page.read_text()
    monkeypatch.setattr("sys.argv", ["report.py", "--check"])
    report.main()


def test_the_page_is_up_to_date_and_shows_every_benchmark():
    text = report.PAGE.read_text("utf-8")
    assert report.filled(text) == text, "run `nox -s report`"
    assert set(report.MARK.findall(text)) == set(report.TABLES)
    stored = {file.parent.name for file in report.RESULTS.glob("*/bench.json")}
    assert stored == set(report.TABLES)
