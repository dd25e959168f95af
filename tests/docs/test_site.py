"""The documentation's site: built once, without a warning and without a network; every page, link and file in it."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from browser import Browser, find_browser
from places import ROOT

import iqametrics

pytest.importorskip("furo", reason="the extra docs is not installed; it needs Python 3.11")
DOCS = ROOT / "docs"
VERSION = iqametrics.__version__
pytestmark = pytest.mark.slow


class Page(HTMLParser):
    """What a page links to, what it loads, and what can be linked to in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.anchors |= {name for key in ("id", "name") if (name := values.get(key))}
        if tag == "a" and (link := values.get("href")):
            self.links.append(link)
        if tag in ("img", "script", "iframe") and (source := values.get("src")):
            self.loaded.append(source)
        if tag == "link" and values.get("rel") in ("stylesheet", "icon", "preload"):
            self.loaded.append(values["href"] or "")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of all versions, with this one in it."""
    output = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, str(DOCS / "build.py"), "--output", str(output)],
        capture_output=True,
        text=True,
        timeout=1500,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
    )
    # What the notebooks' kernels say of the loopback is no warning of the build.
    told = "\n".join(line for line in done.stderr.splitlines() if line and not line.startswith("[IPKernelApp]"))
    assert not told, f"the site is not built without warnings:\n{told}"
    assert done.returncode == 0, done.stdout[-2000:]
    assert done.stdout.strip().endswith("index.html")
    return output


@pytest.fixture(scope="module")
def pages(built: Path) -> dict[Path, Page]:
    return {path.resolve(): Page(path) for path in (built / VERSION).rglob("*.html")}


def test_every_page_is_built_and_in_the_contents(built: Path, pages: dict[Path, Page]) -> None:
    """The sidebar of the home page lists what the toctrees name."""
    home = built / VERSION / "index.html"
    listed = {link.partition("#")[0] for link in pages[home.resolve()].links}
    written = {path.relative_to(DOCS).with_suffix(".html").as_posix() for path in DOCS.rglob("*.md")}
    written = {name for name in written if not name.startswith("example/")} - {"index.html"}
    assert len(written) > 25
    lost = sorted(name for name in written if name not in listed)
    assert not lost, f"no toctree names the pages of {lost}: add them to a section of docs/index.md"
    assert all((built / VERSION / name).is_file() for name in written)


def test_every_link_within_the_site_leads_somewhere(pages: dict[Path, Page]) -> None:
    links = ((path, link) for path, page in pages.items() for link in page.links)
    dead = [f"{path.name}: {link}" for path, link in links if not _leads(path, link, pages)]
    assert not dead, "\n".join(sorted(set(dead))[:20])


def _leads(path: Path, link: str, pages: dict[Path, Page]) -> bool:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return True
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if target not in pages:
        return target.is_file() and not parts.fragment
    return not parts.fragment or unquote(parts.fragment) in pages[target].anchors


def test_pages_load_nothing_from_elsewhere(pages: dict[Path, Page]) -> None:
    for path, page in pages.items():
        for source in page.loaded:
            assert not urlsplit(source).netloc, f"{path.name} loads {source}"
            if not source.startswith("data:"):
                file = (path.parent / unquote(urlsplit(source).path)).resolve()
                assert file.is_file() or file.name == "versions.js", f"{path.name} loads {source}, which is not there"


def test_the_check_of_links_sees_dead_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.html"
    path.write_text('<h1 id="x">A</h1><a href="#y"></a><a href="b.html"></a><a href="a.html#x"></a>', "utf-8")
    page = Page(path)
    assert [_leads(path.resolve(), link, {path.resolve(): page}) for link in page.links] == [False, False, True]


def test_every_public_name_is_in_the_reference(built: Path) -> None:
    table = (built / VERSION / "api" / "index.html").read_text("utf-8")
    for name in iqametrics.__all__:
        value = getattr(iqametrics, name)
        if not name.startswith("__"):
            assert 'href="' in table
            assert re.search(rf'href="\w+\.html#{re.escape(value.__module__)}\.{name}"', table), name


def test_the_home_page_shows_pictures_with_their_scores(built: Path) -> None:
    """The same three pictures, scored here."""
    pictures = [DOCS / "example" / f"score-{score}.jpg" for score in ("0.7", "0.5", "0.3")]
    scores = iqametrics.create_metric("bpclip-nr.lite")(pictures).tolist()
    text = (built / VERSION / "index.html").read_text("utf-8")
    assert re.findall(r'class="score">([\d.]+)<', text) == [f"{score:.2f}" for score in scores]


@pytest.fixture
def two_versions(built: Path, tmp_path: Path) -> Path:
    """The site beside a later one that lacks a page."""
    for version in (VERSION, "99.0"):
        shutil.copytree(built / VERSION, tmp_path / version)
    (tmp_path / "99.0" / "serve.html").unlink()
    sys.path.insert(0, str(DOCS))
    try:
        from site_parts.versions import write_versions
    finally:
        sys.path.remove(str(DOCS))
    write_versions(tmp_path)
    return tmp_path


@pytest.fixture
def browser() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


@pytest.mark.skipif(find_browser() is None, reason="NO BROWSER: install chromium, or set IQAMETRICS_BROWSER to one")
def test_the_switch_of_versions_works_from_the_disk(two_versions: Path, browser: Browser) -> None:
    def go(address: str) -> None:
        browser.call("Page.navigate", url=address)
        browser.wait("document.readyState === 'complete' && document.querySelector('#version-switch')")

    def here() -> str:
        try:
            return str(browser.js("location.pathname")).removeprefix(str(two_versions.resolve()))
        except AssertionError:  # the page is just being left
            return ""

    go((two_versions / VERSION / "api" / "images.html").resolve().as_uri())
    assert browser.texts("#version-switch option") == ["99.0", VERSION]
    browser.choose("#version-switch", "99.0")
    browser.until(lambda: here() == "/99.0/api/images.html", "the same page of the other version")
    go((two_versions / VERSION / "serve.html").resolve().as_uri())
    browser.choose("#version-switch", "99.0")
    browser.until(lambda: here() == "/99.0/index.html", "the home page, since that version lacks the page")
    browser.call("Page.navigate", url=(two_versions / "index.html").resolve().as_uri())
    browser.until(lambda: here() == "/99.0/index.html", "the newest version")
    assert browser.problems == []
