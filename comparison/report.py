"""The page of the comparison, docs/comparison.md, and its figures, from what results/ holds.

    python -m comparison.report            write the page and the figures
    python -m comparison.report --check    fail where the page does not say what results/ holds

No number is typed. What is missing is named. An entry is the mean over seeds and, from three seeds
on, the half width of its 95 % interval by Student's t.
"""

import shared.waiting

import argparse
import dataclasses
import itertools
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from comparison import registry
from comparison.figures import SETS, Cost, draw_all
from comparison.interface import Choice
from comparison.measures import BITS, IN_BATCH
from comparison.run import (
    DROPOUT,
    FEW_COMPARED,
    GOALS,
    LAST_LOOKS,
    LOOKS,
    MANY_SEEDS,
    SEEDS,
    SHORT_STEPS,
    TASKS_COMPARED,
    n_seeds,
)
from comparison.tables import (
    LOST_BITS,
    Column,
    Kind,
    cell,
    dropout_of,
    markdown,
    rules_of,
    stored,
    table,
    words_of_rules,
)
from shared.errors import UserError
from shared.figures import counted
from shared.options import script
from shared.report import with_table
from shared.run import REPOSITORY

BEGIN, END = "<!-- comparison: written by `nox -s report` -->", "<!-- end of comparison -->"
EDITIONS = {"paper": "at the papers' settings", "tuned": "tuned, 20 choices each"}
EPOCHS = 20
STEPS_OF_AN_EPOCH = 500

MAIN = (
    Column("test accuracy (%)", "test_accuracy_last"),
    Column("energy (µJ)", "energy_uj", 1, ".3f"),
    Column("ACs (10³)", "Effective_ACs", 1e-3, ".1f"),
    Column("MACs (10³)", "Effective_MACs", 1e-3, ".1f"),
    Column("Dense (10³)", "Dense", 1e-3, ".0f"),
    Column("spikes per neuron", "spikes_per_neuron", 1),
    Column("silent neurons (%)", "silent_neurons", 100, ".1f"),
    Column("angle (°)", "angle_last", 1, ".1f"),
    Column("epochs to goal", "epochs_to_goal", 1, ".1f"),
)
FEW = {
    percent: (
        Column(f"{percent} %", "test_accuracy_last"),
        Column(f"{percent} %, mean of {LAST_LOOKS} looks", "test_accuracy_mean_of_last_looks"),
        Column(f"{percent} %, on the images learned", "train_accuracy_last"),
    )
    for percent in (10, 1)
}
FEW_WORDS = f"""With few of the labels, accuracy in percent on test images after the last epoch,
its mean over the last {LAST_LOOKS} of {LOOKS} looks, which lie evenly over the training, and that
on the images that were learned. Where the last is low, what was missing is not labels but steps, or
the rule cannot learn these images. Where the first two differ, the network wanders: an epoch of one
percent is five steps. Over 100 and 1,000 epochs the step size falls from the same first to the same
last value as over 20.
"""
DROPOUT_WORDS = """Controls: training drops another share of input and hidden units than the rule's
own, see the last table.
"""
ROBUST = (
    Column("undistorted", "test_accuracy_undistorted", 100, ".1f"),
    Column("Gaussian, sd 0.3", "test_accuracy_gaussian_0.3", 100, ".1f"),
    Column("salt and pepper 0.2", "test_accuracy_salt_pepper_0.2", 100, ".1f"),
    Column("occlusion 0.4", "test_accuracy_occlusion_0.4", 100, ".1f"),
    Column("weight noise 0.2", "test_accuracy_weight_noise_0.2", 100, ".1f"),
    *(Column(f"{bits} bits", f"test_accuracy_{bits}_bits", 100, ".1f") for bits in BITS),
    *(Column(f"after {x} %", f"test_accuracy_after_{x}", 100, ".1f") for x in (25, 50, 75)),
)
ROBUST_WORDS = (
    "Robustness on the first 2,000 test images, and early decisions on all, accuracy in percent.\n"
    "The table has all rules, figures the first of each family.\n"
)
HOW = (("alone", ""), ("in its batch", IN_BATCH))
IN_BATCH_COLUMNS = tuple(
    Column(f"{words}, {how}", metric + ending, factor, form)
    for words, metric, factor, form in (
        ("all (%)", "test_accuracy_last", 100, ".2f"),
        ("undistorted (%)", "test_accuracy_undistorted", 100, ".2f"),
        ("Gaussian, sd 0.3 (%)", "test_accuracy_gaussian_0.3", 100, ".2f"),
        ("occlusion 0.4 (%)", "test_accuracy_occlusion_0.4", 100, ".2f"),
        ("energy (µJ)", "energy_uj", 1, ".3f"),
    )
    for how, ending in HOW
)
IN_BATCH_FEW = tuple(
    Column(f"{words}, {how}", metric + ending, factor, form)
    for words, metric, factor, form in (
        ("all test images (%)", "test_accuracy_last", 100, ".2f"),
        ("energy (µJ)", "energy_uj", 1, ".3f"),
    )
    for how, ending in HOW
)
IN_BATCH_TASKS = tuple(
    Column(f"{words}, {how}", metric + ending)
    for words, metric in (
        ("mean of five tasks (%)", "test_accuracy_of_tasks"),
        ("each when it was learned (%)", "test_accuracy_when_learned"),
        ("forgetting (points)", "forgetting"),
    )
    for how, ending in HOW
)
IN_BATCH_WORDS = """## Rules that adapt to what they are tested on

As published a trace moves with the batch of 100 test images that is shown, so that an answer
depends on the other images, too; no other rule's does. Everywhere else on this page traces stay as
training left them, so that each image is answered alone.
"""
SUMMARY = [
    Column("energy (µJ)", "energy_uj", 1),
    Column("lost with 4 bits (points)", LOST_BITS, 100, ".1f"),
]
CONTINUAL_WORDS = """## Five shuffled tasks in a row, without masks or replay

The pixels of the first task are as they are, those of each other one in an order of its own, drawn
by the seed, the same for all rules. Each is learned for four epochs, over which the step size falls
as over 20; it begins anew with the next, while what an optimizer remembers is kept. All tasks share
network and outputs. Forgetting: by how much each task but the last is worse at the end than at its
best since it was learned, on average.
"""
CONTINUAL = (
    Column("mean of five tasks (%)", "test_accuracy_of_tasks"),
    Column("each when it was learned (%)", "test_accuracy_when_learned"),
    Column("forgetting (points)", "forgetting"),
)

