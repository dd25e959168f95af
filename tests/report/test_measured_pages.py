"""benchmarks/report_pages.py: what docs/report.md says of size and opening time."""

import json
from pathlib import Path

import pytest
import report_pages
from browser import Browser, find_browser

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.skipif(find_browser() is None, reason="NO BROWSER: install chromium")
def test_a_page_is_measured(quiet: Browser) -> None:
    quiet.call("Performance.enable", timeDomain="threadTicks")
    found = report_pages.measure(quiet, 40, two=True)
    assert found["rows"] == 40
    assert 5 < found["rows_in_the_page"] <= 40
    assert 0.05 < found["megabytes"] < 0.2
    assert 0 < found["processor_seconds"] < found["open_seconds"] < 30
    assert found["sort_seconds"] > 0
    # The last text that is searched for is "1": 01, 10 to 19, 21, 31, and set-01, set-10 to set-19 of the names.
    assert quiet.text("#count") == "22 of 40 pictures"


def test_the_docs_have_the_stored_figures() -> None:
    pages = json.loads((ROOT / "benchmarks/results/report_pages.json").read_text())["pages"]
    assert [page["rows"] for page in pages] == [100, 1_000, 10_000] * 2
    assert report_pages.table(pages) in (ROOT / "docs/report.md").read_text()
