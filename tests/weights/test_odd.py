"""`weights/make_odd.py`: drawings and screenshots that a stranger gets alike."""

import make_odd
import pytest
from browser import find_browser
from PIL import Image, ImageDraw


def test_a_drawing_is_laid_on_white(tmp_path):
    drawing = Image.new("RGBA", (100, 40), (0, 0, 0, 0))
    ImageDraw.Draw(drawing).rectangle((0, 0, 49, 39), fill=(255, 0, 0, 255))
    drawing.save(tmp_path / "drawing.png")
    laid = make_odd.laid_on_white(tmp_path / "drawing.png")
    assert (laid.size, laid.mode) == ((512, 205), "RGB")
    assert laid.getpixel((30, 100)) == (255, 0, 0)
    assert laid.getpixel((480, 100)) == (255, 255, 255)


def test_the_choice_depends_on_names_and_is_refused_where_there_are_too_few(tmp_path):
    for number in range(9):
        (tmp_path / f"deep{number % 2}").mkdir(exist_ok=True)
        (tmp_path / f"deep{number % 2}" / f"{number}.png").touch()
    found = make_odd.chosen(tmp_path, "*.png", 4)
    assert found == make_odd.chosen(tmp_path, "*.png", 4)
    assert len(set(found)) == 4
    with pytest.raises(SystemExit, match=r"9 files \*.png, and 10 are wanted"):
        make_odd.chosen(tmp_path, "*.png", 10)


@pytest.mark.slow
@pytest.mark.skipif(find_browser() is None, reason="NO BROWSER: install chromium, or set IQAMETRICS_BROWSER to one")
def test_a_screenshot_shows_the_page(tmp_path):
    page = tmp_path / "page.html"
    page.write_text("<!doctype html><body style='margin:0;background:#0000ff'></body>")
    (tmp_path / "out").mkdir()
    make_odd.photograph([page], tmp_path / "out")
    with Image.open(tmp_path / "out" / "00.png") as shot:
        assert shot.size == make_odd.WINDOW
        assert shot.convert("RGB").getpixel((640, 400)) == (0, 0, 255)