WANTED = (
    *(Kind(dataset, edition) for dataset in SETS for edition in EDITIONS),
    *(Kind(dataset, labels=percent) for dataset in SETS for percent in (10, 1)),
    *(Kind("mnist", labels=1, dropout=share) for share in DROPOUT.values()),
    Kind("mnist", permuted=True),
)
"""What the full comparison has of every rule."""


def write(runs: pd.DataFrame, page: Path, figures: Path, costs: Path | None = None) -> None:
    """Write the page, and draw its figures.

    Args:
        runs: see `tables.load`.
        page: the file.
        figures: folder of the figures.
        costs: bench.json of the training steps, if it is there.
    """
    seconds = {
        rule: Cost(*(ms / 1e3 * STEPS_OF_AN_EPOCH * EPOCHS for ms in (of.ms, of.least, of.most)))
        for rule, of in measured_costs(costs).items()
    }
    for kind in kinds_of(runs):
        draw_all(runs, kind, seconds, figures, name_of(kind))
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(text(runs, page, figures, costs))


def text(runs: pd.DataFrame, page: Path, figures: Path, costs: Path | None) -> str:
    """The page, with those figures that are there; arguments as in `write`."""
    guide = os.path.relpath(REPOSITORY / "comparison" / "README.md", page.parent)
    parts = [HEAD.format(guide=Path(guide).as_posix()), reduced(runs) or None, missing(runs)]
    for kind in kinds_of(runs):
        title = f"{SETS.get(kind.dataset, kind.dataset)}, {EDITIONS[kind.edition]}"
        parts += [f"## {title}\n", table({kind: MAIN}, runs), ""]
        few = {kind._replace(labels=percent): columns for percent, columns in FEW.items()}
        if any(rules_of(one.of(runs)) for one in few):
            whole = {kind: (Column("all labels", "test_accuracy_last"),)}
            parts += [FEW_WORDS, table({**whole, **few}, runs), ""]
        if kind.edition == "paper":
            parts += [dropout(runs, kind.dataset)]
        parts += [ROBUST_WORDS]
        parts += [table({kind: ROBUST}, runs), "", pictures(kind, page, figures)]
    parts += [
        adapting(runs),
        continual(runs),
        step_costs(measured_costs(costs), runs),
        chosen(runs),
    ]
    names = list(registry.found()[0])
    parts += [
        "## What a synapse of the hidden layer must be told\n",
        words_of_rules(names, "locality"),
        "",
    ]
    parts += ["## What is the rule's own in the protocol\n", words_of_rules(names, "protocol")]
    return "\n".join(part for part in parts if part is not None).rstrip() + "\n"


