"""The built book, opened in Chromium from its files, without a network."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import NoReturn
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
HTML = ROOT / "_build" / "html"
PAGES = sorted(str(p.relative_to(HTML)) for p in HTML.rglob("*.html") if "_static" not in p.parts)
FIGURE_1 = "notebooks/fig1_sparsity_emerges.html"
METHOD = "book/method.html"
VIEWPORTS = {"desktop": (1280, 900), "phone": (390, 844)}
BROWSERS = ("chromium", "chromium-browser", "google-chrome")

pytestmark = pytest.mark.book


def without(reason: str) -> NoReturn:
    """Skip the tests of the book, or fail where they are required."""
    if os.environ.get("WHERETOLEARN_REQUIRE_BOOK") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module", autouse=True)
def book() -> Path:
    """Return the first page of the book."""
    if not (HTML / "index.html").is_file():
        without("no book in _build/html: make book")
    return HTML / "index.html"


@pytest.fixture(scope="module")
def browser(book: Path) -> Iterator:
    """Start Chromium."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        without("no playwright: pip install -r requirements-dev.txt")
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        without(f"none of {', '.join(BROWSERS)} is installed")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class Visit:
    """An open page, and what went wrong on it."""

    def __init__(self, browser, name: str, scheme: str = "light", viewport: str = "desktop"):
        self.name = name
        self.context = browser.new_context(offline=True)
        self.page = self.context.new_page()
        self.wrong: list[str] = []
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda e: self.wrong.append(f"error: {e}"))
        self.page.on("request", self._request)
        self.page.on("requestfailed", lambda r: self.wrong.append(f"not loaded: {r.url}"))
        self._size_and_scheme(viewport, scheme)
        self.page.goto((HTML / name).as_uri(), wait_until="load")
        if name == "index.html":  # leads to the first page
            self.page.wait_for_url("**/book/index.html")
        self._settle(viewport, scheme)

    def look(self, viewport: str, scheme: str) -> None:
        """Look at the page that is open through another window, or by night."""
        self._size_and_scheme(viewport, scheme)
        # the theme follows at the browser's next frame, not at once; never is an error
        self.page.wait_for_function(
            "scheme => document.documentElement.dataset.theme === scheme", arg=scheme
        )
        self._settle(viewport, scheme)

    def _size_and_scheme(self, viewport: str, scheme: str) -> None:
        width, height = VIEWPORTS[viewport]
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.emulate_media(color_scheme=scheme)

    def _settle(self, viewport: str, scheme: str) -> None:
        self.page.evaluate(
            """async () => {
                if (window.MathJax?.startup?.promise) await MathJax.startup.promise;
                // pictures and fonts that are drawn only when they come into view
                document.querySelectorAll("img").forEach(i => { i.loading = "eager"; });
                await Promise.all([...document.images].map(i => i.decode().catch(() => {})));
                await document.fonts.ready;
            }"""
        )
        if os.environ.get("WHERETOLEARN_SCREENSHOTS"):
            page = self.name.removesuffix(".html").replace("/", "-")
            path = ROOT / "_build" / "screenshots" / f"{page}-{viewport}-{scheme}.png"
            self.page.screenshot(path=path, full_page=True)

    def _console(self, message) -> None:
        if message.type == "error":
            self.wrong.append(f"console: {message.text}")

    def _request(self, request) -> None:
        if urlsplit(request.url).scheme not in ("file", "data", "blob"):
            self.wrong.append(f"asks the network: {request.url}")

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *error: object) -> None:
        self.context.close()


