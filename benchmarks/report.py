"""The tables of docs/performance.md, from the bench.json files under results/bench/.

    python benchmarks/report.py           `nox -s report` calls it, too
    python benchmarks/report.py --check   write nothing, fail where the page says something else

What stands between `<!-- bench: FOLDER -->` and `<!-- end of bench -->` is written anew, FOLDER
being one of results/bench/: nobody types it. A benchmark joins with an entry of `TABLES`.
"""

import argparse
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from reproduce.words import counted
from shared.errors import UserError
from shared.options import script
from shared.report import shortened

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs" / "performance.md"
RESULTS = REPOSITORY / "results" / "bench"
MARK = re.compile(r"<!-- bench: (\S+) -->\n(?:(?!<!--).)*<!-- end of bench -->", re.DOTALL)
Cases = Mapping[str, Mapping[str, Any]]


def milliseconds(seconds: float) -> str:
    """A time in ms, with three digits or, from 1000 ms on, without decimals."""
    ms = 1e3 * seconds
    return f"{ms:.0f}" if ms >= 100 else f"{ms:.3g}"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def measured(case: Mapping[str, Any], side: str) -> str:
    """A side's median, least and most ms a step, and its memory in MB."""
    if side not in case["seconds"]:
        return "-"
    t = case["seconds"][side]
    median, *ends = (milliseconds(t[f"wall_{word}"]) for word in ("median", "least", "most"))
    memory = case.get("step_memory_mb", {}).get(side)
    return f"{median} ms ({' to '.join(ends)})" + (f", {memory:.0f} MB" if memory else "")


def ratio(case: Mapping[str, Any], side: str, ours: str) -> str:
    """How many times longer a side takes than ours, by medians; three digits and more."""
    if side not in case["seconds"]:
        return "-"
    times = case["seconds"]
    found = times[side]["wall_median"] / times[ours]["wall_median"]
    return f"{found:.0f}" if found >= 100 else f"{found:.3g}"


def title(name: str, case: Mapping[str, Any], titles: Mapping[str, str]) -> str:
    """What a case is: its paper and own words where it has some, else its title or name."""
    return f"{name.split()[0]}: {case['what']}" if "what" in case else titles.get(name, name)


def sides(ours: str, titles: Mapping[str, str], cases: Cases) -> str:
    """A row a case: every side's time and memory, and how much longer each takes than ours.

    Args:
        ours: the side that all others are divided by.
        titles: of cases that do not say themselves what they are; others keep their names.
        cases: as a bench.json has them.
    """
    named = list(dict.fromkeys(side for case in cases.values() for side in case["seconds"]))
    others = [side for side in named if side != ours]
    head = ["Step", *named, *(f"{side} / {ours}" for side in others)]
    rows = [
        [
            title(name, case, titles),
            *(measured(case, side) for side in named),
            *(ratio(case, side, ours) for side in others),
        ]
        for name, case in cases.items()
    ]
    return markdown(head, rows)


def waiting(cases: Cases) -> str:
    """A row a paper: its step in each state of the machine, by our waiting and the library's."""
    states = list(next(iter(cases.values()))["seconds"]["ours"])
    rows = []
    for name, case in cases.items():
        ours = case["seconds"]["ours"]
        library = case["seconds"].get("library", {})
        cells = [
            milliseconds(ours[state])
            + (f" ({milliseconds(library[state])})" if state in library else "")
            for state in states
        ]
        rows.append([name, *cells, f"{ours['busy'] / ours['idle']:.3g}"])
    return markdown(["Step, ms", *states, "busy / idle"], rows)


def rules(cases: Cases) -> str:
    """A row a rule of the comparison: time and memory of a training step."""
    rows = []
    for name, case in cases.items():
        median, *ends = (milliseconds(case[f"wall_{w}"]) for w in ("median", "least", "most"))
        rows.append([name, f"{median} ms ({' to '.join(ends)})", f"{case['memory_mb']:.0f} MB"])
    return markdown(["Rule", "Time", "Memory"], rows)


def growth(cases: Cases) -> str:
    """A row a paper and quantity: sizes, exponents and laws of time and memory."""
    rows = []
    for row in cases.values():
        for quantity, curves in row["curves"].items():
            laws = [f"{c['exponent']:.2f}, {c['law']}" for c in curves.values()]
            sizes = next(iter(curves.values()))["sizes"]
            grows = f"{quantity}, {sizes[0]} to {sizes[-1]}"
            rows.append([row["what"], grows, *laws, shortened(row["commit"])])
    units = list(next(iter(next(iter(cases.values()))["curves"].values())))
    laws = [f"Exponent and law of {unit}" for unit in units]
    return markdown(["Step", "Grows", *laws, "Commit"], rows)


