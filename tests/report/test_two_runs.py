"""Two runs, opinions and maps in the browser, by what a person does."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from browser import Browser, find_browser
from pictures import paint
from PIL import Image

from iqametrics.registry import metric_info
from iqametrics.report import write
from iqametrics.report.records import Scores, collect
from iqametrics.report.write import Options, write_report

pytestmark = [pytest.mark.slow, pytest.mark.skipif(find_browser() is None, reason="NO BROWSER: install chromium")]

COUNT = 12


def run(root: Path, title: str, form: str, scores: Sequence[float], **more: object) -> Scores:
    """A run over pictures of one form, with references of another shape."""
    rows = []
    for number, score in enumerate(scores):
        image, reference = f"{title}/deep/{number:02}.{form}", f"originals/{number:02}.png"
        paint(root / image, (40, 30), (20 * number, 90, 60))
        paint(root / reference, (60, 90))
        rows.append({"image": image, "reference": reference, "metric": "bpclip-fr.lite", "score": score, **more})
    return collect(title, rows)


@pytest.fixture
def two(quiet: Browser, tmp_path: Path) -> Browser:
    """WebP against JPEG: the first picture gains most, the last loses most."""
    before = run(tmp_path, "jpeg", "jpg", [0.5] * COUNT)
    after = run(tmp_path, "webp", "webp", [0.5 + 0.05 * (COUNT / 2 - number - 0.5) for number in range(COUNT)])
    write_report(tmp_path / "two.html", after, before, options=Options(root=tmp_path))
    quiet.open(tmp_path / "two.html")
    return quiet


def test_what_got_worse_comes_first(two: Browser) -> None:
    assert two.text("#title") == "webp against jpeg"
    assert two.texts(".window .row .name")[:2] == ["11.webp", "10.webp"]
    assert two.texts(".window .row .change")[0] == "\u22120.2750"
    told = two.text(".told")
    assert "no clear difference" in told
    assert "12 pictures: 6 better, 6 worse, 0 equal" in told
    assert "bootstrap interval" in told
    two.choose("#status", "worse")
    assert two.text("#count") == "6 of 12 pictures"
    assert "Got worse" in two.texts(".ranking h3")


def test_differences_are_drawn_in_order_and_open_their_picture(two: Browser) -> None:
    left, bottom, width = two.js(
        '(() => { const e = document.querySelector(\'[aria-label="Differences, sorted"].plot svg, '
        "svg[aria-label=\"Differences, sorted\"]'); e.scrollIntoView({block: 'center'}); "
        "const b = e.getBoundingClientRect(); return [b.left, b.bottom, b.width]; })()"
    )
    # The least difference is the leftmost point, just above the axis.
    x = left + 48 + (width - 60) * 0.6 / 12.2
    heights = [bottom - 40 - step for step in range(0, 60, 6)]
    for y in heights:
        two.drag((x, y), (x, y))
        if two.js("document.querySelector('#viewer').open"):
            break
    assert two.text("#viewer-name") == "11.webp"


def test_a_picture_opens_beside_the_other_runs(two: Browser) -> None:
    two.click(".window .row")
    two.wait("[...document.querySelectorAll('.pane-label')].every((e) => e.textContent.includes('40'))")
    assert two.texts(".pane-label") == ["This run 40 \u00d7 30", "jpeg 40 \u00d7 30"]
    two.choose(".tools select", "reference")
    two.wait("document.querySelectorAll('.pane-label')[1].textContent === 'Reference 60 \u00d7 90'")
    assert "\u22120.2750 from 0.5000 in jpeg" in two.text(".facts")


def test_the_place_under_the_pointer_stays_where_it_is_in_the_second_picture(two: Browser) -> None:
    two.click(".window .row")
    two.wait("document.querySelectorAll('.pane img')[2].naturalWidth === 40")
    script = "(() => {{ const b = document.querySelectorAll('.{}')[1].getBoundingClientRect(); return [{}]; }})()"
    left, top, width, height = two.js(script.format("pane", "b.left, b.top, b.width, b.height"))
    place = (left + 0.3 * width, top + 0.5 * height)
    share = script.format("sheet", f"({place[0]} - b.left) / b.width, ({place[1]} - b.top) / b.height")
    before = two.js(share)
    two.wheel(place, -500)
    assert two.js(share) == pytest.approx(before, abs=0.01)


def test_two_fingers_zoom(two: Browser) -> None:
    two.click(".window .row")
    two.wait("document.querySelectorAll('.pane img')[2].naturalWidth === 40")
    before = two.js("document.querySelector('.sheet').getBoundingClientRect().width")
    x, y = two.middle(".stage .pane")
    two.pinch((x, y), 40, 120)
    after = two.js("document.querySelector('.sheet').getBoundingClientRect().width")
    assert after / before == pytest.approx(3, rel=0.1)


def test_runs_of_pictures_with_unlike_ends_of_names_are_paired(tmp_path: Path) -> None:
    before, after = run(tmp_path, "a", "jpg", [0.5, 0.6]), run(tmp_path, "b", "png", [0.6, 0.5])
    write_report(tmp_path / "page.html", after, before, options=Options(root=tmp_path))
    assert '"a/deep/01.jpg"' in (tmp_path / "page.html").read_text()


@pytest.fixture
def opinions(quiet: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Browser:
    """A page with opinions, of which one disagrees, and with a map over the worst picture."""
    scores = [number / 20 for number in range(20)]
    found = run(tmp_path, "run", "png", scores)
    for number, picture in enumerate(found.pictures):
        picture.mos = scores[number] ** 2 + (0.5 if number == 4 else 0.01 * (number % 3))
    stream = io.BytesIO()
    Image.new("RGB", (8, 6), (255, 0, 0)).save(stream, "PNG")
    png = "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()
    drawn = {"metric": "bpclip-fr.lite", "name": "weight", "low": 0.1, "high": 0.9, "png": png}
    monkeypatch.setattr(write, "explained", lambda *_: {found.pictures[0].image: [drawn]})
    write_report(tmp_path / "page.html", found, options=Options(root=tmp_path, explain=1))
    quiet.open(tmp_path / "page.html")
    return quiet


def test_the_worst_disagreement_is_named_and_sorted_first(opinions: Browser) -> None:
    assert opinions.js("document.querySelectorAll('svg .band').length") == 1
    assert "SRCC" in opinions.text("[aria-label='Against opinion'] .caption")
    named = opinions.js(
        "[...document.querySelectorAll('.ranking h3')].find((e) => e.textContent === 'Worst disagreements')"
        ".parentElement.querySelector('button').textContent"
    )
    assert named == "04.png"
    opinions.click('[data-key="residual"] button')
    assert opinions.texts(".window .row .name")[0] == "04.png"


def test_a_map_lies_over_the_picture_as_strongly_as_the_slider_says(opinions: Browser) -> None:
    assert "maps" in opinions.text(".window .row .badge")
    opinions.click(".window .row")
    opinions.choose("[aria-label='Explanation map']", "bpclip-fr.lite: weight")
    opinions.wait("document.querySelector('.map').naturalWidth === 8")
    opinions.js(
        "(() => { const e = document.querySelector('[aria-label=\"Opacity of the map\"]'); e.value = 0.25;"
        "e.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )
    assert opinions.js("getComputedStyle(document.querySelector('.map')).opacity") == "0.25"
    picture, drawn = opinions.js(
        "['.sheet img', '.map'].map((s) => { const b = document.querySelector(s).getBoundingClientRect();"
        "return [b.left, b.top, b.width, b.height]; })"
    )
    assert picture == pytest.approx(drawn)


def test_the_path_is_copied_by_a_key(opinions: Browser) -> None:
    opinions.call("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    opinions.click(".window .row")
    opinions.key("c")
    opinions.wait("document.querySelector('.facts button').textContent === 'Copied'")
    assert opinions.js("navigator.clipboard.readText()") == "run/deep/00.png"


def test_a_picture_says_what_its_score_means(quiet: Browser, tmp_path: Path) -> None:
    info = metric_info("bpclip-nr.lite")
    assert info.meaning is not None
    scores = [0.05, 0.31, 0.6, 0.9, 1.2, info.meaning.quantiles[3]]
    paint(tmp_path / "p.png", (8, 8))
    row = {"image": "p.png", "metric": "bpclip-nr.lite", "fingerprint": str(info.fingerprint)}
    for score in scores:
        page = tmp_path / "page.html"
        runs = [collect(title, [row | {"score": found}]) for title, found in (("now", score), ("then", 0.5))]
        write_report(page, *runs, options=Options(root=tmp_path))
        quiet.open(page)
        quiet.click(".window .row")
        told = quiet.text(".facts")
        assert info.meaning.text(score) in told
        assert f"with probability {info.meaning.preference(score, 0.5):.2f}" in told
    # Of another checkpoint nothing is claimed.
    write_report(page, collect("now", [row | {"score": 0.5, "fingerprint": "other"}]), options=Options(root=tmp_path))
    assert '"meaning"' not in page.read_text()


def test_folders_hold_what_is_in_their_folders(quiet: Browser, tmp_path: Path) -> None:
    paths = ["all/a/x/1.png", "all/a/y/2.png", "all/b/3.png", "all/ab/4.png"]
    rows = [{"image": path, "metric": "m", "score": 0.5} for path in paths]
    for path in paths:
        paint(tmp_path / path, (8, 8))
    write_report(tmp_path / "page.html", collect("t", rows), options=Options(root=tmp_path))
    quiet.open(tmp_path / "page.html")
    choices = quiet.js("[...document.querySelector('#folder').options].map((o) => o.value)")
    assert choices == ["", "all/a/", "all/a/x/", "all/a/y/", "all/ab/", "all/b/"]
    quiet.choose("#folder", "all/a/")
    assert sorted(quiet.texts(".window .row .name")) == ["1.png", "2.png"]
    quiet.click("#query")
    quiet.write("nothing")
    quiet.wait("!document.querySelector('#none').hidden")
    assert quiet.js("document.querySelector('#list').clientHeight") == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_their_ground(two: Browser, scheme: str) -> None:
    two.look(scheme)
    two.wait("true")
    worst = two.js(CONTRAST)
    assert worst[0] >= 4.5, worst


# WCAG's contrast of each piece of text with the nearest ground behind it, the least of all.
CONTRAST = """(() => {
  const parse = (c) => c.match(/[\\d.]+/g).map(Number);
  const light = (c) => c.slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => {
    for (let at = e; at; at = at.parentElement) {
      const c = parse(getComputedStyle(at).backgroundColor);
      if (c[3] === undefined || c[3] > 0) return c;
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let worst = [21, ""];
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    if (!text || !e.checkVisibility() || e.closest("script, style, svg, option")) continue;
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(ground(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < worst[0]) worst = [ratio, e.outerHTML.slice(0, 200)];
  }
  return worst;
})()"""
