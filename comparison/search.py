"""What the tuned edition is trained with: the best of 20 choices, the same budget for every rule.

    python comparison/search.py --rule brp
    python comparison/search.py --rule brp --dataset fashion_mnist

The first choice has the values of the rule's paper. The others are drawn at random by
scikit-learn's sampler: the step size within a factor of 20 of the paper's, its share at the end
from 0.01 to 1, the factor of the initial weights from 0.2 to 5, and one knob of the rule's own
within its range, all by their logarithms. The validation part chooses, twice, for what is fast in
400 steps need not be good in 10,000: each choice sees 10,000 training images four times; the best
three and the paper's begin anew and see all 50,000 five times, a quarter of a full training. The
step size falls over a trial in as many stairs as over a full training. Each trial is a line of
metrics.jsonl; a search that was interrupted goes on behind the last of them. `run.py --edition
tuned` takes the best of the long trials.
"""

import shared.waiting

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any

import annotated_types
import torch
from scipy.stats import loguniform
from sklearn.model_selection import ParameterSampler

from comparison import registry, run
from comparison.data import Data, DataName, Part
from comparison.interface import Choice, Learner, Rule
from comparison.measures import accuracy
from comparison.tuned import KNOB_RANGE, search_name
from shared import experiment
from shared.errors import UserError
from shared.experiment import UNNAMED, Experiment, Positive
from shared.options import script
from shared.run import Run

TRIALS, EPOCHS, IMAGES = 20, 4, 10_000
FINALISTS, LONG_EPOCHS, LONG_IMAGES = 4, 5, 50_000
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
    """Passes of a short trial."""
    images: Positive[int] = IMAGES
    """Training images of a short trial, the first ones."""
    finalists: Positive[int] = FINALISTS
    """Choices that get a long trial, too: the paper's and the best of the others."""
    long_epochs: Positive[int] = LONG_EPOCHS
    """Passes of a long trial."""
    long_images: Positive[int] = LONG_IMAGES
    """Training images of a long trial, the first ones."""
    lr_factor: Annotated[float, annotated_types.Ge(1)] = LR_FACTOR
    """The step size is drawn within this factor of the paper's."""
    scale_factor: Annotated[float, annotated_types.Ge(1)] = SCALE_FACTOR
    """The factor of the initial weights is drawn within this factor of 1."""
    least_decay: Annotated[float, annotated_types.Gt(0), annotated_types.Le(1)] = LEAST_DECAY
    """The step size's share at the end is drawn from here to 1."""
    threads: Annotated[Positive[int] | None, UNNAMED] = 1
    """CPU threads."""

    def check(self) -> None:
        """Refuse rules that are not there, and trials without a step."""
        registry.rule_of(self.rule)
        batch = run.Settings.batch_size
        for name in ("images", "long_images"):
            if (n := getattr(self, name)) < batch:
                option = name.replace("_", "-")
                raise UserError(f"--{option} {n}: a step takes {batch} images, give that many")
        if self.finalists > self.trials:
            raise UserError(f"--finalists {self.finalists} are more than --trials {self.trials}")


def drawn(rule: Rule, settings: Settings) -> list[Choice]:
    """The choices that are tried; the paper's is the first."""
    paper = rule.choice
    space = {
        "lr": loguniform(paper.lr / settings.lr_factor, paper.lr * settings.lr_factor),
        "decay": loguniform(settings.least_decay, 1),
        "scale": loguniform(1 / settings.scale_factor, settings.scale_factor),
        "knob": loguniform(rule.knob.low, rule.knob.high),
    }
    sampler = ParameterSampler(space, settings.trials - 1, random_state=settings.seed)
    return [paper, *(Choice(**{name: float(x) for name, x in one.items()}) for one in sampler)]


def learn(learner: Learner, part: Part, batch_size: int, seed: int, epochs: int) -> None:
    """Learn as `run.py` does, but for the stairs of the step size: as many as in a full training.

    Raises:
        UserError: the learning ran away.
    """
    for epoch in range(epochs):
        of = (epoch, epochs)
        run.train_epoch(learner, part, batch_size, seed, epoch + 1, of=of, stairs=run.STAIRS)


def score(
    settings: Settings, choice: Choice, data: Data, device: torch.device, *, is_long: bool
) -> float:
    """Validation accuracy of a trial; 0 where it ran away."""
    rule = registry.rule_of(settings.rule)
    asked = run.Settings(rule=settings.rule, seed=settings.seed, **asdict(choice))
    learner = run.build(asked, rule, data, device)
    images, epochs = (
        (settings.long_images, settings.long_epochs)
        if is_long
        else (settings.images, settings.epochs)
    )
    try:
        learn(learner, data.train.first(images), asked.batch_size, settings.seed, epochs)
        return accuracy(learner, data.validation, asked.batch_size)
    except UserError as error:
        print(f"ran away: {error}", flush=True)
        return 0.0


def finalists(rows: Sequence[dict[str, Any]], number: int) -> list[int]:
    """Which short trials get a long one: the paper's, which is the first, and the best others.

    Args:
        rows: of the short trials.
        number: of finalists.

    Returns:
        Their places, counted from 0.
    """
    others = range(1, len(rows))
    best = sorted(others, key=lambda i: -rows[i]["validation_accuracy"])
    return [0, *best[: number - 1]]


def search(settings: Settings, data: Data, device: torch.device, run_: Run) -> None:
    """Try all choices, the best of them longer, and write the best of these."""
    rule = registry.rule_of(settings.rule)
    choices = drawn(rule, settings)
    saved = run_.load()
    done = 0 if saved is None else saved[0]
    for number in range(done + 1, settings.trials + settings.finalists + 1):
        is_long = number > settings.trials
        place = number - 1
        if is_long:
            short = run_.metrics()[: settings.trials]
            place = finalists(short, settings.finalists)[number - settings.trials - 1]
        value = score(settings, choices[place], data, device, is_long=is_long)
        row = {"trial": place + 1, "is_long": float(is_long), "validation_accuracy": value}
        run_.log(number, row | asdict(choices[place]))
        run_.save(number, {"trials": number})
    long = run_.metrics()[settings.trials :]
    best = max(long, key=lambda row: row["validation_accuracy"])
    names = [field.name for field in dataclasses.fields(Choice)]
    if not all(math.isfinite(best[name]) for name in names):
        raise UserError("the best trial is no number: mend metrics.jsonl, or search anew")
    run_.finish(
        epochs=settings.epochs,
        metrics={
            "validation_accuracy_best": best["validation_accuracy"],
            "validation_accuracy_paper": long[0]["validation_accuracy"],
            "best_trial": best["trial"],
            "trials": settings.trials,
            **{f"best_{name}": best[name] for name in names},
            **dict(zip(KNOB_RANGE, (rule.knob.low, rule.knob.high), strict=True)),
        },
    )


def defaults(asked: Settings) -> Settings:
    """What options that are not given start from."""
    few: dict[str, Any] = {"trials": 3, "epochs": 1, "images": 500, "finalists": 2}
    few |= {"long_epochs": 2, "long_images": 500}
    return replace(Settings(), **few) if asked.quick else Settings()


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
