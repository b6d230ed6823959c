"""The page in Chromium, as a reader uses it. `nox -s test_page` runs this file."""

import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from reproduce.declared import read_all
from reproduce.page import anchor_of, write_page
from reproduce.verdicts import Verdict
from shared.report import load_results
from shared.run import REPOSITORY, read_result

NAMES = ("chromium", "chromium-browser", "google-chrome")
NONE = "no Chromium is here: `apt-get install chromium` or `playwright install chromium` brings one"
DESKTOP = {"viewport": {"width": 1280, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
SECTIONS = ("claims", "rows", "figures")
PAPERS = tuple(declared.paper for declared in read_all())
VERDICTS = tuple(map(anchor_of, Verdict))


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        path = next(filter(None, map(shutil.which, NAMES)), own)
        if not Path(path).exists():
            pytest.exit(NONE, returncode=2)
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "report.html"
    results = load_results(REPOSITORY / "results")
    write_page(read_all(), results, REPOSITORY / "results" / "figures", path)
    return path.as_uri()


@pytest.fixture
def visit(browser: Browser, address: str) -> Iterator[Any]:
    """Opens the page; at the test's end no message was printed and nothing asked for."""
    contexts: list[BrowserContext] = []
    troubles: list[str] = []
    asked: list[str] = []

    def visit(fragment: str = "", **options: Any) -> Page:
        context = browser.new_context(**{**DESKTOP, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address + fragment)
        return page

    yield visit
    for context in contexts:
        context.close()
    assert troubles == []
    assert {url for url in asked if not url.startswith("data:")} <= {address}


@pytest.fixture
def page(visit: Any) -> Page:
    return visit()


def shown(page: Page, section: str) -> list[dict[str, str]]:
    """What is seen of a section's items: id, paper, verdicts and all words, folded ones too."""
    script = """items => items.filter(item => item.checkVisibility()).map(item => ({
        id: item.id, words: item.textContent.toLowerCase(), ...item.dataset}))"""
    found: list[dict[str, str]] = page.locator(f"#{section} .item").evaluate_all(script)
    return found


def everything(page: Page) -> dict[str, list[dict[str, str]]]:
    return {section: shown(page, section) for section in SECTIONS}


def assert_filtered(page: Page, before: dict[str, list[dict[str, str]]], keeps: Any) -> None:
    """What is seen is what `keeps` says of all that was, and counted in words."""
    after = everything(page)
    counts = []
    for section in SECTIONS:
        assert after[section] == [item for item in before[section] if keeps(item)]
        counts.append(f"{len(after[section])} of {len(before[section])} {section}")
        empty = page.locator(f"#{section} .empty")
        assert empty.is_visible() == (not after[section])
    assert page.locator("#shown").inner_text() == ", ".join(counts)


def open_all(page: Page) -> None:
    page.locator("details").evaluate_all("nodes => nodes.forEach(node => { node.open = true; })")


# --------------------------------------------------------------------------- search and filters


def a_commit() -> str:
    """As the page writes it, of a stored run."""
    path = REPOSITORY / "results" / "hybrid_plasticity" / "hp_simple_hp" / "seed0" / "result.json"
    return str(read_result(path)["commit"])[:7]


@pytest.mark.parametrize("words", ["noise", "  MNIST   exact ", a_commit(), "hp_simple_hp"])
def test_search_keeps_what_has_all_words(page, words):
    before = everything(page)
    page.get_by_role("searchbox", name="Search").fill(words)
    wanted = words.lower().split()
    assert_filtered(page, before, lambda item: all(word in item["words"] for word in wanted))
    assert 0 < len(shown(page, "rows")) < len(before["rows"])
    page.get_by_role("button", name="Clear filters").click()
    assert everything(page) == before
    assert page.get_by_role("searchbox", name="Search").input_value() == ""


def test_a_search_without_success_says_so(page):
    before = everything(page)
    page.get_by_role("searchbox", name="Search").fill("no such words")
    assert_filtered(page, before, lambda item: False)


@pytest.mark.parametrize("paper", PAPERS)
def test_each_paper_is_a_filter(page, paper):
    before = everything(page)
    page.get_by_role("combobox", name="Paper").select_option(paper)
    assert_filtered(page, before, lambda item: item["paper"] == paper)
    assert shown(page, "claims")
    assert shown(page, "rows")


@pytest.mark.parametrize("verdict", VERDICTS)
def test_each_verdict_is_a_filter(page, verdict):
    before = everything(page)
    chip = page.locator(f".chip[data-verdict={verdict}]")
    chip.click()
    assert chip.get_attribute("aria-pressed") == "true"
    assert_filtered(page, before, lambda item: verdict in item["verdicts"].split())
    badges = page.locator("#claims .item:visible .verdict .badge").all_inner_texts()
    assert set(map(anchor_of, badges)) == {verdict}
    assert str(len(badges)) == chip.locator("b").inner_text()
    chip.click()
    assert everything(page) == before


def test_filters_work_together(page):
    before = everything(page)
    page.locator(".chip[data-verdict=holds]").click()
    page.locator(".chip[data-verdict=undecided]").click()
    page.get_by_role("combobox", name="Paper").select_option(PAPERS[0])
    page.get_by_role("searchbox", name="Search").fill("the")

    def keeps(item: dict[str, str]) -> bool:
        verdicts = set(item["verdicts"].split()) & {"holds", "undecided"}
        return bool(verdicts) and item["paper"] == PAPERS[0] and "the" in item["words"]

    assert_filtered(page, before, keeps)


# --------------------------------------------------------------------------------------- sorting


def keys(page: Page, section: str, column: int) -> list[Any]:
    """What a column is sorted by, from the top of the page."""
    cells = page.locator(f"#{section} .item > tr:first-child > td:nth-child({column + 1})")
    script = "cells => cells.map(cell => cell.dataset.value ?? cell.textContent.trim())"
    found: list[str] = cells.evaluate_all(script)
    kind = page.locator(f"#{section} > table > thead th").nth(column).get_attribute("data-kind")
    if kind == "text":
        return found
    return [leading_number(words) for words in found]


def leading_number(words: str) -> float:
    first = words.split()[0].rstrip(",") if words.split() else "nan"
    try:
        return float(first)
    except ValueError:
        return math.nan


def assert_sorted(values: list[Any], is_down: bool) -> None:
    if isinstance(values[0], str):
        # Digits in words sort by their number, and case counts for nothing: ask for the ends.
        letters = [value[0].lower() for value in values if value[0].isalpha()]
        assert letters == sorted(letters, reverse=is_down)
        return
    numbers = [value for value in values if not math.isnan(value)]
    assert len(numbers) > 1
    assert numbers == sorted(numbers, reverse=is_down)
    assert all(math.isnan(value) for value in values[len(numbers) :])


COLUMNS = {
    "claims": ("Claim", "Published", "Difference", "Seeds", "Verdict"),
    "rows": ("Row", "Data set", "Seeds", "Epochs", "Measured", "Published"),
}


@pytest.mark.parametrize("section", COLUMNS)
def test_each_column_sorts_up_down_and_back(page, section):
    headers = page.locator(f"#{section} > table > thead th")
    assert tuple(headers.locator("button").all_inner_texts()) == COLUMNS[section]
    written = shown(page, section)
    for column in range(headers.count()):
        header = headers.nth(column)
        for direction in ("ascending", "descending"):
            header.get_by_role("button").click()
            assert header.get_attribute("aria-sort") == direction
            assert_sorted(keys(page, section, column), direction == "descending")
            others = [headers.nth(k) for k in range(headers.count()) if k != column]
            assert all(other.get_attribute("aria-sort") == "none" for other in others)
        header.get_by_role("button").click()
        assert header.get_attribute("aria-sort") == "none"
        assert shown(page, section) == written


def test_what_is_sorted_is_still_filtered(page):
    page.get_by_role("combobox", name="Paper").select_option(PAPERS[0])
    before = {item["id"] for item in shown(page, "rows")}
    page.locator("#rows > table > thead").get_by_role("button", name="Epochs").click()
    assert {item["id"] for item in shown(page, "rows")} == before


# -------------------------------------------------------------------------------------- pictures


def test_every_picture_is_drawn_and_grows(page):
    open_all(page)
    sizes = page.locator("img").evaluate_all(
        """async images => Promise.all(images.map(async image => {
            image.loading = "eager"; // what is not on the screen waits otherwise
            await image.decode();
            return [image.naturalWidth, image.naturalHeight,
                    Number(image.getAttribute("width")), Number(image.getAttribute("height"))];
        }))"""
    )
    assert len(sizes) > 50
    assert all(size[:2] == size[2:] and min(size) > 100 for size in sizes)
    grown = page.locator(".zoom").evaluate_all(
        """buttons => buttons.map(button => {
            button.click();
            const dialog = document.getElementById("enlarged");
            const inner = dialog.querySelectorAll("img");
            const image = button.querySelector("img");
            const isSo = dialog.open && inner.length === 1 && inner[0].src === image.src
                && dialog.querySelector("h2").textContent === image.alt;
            document.getElementById("close").click();
            return isSo && !dialog.open;
        })"""
    )
    assert len(grown) == len(sizes)
    assert all(grown)


def test_an_enlarged_picture_closes_by_escape_and_gives_the_focus_back(page):
    button = page.locator("#figures .zoom").first
    button.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    assert dialog.is_visible()
    assert dialog.get_by_role("heading").inner_text() == button.locator("img").get_attribute("alt")
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert button.evaluate("node => node === document.activeElement")


# ------------------------------------------------------------------------------------- keyboard


def test_the_keyboard_reaches_everything_in_order(page):
    seen = []
    for _ in range(14):
        page.keyboard.press("Tab")
        script = """() => {
            const node = document.activeElement;
            const outline = getComputedStyle(node).outlineStyle;
            return [(node.labels?.[0] ?? node).textContent.trim().split("\\n")[0], outline];
        }"""
        words, outline = page.evaluate(script)
        assert outline != "none", words
        seen.append(words)
    verdicts = [f"{v} {page.locator(f'.chip.{anchor_of(v)} b').inner_text()}" for v in Verdict]
    start = ["Skip to the claims", "Dark theme", "Claims", "Rows", "Figures", "Search", "Paper"]
    assert seen == [*start, *verdicts, *COLUMNS["claims"][:3]]


def test_keys_skip_press_sort_and_unfold(page):
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.url.endswith("#claims")
    page.keyboard.press("/")
    page.keyboard.type("noise")
    assert page.get_by_role("searchbox", name="Search").input_value() == "noise"
    page.keyboard.type("/")
    assert page.get_by_role("searchbox", name="Search").input_value() == "noise/"
    page.get_by_role("button", name="Clear filters").focus()
    page.keyboard.press("Enter")
    assert page.get_by_role("searchbox", name="Search").evaluate(
        "node => node === document.activeElement"
    )
    chip = page.locator(".chip").first
    chip.focus()
    page.keyboard.press("Space")
    assert chip.get_attribute("aria-pressed") == "true"
    header = page.locator("#claims > table > thead th").first
    header.get_by_role("button").focus()
    page.keyboard.press("Enter")
    assert header.get_attribute("aria-sort") == "ascending"
    summary = page.locator("#claims .item:visible summary").first
    summary.focus()
    page.keyboard.press("Space")
    assert summary.evaluate("node => node.parentNode.open")


# ----------------------------------------------------------------------------- links and commands


def test_a_link_to_a_row_unfolds_it_whatever_is_filtered(page):
    page.locator(".chip[data-verdict=holds]").click()
    claim = page.locator("#claims .item:visible").first
    claim.locator("summary").click()
    page.get_by_role("searchbox", name="Search").fill("how it is decided")
    assert shown(page, "rows") == []
    link = claim.locator("a[href^='#row-']").first
    name = link.inner_text()
    link.click()
    row = page.locator(f"[id='row-{name}']")
    assert row.locator("details").first.evaluate("node => node.open")
    assert row.evaluate("node => node === document.activeElement")
    top = row.bounding_box()["y"]
    assert page.locator("#filters").bounding_box()["height"] <= top < 900


def test_an_address_with_a_row_opens_there(visit):
    page = visit("#row-hp_simple_hp")
    row = page.locator("#row-hp_simple_hp")
    assert row.get_by_role("heading", name="Runs it again and compares").is_visible()
    assert 0 <= row.bounding_box()["y"] < 900


def test_commands_are_copied(visit):
    page = visit("#row-hp_simple_hp", permissions=["clipboard-read", "clipboard-write"])
    row = page.locator("#row-hp_simple_hp")
    button = row.get_by_role("button", name="Copy “The script alone")
    button.click()
    row.get_by_role("button", name="Copied").wait_for()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == row.locator(".script pre").text_content()
    assert copied.startswith("python hybrid_plasticity/")


# ------------------------------------------------------------------------------- light and dark


def lightness(page: Page) -> float:
    color: str = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(map(float, color.strip("rgb()").split(","))) / 3


def test_the_theme_follows_the_system_and_the_switch_is_remembered(visit):
    assert lightness(visit(color_scheme="light")) > 200
    page = visit(color_scheme="dark")
    assert lightness(page) < 60
    page.get_by_role("button", name="Light theme").click()
    assert lightness(page) > 200
    page.reload()
    assert lightness(page) > 200
    page.get_by_role("button", name="Dark theme").click()
    assert lightness(page) < 60


def test_without_scripts_all_is_there_to_read(visit):
    page = visit(java_script_enabled=False)
    assert not page.locator("#filters").is_visible()
    assert page.locator("#claims .says").last.is_visible()
    page.locator("#rows summary").first.click()
    assert page.locator("#rows pre").first.is_visible()


# ------------------------------------------------------------------------------ phone, and access


@pytest.mark.parametrize("width", [390, 320, 760, 1024])
def test_nothing_is_wider_than_the_screen(visit, width):
    page = visit(**{**PHONE, "viewport": {"width": width, "height": 844}})
    open_all(page)
    script = """width => [...document.body.querySelectorAll("*")].filter(node => {
        const box = node.getBoundingClientRect();
        const isUnseen = node.closest(".unseen, .skip, option");
        return !isUnseen && node.checkVisibility() && (box.right > width + 0.5 || box.left < -0.5);
    }).map(node => node.outerHTML.slice(0, 100))"""
    assert page.evaluate(script, width) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_phone_sorts_filters_and_enlarges(visit):
    page = visit(**PHONE)
    page.locator(".chip[data-verdict=holds]").tap()
    page.locator("#claims > table > thead").get_by_role("button", name="Difference").tap()
    assert_sorted(
        [value for value in keys(page, "claims", 2) if not math.isnan(value)], is_down=False
    )
    page.get_by_role("button", name="Clear filters").tap()
    button = page.locator("#figures .zoom").first
    button.tap()
    dialog = page.get_by_role("dialog")
    assert dialog.bounding_box()["width"] <= 390
    sizes = [node.get_by_role("img").bounding_box()["width"] for node in (dialog, button)]
    assert sizes[0] > 1.5 * sizes[1]
    page.get_by_role("button", name="Close").tap()
    assert not page.get_by_role("dialog").is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_axe_finds_nothing(visit, device, scheme):
    page = visit(**device, color_scheme=scheme)
    open_all(page)
    page.locator(".chip").first.click()
    found = Axe().run(page)
    assert found.response["passes"]
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("device", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_axe_finds_nothing_in_an_enlarged_picture(visit, device):
    page = visit(**device)
    page.locator("#figures .zoom").first.click()
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
