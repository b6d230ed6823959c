import base64
import io
import json
import math
import re
import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree.ElementTree import Element

import html5lib
import pytest
from PIL import Image

from reproduce.declared import read, read_all
from reproduce.page import Bar, anchor_of, bar, criterion, picture, render, write_page
from reproduce.verdicts import Comparison, Decision, Verdict
from shared.report import load_results
from shared.run import REPOSITORY

FETCHING = {"src", "srcset", "poster", "action", "formaction", "background", "ping"}


def parsed(html: str) -> Element:
    """The tree of a page that has no error of syntax."""
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    return parser.parse(html)


def words_of(element: Element | None) -> str:
    assert element is not None
    return " ".join("".join(element.itertext()).split())


def of_class(element: Element, name: str) -> list[Element]:
    return [e for e in element.iter() if name in e.get("class", "").split()]


def table_of(path: Path) -> list[list[str]]:
    """The rows of a Markdown page's tables."""
    lines = [line for line in path.read_text().splitlines() if line.startswith("| ")]
    cells = [line.strip("| ").split(" | ") for line in lines]
    heads = {"Claim", "Experiment"}
    return [row for row in cells if row[0] not in heads]


@pytest.fixture(scope="module")
def html() -> str:
    results, figures = load_results(REPOSITORY / "results"), REPOSITORY / "results" / "figures"
    return render(read_all(), results, figures)


@pytest.fixture(scope="module")
def tree(html: str) -> Element:
    return parsed(html)


def commands_of(row: Element, kind: str) -> list[str]:
    """The lines of a row's commands: of its session or of its script."""
    (block,) = (e for e in of_class(row, "command") if kind in e.get("class", "").split())
    return "".join(next(block.iter("pre")).itertext()).splitlines()


def linked(element: Element) -> str:
    """The words of an element, as Markdown where they are a link."""
    links = list(element.iter("a"))
    return f"[{words_of(links[0])}]({links[0].get('href')})" if links else words_of(element)


def items(tree: Element, section: str) -> list[Element]:
    (found,) = (e for e in tree.iter("section") if e.get("id") == section)
    return of_class(found, "item")


def test_every_claim_is_there_with_the_numbers_of_the_markdown_page(tree):
    shown = []
    for item in items(tree, "claims"):
        (verdict,) = of_class(item, "verdict")
        (badge,), reasons = of_class(verdict, "badge"), of_class(verdict, "reason")
        reason = f" ({words_of(reasons[0])})" if reasons else ""
        classes = ("says", "where", "published", "ours", "margin", "seeds", "p")
        cells = [linked(of_class(item, name)[0]) for name in classes]
        shown.append([*cells, f"**{words_of(badge)}**{reason}"])
    assert len(shown) > 25
    assert shown == table_of(REPOSITORY / "docs" / "claims.md")


def test_chips_count_the_verdicts(tree):
    shown = [words_of(of_class(item, "badge")[0]) for item in items(tree, "claims")]
    counts = {v: sum(word == v for word in shown) for v in Verdict}
    assert [words_of(chip) for chip in of_class(tree, "chip")] == [
        f"{verdict} {count}" for verdict, count in counts.items()
    ]


def test_every_row_is_there_with_the_numbers_of_the_markdown_page(tree):
    shown, names = [], []
    for item in items(tree, "rows"):
        cells = [words_of(cell) for cell in item.findall("./tr/td")]
        name = words_of(of_class(item, "says")[0])
        names.append(name)
        measured, published = [], []
        for tables in of_class(item, "numbers"):
            for row in tables.findall("./tbody/tr"):
                words, value, printed = map(words_of, row)
                measured.append(f"{words}: {value}")
                published += [f"{words}: {printed}"] if printed != "–" else []
        if of_class(item, "device"):
            (device,), (commit,) = of_class(item, "device"), of_class(item, "commit")
            stated = ["; ".join(measured), "; ".join(published) or "not published"]
            shown.append([name, *cells[1:4], *stated, words_of(device), words_of(commit)])
    assert sorted(shown) == sorted(table_of(REPOSITORY / "docs" / "results.md"))
    assert {row.name for declared in read_all() for row in declared.row} <= set(names)