TABLES: Mapping[str, Callable[[Cases], str]] = {
    "shifting_learning": partial(
        sides,
        "fused",
        {
            "mnist": "784-800-10, batch of 128 digits",
            "tca": "500-3200-22, one trial of 4000 spikes",
        },
    ),
    "brp_snn": partial(
        sides,
        "layerwise",
        {
            f"{network} {mode}": f"{title}, {mode}"
            for network, title in (
                ("mnist_fc", "784-1000-10"),
                ("mnist", "MNIST, convolutional"),
                ("gesture", "DVS Gesture, convolutional"),
            )
            for mode in ("BRP", "BP", "FA", "DFA")
        },
    ),
    "stl_snn": partial(
        sides,
        "fast",
        {
            "layer": "LIF layer alone, forward and backward, 128 x 28 x 28",
            "step": "training step, full width",
            "step_1/4": "training step, 1/4 of the width",
            "step_1/8": "training step, 1/8 of the width",
        },
    ),
    "hybrid_plasticity": partial(
        sides,
        "fast",
        {
            "simple": "simple example, 784-512-10, T = 10, batch 100",
            "multitask": "multitask, 784-1024-1024-10, T = 3, batch 100",
            "classification": "MNIST classifier, full width, T = 10, batch 100",
            "few_shot": "few-shot, 32 episodes",
        },
    ),
    "smooth_gd": partial(
        sides,
        "fast",
        {
            "mnist": "MNIST, 784-100-100-10, batch 1000, float32",
            "lif": "leaky neurons, 5-100-3, batch 64, float64",
            "rnn": "recurrent network, one trial, float64",
        },
    ),
    "against": partial(sides, "ours", {}),
    "waiting": waiting,
    "comparison": rules,
    "growth": growth,
}


class Aim(NamedTuple):
    """A ratio that a benchmark sets itself a bar for.

    Attributes:
        words: what is divided by what.
        ratio: its name in bench.json.
        bar: its bar's name there.
        is_least: the bar is the least that is wanted, not the most.
    """

    words: str
    ratio: str
    bar: str
    is_least: bool = True


AIMS: Mapping[str, Sequence[Aim]] = {
    "shifting_learning": [Aim("plain / fused", "speed_ratio", "bar")],
    "brp_snn": [
        Aim("plain / layerwise", "speed_ratio", "bar"),
        Aim("dense / layerwise", "dense_ratio", "dense_bar"),
        Aim("memory, layerwise / plain", "memory_ratio", "memory_bar", is_least=False),
    ],
    "hybrid_plasticity": [
        Aim("plain / fast", "speed_ratio", "bar"),
        Aim("torch / fast", "ratio_to_torch", "bar_to_torch"),
        Aim("memory, fast / fast_gp", "memory_ratio_hp_to_gp", "memory_bar", is_least=False),
    ],
    "smooth_gd": [
        Aim("others / fast", "speed_ratio", "bar"),
        Aim("memory, others / fast", "memory_ratio", "memory_bar"),
    ],
}
"""Of benchmarks whose cases have one number each; those of STL are by side, see `aimed`."""


def aimed(folder: str, case: Mapping[str, Any]) -> Iterator[tuple[str, float, float, bool]]:
    """Words, ratio, bar and whether it is the least, of all bars of a case."""
    for aim in AIMS.get(folder, ()):
        if case.get(aim.bar) is not None:
            yield aim.words, case[aim.ratio], case[aim.bar], aim.is_least
    for side, bar in case.get("bars", {}).items():
        yield f"{side} / fast", case["speed_ratios"][side], bar, True


def missed(folder: str, cases: Cases) -> str:
    """What was aimed at and not reached, in a sentence; empty where all was."""
    found = [
        f"{case}, {words}: {ratio:.3g} ({'at least' if is_least else 'at most'} {bar:.3g})"
        for case, of in cases.items()
        for words, ratio, bar, is_least in aimed(folder, of)
        if (ratio < bar if is_least else ratio > bar)
    ]
    return f" Aimed at and missed: {'; '.join(found)}." if found else ""


def source(folder: str, content: Mapping[str, Any]) -> str:
    """Where a table's numbers come from, and which bars of its benchmark they miss."""
    path = f"results/bench/{folder}/bench.json"
    named = " ".join(content["processor"].split())
    threads = counted(content["threads"], "thread")
    torch = content["versions"].get("torch", "none")
    return (
        f"[`{path}`](../{path}): {content['device']}, {named}, {threads}, "
        f"commit {shortened(content['commit'])}, torch {torch}, load of the machine before "
        f"{content['load_before']:.1f}.{missed(folder, content['cases'])}"
    )


def section(folder: str) -> str:
    """A benchmark's table and where it comes from.

    Raises:
        UserError: there is no such benchmark, or it was not run.
    """
    if folder not in TABLES:
        raise UserError(f"bench: {folder}: there are {', '.join(TABLES)}")
    file = RESULTS / folder / "bench.json"
    if not file.is_file():
        raise UserError(f"{file} is missing: copy what `nox -s bench -- {folder}` wrote there")
    content = json.loads(file.read_text("utf-8"))
    return f"{TABLES[folder](content['cases'])}\n\n{source(folder, content)}"


def filled(text: str) -> str:
    """A text with all tables between marks written anew.

    Raises:
        UserError: a mark has no end, or names what there is not.
    """
    if MARK.sub("", text).count("<!-- bench: ") or MARK.sub("", text).count("<!-- end of bench"):
        raise UserError("a mark <!-- bench: FOLDER --> needs its <!-- end of bench -->")

    def write(match: re.Match[str]) -> str:
        return f"<!-- bench: {match[1]} -->\n{section(match[1])}\n<!-- end of bench -->"

    return MARK.sub(write, text)


def main() -> None:
    """Write the page's tables anew, or check them.

    Raises:
        UserError: they are to be checked, and say something else than results/bench/.
    """
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    check = parser.parse_args().check
    text = PAGE.read_text("utf-8")
    if not check:
        PAGE.write_text(filled(text), "utf-8")
    elif filled(text) != text:
        raise UserError(f"{PAGE} says something else than {RESULTS}: run `nox -s report`")
    print(f"{PAGE.name}: {len(MARK.findall(text))} tables")


if __name__ == "__main__":
    script(main)
