"""Pages lead where they say."""

import re
from pathlib import Path

import pytest

from shared.run import REPOSITORY

LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
PAGES = sorted(
    path
    for path in REPOSITORY.rglob("*.md")
    if not {".nox", ".venv", "node_modules"} & set(path.relative_to(REPOSITORY).parts)
)


def links(page: Path) -> list[str]:
    return [link for link in LINK.findall(page.read_text()) if "://" not in link]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_lead_to_files_that_are_there(page):
    missing = [link for link in links(page) if not (page.parent / link).exists()]
    assert not missing


def test_pages_have_links():
    assert sum(len(links(page)) for page in PAGES) > 50


def test_the_site_shows_pages_and_modules_that_are_there():
    pages = re.findall(r": (\S+\.md)$|- (\S+\.md)$", (REPOSITORY / "mkdocs.yml").read_text(), re.M)
    named = [REPOSITORY / (one or other) for one, other in pages]
    assert len(named) > 20
    modules = [
        module for page in named for module in re.findall(r"^::: (\S+)$", page.read_text(), re.M)
    ]
    assert len(modules) > 20
    parts = [REPOSITORY.joinpath(*module.split(".")) for module in modules]
    missing = [x for x in parts if not x.with_suffix(".py").exists() and not x.is_dir()]
    assert not missing