def test_rows_say_what_runs_them_again(tree):
    results = load_results(REPOSITORY / "results")
    by_name = {words_of(of_class(item, "says")[0]): item for item in items(tree, "rows")}
    for name, runs in results.groupby("experiment"):
        shown = commands_of(by_name[name], "script")
        assert set(shown) <= set(runs["command"])
    (missing,) = (r for p in read_all() for r in p.row if r.name == "stl_cifar10")
    shown = commands_of(by_name[missing.name], "script")
    assert shown == [f"python stl_snn/train.py -data cifar10 --seed {k}" for k in missing.seeds]


def test_every_figure_is_in_the_page_of_a_row_those_of_its_first_seed(tree):
    beside_runs = []
    runs = load_results(REPOSITORY / "results").sort_values("seed")
    for _, row in runs.groupby(["experiment", "dataset", "epochs"]):
        of_seeds = ([*run.glob("*.png")] for run in row["folder"])
        beside_runs += next(filter(None, of_seeds), [])
    compared = list((REPOSITORY / "results" / "figures").rglob("*.png"))
    assert len(list(tree.iter("img"))) == len(beside_runs) + len(compared)
    assert len(items(tree, "figures")) == len(compared)


def test_nothing_is_fetched(tree, html):
    for image in tree.iter("img"):
        assert image.get("src", "").startswith("data:image/avif;base64,")
        assert image.get("alt")
    for element in tree.iter():
        if element.tag in {"img", "link"}:
            assert element.get("src", element.get("href")).startswith("data:")
        else:
            assert not FETCHING & set(element.attrib), element.tag
        if element.tag != "a":
            assert not element.get("href", "").startswith(("http:", "https:", "//"))
    assert not [e for e in tree.iter() if e.tag in {"iframe", "object", "embed"}]
    styles = "".join(style.text or "" for style in tree.iter("style"))
    assert "url(" not in styles
    assert "@import" not in styles
    (policy,) = (m.get("content") for m in tree.iter("meta") if m.get("http-equiv"))
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert len(html) < 8e6


def test_links_lead_somewhere(tree):
    anchors = [e.get("id") for e in tree.iter() if e.get("id")]
    assert len(set(anchors)) == len(anchors)
    links = [e.get("href", "") for e in tree.iter("a")]
    assert any(link.startswith("#row-") for link in links)
    elsewhere = {link for link in links if urlsplit(link).netloc}
    assert elsewhere == {claim.link for r in read_all() for claim in r.claim if claim.link}
    for link in set(links) - elsewhere:
        path, fragment = urlsplit(link).path, unquote(urlsplit(link).fragment)
        if not path:
            assert fragment in anchors
            continue
        text = (REPOSITORY / path).read_text()
        titles = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
        assert not fragment or fragment in map(anchor_of, titles)
    of_papers = [link for link in set(links) if "deviations.md#" in link]
    assert len(of_papers) == len(read_all())


# ------------------------------------------------------------------------- a made repository

DECLARED = """
[[row]]
name = "m_a"
script = "run.py"
options = ["--note", "two words"]
dataset = "mnist"
epochs = 2
seeds = [0, 1]
minutes = 240
is_measured = false
gpu_minutes = 9

[[row]]
name = "m_b"
script = "run.py"
dataset = "mnist"
epochs = 2
minutes = 10

[[claim]]
name = "a"
says = "<b>A</b> & more"
where = "figure \\"1\\""
link = "https://doi.org/10.1/a?b=1&c=2"
kind = "above"
left = { row = "m_a", metric = "test_accuracy_last" }
right = { row = "m_b", metric = "test_accuracy_last" }
margin = 0.01
"""


