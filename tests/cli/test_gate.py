"""The gate of `score`, and `compare`, as somebody at a command line meets them."""

import csv
import io
import json
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from iqametrics import create_metric
from iqametrics.cli import progress
from iqametrics.cli.main import main


def noise(seed, size=(20, 30)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


@pytest.fixture
def run(fake_metrics, tmp_path, capsys, monkeypatch):
    """Run the command line in a folder with out/ (3 pictures) and ref/ (the same names)."""
    for folder, first in (("out", 0), ("ref", 10)):
        (tmp_path / folder).mkdir()
        for number, name in enumerate(("a", "b", "c")):
            noise(first + number).save(tmp_path / folder / f"{name}.png")
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "stdin", io.StringIO(""))
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture
def scores(fake_metrics, tmp_path):
    return lambda: {n: create_metric("fake-nr")(tmp_path / "out" / f"{n}.png").item() for n in ("a", "b", "c")}


NR = ("--metric", "fake-nr")
FR = ("--metric", "fake-fr.lite", "--ref-dir", "ref")


class TestNothingIsPassedOver:
    def test_formats_that_are_not_read_are_told(self, run, tmp_path):
        for name in ("IMG_1.PSD", "raw.cr2"):
            (tmp_path / "out" / name).write_bytes(b"x")
        status, out, err = run("score", "out", *NR)
        assert (status, len(out.splitlines())) == (0, 4)
        assert err == "iqametrics: note: 2 files of formats that are not read passed over: IMG_1.PSD, raw.cr2\n"
        assert run("score", "out", *NR, "--quiet")[2] == ""

    def test_and_are_errors_when_strict(self, run, tmp_path):
        (tmp_path / "out" / "IMG_1.PSD").write_bytes(b"x")
        status, out, err = run("score", "out", *NR, "--strict", "--format", "json")
        assert status == 1
        assert [row["score"] is None for row in json.loads(out)] == [False, False, False, True]
        assert "PSD files are not read" in json.loads(out)[3]["error"]
        assert "note" not in err

    def test_a_folder_of_nothing_else_names_them(self, run, tmp_path):
        (tmp_path / "phone").mkdir()
        (tmp_path / "phone" / "IMG_1.PSD").write_bytes(b"x")
        status, _, err = run("score", "phone", *NR)
        assert status == 1
        assert "phone: holds no image that can be read (IMG_1.PSD cannot)" in err

    def test_references_without_an_image(self, run, tmp_path):
        (tmp_path / "out" / "b.png").unlink()
        status, _, err = run("score", "out", *FR)
        assert (status, err) == (0, "iqametrics: note: 1 reference without an image: b.png\n")
        status, out, _ = run("score", "out", *FR, "--strict", "--format", "json")
        assert (status, json.loads(out)[2]["error"]) == (
            1,
            "ref/b.png: no image of this name was scored against this reference",
        )

    def test_one_picture_of_many_leaves_references_on_purpose(self, run):
        assert run("score", "out/a.png", *FR, "--strict")[0] == 0

    def test_subfolders(self, run, tmp_path):
        (tmp_path / "out" / "sub").mkdir()
        noise(5).save(tmp_path / "out" / "sub" / "d.png")
        assert "1 subfolder not searched (give --recursive): sub" in run("score", "out", *NR)[2]
        assert run("score", "out", "--recursive", *NR)[2] == ""


class TestLimits:
    def test_failing_rows_are_marked_in_every_format(self, run, scores):
        ordered = sorted(scores().values())
        limit = ("--fail-below", f"fake-nr={(ordered[0] + ordered[1]) / 2}")
        worst = next(name for name, score in scores().items() if score == ordered[0])
        status, out, err = run("score", "out", *NR, *limit, "--format", "json")
        marks = {row["image"]: row.get("fails") for row in json.loads(out)}
        assert status == 3
        assert {image for image, mark in marks.items() if mark} == {f"out/{worst}.png"}
        assert err.startswith("iqametrics: fake-nr.tiny: 1 of 3 below ")
        assert f"out/{worst}.png" in err
        table = list(csv.DictReader(io.StringIO(run("score", "out", *NR, *limit, "--format", "csv")[1])))
        assert {row["image"] for row in table if row["fails"]} == {f"out/{worst}.png"}
        text = run("score", "out", *NR, *limit)[1].splitlines()
        assert [line for line in text if "below" in line] == [line for line in text if f"out/{worst}.png" in line]

    def test_junit(self, run, tmp_path):
        (tmp_path / "out" / "b.png").write_bytes(b"broken")
        status, out, _ = run("score", "out", *NR, "--fail-below", "1e9", "--format", "junit")
        suite = ElementTree.fromstring(out).find("testsuite")
        assert status == 1
        assert suite.attrib == {"name": "fake-nr.tiny", "tests": "3", "failures": "2", "errors": "1"}
        assert [case.find("failure") is not None for case in suite] == [True, False, True]

    def test_junit_of_a_name_that_xml_cannot_hold(self, run, tmp_path):
        noise(0).save(tmp_path / "out" / "x\x1b<&\x0c.png")
        _, out, _ = run("score", "out", *NR, "--format", "junit")
        assert "x\N{REPLACEMENT CHARACTER}<&" in [case.get("name") for case in ElementTree.fromstring(out)[0]][3]

    def test_github(self, run, tmp_path):
        noise(0).save(tmp_path / "out" / "50%, x\n::y.png")
        status, out, _ = run("score", "out", *NR, "--fail-below", "1e9", "--format", "github")
        assert status == 3
        assert len(out.splitlines()) == 4
        assert all(line.startswith("::error file=out/") for line in out.splitlines())
        assert "::error file=out/50%25%2C x%0A%3A%3Ay.png,title=fake-nr.tiny::" in out

    def test_wrong_limits_cost_nothing(self, run):
        status, _, err = run("score", "out", *NR, *FR, "--fail-below", "0.5")
        assert (status, "which of the 2 metrics" in err) == (2, True)
        assert run("score", "out", *NR, "--fail-drop", "0.1")[0] == 2

    def test_lower_is_better(self, run):
        assert run("score", "out", *FR, "--fail-above", "fake-fr=-1e9")[0] == 3
        assert run("score", "out", *FR, "--fail-above", "1e9")[0] == 0
        assert run("score", "out", *FR, "--fail-below", "fake-fr=0")[0] == 2


