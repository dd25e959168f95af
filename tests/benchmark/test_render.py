"""One report in four forms: each is read back as its own format is read, and all say the same."""

import csv
import html
import io
from html.parser import HTMLParser

import pytest
from benchmark_fake import PLACE

from iqametrics.benchmark.plan import plan_table
from iqametrics.benchmark.render import FORMATS, render
from iqametrics.benchmark.report import make_report
from iqametrics.benchmark.run import open_run, run_jobs
from iqametrics.benchmark.tables import paper_table
from iqametrics.errors import DataError

FAILURE = "pyiqa is <not> installed & cannot be had"
PLOT = {"a <plot>": "data:image/png;base64,AA=="}
HEADINGS = ["row", "column", "paper", "measured", "difference", "verdict", "splits", "after fit", "note"]


class Page(HTMLParser):
    """Rows of the page's table, its other text, its pictures, and that what is opened is closed."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.words, self.pictures, self.open = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.pictures.append(dict(attrs))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in ("img", "meta", "link"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data
        else:
            self.words.append(data)


def markdown_rows(text):
    rows = [line[2:-2].split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert set(rows.pop(1)) == {"---"}
    return [[cell.strip() for cell in row] for row in rows]


def latex_rows(text):
    rows = [line.removesuffix(" \\\\").split(" & ") for line in text.splitlines() if line.endswith("\\\\")]
    return [[cell.strip().replace("\\_", "_") for cell in row] for row in rows]


@pytest.fixture
def report(tmp_path):
    """BPCLIP's job is done, BRISQUE's has failed, nothing else was planned."""
    planned = plan_table(paper_table("bpclip-table5"), rows=["BPCLIP", "BRISQUE"])
    plan = {"table": "bpclip-table5", "size": "paper", "changes": [], "labels": {"koniq10k": "human"}}
    open_run(tmp_path, plan, planned, resume=False)

    def done(job, folder):
        if job.row == "BRISQUE":
            raise DataError(FAILURE)
        figure = {"n": 2015, "srcc": 0.9304, "plcc": 0.9522, "plcc_logistic": 0.9531}
        return {**PLACE, "figures": {"koniq10k": figure}, "images": {"koniq10k": 10073}, "selection": "best-val"}

    run_jobs(planned, tmp_path, done, lambda text: None)
    return make_report(tmp_path)


def test_the_same_table_in_each_form(report):
    rows = markdown_rows(render(report, "md", PLOT))
    assert rows[0] == HEADINGS
    assert len(rows) == 1 + len(paper_table("bpclip-table5").cells)
    assert ["BPCLIP", "koniq10k plcc", "0.945", "0.9522", "+0.0072", "above", "1/1", "0.9531", ""] in rows
    assert ["BPCLIP", "koniq10k srcc", "0.932", "0.9304", "-0.0016", "below", "1/1", "", ""] in rows
    assert ["TOPIQ", "koniq10k srcc", "0.926", "", "", "not run", "", "", "pyiqa/topiq_nr can run it"] in rows
    assert latex_rows(render(report, "latex", PLOT)) == rows


def test_the_page_lays_the_table_out_as_the_paper_does(report):
    rows = Page(render(report, "html", PLOT)).rows
    table = paper_table("bpclip-table5")
    assert rows[:2] == [["", "koniq10k"], ["PLCC", "SRCC"]]
    assert [row[0] for row in rows[2:]] == table.rows
    cells = {row[0]: row[1:] for row in rows[2:]}
    assert cells["BPCLIP"] == ["0.9522paper 0.945\u25b2 +0.0072above", "0.9304paper 0.932\u25bc \u22120.0016below"]
    assert cells["TOPIQ"] == ["0.939, not run", "0.926, not run"]


def test_csv_has_the_numbers_unrounded(report):
    rows = list(csv.DictReader(io.StringIO(render(report, "csv", PLOT))))
    assert [(r["row"], r["place"], r["statistic"], r["paper"]) for r in rows] == [
        (cell.row, cell.place, cell.statistic, str(cell.value)) for cell in paper_table("bpclip-table5").cells
    ]
    found = {(r["row"], r["statistic"]): r for r in rows}
    plcc = found["BPCLIP", "plcc"]
    assert float(plcc["difference"]) == 0.9522 - 0.945
    assert [plcc[name] for name in ("measured", "verdict", "n", "planned", "images")] == [
        "0.9522",
        "above",
        "1",
        "1",
        "2015",
    ]
    assert (plcc["after_fit"], plcc["selection"], plcc["metric"]) == ("0.9531", "best-val", "bpclip-nr (paper)")
    assert found["BRISQUE", "srcc"]["note"].endswith("its weights were trained on live, not on koniq10k")  # with commas
    assert (found["DIIVINE", "srcc"]["verdict"], found["DIIVINE", "srcc"]["planned"]) == ("not run", "0")


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "csv"])
def test_what_must_be_said_beside_the_table(report, form):
    text = render(report, form, PLOT)
    if form == "html":
        text = " ".join(Page(text).words)
    if form == "md":
        text = html.unescape(text)
    for words in ("KonIQ-10k, official split", "1 of 2 jobs are finished", "best-val", PLACE["commit"], FAILURE):
        assert words in text


def test_a_page_escapes_what_it_is_given(report):
    page = Page(render(report, "html", PLOT))
    assert page.pictures == [{"alt": "a <plot>", "src": PLOT["a <plot>"]}]
    assert "a <plot>" in page.words


def test_latex_has_as_many_columns_as_its_rows(report):
    text = render(report, "latex", PLOT)
    assert "\\begin{tabular}{" + "l" * len(HEADINGS) + "}" in text
    assert {len(row) for row in latex_rows(text)} == {len(HEADINGS)}
