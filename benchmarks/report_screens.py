"""Make the documentation's pictures of the report, or look at its pages in every width, light and dark.

    python benchmarks/report_screens.py                  # docs/example/report-*.webp
    python benchmarks/report_screens.py --look FOLDER    # pages and screenshots at 390, 900 and 1500 pixels

The pages are of real scores: views of docs/example/seeding.jpg (CC0) under KADID-10k's distortions, scored by the lite
checkpoints; and the same views coded by two encoders, one run against the other. Needs Chromium.
"""

import argparse
import io
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from iqametrics import create_metric
from iqametrics.datasets.distortions import DISTORTIONS, LEVELS, distort
from iqametrics.metric import Metric
from iqametrics.report.records import Scores, collect
from iqametrics.report.write import Options, write_report

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/helpers"))

from browser import Browser  # noqa: E402 - a helper of the tests

PHOTOGRAPH = ROOT / "docs/example/seeding.jpg"
VIEW = (384, 288)
CORNERS = ((0, 0), (320, 20), (640, 140))
METRICS = ("bpclip-fr.lite", "bpclip-nr.lite")
TYPES = (1, 3, 4, 6, 9, 10, 11, 15, 16, 20, 23)
EXPLAINED = 4
WIDTHS = {390: 844, 900: 1000, 1500: 1000}
JPEG_QUALITIES = (8, 14, 22, 34, 50)
SEED = 13
WEBP_QUALITY = 80
LIST_SIZE, PICTURE_SIZE = (1280, 1300), (1280, 760)


