"""What the tuned edition is trained with: the best of 20 trials, the same budget for every rule.

    python comparison/search.py --rule brp
    python comparison/search.py --rule brp --dataset fashion_mnist

The first trial has the values of the rule's paper. The others are drawn at random by
scikit-learn's sampler: the step size within a factor of 20 of the paper's, its share at the end
from 0.01 to 1, the factor of the initial weights from 0.2 to 5, and one knob of the rule's own
within its range, all by their logarithms. A trial sees 10,000 training images four times; the
validation part chooses. Each trial is a line of metrics.jsonl; a search that was interrupted goes
on behind the last of them. `run.py --edition tuned` takes the best.
"""

import shared.waiting

import dataclasses
import math
from dataclasses import asdict, dataclass, replace
from typing import Annotated

import torch
from scipy.stats import loguniform
from sklearn.model_selection import ParameterSampler

from comparison import registry, run
from comparison.data import Data, DataName
from comparison.interface import Choice, Rule
from comparison.measures import accuracy
from comparison.tuned import search_name
from shared import experiment
from shared.errors import UserError
from shared.experiment import UNNAMED, Experiment, Positive
from shared.options import script
from shared.run import Run

TRIALS, EPOCHS, IMAGES, TESTED = 20, 4, 10_000, 5000
LR_FACTOR, SCALE_FACTOR, LEAST_DECAY = 20.0, 5.0, 0.01


@dataclass(frozen=True)
class Settings(experiment.Settings):
    """The options."""

    rule: Annotated[str, UNNAMED] = "shifting"
    """How the network learns."""
    dataset: Annotated[DataName, UNNAMED] = "mnist"
    """Data set."""
    trials: Positive[int] = TRIALS
    """Random choices, the paper's own among them."""
    epochs: Positive[int] = EPOCHS
    """Passes of a trial."""
    images: Positive[int] = IMAGES
    """Training images of a trial, the first ones."""
    threads: Annotated[Positive[int] | None, UNNAMED] = 1
    """CPU threads."""

    def check(self) -> None:
        """Refuse rules that are not there, and trials without a step."""
        registry.rule_of(self.rule)
        batch = run.Settings.batch_size
        if self.images < batch:
            raise UserError(f"--images {self.images}: a step takes {batch} images, give that many")


def drawn(rule: Rule, trials: int, seed: int) -> list[Choice]:
    """The choices that are tried; the paper's is the first."""
    paper = rule.choice
    space = {
        "lr": loguniform(paper.lr / LR_FACTOR, paper.lr * LR_FACTOR),
        "decay": loguniform(LEAST_DECAY, 1),
        "scale": loguniform(1 / SCALE_FACTOR, SCALE_FACTOR),
        "knob": loguniform(rule.knob.low, rule.knob.high),
    }
    sampler = ParameterSampler(space, trials - 1, random_state=seed)
    return [paper, *(Choice(**{name: float(x) for name, x in one.items()}) for one in sampler)]


def score(
    settings: Settings, rule: Rule, choice: Choice, data: Data, device: torch.device
) -> float:
    """Validation accuracy of a trial; 0 where it ran away."""
    asked = run.Settings(rule=settings.rule, seed=settings.seed, **asdict(choice))
    learner = run.build(asked, rule, data, device)
    shown = data.train.first(settings.images)
    try:
        for epoch in range(1, settings.epochs + 1):
            learner.begin(epoch - 1, settings.epochs)
            run.train_epoch(learner, shown, asked.batch_size, settings.seed, epoch)
        return accuracy(learner, data.validation.first(TESTED), asked.batch_size)
    except UserError as error:
        print(f"ran away: {error}", flush=True)
        return 0.0


def search(settings: Settings, data: Data, device: torch.device, run_: Run) -> None:
    """Try all choices, and write the best of them."""
    rule = registry.rule_of(settings.rule)
    choices = drawn(rule, settings.trials, settings.seed)
    saved = run_.load()
    done = 0 if saved is None else saved[0]
    for number, choice in enumerate(choices[done:], done + 1):
        value = score(settings, rule, choice, data, device)
        run_.log(number, {"validation_accuracy": value, **asdict(choice)})
        run_.save(number, {"trials": number})
    rows = run_.metrics()
    best = max(rows, key=lambda row: row["validation_accuracy"])
    names = [field.name for field in dataclasses.fields(Choice)]
    if not all(math.isfinite(best[name]) for name in names):
        raise UserError("the best trial is no number: mend metrics.jsonl, or search anew")
    run_.finish(
        epochs=settings.epochs,
        metrics={
            "validation_accuracy_best": best["validation_accuracy"],
            "validation_accuracy_paper": rows[0]["validation_accuracy"],
            "best_trial": best["epoch"],
            "trials": len(rows),
            **{f"best_{name}": best[name] for name in names},
        },
    )


def defaults(asked: Settings) -> Settings:
    """What options that are not given start from."""
    return replace(Settings(), trials=3, epochs=1, images=500) if asked.quick else Settings()


EXPERIMENT: Experiment[Settings, Data] = Experiment(
    paper="comparison",
    description=__doc__,
    settings=Settings,
    load=lambda settings, device: run.load_data(run.Settings(
        dataset=settings.dataset, data_root=settings.data_root, quick=settings.quick), device),
    session=lambda settings, data: search_name(settings.rule, run.short(data)),
    defaults=defaults,
    grows=lambda settings: False,
    prepare=lambda settings: run.prepared(settings.rule, settings),
)  # fmt: skip


if __name__ == "__main__":
    script(lambda: EXPERIMENT.main(search))