def dropout(runs: pd.DataFrame, dataset: str) -> str | None:
    """What other shares of dropout than a rule's own come to with 1 % of the labels, if any ran."""
    shares = sorted(set(dropout_of(runs).dropna()))
    rows = []
    for name in registry.found()[0]:
        kinds = [Kind(dataset, labels=1, dropout=share) for share in (None, *shares)]
        there = {kind.dropout: of for kind in kinds if len(of := kind.of_rule(runs, name))}
        if set(there) - {None}:
            rows += [
                [
                    registry.rule_of(name).title,
                    "its own" if share is None else f"{share:g}",
                    str(len(of)),
                    *(cell(of, column) for column in FEW[1]),
                ]
                for share, of in there.items()
            ]
    head = ["Rule", "dropped", "Seeds", *(column.title for column in FEW[1])]
    return "\n".join([DROPOUT_WORDS, markdown(head, rows), ""]) if rows else None


def summary(runs: pd.DataFrame) -> str:
    """A table of the main numbers for README.md: a row per rule that has runs on MNIST."""
    columns = {
        Kind(dataset, edition): [Column(f"{title}, {edition} (%)", "test_accuracy_last")]
        for dataset, title in SETS.items()
        for edition in EDITIONS
    }
    columns[Kind("mnist")] += SUMMARY
    columns[Kind("mnist", labels=1)] = [
        Column("MNIST, 1 % of the labels (%)", "test_accuracy_mean_of_last_looks", 100, ".1f")
    ]
    columns[Kind("mnist", permuted=True)] = [
        Column("MNIST tasks when learned (%)", "test_accuracy_when_learned", 100, ".1f"),
        Column("forgetting (points)", "forgetting", 100, ".1f"),
    ]
    return table(columns, runs)


def kinds_of(runs: pd.DataFrame) -> list[Kind]:
    """Data sets and editions that have runs with all labels."""
    kinds = [Kind(name, edition) for name in sets_of(runs) for edition in EDITIONS]
    return [kind for kind in kinds if rules_of(kind.of(runs))]


def sets_of(runs: pd.DataFrame) -> list[str]:
    """Data sets that runs are of, those of the full comparison first."""
    there = dict.fromkeys(runs["dataset"]) if len(runs) else {}
    return [name for name in dict.fromkeys((*SETS, *there)) if name in there]


def name_of(kind: Kind) -> str:
    """How the names of a kind's figures begin."""
    return f"cmp_{kind.dataset.removesuffix('_mnist')}_{kind.edition}"


def pictures(kind: Kind, page: Path, figures: Path) -> str:
    """The figures of a kind that are there, as Markdown."""
    begin = name_of(kind)
    lines = []
    for path in sorted(figures.glob(f"{begin}_*.png")):
        words = path.stem.removeprefix(f"{begin}_").replace("-", " ")
        place = Path(os.path.relpath(path, page.parent)).as_posix()
        lines.append(f"![{words}]({place})\n")
    return "\n".join(lines)


