import json
import os
import subprocess
import sys
import time
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch

from shared.datasets import Split, fingerprint
from shared.datasets._types import Dataset
from shared.errors import UserError
from shared.options import check_positive, script
from shared.run import (
    Run,
    RunError,
    commit,
    processor,
    progress,
    read_checkpoint,
    repeatable_command,
    versions,
)

matplotlib.use("Agg")

CPU = torch.device("cpu")
TOY = {
    "experiment": "toy",
    "paper": "shared",
    "dataset": "none",
    "published": {"test_accuracy_last": 0.75},
}
STATE = {
    "weights": torch.arange(1000.0),
    "moments": {"m": [torch.ones(3)]},
    "words": ("a", 1, None),
}


def new_run(folder: Path, **options: object) -> Run:
    options = {"seed": 3, "epochs": 2, "resume": True, **options}
    return Run(folder, options, CPU, **TOY)


def finish(run: Run) -> dict[str, object]:
    return run.finish(epochs=2, metrics={"test_accuracy_last": 0.5, "test_accuracy_selected": None})


def test_checkpoint_comes_back_as_it_was(tmp_path):
    with new_run(tmp_path) as run:
        run.save(1, STATE)
    with new_run(tmp_path) as run:
        epoch, state = run.load()
    assert epoch == 1
    assert torch.equal(state["weights"], STATE["weights"])
    assert torch.equal(state["moments"]["m"][0], torch.ones(3))
    assert state["words"] == ("a", 1, None)


def test_parts_are_saved_and_restored_by_name(tmp_path):
    layer, generator = torch.nn.Linear(2, 3), torch.Generator().manual_seed(1)
    with new_run(tmp_path) as run:
        assert run.restore(layer=layer, generator=generator) == 0
        run.checkpoint(4, layer=layer, generator=generator)
    other, other_generator = torch.nn.Linear(2, 3), torch.Generator()
    with new_run(tmp_path) as run:
        assert run.restore(layer=other, generator=other_generator) == 4
    assert torch.equal(other.weight, layer.weight)
    assert torch.equal(torch.rand(3, generator=other_generator), torch.rand(3, generator=generator))


ARRAYS = {
    "weights": np.arange(1000.0, dtype=np.float32),
    "moments": ([np.ones((3, 2)), np.array(4)], {"empty": np.zeros((0, 2))}),
    "words": ("a", 1, None, True),
}


def test_arrays_come_back_as_they_were(tmp_path):
    with new_run(tmp_path) as run:
        run.save(1, ARRAYS)
    with new_run(tmp_path) as run:
        epoch, state = run.load()
    assert epoch == 1
    assert state["weights"].dtype == np.float32
    np.testing.assert_array_equal(state["weights"], ARRAYS["weights"])
    (ones, four), empty = state["moments"]
    assert isinstance(state["moments"], tuple)
    assert ones.shape == (3, 2)
    assert four == 4
    assert empty["empty"].shape == (0, 2)
    assert state["words"] == ("a", 1, None, True)


