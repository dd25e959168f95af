"""Streams and signals of real processes: encodings, closed and full streams, names of all kinds, how a run is ended."""

import csv
import io
import json
import os
import signal
import subprocess
import sys

import fake_cli
import numpy as np
import pytest
from PIL import Image
from waiting import wait_for

from iqametrics.cli.output import CsvWriter
from iqametrics.gate.baseline import read_baseline

FAKES = [sys.executable, fake_cli.__file__]
SCORE = [*FAKES, "score", "--metric", "fake-nr"]
OURS = [sys.executable, "-m", "iqametrics"]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="the shell and the signals of POSIX"),
]


def shell(command, folder, *words, **environment):
    """Run a line of the shell, in which "$@" is the command line on the fake metrics."""
    return subprocess.run(
        ["sh", "-c", command, "sh", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        timeout=120,
        check=False,
    )


def picture(path):
    Image.fromarray(np.full((9, 9, 3), 99, np.uint8)).save(path, "png")


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """A folder of pictures whose names are hard to write, and one that is no picture."""
    folder = tmp_path_factory.mktemp("names")
    for name in ("日本.png", "a\r.png", "=1+1.png", "-2.png", "@x.png", "+y.png"):
        picture(folder / name)
    picture(os.fsencode(folder) + b"/\xff.png")
    (folder / "壊\x1b[31m\n.png").write_bytes(b"nothing")
    return folder


class TestStdout:
    @pytest.mark.parametrize("form", ["table", "csv", "json", "jsonl"])
    def test_every_name_comes_out_in_an_encoding_that_lacks_it(self, names, form):
        done = shell(
            '"$@"', names, *FAKES, "score", ".", "--metric", "fake-nr", "--format", form, PYTHONIOENCODING="cp1252"
        )
        assert done.returncode == 1
        assert b"Traceback" not in done.stderr
        assert b"\x1b" not in done.stderr + (done.stdout if form != "csv" else b"")
        assert done.stderr.count(b"\n") == 1
        text = done.stdout.decode("cp1252")
        assert "\\u65e5\\u672c.png" in text
        assert "\\udcff.png" in text

    def test_a_name_that_is_not_utf8_goes_out_as_it_came_in(self, names):
        done = shell(
            '"$@"', names, *FAKES, "score", ".", "--metric", "fake-nr", "--format", "csv", PYTHONIOENCODING="utf-8"
        )
        assert b"\n\xff.png,," in done.stdout
        assert "日本.png".encode() in done.stdout

    @pytest.mark.parametrize(
        ("command", "status", "told"),
        [
            ('"$@" >&-', 1, b"stdout: is closed"),
            ('"$@" --output out >&-', 0, b""),
            ('"$@" >/dev/full', 1, b"stdout: cannot be written (No space left on device)"),
            ('"$@" --output out >/dev/full', 0, b""),
            ('"$@" 2>&- >out', 0, b""),
            ('"$@" 2>/dev/full >out', 0, b""),
            ('"$@" <&- >out', 0, b""),
        ],
    )
    @pytest.mark.parametrize("form", ["csv", "table"])
    def test_closed_and_full(self, tmp_path, command, status, told, form):
        if not os.path.exists("/dev/full") and "full" in command:
            pytest.skip("no /dev/full here")
        picture(tmp_path / "a.png")
        done = shell(command, tmp_path, *SCORE, "a.png", "--format", form)
        assert (done.returncode, done.stderr.count(b"\n")) == (status, 1 if told else 0)
        assert told in done.stderr
        if status == 0:
            assert b"fake-nr.tiny" in (tmp_path / "out").read_bytes()

    @pytest.mark.parametrize("arguments", [("--help",), ("list",), ("list", "--format", "json"), ("info", "bpclip-nr")])
    def test_every_command_tells_that_stdout_is_full(self, tmp_path, arguments):
        done = shell('"$@" >/dev/full', tmp_path, *OURS, *arguments)
        assert done.returncode == 1
        assert done.stderr.startswith(b"iqametrics: error: stdout: cannot be written")
        assert done.stderr.count(b"\n") == 1

    def test_a_message_that_cannot_be_told_changes_no_status(self, tmp_path):
        for end in ("2>&-", "2>/dev/full"):
            done = shell(f'"$@" {end}', tmp_path, *OURS, "lst")
            assert (done.returncode, done.stdout) == (2, b"")


class TestCsv:
    def test_hard_names_come_back(self, tmp_path):
        hard = [
            "a\rb",
            "a\nb",
            "a\r\nb",
            'a"b',
            "a,b",
            "a;b\t",
            "\udcff",
            " a ",
            "=1",
            "+1",
            "-1",
            "@a",
            "\ta",
            "\ra",
            "-",
        ]
        text = io.StringIO(newline="")
        writer = CsvWriter(text, ("image", "metric", "score", "error"))
        for name in hard:
            writer.write({"image": name, "metric": "m", "score": -1.0})
        back = [row["image"] for row in csv.DictReader(io.StringIO(text.getvalue(), newline=""))]
        assert [os.path.normpath(name) for name in back] == hard
        path = tmp_path / "scores.csv"
        path.write_bytes(text.getvalue().encode("utf-8", "surrogateescape"))
        # What was scored as `=1` is paired with the baseline's `./=1`.
        assert len(read_baseline(path).paired("m", hard)) == len(hard)

    def test_a_terminal_gets_no_escape_sequence(self):
        class Terminal(io.StringIO):
            def isatty(self):
                return True

        row = {"image": "\x1b[31m日本.png", "error": "\x1b]0;x\x07: is damaged", "score": 0.5}
        shown, kept = Terminal(newline=""), io.StringIO(newline="")
        for stream in (shown, kept):
            CsvWriter(stream, ("image", "error", "score")).write(row)
        assert shown.getvalue().splitlines()[1] == r"\x1b[31m日本.png,\x1b]0;x\x07: is damaged,0.5"
        assert "\x1b[31m日本.png" in kept.getvalue()

    def test_no_text_is_a_formula(self):
        text = io.StringIO(newline="")
        writer = CsvWriter(text, ("image", "error"))
        for start in "=+-@\t\r":
            writer.write({"image": f"{start}x.png", "error": f"{start}x.png: is damaged"})
        for row in csv.DictReader(io.StringIO(text.getvalue(), newline="")):
            assert row["image"][:2] == "./"
            assert row["error"][0] == "'"


class TestEnd:
    @pytest.mark.parametrize(("number", "status"), [("TERM", 143), ("HUP", 129), ("INT", 130)])
    @pytest.mark.parametrize("form", ["json", "csv", "table"])
    def test_rows_so_far_are_written(self, tmp_path, number, status, form):
        """The list on stdin stays open, so that the run waits for the next name when the signal comes."""
        picture(tmp_path / "a.png")
        command = [*SCORE, "-", "--format", form, "--output", "out"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        with subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdin=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            process.stdin.write(b"a.png\n" * 8)
            process.stdin.flush()
            wait_for(tmp_path / "out.journal", lines=1)
            process.send_signal(getattr(signal, f"SIG{number}"))
            _, told = process.communicate(timeout=60)
        assert (process.returncode, told) == (status, b"iqametrics: interrupted\n")
        text = (tmp_path / "out").read_text()
        assert "a.png" in text
        if form == "json":
            assert json.loads(text)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "out", "out.journal"]

    def test_nohup_is_respected(self, tmp_path):
        picture(tmp_path / "a.png")
        line = "trap '' HUP; \"$@\" & kill -HUP $!; wait $!"
        done = shell(line, tmp_path, *SCORE, "a.png")
        assert done.returncode == 0
