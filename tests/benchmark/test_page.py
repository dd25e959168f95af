"""The report of a benchmark as a page: what its numbers are drawn from, and how it looks in a browser."""

import json
import math
import re
from pathlib import Path

import pytest
from benchmark_fake import PLAN, figures, result
from browser import Browser, find_browser

from iqametrics.benchmark.drawings import CostPoint, Spread, cost_drawing, spread_drawing
from iqametrics.benchmark.lines import Line
from iqametrics.benchmark.matrix import pair_matrix
from iqametrics.benchmark.page import read_costs
from iqametrics.benchmark.plan import Job, plan_table
from iqametrics.benchmark.render import render
from iqametrics.benchmark.report import Report, make_report
from iqametrics.benchmark.run import open_run, run_jobs
from iqametrics.benchmark.tables import paper_table
from iqametrics.cli.main import main
from iqametrics.errors import DataError
from iqametrics.evaluation import Comparison

NASTY = "<img src=x onerror=document.title=1>"
COSTS = {
    "bpclip-fr.untrained": {"flops": 6.9e10, "parameters": 3.1e7},
    "piq/psnr": {"flops": 1e6, "parameters": 0},
}


def both() -> list[Job]:
    return plan_table(paper_table("bpclip-table2"), rows=["BPCLIP", "PSNR"], datasets=["live", "csiq"], splits=10)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Ten splits of BPCLIP and PSNR on LIVE and CSIQ are done; the other rows of Table II are not run."""
    folder = tmp_path / "run"
    open_run(folder, PLAN, both(), resume=False)
    run_jobs(both(), folder, lambda job, _: result(job) | {"fingerprint": f"fp-{job.split}"}, lambda text: None)
    return folder


def places(drawing: str, kind: str) -> list[float]:
    return [float(x) for x in re.findall(rf'<circle class="{kind}" cx="([\d.]+)"', drawing)]


def test_a_spread_has_a_dot_for_each_split_in_proportion() -> None:
    row = Spread(name="a", value=0.5, low=0.4, high=0.6, values=(0.3, 0.5, 0.7), paper=0.6, paper_std=0.1)
    drawing = spread_drawing("SRCC", [row])
    left, middle, right = places(drawing, "split")
    assert right - middle == pytest.approx(middle - left, abs=0.11)
    assert places(drawing, "mean") == [pytest.approx(middle)]
    assert "a: 0.5000 over 3 splits, 0.4000 to 0.6000; the paper has 0.600" in drawing


def test_cost_is_on_a_logarithmic_axis_and_the_area_grows_with_parameters() -> None:
    points = [CostPoint(name=str(n), flops=10.0**n, parameters=4.0**n, plcc=0.9 + n / 100) for n in (6, 7, 8)]
    drawing = cost_drawing("cost", points)
    x = sorted(places(drawing, "cost"))
    assert x[2] - x[1] == pytest.approx(x[1] - x[0], abs=0.11)
    radii = sorted((float(r) - 4 for r in re.findall(r'class="cost"[^>]* r="([\d.]+)"', drawing)), reverse=True)
    assert radii[0] / radii[1] == pytest.approx(2, rel=0.02)
    assert "10 M" in drawing


def test_no_name_lies_on_another() -> None:
    points = [CostPoint(name=f"name-{n}", flops=1e9, parameters=1e6, plcc=0.9 + n / 1e4) for n in range(4)]
    drawing = cost_drawing("cost", points)
    names = re.findall(r'<text class="name" x="([\d.]+)" y="([\d.]+)"[^>]*>([^<]*)<', drawing)
    boxes = [(float(x) - 3 * len(name), float(y), 6.0 * len(name)) for x, y, name in names]
    assert len(boxes) >= 3
    for number, (x, y, width) in enumerate(boxes):
        for other_x, other_y, other_width in boxes[:number]:
            assert abs(y - other_y) >= 12 or x + width <= other_x + 1 or other_x + other_width <= x + 1
    assert all(f"name-{n}: PLCC" in drawing for n in range(4))


def pair(a: str, b: str, difference: float, p: float) -> Comparison:
    more = dict.fromkeys(("p_bootstrap", "p_bootstrap_holm", "williams_t", "p_williams", "p_williams_holm"), p)
    return Comparison(
        a=a, b=b, statistic="srcc", n=9, value_a=0.5 + difference, value_b=0.5, difference=difference,
        low=difference - 0.1, high=difference + 0.1, **more,
    )  # fmt: skip


def test_pairs_are_turned_and_coloured_where_they_are_significant() -> None:
    table = pair_matrix(
        ["a", "b", "c"], [pair("a", "b", 0.2, 0.01), pair("a", "c", 0.1, 0.2), pair("c", "b", 0.1, math.nan)]
    )
    cells = re.findall(r'<td class="(\w+)"[^>]*>([^<]*)</td>', table)
    assert cells == [
        ("self", ""), ("above", "+0.200"), ("quiet", "+0.100"),
        ("below", "\u22120.200"), ("self", ""), ("quiet", "\u22120.100"),
        ("quiet", "\u22120.100"), ("quiet", "+0.100"), ("self", ""),
    ]  # fmt: skip
    assert "b minus a: -0.2000 (95% interval -0.3000 to -0.1000)" in table


def test_costs_are_read_from_what_the_command_writes(tmp_path: Path) -> None:
    file = tmp_path / "cost.json"
    row = {"metric": "bpclip-fr.untrained", "flops": 5, "parameters": 3}
    file.write_text(json.dumps({"rows": [row, row | {"metric": "x", "flops": None}]}))
    assert read_costs(file) == {"bpclip-fr.untrained": row}
    for wrong in ("[]", "nonsense", '{"rows": [1]}'):
        file.write_text(wrong)
        with pytest.raises(DataError, match="benchmark cost"):
            read_costs(file)


def test_the_page_of_a_table(run: Path) -> None:
    page = render(make_report(run), "html", costs=COSTS)
    assert page.count("<figure>") == 6  # PLCC and SRCC of two datasets, and their cost
    assert "Cost against PLCC on csiq" in page
    measured = [figures(job)["csiq"]["plcc"] for job in both() if job.row == "BPCLIP" and job.train == "csiq"]
    assert f"BPCLIP: PLCC {sum(measured) / 10:.4f}, 69 G, 31.0 M parameters" in page
    assert page.count("<dd><code>fp-") == 20
    assert render(make_report(run), "html", costs=COSTS) == page


def test_the_command_writes_it(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cost, page = tmp_path / "cost.json", tmp_path / "page.html"
    cost.write_text(json.dumps({"rows": [{"metric": name, **row} for name, row in COSTS.items()]}))
    command = ["benchmark", "report", str(run), "--cost", str(cost)]
    assert main([*command, "--format", "html", "--save", str(page)]) == 0
    assert "Cost against PLCC" in page.read_text()
    assert main(command) == 2
    assert "--format html" in capsys.readouterr().err


def test_every_form_says_what_the_metrics_were(run: Path) -> None:
    report = make_report(run)
    for form in ("md", "csv", "latex", "html"):
        assert "fp-7" in render(report, form)


@pytest.fixture
def comparison(tmp_path: Path) -> Report:
    """Three finished metrics on two datasets, of which one name is markup."""
    lines = [
        Line(
            row=row,
            place=place,
            statistic=name,
            measured=0.4 + number / 10,
            low=0.3,
            high=0.9,
            n=1,
            planned=1,
            images=50,
        )
        for number, row in enumerate(("a", NASTY, "c"))
        for place in ("live", "mine")
        for name in ("srcc", "plcc", "plcc_logistic", "krcc")
    ]
    lines.append(Line(row="d", place="live", statistic="srcc", verdict="not run", planned=1))
    pairs = (
        ("live", pair("a", NASTY, -0.1, 0.01)),
        ("live", pair("a", "c", -0.2, 0.3)),
        ("live", pair(NASTY, "c", -0.1, 0.3)),
    )
    return Report(
        id="compare", title="Metrics compared", paper="", facts=("6 of 7 jobs are finished.",), lines=tuple(lines),
        pairs=pairs, failures=(f"d: {NASTY}",),
    )  # fmt: skip


browsed = [pytest.mark.slow, pytest.mark.skipif(find_browser() is None, reason="NO BROWSER: install chromium")]


@pytest.mark.parametrize("width", [390, 900, 1500])
@pytest.mark.parametrize("which", ["table", "comparison"])
class TestInABrowser:
    pytestmark = browsed

    @pytest.fixture
    def browser(self, quiet: Browser, run: Path, comparison: Report, tmp_path: Path, which: str, width: int) -> Browser:
        report = make_report(run) if which == "table" else comparison
        page = tmp_path / "page.html"
        page.write_text(render(report, "html", costs=COSTS), encoding="utf-8")
        quiet.resize(width, 900)
        quiet.open(page)
        return quiet

    def test_nothing_is_wider_than_the_window_and_names_stay_text(
        self, browser: Browser, which: str, width: int
    ) -> None:
        assert browser.js("document.documentElement.scrollWidth") <= width
        assert browser.js("document.querySelectorAll('img').length") == 0
        heads = browser.texts("tbody th")
        assert ("BPCLIP" in heads) if which == "table" else (NASTY in heads)
        assert browser.asked[1:] == [] or all(url.startswith("data:") for url in browser.asked[1:])

    def test_not_run_is_quiet_and_verdicts_are_coloured(self, browser: Browser, which: str, width: int) -> None:
        for scheme in ("light", "dark"):
            browser.look(scheme)
            grounds = browser.js(
                "Object.fromEntries([...document.querySelectorAll('td[class]')].map((e) => "
                "[e.className.split(' ')[0], getComputedStyle(e).backgroundColor]))"
            )
            assert grounds["quiet"] == "rgba(0, 0, 0, 0)"
            judged = {kind: ground for kind, ground in grounds.items() if kind in ("within", "above", "below")}
            assert judged
            assert "rgba(0, 0, 0, 0)" not in judged.values()

    def test_drawings_have_names_and_dots(self, browser: Browser, which: str, width: int) -> None:
        labels = browser.js("[...document.querySelectorAll('svg[role=img]')].map((e) => e.getAttribute('aria-label'))")
        assert ("SRCC on live" in labels) if which == "table" else ("SRCC on mine" in labels)
        assert browser.js("document.querySelectorAll('.split').length") == (80 if which == "table" else 0)
