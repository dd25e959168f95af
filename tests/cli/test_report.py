"""`iqametrics report` and the options --html, in this process on two tiny metrics."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from iqametrics.cli.main import main

NR = ("--metric", "fake-nr.lite")
FR = ("--metric", "fake-fr.lite")


@pytest.fixture
def run(fake_metrics, tmp_path, capsys, monkeypatch):
    """Run the command line in a folder with a/, b/ and ref/; status and stderr."""
    generator = np.random.default_rng(0)
    for folder in ("a", "b", "ref"):
        (tmp_path / folder).mkdir()
        for name in ("x.png", "y.png"):
            Image.fromarray(generator.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(tmp_path / folder / name)
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        status = main([str(argument) for argument in arguments])
        return status, capsys.readouterr().err

    return call


def data(path="report.html"):
    """What the scripts of a page get."""
    with open(path, encoding="utf-8") as page:
        return json.loads(re.search(r'id="data">(.*?)</script>', page.read(), re.DOTALL)[1])


def test_a_file_of_scores(run):
    assert run("score", "a", *NR, "--format", "csv", "--output", "scores.csv", "--quiet")[0] == 0
    assert run("report", "scores.csv", "--output", "report.html") == (
        0,
        "iqametrics: report.html: 2 pictures, 0.1 MB\n",
    )
    found = data()
    assert found["images"] == ["a/x.png", "a/y.png"]
    assert found["metrics"][0]["fingerprint"].startswith("fake-nr.lite:")


def test_a_folder_is_scored_with_its_references(run):
    (status, _) = run("report", "a", *FR, "--ref-dir", "ref", "--embed", "--output", "report.html", "--quiet")
    assert status == 0
    found = data()
    assert found["references"] == ["ref/x.png", "ref/y.png"]
    assert set(found["copies"]) == {"a/x.png", "a/y.png", "ref/x.png", "ref/y.png"}
    assert all(copy.startswith("data:image/jpeg;base64,") for copy in found["copies"].values())


def test_two_folders(run):
    assert run("report", "b", "--against", "a", *NR, "--output", "report.html", "--quiet")[0] == 0
    assert data()["against"]["images"] == ["a/x.png", "a/y.png"]


def test_the_outputs_of_two_encoders(run, tmp_path):
    (tmp_path / "jpeg").mkdir()
    for name in ("x", "y"):
        with Image.open(tmp_path / f"a/{name}.png") as picture:
            picture.save(tmp_path / f"jpeg/{name}.jpg")
    for command in (
        ("compare", "jpeg", "a", "--html", "report.html"),
        ("report", "a", "--against", "jpeg", "--output", "report.html"),
    ):
        (tmp_path / "report.html").unlink(missing_ok=True)
        assert run(*command, *NR, "--quiet")[0] == 0
        assert data()["against"]["images"] == ["jpeg/x.jpg", "jpeg/y.jpg"]


def test_pages_beside_the_output(run):
    assert run("score", "a", *NR, "--html", "one.html", "--quiet")[0] == 0
    assert run("compare", "a", "b", *NR, "--html", "two.html", "--quiet")[0] == 0
    assert data("one.html")["images"] == ["a/x.png", "a/y.png"]
    found = data("two.html")
    assert found["images"] == ["b/x.png", "b/y.png"]
    assert found["against"]["images"] == ["a/x.png", "a/y.png"]


def test_a_picture_that_cannot_be_scored_is_in_the_page(run, tmp_path):
    (tmp_path / "a" / "z.png").write_bytes(b"nothing")
    assert run("report", "a", *NR, "--output", "report.html", "--quiet")[0] == 1
    assert "2" in data()["errors"]


def test_opinions(run, tmp_path):
    (tmp_path / "mos.csv").write_text("image,mos\nx.png,3\ny.png,4\n")
    assert run("report", "a", *NR, "--mos", "mos.csv", "--output", "report.html", "--quiet")[0] == 0
    assert data()["mos"] == [3, 4]


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["a", "--output", "r.html"], 2, "--metric"),
        (["a", *FR, "--output", "r.html"], 2, "give --ref or --ref-dir"),
        (["a", *NR, "--output", "scores.csv"], 2, "call it FILE.html"),
        (["a", *NR, "--root", "b", "--output", "r.html"], 2, "--root"),
        (["a", *NR, "--output", "nowhere/r.html"], 2, "--output"),
        (["gone.csv", "--output", "r.html"], 1, "no such file"),
        (["empty.json", "--output", "r.html"], 1, "empty.json"),
    ],
)
def test_mistakes_are_one_line(run, tmp_path, arguments, status, message):
    (tmp_path / "empty.json").write_text("[]")
    found, err = run("report", *arguments)
    assert found == status
    assert len(err.splitlines()) == 1
    assert message in err
    assert not (tmp_path / "r.html").exists()
