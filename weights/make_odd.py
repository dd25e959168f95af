"""Gather drawings and screenshots, to see whether `Metric.uncertainty` tells them from photographs.

    apt-get install openclipart-png python3.11-doc chromium
    python weights/make_odd.py --drawings /usr/share/openclipart/png --pages /usr/share/doc/python3.11/html \
        --out data/odd

Both are chosen by a digest of their paths. Drawings are laid on white and scaled to 512 pixels; a screenshot is a page
of the manual in a window of 1280x800. Nothing is trained on them. Needs Chromium.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from make_damaged import seed_of
from PIL import Image as PilImage

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/helpers"))

from browser import Browser

SIDE = 512
WINDOW = (1280, 800)


def main() -> None:
    """Read the arguments and write both folders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drawings", type=Path, required=True, help="folder of PNG files, searched in its folders too")
    parser.add_argument("--pages", type=Path, required=True, help="folder of HTML files, searched likewise")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--count", type=int, default=40, help="of each (default: 40)")
    args = parser.parse_args()
    for name in ("drawings", "screenshots"):
        (args.out / name).mkdir(parents=True, exist_ok=True)
    for number, path in enumerate(chosen(args.drawings, "*.png", args.count)):
        laid_on_white(path).save(args.out / "drawings" / f"{number:02d}.png")
    photograph(chosen(args.pages, "*.html", args.count), args.out / "screenshots")
    print(f"{args.out}: {args.count} drawings and as many screenshots")


def chosen(folder: Path, pattern: str, count: int) -> list[Path]:
    """Choose files by a digest of their paths in the folder."""
    found = sorted(folder.rglob(pattern), key=lambda path: seed_of(path.relative_to(folder).as_posix()))
    if len(found) < count:
        sys.exit(f"{folder}: {len(found)} files {pattern}, and {count} are wanted; check the path or lower --count")
    return found[:count]


def laid_on_white(path: Path) -> PilImage.Image:
    """Lay a drawing on white, and scale its longer side to SIDE."""
    with PilImage.open(path) as opened:
        drawing = opened.convert("RGBA")
    paper = PilImage.new("RGBA", drawing.size, "white")
    paper.alpha_composite(drawing)
    scale = SIDE / max(paper.size)
    width, height = (max(round(side * scale), 64) for side in paper.size)
    return paper.convert("RGB").resize((width, height), PilImage.Resampling.LANCZOS)


def photograph(pages: Sequence[Path], out: Path) -> None:
    """Take a picture of each page, as a window shows its top."""
    with Browser(*WINDOW) as browser:
        for number, page in enumerate(pages):
            browser.open(page)
            browser.picture(out / f"{number:02d}.png")


if __name__ == "__main__":
    main()
