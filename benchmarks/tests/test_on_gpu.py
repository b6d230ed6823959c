"""The list of checks for a GPU, and how each is started, here without one."""

import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from benchmarks import on_gpu
from benchmarks.on_gpu import CHECKS, MOST, REPOSITORY, Check
from shared.experiment import parse
from stl_snn import train


def python(*lines: str, seconds: float = 60.0) -> Check:
    return Check(("-c", "\n".join(lines)), seconds)


def test_checks_fit_into_the_time_and_name_files_that_are_there():
    assert sum(check.seconds for check in CHECKS.values()) <= MOST
    files = [word for check in CHECKS.values() for word in check.words if word.endswith(".py")]
    assert len(files) >= len(CHECKS)
    assert [file for file in files if not (REPOSITORY / file).is_file()] == []


def test_options_of_checks_are_those_of_their_scripts(monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    measure = importlib.import_module("measure")
    for script, *words in (check.words for check in CHECKS.values() if check.has_out):
        settings = measure.Options if "bench_" in script else train.Settings
        parsed = parse(settings, None, [*words, "--out", "folder"])
        assert parsed.device == "cuda"
        assert parsed.out == Path("folder")


def test_what_fails_or_takes_too_long_is_named_and_the_rest_goes_on(tmp_path, monkeypatch, capsys):
    checks = {
        "good": python("import sys", "print('said', sys.argv[1])"),
        "bad": python("import sys", "print('reason', file=sys.stderr)", "sys.exit(3)"),
        "slow": python("import time", "time.sleep(60)", seconds=0.5),
        "last": python("pass"),
    }
    monkeypatch.setattr(on_gpu, "CHECKS", checks)
    assert not on_gpu.make(tuple(checks), tmp_path)
    found = json.loads((tmp_path / "summary.json").read_text())
    assert [found[name]["state"] for name in checks] == [
        "passed",
        "failed, exit code 3",
        "not ended after 0 s",
        "passed",
    ]
    assert (tmp_path / "good" / "output.txt").read_text() == "said --out\n"
    assert (tmp_path / "bad" / "output.txt").read_text() == "reason\n"
    assert "bad: failed, exit code 3" in capsys.readouterr().out
    assert on_gpu.make(("good", "last"), tmp_path)


def test_what_a_check_has_started_ends_with_it(tmp_path, monkeypatch):
    lines = (
        "import pathlib, subprocess, sys, time",
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])",
        "pathlib.Path(sys.argv[2], 'pid').write_text(str(child.pid))",
        "time.sleep(60)",
    )
    monkeypatch.setattr(on_gpu, "CHECKS", {"slow": python(*lines, seconds=3.0)})
    assert not on_gpu.make(("slow",), tmp_path)
    child = int((tmp_path / "slow" / "pid").read_text())
    deadline = time.monotonic() + 10
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "it goes on"
        time.sleep(0.05)


def test_time_of_all_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(on_gpu, "MOST", 0.5)
    monkeypatch.setattr(on_gpu, "CHECKS", {"slow": python("import time", "time.sleep(60)")})
    assert not on_gpu.make(("slow",), tmp_path)


def test_without_a_gpu_and_with_an_unknown_check():
    def says(*words: str) -> tuple[int, str]:
        command = [sys.executable, "benchmarks/on_gpu.py", *words]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": ".", "CUDA_VISIBLE_DEVICES": ""},
        )
        return done.returncode, done.stderr

    code, words = says()
    assert code == 2
    assert "no CUDA device" in words
    code, words = says("--only", "stl")
    assert code == 2
    assert "there are tests, shifting_learning" in words
