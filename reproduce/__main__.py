"""The verdicts on all claims, and the figures of several experiments, from results/.

python -m reproduce              write docs/claims.md, numbers and tables of READMEs, figures,
                                 report.html
python -m reproduce --check      fail where a page does not say what results/ holds, and where
                                 a README has typed results
python -m reproduce --list       rows, claims and figures with their state, to the terminal
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from reproduce.bound import Binder
from reproduce.declared import Reproduction, read_all
from reproduce.figures import draw_figures
from reproduce.page import write_page
from reproduce.prose import ALLOWED, readmes, strays
from reproduce.states import listing, stored_results
from reproduce.verdicts import Decision, bound, decide, measured, of_first_seeds, told_p
from shared.errors import UserError
from shared.options import script
from shared.report import load_results, with_table
from shared.run import REPOSITORY

HEAD = """# Claims and verdicts

Sentences of the papers and of their published programs that numbers can decide. Written by `nox -s
report` from `*/reproduction.toml` and the `result.json` files; no verdict is typed. The difference
is that of the means with its 95 % interval: of the two measured quantities, or of ours from the
number that stands beside it. A claim holds where it is above its margin or within it. Intervals
are Student's over seeds alone, not over test samples; both sides are paired over the seeds that
they have in common, where these are three at least ("5 and 3, 3 pairs" rests on three), else they
are Welch's ("unpaired"). Of counted networks, which differ in their initial weights, they are
Wilson's. A verdict waits for all seeds that the rows declare; until then the difference is that of
the seeds that both sides have, if there are any. It stands where p is 5 % at most, which is after
Holm's correction over all claims of a paper, those without runs included; a claim about one run
has no p. "Across the margin" says that the interval holds differences of which some would make the
claim hold and others not: three seeds, corrected so, show only what is many times their spread.

These rows got more seeds after claims of theirs had been looked at with three: of BRP-SNN the rate
networks 784-1000-10 and the spiking networks 784-1000-10 of three epochs; of hybrid plasticity the
simple example; of the comparison shifting and the exact gradient, and smooth gradients. The
comparison's ReLU network, and STL with 1 % of the labels, got more seeds after a look at three but
before any claim named them; the claims came with them or later. Such verdicts are easier to come by
than 5 % says. "(after a look)" marks a claim that was written, or got other runs or another bound,
when runs of every side that it compares had been seen; a verdict on it describes these runs and
foretells nothing. Of other claims runs of one side may have been known. Four claims at the settings
of DRTP's table (`brp_rate_BP_table` and so on) were left out for a few hours once one seed of three
of them had been seen; they stand here again.

"""
BEGIN, END = "<!-- claims: written by `nox -s report` -->", "<!-- end of claims -->"
COLUMNS = (
    "Claim", "Says who", "Published", "Difference", "Holds if it is", "Seeds", "p", "Verdict",
)  # fmt: skip


def claims_table(decisions: Sequence[Decision]) -> str:
    """A Markdown table of decided claims."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for decision in decisions:
        claim = decision.claim
        reason = f" ({decision.reason})" if decision.reason else ""
        cells = (
            claim.says,
            f"[{claim.source}]({claim.link})" if claim.link else claim.source,
            claim.published or "a comparison",
            measured(decision),
            bound(claim),
            decision.sample,
            told_p(decision),
            f"**{decision.verdict}**{reason}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def first_seeds(reproductions: Sequence[Reproduction], results: pd.DataFrame) -> str:
    """Which verdicts would read otherwise had no row more than three seeds, in a sentence."""
    moved = []
    for reproduction in reproductions:
        pairs = zip(
            decide(reproduction, results), of_first_seeds(reproduction, results), strict=True
        )
        moved += [
            f"`{now.claim.name}` ({few.verdict})"
            for now, few in pairs
            if now.verdict != few.verdict
        ]
    words = ", ".join(moved) or "none"
    return f"With the first three seeds of every row alone these verdicts would differ: {words}."


def page(reproductions: Sequence[Reproduction], results: pd.DataFrame) -> str:
    """The content of docs/claims.md."""
    parts = [HEAD, first_seeds(reproductions, results), "\n\n"]
    for reproduction in reproductions:
        if reproduction.claim:
            title = f"## [{reproduction.paper}](../{reproduction.paper}/README.md)"
            parts += [title, "\n\n", claims_table(decide(reproduction, results)), "\n\n"]
    return "".join(parts).rstrip() + "\n"


def front_table(reproductions: Sequence[Reproduction], results: pd.DataFrame) -> str:
    """README.md's table: the claims that are declared to stand there."""
    decisions = [d for r in reproductions for d in decide(r, results) if d.claim.front]
    return claims_table(decisions)


def pages(
    claims: Path, repository: Path, reproductions: Sequence[Reproduction], results: pd.DataFrame
) -> dict[Path, str]:
    """What each page should hold, by its path.

    Args:
        claims: path of the page of claims.
        repository: the folder that has the READMEs.
        reproductions: what is declared.
        results: as `load_results` gives them.

    Raises:
        UserError: a README lacks the marks of its table, or a mark in it names nothing.
    """
    binder = Binder.of(reproductions, results)
    texts = {claims: page(reproductions, results)}
    for path, _ in readmes(repository, reproductions):
        text = path.read_text()
        if path.parent == repository:
            text = with_table(text, front_table(reproductions, results), BEGIN, END)
        try:
            texts[path] = binder.filled(text)
        except UserError as error:
            raise UserError(f"{path}: {error}") from error
    return texts


def main() -> None:
    """Write the pages and figures, check the pages, or print the list."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing, compare")
    parser.add_argument("--list", action="store_true", help="rows, claims, figures to the terminal")
    parser.add_argument("--results", type=Path, default=REPOSITORY / "results")
    parser.add_argument("--page", type=Path, default=REPOSITORY / "docs" / "claims.md")
    parser.add_argument("--html", type=Path, default=REPOSITORY / "report.html")
    parser.add_argument(
        "--repository", type=Path, default=REPOSITORY, help="the folder that has the READMEs"
    )
    args = parser.parse_args()
    reproductions = read_all()
    if args.list:
        print(listing(reproductions, stored_results(args.results)))
        return
    results = load_results(args.results)
    for path, text in pages(args.page, args.repository, reproductions, results).items():
        if not args.check:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            raise UserError(f"{path} differs from results/: run `nox -s report`")
    if args.check:
        if found := strays(args.repository, reproductions):
            lines = "\n".join(map(str, found))
            raise UserError(
                f"{len(found)} results are typed in READMEs: leave them to the tables, or end the "
                f"line with {ALLOWED}\n{lines}"
            )
    else:
        figures = args.results / "figures"
        drawn = draw_figures(reproductions, results, figures)
        write_page(reproductions, results, figures, args.html)
        names = ", ".join(path.name for path in (args.page, args.html))
        print(f"{names}, READMEs and {len(drawn)} figures: {', '.join(drawn)}")


if __name__ == "__main__":
    script(main)