def test_there_are_pages() -> None:
    assert {"index.html", "book/index.html", METHOD, FIGURE_1, "book/api.html"} <= set(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_page_is_whole(browser, name: str) -> None:
    """Nothing is missing or asked of a network; mathematics and images are drawn; it fits."""
    with Visit(browser, name) as visit:
        for viewport in VIEWPORTS:
            for scheme in ("light", "dark"):
                visit.look(viewport, scheme)
                where = f"{name}, {viewport}, {scheme}"
                assert visit.wrong == [], where
                broken = visit.page.evaluate(
                    "[...document.images].filter(i => i.naturalWidth === 0).map(i => i.src)"
                )
                assert broken == [], f"images not drawn: {where}"
                unnamed = visit.page.evaluate(
                    """[...document.querySelectorAll("article figure img, article .cell img")]
                        .filter(i => !i.alt.includes(" ")).map(i => i.src)"""
                )
                assert unnamed == [], f"images without a description in words: {where}"
                assert_mathematics(visit.page, where)
                wide = visit.page.evaluate(
                    """() => {
                        const room = document.documentElement.clientWidth;
                        const body = document.documentElement.scrollWidth;
                        if (body <= room + 1) return [];
                        return [...document.querySelectorAll(".bd-main *")]
                            .filter(e => e.getBoundingClientRect().right > room + 1)
                            .slice(0, 5).map(e => e.tagName + "." + e.className)
                            .concat([`${body} > ${room}`]);
                    }"""
                )
                assert wide == [], f"wider than the window: {where}"


def assert_mathematics(page, where: str) -> None:
    """Formulas are drawn, all of them, and without errors."""
    state = page.evaluate(
        r"""() => {
            const article = document.querySelector("article")?.cloneNode(true);
            article?.querySelectorAll("pre, code, script, mjx-container").forEach(e => e.remove());
            const drawn = [...document.querySelectorAll("mjx-container")];
            return {
                sources: document.querySelectorAll("article .math").length,
                drawn: drawn.filter(e => e.querySelector("mjx-math")).length,
                empty: drawn.filter(e => e.checkVisibility()
                                         && !(e.getBoundingClientRect().width > 0)).length,
                errors: [...document.querySelectorAll("mjx-merror")].map(e => e.innerText),
                raw: (article?.textContent ?? "").match(/\\\(|\\\[|\\begin\{/g) ?? [],
            };
        }"""
    )
    assert state["drawn"] >= state["sources"], f"formulas not drawn: {where}"
    assert (state["empty"], state["errors"], state["raw"]) == (0, [], []), where


def test_method_has_mathematics(browser) -> None:
    with Visit(browser, METHOD) as visit:
        box = visit.page.locator("mjx-container").first.bounding_box()
        assert box is not None
        assert box["width"] > 5
        assert box["height"] > 5
        fonts = "[...document.fonts].filter(f => /MJX/.test(f.family) && f.status === 'loaded')"
        assert visit.page.evaluate(f"{fonts}.length") > 0, "formulas are drawn in MathJax's fonts"


def test_figure_1_is_shown(browser) -> None:
    with Visit(browser, FIGURE_1) as visit:
        image = visit.page.locator("article figure img").first
        box = image.bounding_box()
        assert box is not None
        assert box["width"] > 300
        assert box["height"] > 100
        assert image.evaluate("i => getComputedStyle(i).filter") in ("none", "")
        assert visit.page.locator("article figure figcaption").first.inner_text().strip()
        source = unquote(urlsplit(image.evaluate("i => i.src")).path)
    if source.endswith(".png"):
        with Image.open(source) as picture:
            ground = Image.new("RGBA", picture.size, "white")
            ground.alpha_composite(picture.convert("RGBA"))
        assert np.asarray(ground.convert("L")).std() > 5, "the figure is blank"
    with Visit(browser, FIGURE_1, scheme="dark") as visit:
        image = visit.page.locator("article figure img").first
        assert "invert" in image.evaluate("i => getComputedStyle(i).filter")
        ground = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert max(map(int, ground.removeprefix("rgb(").rstrip(")").split(",")[:3])) < 80


class _Links(HTMLParser):
    """The addresses in a page, and the places in it that they may point to."""

    def __init__(self) -> None:
        super().__init__()
        self.to: list[str] = []
        self.places: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and (name in ("href", "src") or (tag == "object" and name == "data")):
                self.to.append(value)
            elif value and name in ("id", "name"):
                self.places.add(value)


@cache
def links(path: Path) -> _Links:
    """Return the links of a page."""
    parser = _Links()
    parser.feed(path.read_text(encoding="utf-8"))
    return parser


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    page = HTML / name
    lost = []
    for address in links(page).to:
        parts = urlsplit(address)
        if parts.scheme or parts.netloc or address == "#":
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        if target.is_dir():
            target /= "index.html"
        inside = target.suffix == ".html" and target.is_file() and parts.fragment
        if not target.is_file() or (
            inside and unquote(parts.fragment) not in links(target).places | {"", "#"}
        ):
            lost.append(address)
    assert lost == []


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_loaded_from_elsewhere(name: str) -> None:
    """Scripts, styles, fonts and images come with the book; only a reader's click leaves it."""
    text = (HTML / name).read_text(encoding="utf-8")

    class Loads(HTMLParser):
        found: list[str] = []  # noqa: RUF012

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            address = dict(attrs).get("href" if tag == "link" else "src") or ""
            if tag != "a" and urlsplit(address).netloc:
                self.found.append(address)

    loads = Loads()
    loads.feed(text)
    assert loads.found == []
    assert "executablebooks/jupyter-book" not in text, "no link to somebody else's repository"
