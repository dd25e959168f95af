"""The page in a browser, by what a person does: opens, sorts, filters, looks at a picture, exports."""

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, find_browser
from PIL import Image

from iqametrics.report.records import collect
from iqametrics.report.write import Options, write_report

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_browser() is None, reason="NO BROWSER: install chromium, or set IQAMETRICS_BROWSER to one"),
]

NASTY = "<img src=x onerror=document.title=1>&amp;'\" #1?.png"
NAMES = [*(f"p{i:02}.png" for i in range(30)), NASTY]


def record(folder: str, name: str, score: float, **more: object) -> dict[str, object]:
    return {"image": f"{folder}/{name}", "reference": f"ref/{name}", "metric": "bpclip-fr.lite", "score": score, **more}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page over 31 pictures with references of twice their size, a second metric and one error."""
    root = tmp_path_factory.mktemp("pages")
    for name in NAMES:
        for folder, size in (("a" if name < "p15" else "b", (40, 30)), ("ref", (80, 60))):
            (root / folder).mkdir(exist_ok=True)
            Image.new("RGB", size, (len(name) * 7 % 255, 90, 160)).save(root / folder / name)
    rows = [record("a" if name < "p15" else "b", name, 0.9 - i / 50) for i, name in enumerate(NAMES)]
    rows += [row | {"metric": "bpclip-nr.lite", "score": 1 - row["score"], "reference": None} for row in rows]  # type: ignore[operator]
    rows.append(
        {"image": "b/gone.png", "reference": None, "metric": "bpclip-fr.lite", "score": None, "error": "is gone"}
    )
    path = root / "report.html"
    write_report(path, collect("a & <b>", rows), options=Options(root=root))
    return path


@pytest.fixture
def browser(shared: Browser, page: Path) -> Iterator[Browser]:
    """The page, freshly opened; at the end nothing may have been complained of."""
    shared.problems.clear()
    shared.asked.clear()
    shared.open(page)
    yield shared
    # A picture that is gone is shown as gone, and the browser says so too.
    assert [problem for problem in shared.problems if "gone.png" not in problem] == []


def names(browser: Browser) -> list[str]:
    return browser.texts(".window .row .name")


def test_the_worst_comes_first_and_heads_sort(browser: Browser) -> None:
    assert names(browser)[0].startswith("<img src=x")
    assert names(browser)[1] == "p29.png"
    browser.click('[data-key="score"] button')
    assert names(browser)[0] == "p00.png"
    assert browser.js("document.querySelector('[data-key=score]').getAttribute('aria-sort')") == "descending"
    browser.click('[data-key="metric1"] button')
    assert names(browser)[0] == "p00.png"
    browser.click('[data-key="name"] button')
    assert names(browser)[0].startswith("<img")


def test_names_full_of_html_stay_text(browser: Browser) -> None:
    assert browser.text("#title") == "a & <b>"
    assert NASTY in names(browser)[0]
    assert browser.js("document.querySelectorAll('img[onerror], img[src=x]').length") == 0
    browser.click(".window .row")
    assert browser.text("#viewer-name") == NASTY
    browser.wait("document.querySelector('.pane img').naturalWidth === 40")


def test_only_pictures_beside_the_page_are_asked_for(browser: Browser, page: Path) -> None:
    browser.click(".window .row")
    browser.wait("document.querySelector('.pane img').naturalWidth === 40")
    folder = page.parent.as_uri()
    assert len(browser.asked) > 5
    assert [url for url in browser.asked if not url.startswith((folder, "data:"))] == []


def test_search_folder_and_errors(browser: Browser) -> None:
    browser.click("#query")
    browser.write("b/ p2")
    browser.wait("document.querySelector('#count').textContent.startsWith('10 of')")
    browser.click("#clear")
    assert browser.text("#count") == "32 pictures"
    browser.choose("#folder", "b/")
    assert browser.text("#count") == "16 of 32 pictures"
    browser.choose("#status", "errors")
    assert [name.split()[0] for name in names(browser)] == ["gone.png"]
    assert "is gone" in browser.text(".window .row")


def test_the_brush_and_the_fields_keep_a_range(browser: Browser) -> None:
    left, top, width = browser.js(
        "(({ left, top, width }) => [left, top, width])(document.querySelector('.plot svg').getBoundingClientRect())"
    )
    browser.drag((left + width * 0.7, top + 80), (left + width + 20, top + 80))
    shown = int(browser.text("#count").split()[0])
    assert 5 < shown < 15
    assert float(browser.js("document.querySelector('#low').value")) == pytest.approx(
        0.9 - (shown - 0.5) / 50, abs=0.011
    )
    browser.drag((left + width / 2, top + 80), (left + width / 2, top + 80))
    assert browser.text("#count") == "32 pictures"
    browser.js("document.querySelector('#low').value = '0.81'")
    browser.choose("#high", "0.87")
    assert names(browser) == ["p04.png", "p03.png", "p02.png"]


def test_another_metric(browser: Browser) -> None:
    browser.choose("#metric", "1")
    assert names(browser)[0] == "p00.png"
    assert "bpclip-nr.lite" in browser.text("#lead")


def test_a_picture_against_a_reference_of_twice_its_size(browser: Browser) -> None:
    browser.click(".window .row:nth-child(2)")
    browser.wait("document.querySelectorAll('.pane img')[2].naturalWidth === 80")
    sizes = "[...document.querySelectorAll('.sheet')].map((e) => e.getBoundingClientRect().width)"
    first, second = browser.js(sizes)
    assert first == pytest.approx(second)
    x, y = browser.middle(".stage .pane")
    browser.wheel((x, y), -400)
    zoomed = browser.js(sizes)
    assert zoomed[0] == pytest.approx(zoomed[1])
    assert zoomed[0] > 1.5 * first
    lefts = "[...document.querySelectorAll('.sheet')].map((e) => e.getBoundingClientRect().left)"
    before = browser.js(lefts)
    browser.drag((x, y), (x + 50, y))
    moved = [after - left for after, left in zip(browser.js(lefts), before, strict=True)]
    assert moved == pytest.approx([50, 50], abs=1)


def test_swipe_switch_and_difference(browser: Browser) -> None:
    browser.click(".window .row:nth-child(2)")
    browser.wait("document.querySelectorAll('.pane img')[2].naturalWidth === 80")
    browser.key("3")
    x, y = browser.middle(".handle")
    browser.drag((x, y), (x - 200, y))
    swiped = float(browser.js("document.querySelector('.handle').getAttribute('aria-valuenow')"))
    assert 10 < swiped < 45
    browser.key("4")
    browser.wait("document.querySelector('.pane.away') === null")
    browser.wait("document.querySelector('.pane.away') !== null")
    browser.key("5")
    assert browser.js("getComputedStyle(document.querySelectorAll('.pane')[1]).mixBlendMode") == "difference"


def test_by_keyboard_alone(browser: Browser) -> None:
    browser.js("document.querySelector('.window .row').focus()")
    browser.key("ArrowDown")
    browser.key("Enter")
    browser.wait("document.querySelector('#viewer').open")
    assert browser.text("#viewer-name") == "p29.png"
    browser.key("ArrowRight")
    assert browser.text("#viewer-name") == "p28.png"
    browser.key("Escape")
    browser.wait("document.activeElement.innerText.includes('p28.png')")
    browser.key("End")
    assert "gone.png" in browser.js("document.activeElement.innerText")


def test_every_control_has_a_name(browser: Browser) -> None:
    browser.click(".window .row:nth-child(2)")
    tree = browser.call("Accessibility.getFullAXTree")["nodes"]
    controls = {"button", "combobox", "searchbox", "spinbutton", "slider", "grid", "dialog"}
    nameless = [
        node["role"]["value"]
        for node in tree
        if not node["ignored"] and node["role"]["value"] in controls and not node.get("name", {}).get("value")
    ]
    assert nameless == []


def test_the_selection_is_exported(browser: Browser, tmp_path: Path) -> None:
    browser.downloads(tmp_path)
    browser.choose("#folder", "b/")
    browser.click("#export")
    file = tmp_path / "selection.csv"
    browser.until(lambda: file.exists() and file.stat().st_size, "a download")
    rows = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
    assert len(rows) == 32
    assert {row["image"] for row in rows} == {f"b/p{i}.png" for i in range(15, 30)} | {"b/gone.png"}
    assert rows[0]["metric"] == "bpclip-fr.lite"
    assert float(rows[0]["score"]) == pytest.approx(0.32)


@pytest.mark.parametrize("width", [360, 900, 1600])
def test_nothing_is_wider_than_the_window(browser: Browser, width: int) -> None:
    browser.resize(width, 900)
    try:
        assert browser.js("document.documentElement.scrollWidth") <= width
        browser.click(".window .row")
        assert browser.js("document.querySelector('#viewer').scrollWidth") <= width
    finally:
        browser.resize(1280, 1000)


def test_ten_thousand_rows_keep_few_elements(shared: Browser, tmp_path: Path) -> None:
    rows = [{"image": f"a/{i:05}.png", "metric": "bpclip-nr.lite", "score": i / 1e4} for i in range(10_000)]
    write_report(tmp_path / "many.html", collect("many", rows), options=Options(root=tmp_path))
    shared.open(tmp_path / "many.html")
    assert shared.text("#count") == "10,000 pictures"
    assert shared.js("document.querySelectorAll('.window .row').length") < 60
    shared.js("document.querySelector('#list').scrollTop = 68 * 5000")
    shared.wait("document.querySelector('.window').innerText.includes('05000.png')")
    assert shared.js("document.querySelectorAll('.window .row').length") < 60
