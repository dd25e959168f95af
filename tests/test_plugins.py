"""Metrics and datasets of other distributions: the example under tests/plugin by ordinary commands, and bad ones."""

import csv
import importlib.metadata
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from places import ROOT
from safetensors.torch import load_file

PLUGIN = ROOT / "tests" / "plugin"


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder where the example is installed; none of ours where it stands beside us already."""
    folder = tmp_path_factory.mktemp("site")
    try:
        importlib.metadata.distribution("iqametrics-toy")
    except importlib.metadata.PackageNotFoundError:
        source = shutil.copytree(PLUGIN, folder / "source")  # building leaves files in it
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
        subprocess.run([*pip, "--target", str(folder / "installed"), str(source)], check=True)
    return folder / "installed"


def distribution(folder, name, group, value, **files):
    """Lay out a distribution as pip would."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\nentry = {value}\n")
    for module, text in files.items():
        (folder / f"{module}.py").write_text(text)
    return folder


def environment(*folders):
    path = os.pathsep.join(map(str, [ROOT, *folders]))
    return {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def python(code, *, folders, cwd=ROOT):
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment(*folders), cwd=cwd, capture_output=True, text=True, check=True)
    return done.stdout


def iqametrics(*arguments, folders, cwd=ROOT, status=0):
    """Run a command with folders beside the package; give its standard output and the lines of its standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "iqametrics", *map(str, arguments)],
        env=environment(*folders),
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done.stdout, done.stderr.splitlines()


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """A folder with the toy set: noise, the more blurred the worse."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "toy" / "images").mkdir(parents=True)
    random, lines = np.random.default_rng(0), []
    for number in range(48):
        noise = Image.fromarray(random.integers(0, 256, (48, 64, 3), dtype=np.uint8))
        noise.filter(ImageFilter.GaussianBlur(number / 16)).save(folder / "toy" / "images" / f"{number:02}.png")
        lines.append(f"{number:02}.png {100 - 2 * number}\n")
    (folder / "toy" / "scores.txt").write_text("".join(lines))
    return folder


@pytest.fixture(scope="module")
def use(site, work):
    """Run a command in the folder of the toy set, with the example installed."""

    def run(*arguments, status=0):
        return iqametrics(*arguments, folders=[site], cwd=work, status=status)

    return run


TRAIN = (
    *("train", "toy-nr", "--dataset", "toy-set", "--root", "toy", "--set", "metric.tag=mine"),
    *("--set", "train.epochs=60", "--set", "train.save_every=1", "--set", "train.workers=1"),
    *("--set", "train.keep_state=true"),
)