def reduced(runs: pd.DataFrame) -> str:
    """What is less than in the full comparison, in words; empty where nothing is."""
    if runs.empty:
        return ""
    trained = runs[~runs["is_search"].astype(bool) & dropout_of(runs).isna()]
    whole = trained[trained["labels"] == 100]
    words = []
    if len(images := whole["images"].dropna()):
        words.append(f"{', '.join(f'{n:.0f}' for n in sorted(set(images)))} training images")
    if few := sorted({int(n) for n in whole["epochs"] if n < EPOCHS}):
        words.append(f"{', '.join(map(str, few))} epochs")
    seeds = whole.groupby(["dataset", "edition", "rule"])["seed"].nunique()
    if len(seeds) and seeds.max() < SEEDS:
        words.append(f"no rule with more than {counted(int(seeds.max()), 'seed')}")
    if whole["quick"].any():
        words.append("runs with --quick, whose numbers mean nothing")
    return f"**A reduced edition**: {'; '.join(words)}.\n" if words else ""


def missing(runs: pd.DataFrame) -> str:
    """Which rules have fewer runs than the others of their kind, or none; or that all have them."""
    lines = []
    for kind in WANTED:
        names = [
            name
            for name in registry.found()[0]
            if kind.dropout is None or DROPOUT.get(name) == kind.dropout
        ]
        seeds = {name: len(kind.of_rule(runs, name)) for name in names}
        wanted = {
            name: n_seeds(name, kind.dataset, kind.labels, permuted=kind.permuted) for name in names
        }
        short = [
            f"{registry.rule_of(name).title} ({wanted[name] - n})"
            for name, n in seeds.items()
            if n < wanted[name]
        ]
        if short:
            is_all = kind.dropout is None and not any(seeds.values())
            what = "all rules" if is_all else ", ".join(short)
            lines.append(f"- {words_of(kind)}: {what}")
    left_out = [f"{module} ({why})" for module, why in registry.found()[1].items()]
    if left_out:
        lines.append(f"- not looked for: rules of {', '.join(left_out)}")
    many = [
        f"{words}{names_of}"
        for words, rules in (
            ("of ", SHORT_STEPS),
            ("with 1 % of MNIST's labels of ", FEW_COMPARED),
            ("with shuffled tasks of ", TASKS_COMPARED),
        )
        if (names_of := titles(rules))
    ]
    more = f", but {MANY_SEEDS} {'; '.join(many)}" if many else ""
    each = f"{SEEDS} seeds each{more}"
    if not lines:
        return (
            "Nothing is missing: with all labels in both editions, with few labels and on tasks in "
            f"a row all rules have their runs, {each}.\n"
        )
    head = f"Missing, in brackets how many. There should be {each}:\n"
    return "\n".join([head, *lines, ""])


def titles(rules: Collection[str]) -> str:
    """Rules in words, in the order of the tables."""
    names = [registry.rule_of(name).title for name in registry.found()[0] if name in rules]
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def words_of(kind: Kind) -> str:
    """A kind of runs in words."""
    few = f", {kind.labels} % of the labels" if kind.labels != 100 else ""
    tasks = ", five shuffled tasks" if kind.permuted else ""
    control = "" if kind.dropout is None else f", dropout {kind.dropout:g}"
    return f"{SETS[kind.dataset]}, {kind.edition} settings{few}{control}{tasks}"


def adapting(runs: pd.DataFrame) -> str:
    """Rules that adapt to a batch of test images, beside the same networks without that."""
    parts = []
    for kind in kinds_of(runs):
        title = f"{SETS.get(kind.dataset, kind.dataset)}, {EDITIONS[kind.edition]}"
        for of, columns, words in (
            (kind, IN_BATCH_COLUMNS, title),
            *(
                (of, IN_BATCH_FEW, f"{title}, {of.labels} % of the labels")
                for of in (kind._replace(labels=10), kind._replace(labels=1))
            ),
            (kind._replace(permuted=True), IN_BATCH_TASKS, f"{title}, five shuffled tasks"),
        ):
            own = of.of(runs)
            if (metric := columns[1].metric) in own and own[metric].notna().any():
                kept = own[own[metric].notna()]
                parts += [f"{words}:\n", table({of: columns}, kept), ""]
    return "\n".join([IN_BATCH_WORDS, *parts]) if parts else ""