def test_arrays_need_no_torch(tmp_path):
    code = (
        "import sys; sys.modules['torch'] = None\n"  # importing it now fails
        "from pathlib import Path; import numpy as np; from shared.run import Run\n"
        f"options = {{'seed': 3, 'epochs': 2, 'resume': True}}; folder = Path({str(tmp_path)!r})\n"
        "with Run(folder, options, 'cpu') as run:\n"
        "    run.save(1, {'w': np.ones(3)}); print(run.load()[1]['w'].sum())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "3.0\n", done.stderr


def test_a_damaged_checkpoint_of_arrays_is_refused(tmp_path):
    with new_run(tmp_path) as run:
        run.save(1, ARRAYS)
        path = run.checkpoint_path
    content = bytearray(path.read_bytes())
    content[content.index(ARRAYS["weights"].tobytes()[:64]) + 40] ^= 1
    path.write_bytes(content)
    with new_run(tmp_path) as run, pytest.raises(RunError, match=r"checkpoint\.pt is damaged"):
        run.load()


def test_a_checkpoint_that_is_not_there_is_not_called_damaged(tmp_path):
    with pytest.raises(RunError, match=r"checkpoint\.pt is not there: a stored result has none"):
        read_checkpoint(tmp_path / "checkpoint.pt")


def test_a_fresh_folder_has_no_checkpoint(tmp_path):
    with new_run(tmp_path / "deep" / "folder") as run:
        assert run.load() is None


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_checkpoint_cut_short_is_refused_by_name_and_the_one_before_is_kept(tmp_path, keep):
    with new_run(tmp_path) as run:
        run.save(1, {"weights": torch.zeros(1000)})
        run.save(2, STATE)
    newest = tmp_path / "checkpoint.pt"
    newest.write_bytes(newest.read_bytes()[: int(keep * newest.stat().st_size)])
    damaged = newest.read_bytes()
    with new_run(tmp_path) as run, pytest.raises(RunError) as caught:
        run.load()
    assert str(newest) in str(caught.value)
    assert "delete it to go on from checkpoint.previous.pt" in str(caught.value)
    assert newest.read_bytes() == damaged
    newest.unlink()
    with new_run(tmp_path) as run:
        epoch, state = run.load()
    assert epoch == 1
    assert torch.equal(state["weights"], torch.zeros(1000))


def test_one_flipped_byte_in_a_checkpoint_is_refused(tmp_path):
    with new_run(tmp_path) as run:
        run.save(1, STATE)
        path = run.checkpoint_path
    content = bytearray(path.read_bytes())
    inside = content.index(torch.arange(1000.0).numpy().tobytes()[:64]) + 40
    content[inside] ^= 1
    path.write_bytes(content)
    with new_run(tmp_path) as run, pytest.raises(RunError, match=r"checkpoint\.pt is damaged"):
        run.load()


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("executed",))


def test_loading_never_unpickles_objects(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"epoch": 1, "seconds": 0.0, "state": Evil()}, tmp_path / "checkpoint.pt")
    with new_run(tmp_path) as run, pytest.raises(RunError, match="damaged"):
        run.load()
    assert not (tmp_path / "executed").exists()


def test_full_disk_leaves_the_old_checkpoint_valid(tmp_path):
    with new_run(tmp_path) as run:
        run.save(1, STATE)
        # Writing to /dev/full fails as writing to a full disk does.
        (tmp_path / "checkpoint.pt.tmp").symlink_to("/dev/full")
        with pytest.raises(
            RunError, match=r"the disk is full: checkpoint\.pt could not be written"
        ):
            run.save(2, STATE)
        assert run.load()[0] == 1
        run.save(2, STATE)
        assert run.load()[0] == 2


def test_kill_between_the_two_renames_leaves_the_previous_checkpoint(tmp_path):
    with new_run(tmp_path) as run:
        run.save(1, STATE)
    os.replace(tmp_path / "checkpoint.pt", tmp_path / "checkpoint.previous.pt")
    with new_run(tmp_path) as run:
        assert run.load()[0] == 1


def test_second_run_into_one_folder_is_refused(tmp_path):
    with new_run(tmp_path):
        with pytest.raises(RunError, match="another run is writing to"), new_run(tmp_path):
            pass
        code = (
            "from pathlib import Path; from shared.run import Run\n"
            f"with Run(Path({str(tmp_path)!r}), {{'seed': 3}}, 'cpu'): pass"
        )
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert other.returncode != 0
    assert "another run is writing to" in other.stderr