@pytest.fixture(scope="module")
def run(use, site, work):
    """A run of the toy that was interrupted and resumed; it ends as an unbroken one."""
    command = [sys.executable, "-m", "iqametrics", *TRAIN, "--output", "run"]
    process = subprocess.Popen(command, env=environment(site), cwd=work, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (work / "run" / "last.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.wait(120) == 130
    assert not (work / "run" / "checkpoint.safetensors").exists()
    use(*TRAIN, "--output", "run", "--resume")
    use(*TRAIN, "--output", "whole")
    one, other = (load_file(work / name / "last.safetensors") for name in ("run", "whole"))
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())
    return work / "run"


@pytest.mark.slow
class TestTheExample:
    def test_is_listed_and_known(self, use):
        listed = rows(use("list", "--format", "csv")[0])
        assert [row["mode"] for row in listed if row["name"] == "toy-nr"] == ["nr"]
        info = json.loads(use("info", "toy-nr", "--format", "json")[0])
        assert (info["score_range"], info["paper"]) == ([0.0, 1.0], "An example, docs/extending.md")
        assert "lite/toy-nr" in use("train", "--list")[0]
        assert "toy-set" in [row["name"] for row in rows(use("datasets", "list", "--format", "csv")[0])]
        assert "complete" in use("datasets", "verify", "toy-set", "--root", "toy")[0]

    def test_is_declared_without_torch(self, site):
        code = "import sys, iqametrics as i; i.list_metrics(); i.metric_info('toy-nr'); print('torch' in sys.modules)"
        assert python(code, folders=[site]) == "False\n"

    def test_is_trained_tagged_and_scores(self, use, run):
        images = ("toy/images/03.png", "toy/images/40.png")
        scored = rows(use("score", *images, "--metric", "toy-nr=run/checkpoint.safetensors", "--format", "csv")[0])
        assert {row["metric"] for row in scored} == {"toy-nr.mine"}
        sharp, blurred = (row["score"] for row in scored)
        assert float(sharp) > float(blurred)
        assert json.loads((run / "results.json").read_text())["results"]["validation"]["srcc"] > 0.9

    def test_is_evaluated_beside_a_metric_of_ours(self, use, run):
        metrics = ("--metric", "toy-nr=run/checkpoint.safetensors", "--metric", "bpclip-nr.lite")
        text, _ = use("evaluate", *metrics, "--dataset", "toy-set", "--root", "toy", "--format", "json")
        figures = {row["metric"]: row for row in json.loads(text)["results"]}
        assert figures["toy-nr.mine"]["srcc"] > 0.9
        assert figures["bpclip-nr.lite"]["n"] == 48

    def test_its_row_is_benchmarked(self, use, work):
        (work / "data.toml").write_text('[datasets.toy-set]\nroot = "toy"\n')
        options = ("--data", "data.toml", "--splits", "2", "--output", "out", "--rows", "Toy")
        use("benchmark", "run", "toy-table1", *options)
        report = rows(use("benchmark", "report", "out", "--format", "csv")[0])
        (cell,) = (row for row in report if row["row"] == "Toy" and row["statistic"] == "srcc")
        assert float(cell["measured"]) > 0.9

    def test_is_published_dry(self, use, run):
        text, _ = use("weights", "publish", "run", "--repo", "org/toy", "--dry-run")
        assert "# toy-nr.mine" in text
        assert '"metric": "toy-nr"' in text


@pytest.mark.slow
class TestBadOnes:
    @pytest.mark.parametrize(
        ("group", "command"), [("iqametrics.metrics", ("list",)), ("iqametrics.datasets", ("datasets", "list"))]
    )
    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("import nothing_of_this_name", "ModuleNotFoundError: No module named 'nothing_of_this_name'"),
            ("import sys\nsys.exit('leaving')", "SystemExit: leaving"),
            ("1 / 0", "ZeroDivisionError: division by zero"),
            ("this is no Python", "SyntaxError: "),
            ("METHOD = SPEC = 3", "TypeError: it is a int, not a "),
            ("", "AttributeError: module 'broken' has no attribute '"),
        ],
    )
    def test_a_broken_one_costs_one_line(self, tmp_path, group, command, text, reason):
        distribution(tmp_path, "broken-plugin", group, "broken", broken=text)
        listed, told = iqametrics(*command, "--format", "csv", folders=[tmp_path])
        expected, _ = iqametrics(*command, "--format", "csv", folders=[])
        assert listed == expected
        assert len(told) == 1
        assert told[0].startswith(f"iqametrics: note: broken-plugin 1.0 ({group}: entry) is left out: broken cannot be")
        assert reason in told[0]

    def test_a_name_of_ours_stays_ours(self, tmp_path):
        text = (
            "from dataclasses import replace\nfrom iqametrics.bpclip import SPECS\nfrom iqametrics.spec import Method\n"
            "METHOD = Method(metrics=(replace(SPECS[1], name='theirs-nr'), replace(SPECS[1], factory='x:Y')))\n"
        )
        distribution(tmp_path, "clash", "iqametrics.metrics", "clashing:METHOD", clashing=text)
        listed, told = iqametrics("list", "--format", "csv", folders=[tmp_path])
        assert "theirs-nr" not in listed  # left out whole
        assert told == [
            "iqametrics: note: clash 1.0 (iqametrics.metrics: entry) is left out: a metric named 'bpclip-nr' is there "
            "already; choose another name"
        ]

    def test_of_two_with_one_name_the_first_by_name_wins(self, tmp_path):
        text = (
            "from dataclasses import replace\nfrom iqametrics.datasets.live import SPEC\n"
            "SPEC = replace(SPEC, name='holiday', title='of {0}')\n"
        )
        for name in ("b", "a"):
            module = {f"holiday_{name}": text.replace("{0}", name)}
            distribution(tmp_path, name, "iqametrics.datasets", f"holiday_{name}", **module)
        listed, told = iqametrics("datasets", "list", "--format", "csv", folders=[tmp_path])
        assert [row["title"] for row in rows(listed) if row["name"] == "holiday"] == ["of a"]
        assert told == [
            "iqametrics: note: b 1.0 (iqametrics.datasets: entry) is left out: a dataset named 'holiday' is there "
            "already; choose another name"
        ]

    def test_a_class_that_cannot_be_imported_is_one_line(self, tmp_path):
        text = (
            "from dataclasses import replace\nfrom iqametrics.bpclip import SPECS\nfrom iqametrics.spec import Method\n"
            "METHOD = Method(metrics=(replace(SPECS[1], name='late-nr', factory='nowhere.metric:Late'),),\n"
            "                objectives={'late-nr': 'nowhere.metric:Objective'})\n"
        )
        distribution(tmp_path, "late", "iqametrics.metrics", "late", late=text)
        recipe = "[metric]\nname='late-nr'\ntag='x'\n[split]\nvalidation=0.2\nby='image'\n"
        (tmp_path / "late.toml").write_text(recipe)
        images = ("--csv", tmp_path / "none.csv", "--output", tmp_path / "run")
        _, told = iqametrics("train", tmp_path / "late.toml", *images, folders=[tmp_path], status=1)
        assert told == [
            "iqametrics: error: nowhere.metric:Objective cannot be imported (No module named 'nowhere'); mend or "
            "reinstall the package that declares it"
        ]