@pytest.fixture
def made(tmp_path):
    """Folder of a repository with one paper, two declared rows and runs of one and of another."""
    paper = tmp_path / "made"
    paper.mkdir()
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "deviations.md").write_text("# Deviations\n\n## Something else\n")
    (paper / "README.md").write_text("# Made\n\nText.\n")
    (paper / "reproduction.toml").write_text(DECLARED)
    for name, seed in (("m_a", 0), ("m_c", 0), ("m_c", 1)):
        run = tmp_path / "results" / name / f"seed{seed}"
        run.mkdir(parents=True)
        result = {
            "experiment": name,
            "paper": "made",
            "figure": "curves.png",
            "dataset": "mnist",
            "seed": seed,
            "epochs": 2,
            "device": "cpu",
            "metrics": {"test_accuracy_last": 0.5},
            "published": None,
            "command": f"python made/run.py --seed {seed}",
            "commit": "0123456789",
        }
        (run / "result.json").write_text(json.dumps(result))
        Image.new("RGBA", (1500, 30)).save(run / "curves.png")
        Image.new("RGB", (20, 30), "red").save(run / "a.png")
    return tmp_path


def made_tree(made: Path) -> Element:
    declared = (read(made / "made" / "reproduction.toml"),)
    return parsed(render(declared, load_results(made / "results"), made / "none", made))


def test_words_are_text_and_never_markup(made):
    (claim,) = items(made_tree(made), "claims")
    assert words_of(of_class(claim, "says")[0]) == "<b>A</b> & more"
    where = of_class(claim, "where")[0]
    assert words_of(where) == 'figure "1"'
    assert [link.get("href") for link in where.iter("a")] == ["https://doi.org/10.1/a?b=1&c=2"]


def test_declared_rows_come_first_and_say_what_is_missing(made):
    rows = items(made_tree(made), "rows")
    assert [row.get("id") for row in rows] == ["row-m_a", "row-m_b", "row-m_c"]
    a, b, c = map(words_of, rows)
    assert "Missing seed 1: 4.0 h, an estimate; on a GPU 9 min Paper" in a
    assert "Missing seeds 0, 1, 2: 30 min Paper" in b
    assert "not run" in b
    assert "Missing" not in c
    assert [row.get("data-verdicts") for row in rows] == ["not-run", "not-run", ""]
    commands = [commands_of(row, "script") for row in rows]
    assert commands[0] == ["python made/run.py --seed 0"]
    assert commands[1][-1] == "python made/run.py --seed 2"
    assert len(commands[2]) == 2


def test_what_was_not_run_is_quoted_for_a_shell(made):
    (made / "results" / "m_a" / "seed0" / "result.json").unlink()
    row = items(made_tree(made), "rows")[0]
    assert commands_of(row, "script")[0] == "python made/run.py --note 'two words' --seed 0"


def test_sessions_make_what_is_missing_or_compare(made):
    claims, rows = (items(made_tree(made), name) for name in ("claims", "rows"))
    assert commands_of(rows[0], "session") == ["nox -s reproduce -- m_a"]
    assert not [e for e in of_class(rows[2], "command") if "session" in e.get("class", "")]
    assert words_of(of_class(claims[0], "session")[0]) == "nox -s reproduce -- claim:a"
    toml = made / "made" / "reproduction.toml"
    toml.write_text(toml.read_text().replace("seeds = [0, 1]", "seeds = [0]"))
    row = items(made_tree(made), "rows")[0]
    assert commands_of(row, "session") == ["nox -s reproduce -- --again m_a"]


def test_a_runs_first_figure_comes_first(made):
    row = items(made_tree(made), "rows")[0]
    titles = [image.get("alt") for image in row.iter("img")]
    assert titles == ["m_a, curves, seed 0", "m_a, a, seed 0"]


def test_pictures_behind_the_first_are_smaller(made):
    run = made / "results" / "m_a" / "seed0"
    shutil.copy(run / "curves.png", run / "a.png")
    widths = [image.get("width") for image in items(made_tree(made), "rows")[0].iter("img")]
    assert widths == ["900", "500"]