def test_a_killed_run_leaves_its_folder_free(tmp_path):
    code = (
        "import os, signal; from pathlib import Path; from shared.run import Run\n"
        f"with Run(Path({str(tmp_path)!r}), {{'seed': 3, 'epochs': 2}}, 'cpu'):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    with new_run(tmp_path) as run:
        assert run.finished is None


def test_other_options_in_one_folder_are_refused_and_named(tmp_path):
    with new_run(tmp_path, epochs=2):
        pass
    with (
        pytest.raises(RunError, match="holds a run of 2 epochs"),
        new_run(tmp_path, epochs=3),
    ):
        pass
    with new_run(tmp_path, epochs=2, threads=1, data_root=Path("elsewhere")) as run:
        assert run.finished is None


@pytest.mark.parametrize("lacks", ["folder", "program"])
def test_a_program_without_epochs_is_refused_in_a_sentence(tmp_path, lacks):
    options = [{"seed": 3, "epochs": 2}, {"seed": 3}][:: 1 if lacks == "program" else -1]
    with Run(tmp_path, options[0], CPU, **TOY, grows=True) as run:
        run.save(1, STATE)
    with (
        pytest.raises(RunError, match="holds a run with --epochs"),
        Run(tmp_path, options[1], CPU, **TOY, grows=True),
    ):
        pass


def test_a_refused_run_leaves_the_folder_to_the_corrected_one(tmp_path):
    with pytest.raises(UserError, match="no such data"), new_run(tmp_path, epochs=2):
        raise UserError("no such data")
    with new_run(tmp_path, epochs=3) as run:
        run.save(1, STATE)
    with pytest.raises(UserError, match="the loss"), new_run(tmp_path, epochs=3):
        raise UserError("the loss is no number")
    with pytest.raises(RunError, match="holds a run of 3 epochs"), new_run(tmp_path, epochs=2):
        pass


@pytest.mark.parametrize("name", ["config.json", "result.json"])
def test_damaged_records_are_one_sentence(tmp_path, name):
    with new_run(tmp_path) as run:
        finish(run)
    (tmp_path / name).write_text('{"options": {')
    with (
        pytest.raises(RunError, match=f"{name} is damaged .* --no-resume"),
        new_run(tmp_path) as run,
    ):
        print(run.finished)
    with new_run(tmp_path, resume=False) as run:
        assert run.finished is None


def test_no_resume_replaces_the_run(tmp_path):
    with new_run(tmp_path) as run:
        run.log(1, {"loss": 1.0})
        run.save(1, STATE)
        finish(run)
    with new_run(tmp_path, epochs=3, resume=False) as run:
        assert run.finished is None
        assert run.load() is None
        assert run.metrics() == []


def test_a_failed_attempt_to_replace_a_run_loses_nothing(tmp_path):
    with new_run(tmp_path) as run:
        run.log(1, {"loss": 1.0})
        run.save(1, STATE)
        finish(run)
    (tmp_path / "result.1-epochs.json").write_text("{}")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail() -> None:
        with new_run(tmp_path, resume=False) as run:
            assert run.load() is None
            run.log(1, {"loss": 2.0})
            raise UserError("the network does not fit the data")

    for _ in range(2):
        with pytest.raises(UserError, match="does not fit"):
            fail()
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    with new_run(tmp_path, resume=False) as run:
        run.save(1, STATE)
    assert {path.name for path in tmp_path.iterdir()} - {".lock"} == {
        "checkpoint.pt",
        "config.json",
    }


def test_metrics_after_the_checkpoint_are_dropped_on_resume(tmp_path):
    with new_run(tmp_path) as run:
        run.log(1, {"loss": 1.0})
        run.save(1, STATE)
        run.log(2, {"loss": 0.5})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 3, "lo')  # cut by a kill
    with new_run(tmp_path) as run:
        run.load()
        assert run.metrics() == [{"epoch": 1, "loss": 1.0}]


def test_result_has_the_agreed_keys_and_prints_the_published_number(tmp_path, capsys):
    with new_run(tmp_path) as run:
        result = finish(run)
    on_disk = json.loads((tmp_path / "result.json").read_text())
    assert on_disk == result
    assert list(on_disk) == [
        *("experiment", "paper", "figure", "dataset", "seed", "epochs", "device", "processor"),
        *("threads", "processes", "seconds", "cpu_seconds", "peak_memory_mb", "metrics"),
        *("published", "options", "data", "command", "commit", "versions"),
    ]
    assert on_disk["options"] == {"seed": 3, "epochs": 2}
    assert on_disk["processor"] == processor() != ""
    assert on_disk["threads"] == torch.get_num_threads()
    assert on_disk["seed"] == 3
    assert on_disk["peak_memory_mb"] > 10
    assert on_disk["versions"]["numpy"] == versions()["numpy"]
    printed = capsys.readouterr().out
    assert "0.5  0.75" in printed
    with new_run(tmp_path) as run:
        assert run.finished == result


def test_time_of_earlier_parts_counts(tmp_path):
    with new_run(tmp_path) as run:
        run._seconds_before, run._cpu_seconds_before = 100.0, 50.0
        run.save(1, STATE)
    with new_run(tmp_path) as run:
        run.load()
        assert 100 <= run.seconds < 200
        assert 50 <= run.cpu_seconds < 100


def test_waiting_is_no_computing(tmp_path):
    with new_run(tmp_path) as run:
        time.sleep(0.3)
        assert run.cpu_seconds < 0.2 < run.seconds


def set_of(name: str, first: int) -> Dataset:
    part = Split(np.arange(first, first + 4, dtype=np.uint8)[:, None], np.arange(4))
    return Dataset(name, part, part, part, 4)


def test_a_fingerprint_tells_names_values_orders_and_types_apart():
    prints = [
        set_of("a", 0).fingerprint,
        set_of("b", 0).fingerprint,
        set_of("a", 1).fingerprint,
        fingerprint("a", 4, np.array([1, 2])),
        fingerprint("a", 4, np.array([2, 1])),
        fingerprint("a", 4, np.array([1, 2], dtype=np.int32)),
        fingerprint("a", 4, np.array([[1, 2]])),
    ]
    assert len({json.dumps(one) for one in prints}) == len(prints)
    assert set_of("a", 0).fingerprint == prints[0]
    assert prints[0]["samples"] == 12


@pytest.mark.parametrize("files", [["config.json", "result.json"], ["result.json"]])
def test_a_folder_of_another_run_is_refused_by_what_differs(tmp_path, files):
    data = set_of("mnist", 0).fingerprint
    options = {"seed": 3, "epochs": 2, "rule": "exact", "resume": True}
    with Run(tmp_path, options, CPU, data) as run:
        run.save(1, STATE)
        finish(run)
    for path in tmp_path.glob("*.json"):
        if path.name not in files:
            path.unlink()
    with Run(tmp_path, options | {"device": "cpu", "out": "x"}, CPU, data) as run:
        assert run.finished is not None
    for changed, sentence in (
        ({"seed": 5}, "holds a run with --seed 3, not 5"),
        ({"rule": "shifting"}, "holds a run with --rule exact, not shifting"),
        ({"epochs": 3}, "a run of 2 epochs, whose schedule depends on their number"),
    ):
        with pytest.raises(RunError, match=sentence), Run(tmp_path, options | changed, CPU, data):
            pass
    other = set_of("mnist5k", 0).fingerprint
    with (
        pytest.raises(RunError, match=r"a run on mnist \(12 samples.*, not on mnist5k \(12"),
        Run(tmp_path, options, CPU, other),
    ):
        pass


def test_a_result_that_does_not_say_its_options_is_not_taken_for_done(tmp_path):
    with new_run(tmp_path) as run:
        content = finish(run)
    (tmp_path / "config.json").unlink()
    del content["options"]
    (tmp_path / "result.json").write_text(json.dumps(content))
    with pytest.raises(RunError, match="does not say by which options"), new_run(tmp_path):
        pass


def test_another_device_is_recorded(tmp_path):
    with new_run(tmp_path) as run:
        run.save(1, STATE)
    with Run(tmp_path, {"seed": 3, "epochs": 2, "resume": True}, "gpu") as run:
        result = finish(run)
    assert result["device"].startswith("cpu (")
    assert ", then gpu (" in result["device"]
    assert result["processor"] == processor()  # one, named once


def test_a_command_is_repeatable_anywhere():
    script = str(Path(__file__).parents[2] / "paper" / "train.py")
    words = ["--seed", "3", "--out", "/somewhere/x", "--no-resume", "--data-root=/data", "-tl"]
    assert repeatable_command([script, *words]) == "python paper/train.py --seed 3 -tl"
    words = ["--data_root", "/data", "--p", "/data", "--rate", "--no_resume", "--into=/somewhere"]
    assert repeatable_command([script, *words]) == "python paper/train.py --rate"
    words = ["--data", "cifar10", "--resumed", "1"]  # these begin as others do
    assert repeatable_command([script, *words]) == f"python paper/train.py {' '.join(words)}"


def test_a_command_of_several_trials_gives_one_of_them():
    words = ["train.py", "--rate", "--trials", "3", "--seed=4", "--lr", "2"]
    assert repeatable_command(words, 5) == "python train.py --seed 5 --rate --lr 2"
    assert repeatable_command(words[:2], 5) == "python train.py --rate"


@pytest.mark.parametrize("content", ["{}", "[]", "null"])
def test_a_config_that_says_nothing_is_one_sentence(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(RunError, match=r"config\.json is damaged"), new_run(tmp_path):
        pass


@pytest.mark.parametrize("pdf", [False, True])
def test_figures_are_written_as_png_and_on_demand_as_pdf(tmp_path, pdf):
    import matplotlib.pyplot as plt

    with new_run(tmp_path, pdf=pdf) as run:
        figure, axes = plt.subplots()
        axes.plot([1, 2])
        assert run.save_figure(figure, "curve") == "curve.png"
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "curve.pdf").exists() == pdf
    assert not pdf or (tmp_path / "curve.pdf").read_bytes().startswith(b"%PDF")
    assert not plt.get_fignums()


def test_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"), new_run(tmp_path / "file" / "run"):
        pass


def test_config_records_options_versions_and_commit(tmp_path):
    with new_run(tmp_path, data_root=Path("data")):
        pass
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["options"]["data_root"] == "data"
    (part,) = config["parts"]
    assert part["versions"]["python"] == sys.version.split()[0]
    assert part["commit"] == commit()


def test_commit_is_none_outside_of_git(monkeypatch, tmp_path):
    monkeypatch.setattr("shared.run.REPOSITORY", tmp_path)
    assert commit() is None


def test_tensorboard_without_the_package_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with new_run(tmp_path, tensorboard=True) as run, pytest.raises(RunError, match="pip install"):
        run.log(1, {"loss": 1.0})


def test_progress_passes_every_item_on():
    assert list(progress(range(5), 5, "five")) == [0, 1, 2, 3, 4]


def raises(error: BaseException):
    def main() -> None:
        raise error

    return main


def wrapped(interruption: KeyboardInterrupt) -> SystemError:
    """What a compiled function makes of Ctrl-C."""
    error = SystemError("a result with an exception set")
    error.__cause__ = interruption
    return error


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (UserError("mend this"), 2, "error: mend this"),
        (KeyboardInterrupt(), 130, "the same command goes on"),
        (wrapped(KeyboardInterrupt()), 130, "the same command goes on"),
    ],
)
def test_script_turns_errors_into_exit_codes(error, code, words, capsys):
    with pytest.raises(SystemExit) as caught:
        script(raises(error))
    assert caught.value.code == code
    assert words in capsys.readouterr().err


