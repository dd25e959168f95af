"""What a page is made of: rows by picture, addresses, opinions, two runs."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from iqametrics.errors import DataError
from iqametrics.report.data import Extras, report_data
from iqametrics.report.page import interactive_page, script_json
from iqametrics.report.pictures import address
from iqametrics.report.records import Scores, collect, read_scores
from iqametrics.report.write import with_opinions

NASTY = '</script><img src=x onerror="alert(1)">&amp;.png'


def rows(scores: list[float | None], metric: str = "bpclip-nr.lite", **more: object) -> list[dict[str, object]]:
    return [
        {"image": f"a/{i:03}.png", "reference": None, "metric": metric, "score": score, **more}
        for i, score in enumerate(scores)
    ]


def data_of(run: Scores, other: Scores | None = None) -> dict[str, Any]:
    found = report_data(run, other, root=Path(), folder=Path(), extras=Extras())
    json.dumps(found, allow_nan=False)
    return found


def test_rows_of_several_metrics_become_one_picture_each() -> None:
    run = collect(
        "t", [*rows([0.25, None], error="broken"), *rows([0.5, 0.75], metric="pfd-iqa.lite", fingerprint="f")]
    )
    assert [picture.image for picture in run.pictures] == ["a/000.png", "a/001.png"]
    found = data_of(run)
    assert found["scores"] == [[0.25, None], [0.5, 0.75]]
    assert found["errors"] == {0: "broken", 1: "broken"}
    assert [metric["fingerprint"] for metric in found["metrics"]] == [None, "f"]


def test_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - read_scores words it, below
        collect("t", rows([math.nan]))


@pytest.mark.parametrize(
    "content", ["[]", "", "image,score\na,1\n", "nonsense", '[{"image": "a", "metric": "m", "score": "x"}]']
)
def test_a_file_that_holds_no_scores_is_one_line(tmp_path, content: str) -> None:
    file = tmp_path / "scores.json"
    file.write_text(content)
    with pytest.raises(DataError) as error:
        read_scores(file)
    assert "scores.json" in str(error.value)
    assert "\n" not in str(error.value)


def test_nothing_in_the_data_ends_the_script() -> None:
    page = interactive_page(NASTY, data_of(collect(NASTY, [{"image": NASTY, "metric": "m", "score": 1.0}])))
    assert NASTY not in page
    assert "<img src=x" not in page
    assert page.count("</script>") == 2  # that of the data and that of the code
    assert json.loads(script_json({"a": NASTY})) == {"a": NASTY}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a/b c.png", "../a/b%20c.png"),
        ("a/#1?.png", "../a/%231%3F.png"),
        ("clip.mp4#t=3.000", "../clip.mp4#t=3.000"),
        ("https://example.org/a%20b.png", "https://example.org/a%20b.png"),
        ("-", None),
    ],
)
def test_addresses_lead_from_the_page_to_the_picture(tmp_path, path: str, expected: str | None) -> None:
    assert address(path, tmp_path, tmp_path / "pages") == expected


def test_a_first_part_with_a_colon_is_no_scheme(tmp_path) -> None:
    assert address("javascript:x.png", tmp_path, tmp_path) == "./javascript%3Ax.png"


def test_two_runs_are_paired_by_name_and_measured() -> None:
    now = collect("now", rows([0.5, 0.25, 0.75, 0.5]))
    before = collect("before", rows([0.5, 0.5, 0.5, 0.75]))
    found = data_of(now, before)["against"]
    assert found["scores"] == [[0.5, 0.5, 0.5, 0.75]]
    (change,) = found["changes"]
    assert (change["wins"], change["losses"], change["ties"]) == (1, 2, 1)
    assert change["difference"] == pytest.approx(-0.0625)


def test_two_runs_without_a_common_picture_are_refused() -> None:
    with pytest.raises(DataError, match="has no score of a picture and metric"):
        data_of(collect("now", rows([0.5])), collect("before", [{"image": "z.png", "metric": "m", "score": 1.0}]))


def test_unlike_fingerprints_are_a_note() -> None:
    found = data_of(collect("now", rows([0.5], fingerprint="a:1")), collect("before", rows([0.5], fingerprint="a:2")))
    assert "different weights" in found["notes"][0]
    assert "a:1" in found["notes"][0]


def test_residuals_are_opinion_minus_the_fitted_curve() -> None:
    # On a straight line with one picture far above it, the largest residual is that picture's.
    scores = [i / 40 for i in range(40)]
    found = collect("t", [row | {"mos": 3 * score + (1.5 if i == 7 else 0)} for i, (row, score) in
                          enumerate(zip(rows(scores), scores, strict=True))])  # fmt: skip
    (view,) = data_of(found)["opinions"]
    assert max(range(40), key=lambda i: view["residuals"][i]) == 7
    assert view["residuals"][7] > 1
    assert view["figures"]["n"] == 40
    # The band is 1.96 standard deviations of the residuals with four parameters taken off.
    spread = math.sqrt(sum(miss**2 for miss in view["residuals"]) / 36)
    assert view["band"] == pytest.approx(1.96 * spread, rel=1e-4)


def test_opinions_of_other_pictures_are_refused(tmp_path) -> None:
    file = tmp_path / "mos.csv"
    file.write_text("image,mos\nz.png,3\n")
    with pytest.raises(DataError, match="has no opinion of a picture"):
        with_opinions(collect("t", rows([0.5])), file)
    file.write_text("image,mos\n000.png,3\n")
    assert with_opinions(collect("t", rows([0.5])), file).pictures[0].mos == 3
