"""`iqametrics completion`: the scripts, in real shells where they are installed."""

import builtins
import shutil
import subprocess

import pytest

from iqametrics import list_datasets
from iqametrics.cli.completion import SHELLS
from iqametrics.cli.main import build_parser, main

shtab = pytest.importorskip("shtab")


@pytest.fixture
def script(capsys, tmp_path):
    """Write the script for a shell; its path."""

    def write(shell):
        assert main(["completion", shell]) == 0
        path = tmp_path / f"iqametrics.{shell}"
        path.write_text(capsys.readouterr().out, encoding="utf-8")
        return path

    return write


def offered(shell, program):
    """What a program in a shell prints, as words."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    done = subprocess.run([shell, *program], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.split()


def in_bash(path, *words):
    call = f"""
        source {path}
        COMP_WORDS=({" ".join(words)}) COMP_CWORD={len(words) - 1}
        "$(complete -p iqametrics | sed 's/.*-F \\([^ ]*\\).*/\\1/')" iqametrics {words[-1]!r} {words[-2]!r}
        echo "${{COMPREPLY[@]}}"
    """
    return offered("bash", ["--norc", "-c", call])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["iqametrics", "expl"], ["explain"]),
        (["iqametrics", "score", "--metric", "pfd"], ["pfd-iqa", "pfd-iqa.lite2", "pfd-iqa.lite"]),
        (["iqametrics", "info", "pfd"], ["pfd-iqa", "pfd-iqa.lite2", "pfd-iqa.lite"]),
        (["iqametrics", "evaluate", "--dataset", "koni"], ["koniq10k"]),
        (["iqametrics", "datasets", "verify", "biq"], ["biq2021"]),
        (["iqametrics", "weights", "cl"], ["clean"]),
        (["iqametrics", "score", "--append"], ["--append-to"]),
        (["iqametrics", "score", "--format", "jsonl"], ["jsonl"]),
    ],
)
def test_bash_completes(script, words, expected):
    assert in_bash(script("bash"), *words) == expected


def test_bash_completes_paths(script, tmp_path):
    (tmp_path / "picture.png").touch()
    found = in_bash(script("bash"), "iqametrics", "score", str(tmp_path / "pict"))
    assert found == [str(tmp_path / "picture.png")]


def test_fish_completes(script):
    found = offered("fish", ["-c", f"source {script('fish')}; complete -C 'iqametrics evaluate --dataset '"])
    assert set(list_datasets()) <= set(found)


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_shell_accepts_its_script(script, shell):
    assert offered(shell, ["-n", str(script(shell))]) == []


@pytest.mark.parametrize("shell", SHELLS)
def test_each_script_knows_every_command(script, shell):
    text = script(shell).read_text(encoding="utf-8")
    commands = next(action for action in build_parser()._actions if action.dest == "command").choices
    assert [command for command in commands if command not in text] == []


def test_our_shells_are_those_of_shtab():
    assert set(SHELLS) == set(shtab.SUPPORTED_SHELLS)


def test_a_missing_extra_is_one_line(monkeypatch, capsys):
    usual = builtins.__import__

    def without(name, *more):
        if name == "shtab":
            raise ImportError(name)
        return usual(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    assert main(["completion", "bash"]) == 1
    assert "pip install 'iqametrics[completion]'" in capsys.readouterr().err