class OutOfMemoryError(RuntimeError):
    """What torch raises on a GPU."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 8 bytes."),
    ],
)
def test_too_little_memory_is_one_sentence(error, capsys):
    with pytest.raises(SystemExit) as caught:
        script(raises(error))
    assert caught.value.code == 2
    words = capsys.readouterr().err
    assert words == "error: not enough memory: lower --batch-size, or make the network smaller\n"


@pytest.mark.parametrize("allocate", [torch.empty, np.empty])
def test_memory_that_cannot_be_had_is_one_sentence(allocate, capsys):
    with pytest.raises(SystemExit) as caught:
        script(lambda: allocate(2**55))
    assert caught.value.code == 2
    assert "not enough memory" in capsys.readouterr().err


def test_script_ends_well():
    with pytest.raises(SystemExit) as caught:
        script(lambda: None)
    assert caught.value.code == 0


def test_a_defect_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        script(raises(ZeroDivisionError()))


SAYS = "from shared.options import script; script(lambda: print('9.5 \\xb1 0.1'))"
FAILS = (
    "from shared.errors import UserError; from shared.options import script\n"
    "def main(): raise UserError('mend this')\n"
    "script(main)"
)


def shell(redirection: str, code: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["sh", "-c", f'"$0" -c "$1" {redirection}', sys.executable, code],
        capture_output=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, **environment},
    )


def test_a_terminal_that_lacks_a_sign_shows_another():
    done = shell("", SAYS, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout) == (0, b"9.5 ? 0.1\n"), done.stderr


@pytest.mark.parametrize("redirection", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_change_nothing(redirection):
    assert shell(redirection, SAYS).returncode == 0
    assert shell(redirection, FAILS).returncode == 2


def test_words_of_an_error_never_go_to_standard_output():
    assert shell("2>&-", FAILS).stdout == b""


def test_a_full_standard_output_is_one_sentence():
    done = shell("> /dev/full", SAYS)
    assert done.returncode == 2
    assert done.stderr.startswith(b"error: no room left where the output goes")
    assert len(done.stderr.splitlines()) == 1


def test_progress_needs_no_standard_error(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert list(progress([1, 2], 2, "two")) == [1, 2]


def test_check_positive_names_the_option():
    check_positive(epochs=1, batch_size=None)
    with pytest.raises(UserError, match="--batch-size 0 must be above 0"):
        check_positive(batch_size=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_check_positive_refuses_what_is_no_number(value):
    with pytest.raises(UserError, match=f"--lr {value} must be above 0 and finite"):
        check_positive(lr=value)