def continual(runs: pd.DataFrame) -> str:
    """Five shuffled tasks in a row."""
    parts = []
    names = dict.fromkeys(runs["dataset"]) if len(runs) else {}
    for dataset, edition in itertools.product(names, EDITIONS):
        kind = Kind(dataset, edition, permuted=True)
        if rules_of(kind.of(runs)):
            parts += [f"{SETS.get(dataset, dataset)}, {EDITIONS[edition]}:\n"]
            parts += [table({kind: CONTINUAL}, runs), ""]
    return "\n".join([CONTINUAL_WORDS, *parts]) if parts else ""


class StepCost(NamedTuple):
    """What a training step takes.

    Attributes:
        ms: time, the median over turns.
        least: time of the fastest turn, in ms.
        most: time of the slowest turn, in ms.
        mb: memory at its peak, beyond what is there between steps.
    """

    ms: float
    least: float
    most: float
    mb: float


def measured_costs(path: Path | None) -> dict[str, StepCost]:
    """Cost of a training step by rule.

    Raises:
        UserError: they were measured with several threads, where the runs have one.
    """
    if path is None or not path.exists():
        return {}
    content = json.loads(path.read_text())
    if content["threads"] != 1:
        raise UserError(
            f"{path} was measured with {content['threads']} threads: the comparison's costs are "
            "those of one, as `nox -s bench -- comparison` measures them"
        )
    cases = content["cases"]
    return {
        name: StepCost(
            1e3 * case["wall_median"],
            1e3 * case["wall_least"],
            1e3 * case["wall_most"],
            case["memory_mb"],
        )
        for name, case in cases.items()
    }


def seconds_to_goal(name: str, kind: Kind, runs: pd.DataFrame, ms: float) -> str:
    """Epochs to the goal times the time of their steps; a dash if none."""
    own = kind.of_rule(runs, name)
    return cell(own, Column("", "epochs_to_goal", STEPS_OF_AN_EPOCH * ms / 1e3, ".0f"))


def check_tuned(runs: pd.DataFrame) -> None:
    """Refuse tuned runs that were trained with something else than the stored search chose.

    Args:
        runs: see `tables.load`.

    Raises:
        UserError: one was, or its search is not there.
    """
    if runs.empty or "edition" not in runs:
        return
    names = [field.name for field in dataclasses.fields(Choice)]
    searches = runs[runs["is_search"].astype(bool)]
    best = {
        (row["rule"], row["dataset"]): [row[f"best_{name}"] for name in names]
        for _, row in searches.iterrows()
    }
    for _, row in runs[runs["edition"] == "tuned"].iterrows():
        chosen = best.get((row["rule"], row["dataset"]))
        if chosen != [row[name] for name in names]:
            raise UserError(
                f"{row['folder']} was not trained with what the stored search of {row['rule']} "
                f"chose ({chosen}): delete it and train again"
            )


STEP_WORDS = """## A training step of 100 images, on one core, all in one run

In brackets the fastest and the slowest turn; a step has no seeds. Memory is what a step needs at
its peak beyond network, gradients and optimizer, which stay between steps. Seconds to a goal are
epochs times the step's median time: their ± is that of the epochs alone. The images have as many
bright pixels as MNIST's, a fifth; Fashion-MNIST's have half of them. Steps of rules that visit what
is not zero (the rules on BRP's network, shifting, exact) take up to twice as long there, by the
processor time of whole runs, so that their seconds on Fashion-MNIST are too few by as much.
"""


