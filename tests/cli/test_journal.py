"""Runs that are killed, and go on: no finished score is lost, and the rows are those of an unbroken run."""

import csv
import json
import os
import signal
import subprocess
import sys

import fake_cli
import fakes
import numpy as np
import pytest
from PIL import Image
from waiting import wait_for

from iqametrics import scoring
from iqametrics.cli.journal import journal_path
from iqametrics.cli.main import main

NR = ("--metric", "fake-nr")


@pytest.fixture
def run(fake_metrics, tmp_path, capsys, monkeypatch):
    """Run the command line in a folder of eight pictures; status and lines of stderr."""
    monkeypatch.chdir(tmp_path)
    for number in range(8):
        picture(tmp_path / "in" / f"{number}.png", number)

    def call(*arguments):
        status = main([str(argument) for argument in arguments])
        return status, capsys.readouterr().err.splitlines()

    return call


@pytest.fixture
def decoded(monkeypatch):
    """The pictures that were decoded, in order of request."""
    paths = []
    real = scoring._decode
    monkeypatch.setattr(scoring, "_decode", lambda path, *more: paths.append(path) or real(path, *more))
    return paths


def picture(path, seed):
    path.parent.mkdir(exist_ok=True)
    generator = np.random.default_rng(seed)
    Image.fromarray(generator.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(path)


def cut(path, lines):
    """Leave of a journal so many lines and a half, as a crash might."""
    content = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(content[:lines]) + content[lines][:20])


class TestScore:
    @pytest.mark.parametrize("form", ["csv", "json", "jsonl", "table", "junit"])
    def test_a_resumed_run_writes_what_an_unbroken_one_does(self, run, tmp_path, decoded, form):
        command = ("score", "in", *NR, "--metric", "fake-nr.lite", "--format", form)
        run(*command, "--output", "whole")
        run(*command, "--output", "out", "--resume")
        cut(tmp_path / "out.journal", 7)  # three pictures, and one of two rows of the fourth
        (tmp_path / "out").unlink()
        decoded.clear()
        assert run(*command, "--output", "out", "--resume")[0] == 0
        assert sorted(decoded) == [f"in/{number}.png" for number in range(3, 8)]
        assert (tmp_path / "out").read_bytes() == (tmp_path / "whole").read_bytes()
        decoded.clear()
        assert run(*command, "--output", "out", "--resume")[0] == 0
        assert decoded == []
        assert (tmp_path / "out").read_bytes() == (tmp_path / "whole").read_bytes()

    def test_without_resume_nothing_stays_beside_the_output(self, run, tmp_path):
        assert run("score", "in", *NR, "--output", "out")[0] == 0
        assert sorted(os.listdir(tmp_path)) == ["in", "out"]

    def test_what_changed_or_failed_is_tried_anew(self, run, tmp_path, decoded):
        (tmp_path / "in" / "3.png").write_bytes(b"broken")
        command = ("score", "in", *NR, "--format", "json", "--output", "out", "--resume")
        assert run(*command)[0] == 1
        picture(tmp_path / "in" / "3.png", 3)
        picture(tmp_path / "in" / "5.png", 55)
        picture(tmp_path / "in" / "9.png", 9)
        (tmp_path / "in" / "0.png").unlink()
        decoded.clear()
        assert run(*command)[0] == 0
        assert sorted(decoded) == ["in/3.png", "in/5.png", "in/9.png"]
        run("score", "in", *NR, "--format", "json", "--output", "whole")
        assert json.loads((tmp_path / "out").read_text()) == json.loads((tmp_path / "whole").read_text())

    @pytest.mark.parametrize("change", [("--dtype", "bfloat16"), ("--metric", "fake-nr.lite")])
    def test_other_settings_are_scored_anew(self, run, decoded, change):
        run("score", "in", *NR, "--output", "out", "--resume")
        decoded.clear()
        run("score", "in", *NR, *change, "--output", "out", "--resume")
        assert len(decoded) == 8

    def test_another_reference_is_scored_anew(self, run, tmp_path, decoded):
        command = ("score", "in", "--metric", "fake-fr.lite", "--ref", "in/0.png", "--output", "out", "--resume")
        run(*command)
        decoded.clear()
        run(*command)
        assert decoded == []
        picture(tmp_path / "in" / "0.png", 100)
        run(*command)
        assert sorted(set(decoded)) == [f"in/{number}.png" for number in range(8)]

    def test_damaged_lines_cost_their_rows_only(self, run, tmp_path, decoded):
        command = ("score", "in", *NR, "--format", "csv", "--output", "out", "--resume")
        run(*command)
        lines = (tmp_path / "out.journal").read_bytes().splitlines()
        lines[1], lines[2], lines[4] = b"\xff\x00", b"[" * 9999, lines[4].replace(b'"score": ', b'"score": "x')
        (tmp_path / "out.journal").write_bytes(b"\n".join(lines) + b"\n")
        decoded.clear()
        assert run(*command)[0] == 0
        assert sorted(decoded) == ["in/1.png", "in/2.png", "in/4.png"]

    def test_a_journal_that_is_begun_anew_is_told(self, run, tmp_path):
        run("score", "in", *NR, "--output", "out", "--resume")
        status, err = run("score", "in", *NR, "--output", "out")
        assert (status, len(err)) == (0, 1)
        assert "out.journal of an earlier run is begun anew" in err[0]

    @pytest.mark.parametrize("arguments", [(), ("--output", os.devnull)])
    def test_resume_needs_a_file(self, run, arguments):
        status, err = run("score", "in", *NR, "--resume", *arguments)
        assert (status, err) == (
            2,
            ["iqametrics: error: --resume goes on with a file that was begun; give --output FILE"],
        )

    def test_uncertainty_is_taken_over_too(self, run, tmp_path, decoded, monkeypatch):
        monkeypatch.setattr(fakes.FakeNr, "knows_uncertainty", property(lambda self: self.tag == "lite"))
        monkeypatch.setattr(fakes.FakeNr, "uncertainty", lambda self, images: images.flatten(-3).mean(-1))
        metrics = ("--metric", "fake-nr.lite", "--metric", "fake-nr.tiny")
        command = ("score", "in", *metrics, "--uncertainty", "--format", "csv")
        run(*command, "--output", "whole")
        run("score", "in", *metrics, "--format", "csv", "--output", "out", "--resume")
        decoded.clear()
        run(*command, "--output", "out", "--resume")  # those rows have none
        assert len(decoded) == 8
        decoded.clear()
        cut(tmp_path / "out.journal", 16 + 5)
        assert run(*command, "--output", "out", "--resume")[0] == 0
        assert sorted(decoded) == [f"in/{number}.png" for number in range(3, 8)]
        assert (tmp_path / "out").read_bytes() == (tmp_path / "whole").read_bytes()

    def test_evaluate(self, run, tmp_path, decoded):
        rows = "".join(f"in/{number}.png,{number / 10}\n" for number in range(8))
        (tmp_path / "labels.csv").write_text("image,mos\n" + rows)
        command = ("evaluate", *NR, "--csv", "labels.csv", "--save", "out", "--resume")
        run(*command)
        whole = (tmp_path / "out").read_bytes()
        cut(tmp_path / "out.journal", 5)
        decoded.clear()
        assert run(*command)[0] == 0
        assert len(decoded) == 3
        assert (tmp_path / "out").read_bytes() == whole