class TestBaseline:
    def test_the_same_run_passes_and_a_worse_one_fails(self, run, tmp_path, scores):
        run("score", "out", *NR, "--format", "json", "--output", "old.json")
        gate = ("--baseline", "old.json", "--fail-drop", "0.001", "--fail-drop", "mean=0.001")
        status, _, err = run("score", "out", *NR, *gate)
        assert (status, "+0.0000 against the baseline" in err) == (0, True)
        old = json.loads((tmp_path / "old.json").read_text())
        old[1]["score"] += 0.5
        (tmp_path / "old.json").write_text(json.dumps(old))
        status, out, err = run("score", "out", *NR, *gate, "--format", "jsonl")
        marked = [row for row in map(json.loads, out.splitlines()) if "fails" in row]
        assert status == 3
        assert [(row["image"], row["fails"]) for row in marked] == [("out/b.png", f"was {old[1]['score']:.4f}")]
        assert "1 of 3 worse by more than 0.001: out/b.png" in err

    def test_another_folder_pairs_by_name(self, run, tmp_path):
        run("score", "out", *NR, "--format", "csv", "--output", "old.csv")
        (tmp_path / "out").rename(tmp_path / "build")
        status, _, err = run("score", "build", *NR, "--baseline", "old.csv", "--fail-drop", "0")
        assert (status, "+0.0000 against the baseline" in err) == (0, True)

    def test_one_that_has_no_such_metric(self, run):
        run("score", "out", *NR, "--format", "json", "--output", "old.json")
        status, _, err = run("score", "out", *FR, "--baseline", "old.json")
        assert (status, "no scores of fake-fr.lite; it has scores of fake-nr.tiny" in err) == (1, True)


class TestOrder:
    def test_the_worst_first(self, run, scores):
        _, out, _ = run("score", "out", *NR, *FR, "--sort", "score", "--format", "json")
        rows = json.loads(out)
        nr, fr = ([row["score"] for row in rows if row["metric"] == m] for m in ("fake-nr.tiny", "fake-fr.lite"))
        assert (nr, fr) == (sorted(nr), sorted(fr, reverse=True))
        assert [row["metric"] for row in rows] == ["fake-nr.tiny"] * 3 + ["fake-fr.lite"] * 3

    def test_top_keeps_errors_and_judges_all(self, run, tmp_path, scores):
        (tmp_path / "out" / "d.png").write_bytes(b"broken")
        status, out, err = run("score", "out", *NR, "--top", "1", "--fail-below", "1e9", "--format", "json")
        assert status == 1
        assert [row["score"] for row in json.loads(out)] == [None, pytest.approx(min(scores().values()), abs=1e-5)]
        assert "3 of 3 below" in err

    def test_by_name(self, run, tmp_path):
        _, out, _ = run("score", "out/c.png", "out/a.png", *NR, "--sort", "name", "--format", "json")
        assert [row["image"] for row in json.loads(out)] == ["out/a.png", "out/c.png"]


