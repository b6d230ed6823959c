"""Typed results in READMEs: numbers that a new run would make wrong, and nothing would notice.

What is looked for are percentages, spreads ("98.6 ± 0.1") and what follows the word accuracy. A
README may give published numbers, as claims of its paper declare them, numbers between marks that
the report fills in (`reproduce.bound`), and a line that ends with `<!-- no result -->` may say
anything: settings, properties of data, numbers of others.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from reproduce.bound import BOUND
from reproduce.declared import Reproduction

ALLOWED = "<!-- no result -->"
NUMBER = r"\d+(?:\.\d+)?"
SPREAD = rf" ?± ?{NUMBER}"
RESULT = re.compile(
    rf"(?<![\w.])(?:{NUMBER}(?:{SPREAD})? ?%"  # 98 %, 98.6 ± 0.1 %
    rf"|{NUMBER}{SPREAD}"  # 0.14 ± 0.01
    rf"|(?<=accuracy )0\.\d+|(?<=accuracy of )0\.\d+)"
)
# Whose numbers are nobody's prose: generated tables, code, comments.
NO_PROSE = re.compile(
    rf"<!-- \w+: written by .*?<!-- end of \w+ -->|{BOUND.pattern}"
    r"|^```.*?^```|`[^`\n]*`|<!--.*?-->",
    flags=re.DOTALL | re.MULTILINE,
)


class Stray(NamedTuple):
    """A typed result.

    Attributes:
        path: of the file.
        line: its number, from 1.
        number: as it is written.
    """

    path: Path
    line: int
    number: str

    def __str__(self) -> str:
        """The place and the number, as compilers write it."""
        return f"{self.path}:{self.line}: {self.number}"


def strays_in(text: str, path: Path, published: frozenset[str]) -> Iterator[Stray]:
    """The typed results of a text.

    Args:
        text: in Markdown.
        path: that the results are named by.
        published: numbers that may be written, without their units.
    """
    prose = NO_PROSE.sub(_blank, text)
    lines = zip(text.split("\n"), prose.split("\n"), strict=True)
    for number, (line, seen) in enumerate(lines):
        if line.rstrip(" |").endswith(ALLOWED):
            continue
        for found in RESULT.finditer(seen):
            if _value(found[0]) not in published:
                yield Stray(path, number + 1, found[0])


def _blank(match: re.Match[str]) -> str:
    """What has no prose, without its words, on as many lines."""
    return re.sub(r"[^\n]", " ", match[0])


def _value(number: str) -> str:
    """A number without its spread and unit, 97.60 as 97.6."""
    found = re.search(NUMBER, number)
    assert found
    return f"{float(found[0]):g}"


def published_numbers(reproductions: Iterable[Reproduction]) -> frozenset[str]:
    """The numbers that claims declare as published, as `strays_in` takes them."""
    claims = [claim for reproduction in reproductions for claim in reproduction.claim]
    return frozenset(_value(n) for claim in claims for n in re.findall(NUMBER, claim.published))


def readmes(
    repository: Path, reproductions: Iterable[Reproduction]
) -> list[tuple[Path, tuple[Reproduction, ...]]]:
    """READMEs of a repository and of its papers that are there, with what each may speak of.

    Args:
        repository: the folder that has the papers' folders.
        reproductions: what these declare.
    """
    declared = tuple(reproductions)
    folders = [(repository, declared), *((repository / r.paper, (r,)) for r in declared)]
    return [(path, r) for folder, r in folders if (path := folder / "README.md").exists()]


def strays(repository: Path, reproductions: Iterable[Reproduction]) -> list[Stray]:
    """The typed results of a repository's READMEs, of its own and of the papers'.

    Args:
        repository: the folder that has the papers' folders.
        reproductions: what these declare.
    """
    return [
        stray
        for path, declared in readmes(repository, reproductions)
        for stray in strays_in(
            path.read_text(), path.relative_to(repository), published_numbers(declared)
        )
    ]
