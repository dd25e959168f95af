"""Measure size and opening time of the report's page, and store them.

    python benchmarks/report_pages.py [--output benchmarks/results/report_pages.json]

Made scores of 100, 1,000 and 10,000 pictures that lie beside the page, all copies of docs/example/score-0.7.jpg: of one
run; and of two with references and opinion scores, which is the fullest page. Times are taken in headless Chromium,
the smallest of five: "open" by the clock, from the address to the last picture that is in sight; "processor" is what
the page's main thread computed for it; "sort" and "search" are by the clock until the list is drawn anew.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from measure_lite import describe_machine

from iqametrics.report.records import Scores, collect
from iqametrics.report.write import Options, write_report

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/helpers"))

from browser import Browser  # noqa: E402 - a helper of the tests

PHOTOGRAPH = ROOT / "docs/example/score-0.7.jpg"
COUNTS = (100, 1_000, 10_000)
REPEATS = 5
FOLDERS = 20
SEED = 0
METRIC = "bpclip-fr.lite"
SHOWN = (
    "document.querySelector('.window .row') && [...document.images].every((i) => i.complete || "
    "i.getBoundingClientRect().top > innerHeight || !i.clientHeight)"
)


def main() -> None:
    """Measure, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/report_pages.json")
    args = parser.parse_args()
    with Browser() as browser:
        browser.call("Performance.enable", timeDomain="threadTicks")
        version = browser.version()
        pages = [measure(browser, rows, two=two) for two in (False, True) for rows in COUNTS]
    machine = {**describe_machine(), "browser": version}
    args.output.write_text(json.dumps({"machine": machine, "pages": pages}, indent=2) + "\n")
    print(table(pages))


def measure(browser: Browser, count: int, *, two: bool) -> dict[str, Any]:
    """Write a page of made scores, open it, sort and search it."""
    with tempfile.TemporaryDirectory() as name:
        page = Path(name) / "report.html"
        run = made(page.parent, "b", count, full=two)
        other = made(page.parent, "a", count, full=two) if two else None
        start = time.perf_counter()
        size = write_report(page, run, other, options=Options(root=page.parent))
        written = time.perf_counter() - start
        times = [opened(browser, page) for _ in range(REPEATS)]
        sort = min(timed(browser, "document.querySelector('[data-key=name] button').click()") for _ in range(REPEATS))
        search = min(timed(browser, search_for(text)) for text in ("7", "07", "01", "5", "1"))
        return {
            "rows": count,
            "page": "two runs, references, opinions" if two else "one run",
            "megabytes": round(size / 1e6, 3),
            "write_seconds": round(written, 3),
            "open_seconds": round(min(seconds for seconds, _ in times), 3),
            "processor_seconds": round(min(seconds for _, seconds in times), 3),
            "sort_seconds": round(sort, 3),
            "search_seconds": round(search, 3),
            "rows_in_the_page": browser.js("document.querySelectorAll('.window .row').length"),
        }


def made(folder: Path, title: str, count: int, *, full: bool) -> Scores:
    """Make a run, with its pictures as links to one file."""
    return collect(title, rows(folder, title, count, full=full))


def rows(folder: Path, title: str, count: int, *, full: bool) -> Iterator[dict[str, Any]]:
    """Make the rows of a run."""
    generator = np.random.default_rng([SEED, *title.encode()])
    for number in range(count):
        name = f"set-{number % FOLDERS:02}/photograph-{number:06}.jpg"
        picture = folder / title / name
        picture.parent.mkdir(parents=True, exist_ok=True)
        copy(picture)
        row = {"image": f"{title}/{name}", "metric": METRIC, "score": float(generator.beta(4, 3)), "reference": None}
        more = {"reference": f"originals/{name}", "mos": float(generator.beta(4, 3))} if full else {}
        yield row | more


def copy(path: Path) -> None:
    """Link the photograph, or copy it where the file system has no links."""
    try:
        os.link(PHOTOGRAPH, path)
    except OSError:
        path.write_bytes(PHOTOGRAPH.read_bytes())


def opened(browser: Browser, page: Path) -> tuple[float, float]:
    """Open a page; return the seconds by the clock, and those that its main thread computed."""
    browser.call("Page.navigate", url="about:blank")
    browser.wait("location.href === 'about:blank'")
    start = time.perf_counter()
    browser.call("Page.navigate", url=page.as_uri())
    browser.wait(f"document.readyState === 'complete' && {SHOWN}")
    seconds = time.perf_counter() - start
    found = {entry["name"]: entry["value"] for entry in browser.call("Performance.getMetrics")["metrics"]}
    return seconds, found["TaskDuration"]


def timed(browser: Browser, script: str) -> float:
    """Time a script until what it changes is drawn, in seconds."""
    drawn = "await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));"
    text = f"(async () => {{ const start = performance.now(); {script}; {drawn} return performance.now() - start; }})()"
    return float(browser.js(text)) / 1e3


def search_for(text: str) -> str:
    """Write a script that searches, and waits for the pause after typing that the page allows."""
    return (
        f"const e = document.querySelector('#query'); e.value = '{text}'; e.dispatchEvent(new Event('input'));"
        "await new Promise((done) => setTimeout(done, 80))"
    )


def table(pages: list[dict[str, Any]]) -> str:
    """Write the figures as the table that docs/report.md has."""
    lines = ["| Rows | Page | MB | Opens in (s) | of it computed (s) | Sorts in (s) | Searches in (s) |",
             "|---:|---|---:|---:|---:|---:|---:|"]  # fmt: skip
    for page in pages:
        lines.append(
            f"| {page['rows']:,} | {page['page']} | {page['megabytes']:.2f} | {page['open_seconds']:.2f} | "
            f"{page['processor_seconds']:.2f} | {page['sort_seconds']:.2f} | {page['search_seconds']:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
