"""Settings that make the command line, names of experiments, runs that grow."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import pytest
import torch

from shared import experiment, parallel
from shared.errors import UserError
from shared.experiment import (
    UNNAMED,
    Experiment,
    Made,
    Named,
    Positive,
    Share,
    as_published,
    paper,
    spelled,
)
from shared.run import Run


@dataclass(frozen=True)
class Settings(experiment.Settings):
    dataset: Annotated[Literal["dice", "coins"], UNNAMED, spelled("dataset", "-data")] = "dice"
    """What is thrown."""
    epochs: Annotated[Positive[int], paper(9)] = 3
    """Throws."""
    hidden: tuple[Positive[int], ...] = (4,)
    """Neurons of each layer."""
    lr: Annotated[Positive[float], paper(0.5)] = 0.1
    """Step size."""
    rand_kill: Annotated[float, spelled("randKill")] = 1.0
    """Factor."""
    sides: Annotated[Positive[int], UNNAMED, spelled("Nsides")] = 6
    """Sides of a die."""
    validation: Share = 0.25
    """Share held out."""
    steps: Annotated[Positive[int] | None, Named("T{}")] = None
    """Time steps, if any."""
    frozen: bool = False
    """Nothing learns."""
    preset: Annotated[Literal["tuned", "published"], Named("{}")] = "tuned"
    """Where options that are not given come from."""

    def check(self) -> None:
        if self.frozen and self.steps:
            raise UserError("--frozen contradicts --steps: give one of them")


def defaults(asked: Settings) -> Settings:
    settings = Settings() if asked.preset == "tuned" else as_published(Settings())
    return replace(settings, epochs=1) if asked.quick else settings


def throw(settings: Settings, data: Made, device: torch.device, run: Run) -> None:
    generator = torch.Generator().manual_seed(settings.seed)
    done = run.restore(generator=generator)
    for epoch in range(done + 1, settings.epochs + 1):
        run.log(epoch, {"value": torch.rand((), generator=generator).item()}, show=False)
        run.checkpoint(epoch, generator=generator)
    rows = run.metrics()
    run.finish(epochs=len(rows), metrics={"value_last": rows[-1]["value"]})


DICE = Experiment(
    paper="games",
    description="Throw dice.",
    settings=Settings,
    load=lambda settings, device: Made(settings.dataset),
    session=lambda settings, data: f"throw_{data}",
    defaults=defaults,
    published=lambda settings, data: {"value_last": 0.5} if settings.epochs == 9 else None,
    shorthands={
        "-gpu": ("--device", "cuda"),
        "-gpu N": ("--device", "cuda:N"),
        "--cont False": ("--no-resume",),
        "--cont": (),
    },
)


def name(*words: str) -> str:
    settings = DICE.parse(words)
    return DICE.name(settings, settings.dataset)


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        (["-data", "coins"], "dataset", "coins"),
        (["--hidden", "3", "5"], "hidden", (3, 5)),
        (["--rand-Kill", "0.5"], "rand_kill", None),
        (["--randKill", "0.5"], "rand_kill", 0.5),
        (["--data_root", "x", "--lr=2", "--lr", "3"], "lr", 3.0),
        (["-gpu"], "device", "cuda"),
        (["-gpu", "12"], "device", "cuda:12"),
        (["--Nsides", "8"], "sides", 8),
        (["-gpu", "--lr", "3"], "device", "cuda"),
        (["--cont", "False"], "resume", False),
        (["--cont", "--steps", "7"], "steps", 7),
        (["--no-resume"], "resume", False),
        (["--preset", "published"], "lr", 0.5),
        (["--preset", "published", "--lr", "0.3"], "lr", 0.3),
        (["--lr", "0.1", "--preset", "published"], "lr", 0.1),
        (["--quick"], "epochs", 1),
        (["--quick", "--epochs", "5"], "epochs", 5),
    ],
)
def test_options_and_their_spellings(words, field, value):
    if value is None:
        with pytest.raises(UserError, match="Unrecognized options: --rand-Kill"):
            DICE.parse(words)
    else:
        assert getattr(DICE.parse(words), field) == value


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--lr", "0"], r"^--lr 0.0 must be above 0$"),
        (["--lr", "nan"], r"^--lr nan must be above 0 and finite$"),
        (["--randKill", "inf"], r"^--randKill inf must be finite$"),
        (["--hidden", "3", "-1"], r"^--hidden -1 must be above 0$"),
        (["--validation", "1"], r"^--validation 1.0 must be 0 or above and below 1$"),
        (["--threads", "0"], r"^--threads 0 must be above 0$"),
        (["--steps", "2", "--frozen"], "contradicts"),
        (["--dataset", "cards"], r"'cards'.*Expected one of \('dice', 'coins'\); --help"),
        (["--nothing"], r"^Unrecognized options: --nothing; --help lists the options$"),
        (["--epoch", "3"], r"^Unrecognized options: --epoch, 3; did you mean --epochs\?$"),
        (["--seed"], r"^Missing value for argument '--seed'"),
        (["--seed", "x"], r"^Error parsing --seed: .*'x'; --help lists"),
    ],
)
def test_bad_words_are_one_sentence(words, sentence, capsys):
    with pytest.raises(UserError, match=sentence) as caught:
        DICE.parse(words)
    assert "\n" not in str(caught.value)
    assert "│" not in str(caught.value)
    assert capsys.readouterr().err == ""


def test_help_gives_defaults_of_the_preset_and_the_paper_s_values(capsys):
    with pytest.raises(SystemExit) as ended:
        DICE.parse(["--preset", "published", "--help"])
    assert not ended.value.code
    words = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for expected in (
        "Throw dice.",
        "-gpu --device cuda",
        "Step size. (default: 0.5, paper: 0.5)",
        "Throws. (default: 9, paper: 9)",
        "Neurons of each layer. (default: 4)",
        "--dataset {dice,coins}",
    ):
        assert expected in words


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "throw_dice"),
        (["-data", "coins", "--seed", "3", "--threads", "1"], "throw_coins"),
        (["--lr", "0.2"], "throw_dice_lr-0.2"),
        (["--epochs", "5", "--steps", "8", "--frozen"], None),
        (["--epochs", "5", "--steps", "8"], "throw_dice_T8_5-epochs"),
        (["--hidden", "3", "5", "--frozen"], "throw_dice_hidden-3-5_frozen"),
        (["--randKill", "0.5"], "throw_dice_randKill-0.5"),
        (["--preset", "published"], "throw_dice_published"),
        (["--preset", "published", "--lr", "0.1"], "throw_dice_lr-0.1_published"),
        (["--quick"], "throw_dice_quick"),
        (["--quick", "--epochs", "5"], "throw_dice_5-epochs_quick"),
    ],
)
def test_a_name_says_what_differs(words, expected):
    if expected is None:
        with pytest.raises(UserError):
            name(*words)
    else:
        assert name(*words) == expected


def test_a_switch_is_named_by_its_word_on_or_off():
    @dataclass(frozen=True)
    class Switched(Settings):
        train_norm: Annotated[bool, Named("norm")] = True
        whole: bool = True

    switched = replace(DICE, settings=Switched, defaults=lambda asked: Switched())
    settings = switched.parse(["--no-train-norm", "--no-whole"])
    assert switched.name(settings, "dice") == "throw_dice_no-norm_no-whole"
    off = replace(switched, defaults=lambda asked: Switched(train_norm=False, whole=False))
    settings = off.parse(["--train-norm", "--whole"])
    assert off.name(settings, "dice") == "throw_dice_norm_whole"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--device", "cpu", "-gpu"], "--device cpu contradicts -gpu: give one of them"),
        (["-gpu", "--device", "cpu"], "--device cpu contradicts -gpu: give one of them"),
        (["-gpu", "--device=cpu"], "--device cpu contradicts -gpu: give one of them"),
        (["-gpu", "--no-gpu"], "--no-gpu contradicts -gpu: give one of them"),
    ],
)
def test_a_shorthand_that_is_contradicted_is_refused(words, said):
    switches = {"-gpu": ("--device", "cuda"), "--no-gpu": ("--device", "cpu")}
    short = replace(DICE, shorthands=switches)
    with pytest.raises(UserError, match=said):
        short.parse(words)
    assert short.parse(["--device", "cuda", "-gpu", "--seed", "3"]).device == "cuda"


@pytest.fixture
def run(tmp_path, monkeypatch) -> Callable[..., dict[str, Any]]:
    monkeypatch.chdir(tmp_path)

    def do(*words: str, experiment: Experiment = DICE) -> dict[str, Any]:
        settings = experiment.parse(words)
        experiment.run(settings, throw)
        folder = experiment.folder(settings, settings.dataset)
        return json.loads((folder / "result.json").read_text())

    return do


def test_a_run_lies_below_its_paper_and_says_what_it_is(run, tmp_path, capsys):
    result = run("--epochs", "9", "--seed", "4")
    assert (tmp_path / "runs/games/throw_dice_9-epochs/seed4/result.json").exists()
    assert (result["experiment"], result["paper"]) == ("throw_dice_9-epochs", "games")
    assert (result["dataset"], result["published"]) == ("dice", {"value_last": 0.5})
    assert result["options"]["hidden"] == [4]
    assert run("--epochs", "9", "--seed", "4") == result
    assert "already in runs/games/throw_dice_9-epochs/seed4" in capsys.readouterr().out
    assert run("--quick")["published"] is None


def test_a_finished_run_grows_and_equals_one_of_that_length(run, tmp_path):
    short = run("--epochs", "2", "--out", "a")
    long = run("--epochs", "5", "--out", "a")
    assert long["metrics"] == run("--epochs", "5", "--out", "b")["metrics"] != short["metrics"]
    rows = [(tmp_path / x / "metrics.jsonl").read_bytes() for x in ("a", "b")]
    assert rows[0] == rows[1]
    assert json.loads((tmp_path / "a/result.2-epochs.json").read_text()) == short


@pytest.mark.parametrize(
    "first", [("throw_coins", 0, None), ("throw_dice", 1, None), ("throw_dice", 0, {"samples": 6})]
)
def test_a_process_with_other_options_or_data_than_the_first_is_refused(
    run, tmp_path, monkeypatch, first
):
    monkeypatch.setattr(parallel, "of_first", lambda work: first)
    with pytest.raises(UserError, match="different options or data"):
        run()
    assert not (tmp_path / "runs").exists()


def test_a_program_that_shares_no_batches_is_one_process(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["throw.py"])
    assert DICE.parse() == Settings()
    monkeypatch.setattr(parallel, "processes", lambda: 2)
    with pytest.raises(UserError, match="start it without torchrun"):
        DICE.parse()
    assert replace(DICE, shares_batches=True).parse() == Settings()


def test_another_program_with_the_same_options_is_refused(run, tmp_path):
    found = run("--epochs", "2", "--out", "a")
    other = replace(DICE, session=lambda settings, data: f"roll_{data}")
    for name in ("config.json", "checkpoint.pt"):
        for words in (("--epochs", "2", "--out", "a"), ("--epochs", "5", "--out", "a")):
            with pytest.raises(UserError, match="holds a run of throw_dice, not of roll_dice;"):
                run(*words, experiment=other)
        (tmp_path / "a" / name).unlink()
    assert run("--epochs", "2", "--out", "a") == found
    plain = replace(other, settings=experiment.Settings, defaults=None, published=lambda *_: None)
    plain = replace(plain, load=lambda settings, device: Made("dice"), shorthands={})
    with pytest.raises(UserError, match="holds a run of throw_dice, not of roll_dice;"):
        plain.run(plain.parse(["--out", "a"]), throw)


def test_what_cannot_grow_says_why(run, tmp_path):
    run("--epochs", "3", "--out", "a")
    before = (tmp_path / "a/result.json").read_bytes()
    whole = replace(DICE, grows=lambda settings: False)
    with pytest.raises(UserError, match="whose schedule depends on their number"):
        run("--epochs", "5", "--out", "a", experiment=whole)
    with pytest.raises(UserError, match="holds a run of 3 epochs, more than 2; choose another"):
        run("--epochs", "2", "--out", "a")
    (tmp_path / "a/checkpoint.pt").unlink()
    with pytest.raises(UserError, match="without its checkpoint, so it cannot go on to 5"):
        run("--epochs", "5", "--out", "a")
    assert (tmp_path / "a/result.json").read_bytes() == before


def test_settings_come_back_from_a_run_s_folder(run, tmp_path):
    words = ["--hidden", "3", "5", "--data-root", "x", "--lr", "0.3", "--out", "a"]
    run(*words)
    assert DICE.saved(tmp_path / "a") == DICE.parse(words)
    (tmp_path / "a/config.json").unlink()
    without = DICE.parse([*words[:3], *words[5:7]])  # result.json has what decides the result
    assert DICE.saved(tmp_path / "a") == without
    with pytest.raises(UserError, match="holds no run"):
        DICE.saved(tmp_path)
    other = replace(DICE, settings=experiment.Settings)
    with pytest.raises(UserError, match=r"another program: nothing here has dataset, epochs"):
        other.saved(tmp_path / "a")
    (tmp_path / "a/result.json").write_text("{")
    with pytest.raises(UserError, match="does not say the run's options"):
        DICE.saved(tmp_path / "a")