def test_of_several_seeds_the_first_with_pictures_is_shown(made):
    first = made / "results" / "m_a" / "seed0"
    for seed in (1, 2):
        other = shutil.copytree(first, first.with_name(f"seed{seed}"))
        content = json.loads((first / "result.json").read_text())
        (other / "result.json").write_text(json.dumps(content | {"seed": seed}))
    for path in first.glob("*.png"):
        path.unlink()
    titles = [image.get("alt") for image in items(made_tree(made), "rows")[0].iter("img")]
    assert titles == ["m_a, curves, seed 1", "m_a, a, seed 1"]


def test_a_paper_without_deviations_has_no_link_to_them(made):
    assert not [e for e in made_tree(made).iter("a") if "deviations" in e.get("href", "")]
    page = made / "docs" / "deviations.md"
    page.write_text(page.read_text() + "\n## Made\n")
    links = [e.get("href", "") for e in made_tree(made).iter("a")]
    assert "./docs/deviations.md#made" in links


def test_pictures_are_no_wider_than_needed_and_white_where_transparent(made):
    run = made / "results" / "m_a" / "seed0"
    wide = picture(run / "curves.png", "wide")
    assert (wide.width, wide.height) == (900, 18)
    assert picture(run / "a.png", "small").width == 20
    data = base64.b64decode(wide.uri.split(",")[1])
    with Image.open(io.BytesIO(data)) as image:
        assert image.getpixel((5, 5)) == (255, 255, 255)


@pytest.mark.parametrize(
    ("kind", "margin", "ends", "drawn"),
    [
        # From -1 to 3, with room for 0.32 on each side.
        ("above", 0.0, (-1, 3), Bar(6.9, 93.1, 50, 28.4, (28.4, 100))),
        ("above", 1.0, (-1, 3), Bar(6.9, 93.1, 50, 28.4, (50, 100))),
        ("level", 1.0, (-1, 3), Bar(6.9, 93.1, 50, 28.4, (6.9, 50))),
        # From 0 to 4: what is not within the interval is drawn, too.
        ("above", 0.0, (2, 4), Bar(50, 93.1, 71.6, 6.9, (6.9, 100))),
    ],
)
def test_an_interval_is_drawn_beside_where_the_claim_holds(made, kind, margin, ends, drawn):
    (claim,) = read(made / "made" / "reproduction.toml").claim
    claim = claim.model_copy(update={"kind": kind, "margin": margin})
    comparison = Comparison(sum(ends) / 2, *ends)
    assert bar(Decision(claim, Verdict.HOLDS, comparison, (3, 3), "3 and 3", 0.01, "")) == drawn
    alone = Comparison(0.5)
    assert bar(Decision(claim, Verdict.UNDECIDED, alone, (1, 1), "1 and 1", math.nan, "")) is None
    assert bar(Decision(claim, Verdict.NOT_RUN, None, (0, 0), "0 and 0", math.nan, "")) is None


def test_criteria_in_words(made):
    declared = read(made / "made" / "reproduction.toml")
    (claim,) = declared.claim
    a, b = "test_accuracy_last of m_a", "test_accuracy_last of m_b"
    assert (
        criterion(claim)
        == f"{a} exceeds {b} by more than 0.01; all declared seeds decide, 3 at least."
    )
    level = claim.model_copy(update={"kind": "level", "right": 0.5, "is_single": True})
    assert criterion(level) == f"{a} and 0.5 differ by less than 0.01, in one run."
    counted = claim.left.model_copy(update={"counted_in": "networks"})
    shares = claim.model_copy(update={"left": counted, "margin": 0.0})
    assert criterion(shares) == f"{a} exceeds {b}, over trials counted in networks."


def test_links_of_a_page_elsewhere_lead_back(made):
    path = made / "report.html"
    write_page(read_all()[:1], load_results(REPOSITORY / "results"), made / "none", path)
    links = [e.get("href", "") for e in parsed(path.read_text()).iter("a")]
    (claims,) = (link for link in links if link.endswith("docs/claims.md"))
    assert (made / claims).resolve() == REPOSITORY / "docs" / "claims.md"
