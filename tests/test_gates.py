"""What other repositories take from this one: the action, the pre-commit hook, the container."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from places import ROOT

from iqametrics.cli.main import build_parser

GATE = ROOT / ".github" / "gate.py"


def git(*words):
    """Call git without any settings of this machine."""
    who = {f"GIT_{role}_{what}": "a@b" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    settings = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    done = subprocess.run(["git", *words], capture_output=True, text=True, check=True, env=os.environ | who | settings)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository in the working folder with a picture old.png, and a commit on top of it; the first commit."""
    folder = tmp_path / "repository"
    folder.mkdir()
    monkeypatch.chdir(folder)
    git("init", "--quiet", ".")
    picture("old.png", 0)
    git("add", ".")
    git("commit", "--quiet", "--message=old")
    return git("rev-parse", "HEAD")


def picture(name, seed):
    """Write a picture of noise, which no metric likes."""
    pixels = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(name)


@pytest.fixture
def gate(tmp_path, monkeypatch):
    """Run the step as a runner does; status, stdout, the outputs and the summary."""
    files = {name: tmp_path / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    for name, path in files.items():
        monkeypatch.setenv(name, str(path))
    monkeypatch.setenv("RUNNER_TEMP", str(tmp_path / "temp"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def run(**inputs):
        usual = dict.fromkeys(("IMAGES", "REFERENCES", "FAIL_BELOW", "FAIL_ABOVE", "BASELINE", "FAIL_DROP", "BASE"), "")
        environment = os.environ | usual | {"METRIC": "bpclip-nr.lite"} | inputs
        done = subprocess.run([sys.executable, GATE], capture_output=True, text=True, env=environment, check=False)
        told = [path.read_text(encoding="utf-8") if path.exists() else "" for path in files.values()]
        return done.returncode, done.stdout, dict(line.split("=", 1) for line in told[0].splitlines()), told[1]

    return run


def test_the_pictures_of_a_pull_request_are_judged(repository, gate, tmp_path):
    Path("new folder").mkdir()
    picture("new folder/-x $(touch hacked).PNG", 1)
    picture("broken.jpg.png", 2)
    Path("broken.jpg.png").write_bytes(Path("broken.jpg.png").read_bytes()[:2000])
    Path("text.md").write_text("no picture")
    git("add", ".")
    git("commit", "--quiet", "--message=new")
    status, stdout, outputs, summary = gate(BASE=repository, FAIL_BELOW="0.9")
    assert status == 1  # one could not be judged
    rows = [json.loads(line) for line in Path(outputs["scores"]).read_text(encoding="utf-8").splitlines()]
    assert {row["image"] for row in rows} == {"broken.jpg.png", "new folder/-x $(touch hacked).PNG"}
    assert stdout.count("::error file=") == 2
    assert "below 0.9" in summary
    assert "truncated" in summary or "cut off" in summary or "damaged" in summary
    assert outputs["status"] == "1"
    assert (tmp_path / "temp" / "iqametrics" / "report.html").exists()
    assert not Path("hacked").exists()


def test_a_limit_that_is_broken_is_status_3(repository, gate):
    status, stdout, outputs, _ = gate(IMAGES="old.png", FAIL_BELOW="bpclip-nr=0.99")
    assert (status, outputs["status"]) == (3, "3")
    assert "below 0.99" in stdout


def test_several_metrics_and_limits_one_a_line(repository, gate):
    metrics = "bpclip-nr.lite\npfd-iqa.lite\n"
    status, _, outputs, summary = gate(IMAGES="old.png\n", METRIC=metrics, FAIL_BELOW="bpclip-nr=0\npfd-iqa=0\n")
    assert status == 0
    assert summary.count("old.png") == 2
    assert outputs["scores"].endswith("scores.jsonl")


def test_a_pull_request_without_pictures_passes(repository, gate):
    git("rm", "--quiet", "old.png")
    git("commit", "--quiet", "--message=gone")
    assert gate(BASE=repository)[::2] == (0, {"status": "0"})


def test_no_pull_request_and_no_images_is_told(repository, gate):
    status, stdout, _, _ = gate()
    assert status == 2
    assert "::error::" in stdout


def test_the_action_hands_every_input_to_the_step():
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    steps = action["runs"]["steps"]
    used = set(re.findall(r"inputs\.([\w-]+)", yaml.safe_dump(steps)))
    assert used == set(action["inputs"])
    step = next(step for step in steps if step.get("id") == "gate")
    read = set(re.findall(r'"([A-Z_]+)"', GATE.read_text(encoding="utf-8"))) - {"RUNNER_TEMP", "HEAD"}
    assert set(step["env"]) == {name for name in read if not name.startswith("GITHUB_")}
    assert all("${{" not in step["run"] for step in steps if "run" in step), "an input may not be part of a command"


def test_the_options_of_the_step_are_those_of_score():
    known = build_parser()._subparsers._group_actions[0].choices["score"]._option_string_actions
    asked = re.findall(r'"(--[a-z-]+)["=]', GATE.read_text(encoding="utf-8"))
    assert {option for option in asked if option.startswith("--")} - {"--quiet", "--depth"} <= set(known) | {
        "--name-only",
        "--diff-filter",
        "--no-renames",
    }


def needs(program):
    """Skip where a program of the development extra is not installed."""
    found = shutil.which(program, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


def test_the_action_follows_the_published_schema():
    command = [needs("check-jsonschema"), "--builtin-schema", "vendor.github-actions", ROOT / "action.yml"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_dockerfile_pleases_the_linter():
    done = subprocess.run([needs("hadolint"), ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_container_is_built_from_what_the_package_needs():
    """What the Dockerfile copies is what .dockerignore lets through."""
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    let_through = re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(" ".join(copied).split()) == sorted(let_through)
    assert all((ROOT / name).exists() for name in let_through)


def test_the_hook_judges_the_pictures_of_a_commit(repository, tmp_path):
    """Under pre-commit itself, with the hook's manifest but in this environment, since a new one would fetch torch."""
    program = needs("pre-commit")
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    entry = hook["entry"].replace("iqametrics", f"{sys.executable} -m iqametrics", 1)
    local = hook | {"language": "system", "entry": entry, "args": ["--metric=bpclip-nr.lite", "--fail-below=0.99"]}
    with open(".pre-commit-config.yaml", "w", encoding="utf-8") as stream:
        yaml.safe_dump({"repos": [{"repo": "local", "hooks": [local]}]}, stream)
    picture("new.png", 1)
    Path("text.md").write_text("no picture")
    git("add", ".")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PRE_COMMIT_HOME": str(tmp_path / "home")}
    done = subprocess.run([program, "run"], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1
    assert "bpclip-nr.lite: 1 of 1 below 0.99: new.png" in done.stdout