def step_costs(costs: Mapping[str, StepCost], runs: pd.DataFrame) -> str:
    """Time and memory of a training step, and the time to a goal."""
    if not costs:
        return ""
    kinds = [Kind(dataset, edition) for dataset in SETS for edition in EDITIONS]
    rows = [
        (
            registry.rule_of(name).title,
            f"{step.ms:.1f} ({step.least:.1f} to {step.most:.1f})",
            f"{step.mb:.0f}",
            f"{step.ms / 1e3 * STEPS_OF_AN_EPOCH * EPOCHS:.0f}",
            *(seconds_to_goal(name, kind, runs, step.ms) for kind in kinds),
        )
        for name, step in costs.items()
        if name in registry.found()[0]
    ]
    goals = [
        f"to {100 * GOALS[kind.dataset]:.0f} % on {SETS[kind.dataset]}, {kind.edition} (s)"
        for kind in kinds
    ]
    head = ("Rule", "a step (ms)", "its memory (MB)", "10,000 steps (s)", *goals)
    return "\n".join([STEP_WORDS, markdown(head, rows), ""])


def chosen(runs: pd.DataFrame) -> str:
    """What the searches chose."""
    if runs.empty or not runs["is_search"].any():
        return ""
    searches = runs[runs["is_search"].astype(bool)]
    rows = []
    for dataset, name in itertools.product(sets_of(runs), registry.found()[0]):
        rule = registry.rule_of(name)
        own = searches[(searches["dataset"] == dataset) & (searches["rule"] == name)]
        for _, row in own.iterrows():
            values = [f"{row[f'best_{what}']:.3g}" for what in ("lr", "decay", "scale", "knob")]
            paper, best = (
                f"{100 * row[f'validation_accuracy_{which}']:.2f}" for which in ("paper", "best")
            )
            of = (rule.title, SETS.get(dataset, dataset))
            knob = f"{rule.knob.name}, {rule.knob.low:g} to {rule.knob.high:g}"
            rows.append([*of, *values, knob, paper, best])
    head = ["Rule", "Data set", "step size", "its share at the end", "factor of initial weights"]
    head += ["knob", "which is, from where to where", "paper's (%)", "best (%)"]
    title = (
        "## What the searches chose\n\nOf 20 choices, the paper's and 19 random ones, by the "
        "accuracy on the validation images: all after 400 steps on 10,000 images, the best three "
        "and the paper's after 2,500 on all. The accuracies are those of the long trials.\n"
    )
    return "\n".join([title, markdown(head, rows), ""])


HEAD = """# Five rules, one task

Written by `nox -s report` from the stored runs; nothing here is typed. One hidden layer of 400
neurons, 50,000 images to learn from, 10,000 to validate, 10,000 to test, 20 epochs, batches of 100;
what else a rule needs is its paper's, see the last table. ± is the half width of the 95 % interval
over seeds. The angle lies between the hidden layer's update and the gradient of the same network;
rules have none that learn by that gradient itself, or whose hidden weights follow no error. Few
labels and tasks in a row are learned at the papers' settings only. [What to take from it, and what
it cannot say]({guide}).
"""


def main() -> None:
    """Write the page, or compare it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    parser.add_argument("--results", type=Path, default=REPOSITORY / "results")
    parser.add_argument("--page", type=Path, default=REPOSITORY / "docs" / "comparison.md")
    parser.add_argument("--guide", type=Path, default=REPOSITORY / "comparison" / "README.md")
    args = parser.parse_args()
    runs = stored(args.results / "comparison")
    check_tuned(runs)
    figures = args.results / "figures"
    costs = args.results / "bench" / "comparison" / "bench.json"
    guide = args.guide.read_text()
    guided = with_table(guide, summary(runs), BEGIN, END)
    if args.check:
        if not args.page.exists() or args.page.read_text() != text(runs, args.page, figures, costs):
            raise UserError(f"{args.page.name} differs from results/: run `nox -s report`")
        if guided != guide:
            raise UserError(f"{args.guide.name} differs from results/: run `nox -s report`")
        return
    write(runs, args.page, figures, costs)
    args.guide.write_text(guided)
    print(f"{args.page.name}: {len(runs)} runs")


if __name__ == "__main__":
    script(main)