class TestSettings:
    def test_a_file_gives_options_and_the_command_line_wins(self, run, tmp_path, monkeypatch):
        (tmp_path / "iqametrics.toml").write_text('[score]\nmetric = ["fake-nr"]\nfail-below = { fake-nr = 1e9 }\n')
        status, _, err = run("score", "out")
        assert status == 3
        assert err.startswith("iqametrics: note: options of ")
        assert run("score", "out", "--fail-below", "fake-nr=-1e9")[0] == 0
        (tmp_path / "deep").mkdir()
        monkeypatch.chdir(tmp_path / "deep")
        assert run("score", "../out")[0] == 3

    def test_pyproject(self, run, tmp_path):
        (tmp_path / "pyproject.toml").write_text(
            '[tool.iqametrics.score]\nmetric = "fake-fr.lite"\nref-dir = "ref"\nquiet = true\nfail-above = -1e9\n'
        )
        assert run("score", "out")[0] == 3
        assert run("score", "out", "--config", "pyproject.toml")[0] == 3
        # One option shuts out the other, wherever it stands.
        assert run("score", "out/a.png", "--ref", "ref/a.png")[0] == 3

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("[score\n", "cannot be read"),
            ("[scoer]\nx = 1\n", "unknown table [scoer]"),
            ("score = 1\n", "should be a table"),
            ("[score]\noutput = 'x'\n", "output cannot stand in a file"),
            ("[score]\nfail-bellow = 1\n", "--fail-bellow"),
            ("[score]\nmetric = 1979-05-27\n", "is no value of an option"),
            ("[score]\nformat = 'xml'\n", "invalid choice"),
        ],
    )
    def test_mistakes_in_it_are_one_line(self, run, tmp_path, text, words):
        (tmp_path / "iqametrics.toml").write_text(text)
        status, _, err = run("score", "out", "--metric", "fake-nr")
        assert status == 2
        assert words in err.splitlines()[-1]

    def test_no_metric_anywhere(self, run):
        status, _, err = run("score", "out")
        assert (status, "give --metric NAME" in err) == (2, True)


class TestCompare:
    @pytest.fixture
    def two(self, tmp_path):
        (tmp_path / "new").mkdir()
        for number, name in enumerate(("a", "b", "c")):
            noise(20 + number).save(tmp_path / "new" / f"{name}.bmp")

    def test_pairs_differences_and_summary(self, run, two, tmp_path, scores):
        status, out, _ = run("compare", "out", "new", *NR, "--format", "json")
        record = json.loads(out)
        metric = create_metric("fake-nr")
        new = {name: metric(tmp_path / "new" / f"{name}.bmp").item() for name in "abc"}
        old = scores()
        assert status == 0
        for row, name in zip(record["pictures"], "abc", strict=True):
            assert row["image"] == f"{name}.png"
            assert row["difference"] == pytest.approx(new[name] - old[name], abs=1e-5)
            assert row["better"] == ("b" if new[name] > old[name] else "a")
        summary = record["summary"][0]
        assert summary["difference"] == pytest.approx(np.mean([new[n] - old[n] for n in "abc"]), abs=1e-5)
        assert summary["wins"] + summary["losses"] == 3

    def test_references_and_the_gate(self, run, two, tmp_path):
        for name in ("a", "b", "c"):
            noise(10 + "abc".index(name)).save(tmp_path / "out" / f"{name}.png")  # equal to the references: 0
        arguments = (*FR, "--format", "csv")
        status, out, err = run("compare", "out", "new", *arguments)
        differences = [float(row["difference"]) for row in csv.DictReader(io.StringIO(out))]
        assert status == 0
        assert "on average over 3 pictures" in err
        worse = min(differences) > 1e-5 or max(differences) < -1e-5
        assert worse
        first, second = ("out", "new") if min(differences) > 0 else ("new", "out")
        assert run("compare", first, second, *arguments, "--fail-if-worse")[0] == 3
        assert run("compare", second, first, *arguments, "--fail-if-worse")[0] == 0

    def test_without_a_partner(self, run, two, tmp_path):
        (tmp_path / "new" / "a.bmp").unlink()
        noise(3).save(tmp_path / "new" / "x.png")
        status, out, err = run("compare", "out", "new", *NR)
        assert status == 1
        assert "a.png: has no partner in new" in err
        assert "new/x.png: has no partner in out" in err
        assert "B against A" in out

    def test_two_pictures(self, run):
        status, out, err = run("compare", "out/a.png", "out/b.png", *NR, "--format", "jsonl")
        assert (status, json.loads(out)["image"]) == (0, "out/a.png")
        assert "says little" in err

    @pytest.mark.parametrize(
        "arguments",
        [
            ("out", "out/a.png", *NR),
            ("out", "ref", "--metric", "fake-fr"),
            ("out", "ref", *NR, "--ref", "ref/a.png"),
            ("out", "ref"),
            ("out", "ref", *NR, "--output", "out"),
        ],
    )
    def test_wrong_usage(self, run, arguments):
        status, _, err = run("compare", *arguments)
        assert (status, len(err.splitlines())) == (2, 1)


def test_without_a_terminal_a_line_now_and_then(run, monkeypatch):
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.0)
    _, _, err = run("score", "out", *NR)
    assert "of 3 scores" in err
    assert " left" in err
    assert run("score", "out", *NR, "--quiet")[2] == ""
