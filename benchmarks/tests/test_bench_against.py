"""The benchmark beside published programs: what it is given, and programs made up for the test."""

import json
import sys
from pathlib import Path

import pytest
import torch

from shared.options import script

BENCHMARKS = Path(__file__).resolve().parents[1]

MADE_UP = """
from shifting_learning.reference import PlainLayer

OFF = {off}


class SNNLayer(PlainLayer):
    def __init__(self, inCh, outCh, e_ts, e_tp):
        super().__init__(inCh, outCh, e_ts, e_tp, ties="published")

    def forward(self, bs, z_in, dv):
        return super().forward(bs, z_in.cuda().float(), dv=dv) * (1 + OFF)

    @property
    def adam_m_Ets(self):
        return self.optimizer.state[self.e_ts]["exp_avg"]

    @property
    def adam_m_Etp(self):
        return self.optimizer.state[self.e_tp]["exp_avg"]
"""


@pytest.fixture
def bench(monkeypatch):
    """The benchmark's module."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import bench_against

    return bench_against


@pytest.fixture
def called(bench, monkeypatch, capsys):
    """Calls the benchmark with a command line; gives exit code and words."""

    def call(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["bench_against.py", *map(str, words)])
        # What the benchmark sets up for its own process stays out of the tests' one.
        monkeypatch.setattr(bench, "set_torch_up", lambda threads: None)
        with pytest.raises(SystemExit) as end:
            script(bench.main)
        seen = capsys.readouterr()
        return int(end.value.code), seen.out + seen.err

    return call


def put(folder: Path, paper: str, bench, text: str = "") -> Path:
    """A made-up checkout of a paper's program, with this text in the file that is imported."""
    file = bench.PROGRAMS[paper].checkout(folder) / bench.PROGRAMS[paper].file
    file.parent.mkdir(parents=True)
    file.write_text(text)
    return bench.PROGRAMS[paper].checkout(folder)


def test_a_folder_is_asked_for(called):
    code, words = called()
    assert code == 2
    assert "--against FOLDER" in words


@pytest.mark.parametrize("folder", ["", "nowhere"])
def test_a_folder_without_programs(called, tmp_path, folder):
    code, words = called("--against", tmp_path / folder)
    assert code == 2
    assert words.count("is left out") == 5
    assert "none of the published programs: clone them" in words


def test_an_unknown_paper(called, tmp_path):
    code, words = called("--against", tmp_path, "--cases", "stdp")
    assert code == 2
    assert "--cases stdp: there are shifting_learning, brp_snn" in words


@pytest.mark.parametrize("commit", ["the same", "another"])
def test_programs_that_are_missing_or_fail_do_not_hold_the_others_up(
    bench, called, monkeypatch, tmp_path, commit
):
    for paper in ("brp_snn", "stl_snn", "smooth_gd"):
        put(tmp_path, paper, bench)
    times = dict.fromkeys(("wall_median", "wall_least", "wall_most", "cpu_median"), 0.5)
    row = {
        "what": "a step",
        "speed_ratio": 1.0,
        "differences_float32": {"output": 1e-6},
        "seconds": dict.fromkeys(("published", "ours"), times),
    }

    def found(options, paper, checkout, precision):
        if paper == "brp_snn":  # ends with an error
            return None
        difference = 1e-3 if paper == "stl_snn" else 1e-15
        return {paper: {"output": difference} if precision == "float64" else dict(row)}

    now = dict.fromkeys(bench.SURROUNDINGS, "the same")
    monkeypatch.setattr(bench, "in_own_process", found)
    monkeypatch.setattr(bench, "record", lambda device: dict(now))
    out = tmp_path / "out"
    (out / "bench.json").parent.mkdir()
    earlier = {"programs": {"shifting_learning": {}}, "cases": {"shifting_learning": row}}
    earlier |= {**now, "commit": commit}
    (out / "bench.json").write_text(json.dumps(earlier))
    code, words = called("--against", tmp_path, "--out", out)
    assert code == 2
    assert "shifting_learning is left out" in words
    assert "hybrid_plasticity is left out" in words
    assert "stl_snn: output differs by 1.0e-03 in float64" in words
    assert "brp_snn, stl_snn could not be measured" in words
    content = json.loads((out / "bench.json").read_text())
    kept = {"shifting_learning"} if commit == "the same" else set()
    assert content["cases"].keys() == {"smooth_gd"} | kept
    assert content["cases"]["smooth_gd"]["differences"] == {"output": 1e-15}
    assert content["cases"]["smooth_gd"]["seconds"]["ours"]["wall_least"] == 0.5
    assert content["programs"]["smooth_gd"]["commit"] is None  # no clone
    assert content["programs"]["smooth_gd"]["address"].endswith("/spikegd")


@pytest.mark.parametrize("off", [0.0, 1e-6])
def test_a_step_is_compared(bench, monkeypatch, tmp_path, off):
    from against.common import too_far

    checkout = put(tmp_path, "shifting_learning", bench, MADE_UP.format(off=off))
    monkeypatch.delitem(sys.modules, "SL_Layer", raising=False)
    found = bench.compared("shifting_learning", checkout, torch.float64, torch.device("cpu"))
    assert found["shifting_learning"].keys() >= {"codes", "timings 0", "moment of timings 1"}
    assert bool(too_far(found["shifting_learning"])) == bool(off)
    monkeypatch.delitem(sys.modules, "SL_Layer")
    assert str(checkout) not in sys.path


def test_what_is_not_found_by_both_sides_or_is_no_number(bench):
    from against.common import differences, too_far

    with pytest.raises(ValueError, match="output"):
        differences({"output": [1.0]}, {"loss": [1.0]})
    found = differences({"a": [0.0, 4.0], "b": [0.0]}, {"a": [0.0, 5.0], "b": [float("nan")]})
    assert found["a"] == 0.25
    assert too_far(found) == ["a", "b"]


def test_a_module_of_another_program_is_not_taken_for_this_ones(bench, monkeypatch, tmp_path):
    from against.common import imported

    from shared.errors import UserError

    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "made_up_models.py").write_text("")
    imported("made_up_models", tmp_path / "one")
    with pytest.raises(UserError, match="run one program alone"):
        imported("made_up_models", tmp_path / "other")
    monkeypatch.delitem(sys.modules, "made_up_models")


def test_a_programs_own_precision_and_device_give_way(bench):
    from against.common import theirs

    with theirs(torch.device("cpu"), torch.float64):
        assert torch.ones(1).float().dtype == torch.float64
        assert torch.nn.Linear(1, 1).cuda().weight.cuda().is_cpu
    assert torch.ones(1).double().float().dtype == torch.float32