@pytest.mark.parametrize("name", ["x" * 255, "ü" * 127])
def test_a_long_name_has_a_journal_too(tmp_path, name):
    path = journal_path(tmp_path / name)
    path.touch()
    assert path != journal_path(tmp_path / (name[:-1] + "y"))


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
@pytest.mark.slow
def test_sigkill_loses_no_finished_row(fake_metrics, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(6):
        picture(tmp_path / "in" / f"{number}.png", number)
    command = ["score", "-", *NR, "--format", "csv", "--output", "out"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    arguments = [sys.executable, fake_cli.__file__, *command]
    with subprocess.Popen(arguments, env=environment, stdin=subprocess.PIPE) as process:
        process.stdin.write(b"".join(b"in/%d.png\n" % number for number in range(6)))
        process.stdin.flush()
        wait_for(tmp_path / "out.journal", lines=2)
        process.send_signal(signal.SIGKILL)
    finished = len((tmp_path / "out.journal").read_bytes().splitlines())
    assert not (tmp_path / "out").exists()
    decoded = []
    real = scoring._decode
    monkeypatch.setattr(scoring, "_decode", lambda path, *more: decoded.append(path) or real(path, *more))
    assert main(["score", "in", *NR, "--format", "csv", "--output", "out", "--resume"]) == 0
    assert len(decoded) == 6 - finished
    with (tmp_path / "out").open() as stream:
        assert [row["image"] for row in csv.DictReader(stream)] == [f"in/{number}.png" for number in range(6)]