def main() -> None:
    """Write pages, and pictures of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "docs/example", help="folder of the pictures")
    parser.add_argument("--look", type=Path, help="folder of pages and of pictures in all widths and looks")
    args = parser.parse_args()
    if args.look is not None:
        args.look.mkdir(parents=True, exist_ok=True)
        look(make_pages(args.look), args.look)
        return
    args.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        show(make_pages(Path(folder)), args.output)


def make_pages(folder: Path) -> dict[str, Path]:
    """Write the pages into a folder, with their pictures."""
    metrics = [create_metric(name) for name in METRICS]
    pages = {"damage": folder / "damage.html", "encoders": folder / "encoders.html"}
    if not pages["damage"].exists():
        rows = [row for entry in damaged(folder) for row in scored(folder, metrics, *entry)]
        options = Options(root=folder, explain=EXPLAINED)
        write_report(pages["damage"], collect("Three views, damaged", rows), options=options, metrics=metrics)
    if not pages["encoders"].exists():
        runs = [encoded(folder, name, metrics) for name in ("jpeg", "webp")]
        write_report(pages["encoders"], runs[1], runs[0], options=Options(root=folder))
    return pages


def views(folder: Path) -> Iterator[tuple[str, Image.Image]]:
    """Cut the views, and save them as references."""
    (folder / "references").mkdir(exist_ok=True)
    with Image.open(PHOTOGRAPH) as photograph:
        for number, (left, top) in enumerate(CORNERS, start=1):
            view = photograph.convert("RGB").crop((left, top, left + VIEW[0], top + VIEW[1]))
            path = f"references/view-{number}.png"
            view.save(folder / path)
            yield path, view


def damaged(folder: Path) -> Iterator[tuple[str, str]]:
    """Write each view under distortions of KADID-10k at three levels; path and reference."""
    for reference, view in views(folder):
        pixels = (np.asarray(view) / 255).astype(np.float32)
        for entry in (DISTORTIONS[number] for number in TYPES):
            (folder / "damaged" / entry.family).mkdir(parents=True, exist_ok=True)
            for level in LEVELS[::2]:
                bad = distort(pixels, entry.id, level, np.random.default_rng([SEED, entry.id, level]))
                path = f"damaged/{entry.family}/{entry.name}-{level}-{Path(reference).stem}.png"
                Image.fromarray((bad * 255).round().astype(np.uint8)).save(folder / path)
                yield path, reference


def encoded(folder: Path, name: str, metrics: Sequence[Metric]) -> Scores:
    """Code each view as JPEG, or as WebP of about the same size; score the files."""
    rows: list[dict[str, object]] = []
    (folder / name).mkdir(exist_ok=True)
    for reference, view in views(folder):
        for quality in JPEG_QUALITIES:
            content = coded(view, "JPEG", quality)
            if name == "webp":
                content = min(
                    (coded(view, "WEBP", q) for q in range(2, 96, 3)), key=lambda c: abs(len(c) - len(content))
                )
            path = f"{name}/{Path(reference).stem}-at-{quality:02}.{name}"
            (folder / path).write_bytes(content)
            rows += scored(folder, metrics, path, reference)
    return collect(name, rows)


def coded(view: Image.Image, form: str, quality: int) -> bytes:
    """Code a picture."""
    stream = io.BytesIO()
    view.save(stream, form, quality=quality)
    return stream.getvalue()


def scored(folder: Path, metrics: Sequence[Metric], path: str, reference: str) -> Iterator[dict[str, object]]:
    """Score a picture; one row a metric, as `score` gives."""
    for metric in metrics:
        against = (str(folder / reference),) if metric.mode == "fr" else ()
        score = metric(str(folder / path), *against).item()
        row: dict[str, object] = {"image": path, "reference": reference, "metric": metric.full_name, "score": score}
        yield row | {"fingerprint": str(metric.fingerprint)}


def look(pages: dict[str, Path], folder: Path) -> None:
    """Take pictures of each page and of its dialog, in each width, light and dark."""
    with Browser() as browser:
        for name, page in pages.items():
            for width, height in WIDTHS.items():
                for scheme in ("light", "dark"):
                    browser.resize(width, height)
                    browser.look(scheme)
                    browser.open(page)
                    browser.resize(width, browser.js("document.documentElement.scrollHeight"))
                    settle(browser)
                    browser.picture(folder / f"{name}-{width}-{scheme}.png")
                    browser.resize(width, height)
                    browser.click(".window .row:nth-child(2)")
                    settle(browser)
                    browser.picture(folder / f"{name}-{width}-{scheme}-open.png")
            print(*browser.problems, sep="\n")


def show(pages: dict[str, Path], folder: Path) -> None:
    """Take the documentation's pictures."""
    with Browser(*LIST_SIZE) as browser:
        browser.look("light")
        browser.open(pages["damage"])
        settle(browser)
        save(browser, folder / "report-list.webp")
        browser.resize(*PICTURE_SIZE)
        browser.look("dark")
        browser.click(".window .row")
        settle(browser)
        browser.js(
            "(() => { const e = document.querySelector('[aria-label=\"Explanation map\"]'); e.selectedIndex = 1;"
            "e.dispatchEvent(new Event('change')); })()"
        )
        settle(browser)
        save(browser, folder / "report-picture.webp")
        browser.look("light")
        browser.resize(*LIST_SIZE)
        browser.open(pages["encoders"])
        settle(browser)
        save(browser, folder / "report-two-runs.webp")


def save(browser: Browser, path: Path) -> None:
    """Save what is seen as a small file."""
    with tempfile.TemporaryDirectory() as folder:
        browser.picture(Path(folder) / "seen.png")
        with Image.open(Path(folder) / "seen.png") as seen:
            seen.convert("RGB").save(path, "WEBP", quality=WEBP_QUALITY, method=6)
    print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")


def settle(browser: Browser) -> None:
    """Wait until all pictures that are in sight have come."""
    browser.wait(
        "[...document.images].every((i) => "
        "i.complete || i.getBoundingClientRect().top > innerHeight || !i.clientHeight)"
    )
    browser.js("new Promise((done) => setTimeout(done, 300))")


if __name__ == "__main__":
    main()
