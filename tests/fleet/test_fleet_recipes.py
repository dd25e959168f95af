"""The recipes for Daft and Spark in docs/fleet.md run as they stand, and give the scores of the package."""

import re
import shutil
from pathlib import Path

import pytest
from fleet_here import png

from iqametrics.pipeline import BatchScorer

pytestmark = pytest.mark.slow
PAGE = Path(__file__).resolve().parents[2] / "docs" / "fleet.md"
COUNT = 5


def recipe(word):
    (found,) = [
        block for block in re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL) if word in block
    ]
    return found


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(COUNT):
        (folder / f"{number}.png").write_bytes(png(number) if number != 3 else b"no picture")
    return sorted(folder.iterdir())


def check(rows, photos):
    assert [str(row["path"]).rpartition("/")[2] for row in rows] == [path.name for path in photos]
    wanted = BatchScorer("bpclip-nr.lite")([path.read_bytes() for path in photos])
    got = [row["quality"] for row in rows]
    # Another number of threads may move the last digit.
    assert [row["score"] for row in got] == pytest.approx([row.score for row in wanted], abs=1e-6)
    assert [row["error"] is None for row in got] == [number != 3 for number in range(COUNT)]
    assert {row["fingerprint"] for row in got} == {row.fingerprint for row in wanted}


@pytest.mark.filterwarnings("ignore")
def test_daft(photos):
    pytest.importorskip("daft", reason="daft is not installed; the recipe is for those who have it")
    names = {}
    exec(compile(recipe("daft.cls"), str(PAGE), "exec"), names)
    check(names["rows"], photos)


@pytest.mark.filterwarnings("ignore")
def test_spark(photos):
    pytest.importorskip("pyspark", reason="pyspark is not installed; the recipe is for those who have it")
    if shutil.which("java") is None:
        pytest.skip("there is no Java here, which Spark needs")
    names = {}
    try:
        exec(compile(recipe("predict_batch_udf"), str(PAGE), "exec"), names)
        check([row.asDict(recursive=True) for row in names["rows"]], photos)
    finally:
        if "spark" in names:
            names["spark"].stop()
