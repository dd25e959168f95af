"""Several splits of one recipe, and a teacher that is trained before its student."""

import csv
import dataclasses
import hashlib
import json
import statistics
import subprocess
import sys
import time

import pytest
import training_fake
from places import HELPERS

from iqametrics import methods
from iqametrics.errors import DataError, RecipeError, TrainingError
from iqametrics.evaluation import evaluate
from iqametrics.training import repeats, run
from iqametrics.training.recipe import read_recipe
from iqametrics.training.repeats import train_repeats, write_summary
from iqametrics.training.starting import teacher_recipe

pytestmark = pytest.mark.slow

QUICK = ["train.epochs=1", "split.test=0.25", "train.workers=1"]


@pytest.fixture(autouse=True)
def fake_objective(monkeypatch):
    monkeypatch.setattr(methods, "_registered", [training_fake.METHOD])
    training_fake.leave_curves_out(monkeypatch.setattr)


def recipe_in(folder, *overrides):
    return read_recipe(training_fake.write_recipe(folder), [*QUICK, *overrides])


def test_three_splits_and_their_summary(tmp_path, capsys):
    path = train_repeats(recipe_in(tmp_path, "train.seed=5"), tmp_path / "out", splits=3)
    assert path == tmp_path / "out" / "summary.json"
    summary = json.loads(path.read_text())
    assert (summary["metric"], summary["tag"], summary["splits"], summary["selection"]) == (
        "fake",
        "tiny",
        3,
        "best-val",
    )
    assert "n - 1" in summary["deviation"]
    assert [r["split"]["seed"] for r in summary["runs"]] == [0, 1, 2]
    # Weights and order are each split's own too, counted on from the recipe's.
    assert [r["seed"] for r in summary["runs"]] == [5, 6, 7]
    began = [read_recipe(tmp_path / "out" / f"split-{n:02d}" / "recipe.toml").train.seed for n in range(3)]
    assert began == [5, 6, 7]
    # From the predictions anew (which are rounded), by evaluate and by the standard library.
    values = []
    held = set()
    for seed in range(3):
        with (tmp_path / "out" / f"split-{seed:02d}" / "predictions.csv").open() as stream:
            rows = [row for row in csv.DictReader(stream) if row["part"] == "test"]
        held.add(tuple(sorted(row["image"] for row in rows)))
        values.append(evaluate([float(r["score"]) for r in rows], [float(r["mos"]) for r in rows]).plcc)
    assert len(held) == 3
    assert summary["test"]["rmse"] == {"mean": None, "std": None, "values": [None] * 3}  # curves are left out here
    plcc = summary["test"]["plcc"]
    assert plcc["values"] == pytest.approx(values, abs=1e-3)
    assert plcc["mean"] == pytest.approx(statistics.mean(plcc["values"]), abs=1e-12)
    assert plcc["std"] == pytest.approx(statistics.stdev(plcc["values"]), abs=1e-12)
    assert "n" not in summary["test"]
    with (tmp_path / "out" / "summary.csv").open() as stream:
        table = list(csv.DictReader(stream))
    assert [row["split"] for row in table] == ["0", "1", "2", "mean", "std"]
    assert float(table[3]["test_plcc"]) == pytest.approx(plcc["mean"], abs=1e-6)
    assert [line[:9] for line in capsys.readouterr().err.splitlines() if line.startswith("split")] == [
        f"split {n}/3" for n in (1, 2, 3)
    ]


def test_a_summary_worked_by_hand(tmp_path):
    def a_run(seed, srcc, plcc):
        return {
            "metric": "m", "tag": "t", "selection": "last", "epoch": 1, "split": {"by": "image", "seed": seed},
            "results": {"test": {"n": 9, "srcc": srcc, "plcc": plcc, "srcc_low": 0.0, "logistic_converged": True}},
        }  # fmt: skip

    write_summary(tmp_path, [a_run(0, 0.5, 0.5), a_run(1, 0.7, None), a_run(2, 0.9, 0.5)])
    summary = json.loads((tmp_path / "summary.json").read_text())
    # Deviations -0.2, 0, 0.2: squares sum to 0.08, over n - 1 = 2 gives 0.04, root 0.2.
    assert summary["test"].keys() == {"srcc", "plcc"}
    assert summary["test"]["srcc"] == {"mean": pytest.approx(0.7), "std": pytest.approx(0.2), "values": [0.5, 0.7, 0.9]}
    assert summary["test"]["plcc"] == {"mean": None, "std": None, "values": [0.5, None, 0.5]}
    assert "validation" not in summary
    assert (tmp_path / "summary.csv").read_text().splitlines()[-2:] == ["mean,0.700000,", "std,0.200000,"]


def test_finished_splits_are_not_trained_again(tmp_path, monkeypatch):
    recipe, out = recipe_in(tmp_path), tmp_path / "out"
    train_repeats(recipe, out, splits=2)
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*.safetensors")}
    with pytest.raises(TrainingError, match="already holds files; go on with --resume"):
        train_repeats(recipe, out, splits=2)
    summary = json.loads(train_repeats(recipe, out, splits=3, resume=True).read_text())
    assert summary["splits"] == 3
    assert {file: file.stat().st_mtime_ns for file in before} == before
    with pytest.raises(RecipeError, match=r"train\.lr"):
        train_repeats(recipe_in(tmp_path, "train.lr=0.5"), out, splits=3, resume=True)


def test_splits_of_an_older_version_go_on_with_the_seed_that_they_all_had(tmp_path):
    recipe, out = recipe_in(tmp_path, "train.seed=5"), tmp_path / "out"
    for number in range(2):
        split = dataclasses.replace(recipe.split, seed=number)
        run.train_recipe(dataclasses.replace(recipe, split=split), out / f"split-{number:02d}")
    written = (out / "split-01" / "checkpoint.safetensors").stat().st_mtime_ns
    summary = json.loads(train_repeats(recipe, out, splits=3, resume=True).read_text())
    assert [r["seed"] for r in summary["runs"]] == [5, 5, 7]
    assert (out / "split-01" / "checkpoint.safetensors").stat().st_mtime_ns == written


KILLED = """
import sys, training_fake
from pathlib import Path
from iqametrics import methods
from iqametrics.training import repeats
from iqametrics.training.recipe import read_recipe
methods.register_method(training_fake.METHOD)
training_fake.leave_curves_out(setattr)
recipe = read_recipe(sys.argv[1], sys.argv[3:])
repeats.train_repeats(recipe, sys.argv[2], splits=3, resume=True)
"""


def test_killed_in_the_second_split_and_resumed(tmp_path):
    path = training_fake.write_recipe(tmp_path)
    out, overrides = tmp_path / "out", [*QUICK, "train.epochs=2"]
    arguments = [sys.executable, "-c", KILLED, str(path), str(out), *overrides]
    process = subprocess.Popen(arguments, cwd=HELPERS, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (out / "split-01" / "last.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    first = out / "split-00" / "checkpoint.safetensors"
    written = first.stat().st_mtime_ns
    recipe = read_recipe(path, overrides)
    train_repeats(recipe, out, splits=3, resume=True)
    assert first.stat().st_mtime_ns == written
    train_repeats(recipe, tmp_path / "whole", splits=3)
    one, two = (json.loads((folder / "summary.json").read_text()) for folder in (out, tmp_path / "whole"))
    assert one["test"] == two["test"]
    assert one["validation"] == two["validation"]


@pytest.mark.parametrize(
    ("overrides", "splits", "message"),
    [
        ([], 1, "two splits or more"),
        (["train.seed=9223372036854775807"], 3, r"train\.seed = .*: each of 3 splits counts on from it; give less"),
        (["split.test=0.0"], 3, r"no test part to measure on; give one with --set split\.test=0\.2"),
        (["split.by=column"], 3, "is one fixed split"),
        (["split.by=official"], 3, "is one fixed split"),
    ],
)
def test_what_has_no_mean_over_splits_is_refused(tmp_path, overrides, splits, message):
    with pytest.raises(RecipeError, match=message):
        train_repeats(recipe_in(tmp_path, *overrides), tmp_path / "out", splits=splits)
    assert not (tmp_path / "out").exists()


def test_a_damaged_result_is_named(tmp_path):
    out = tmp_path / "out"
    train_repeats(recipe_in(tmp_path), out, splits=2)
    (out / "split-01" / "results.json").write_text("{")
    with pytest.raises(TrainingError, match=r"split-01/results\.json: cannot be read .*; remove .*split-01"):
        repeats.train_repeats(recipe_in(tmp_path), out, splits=2, resume=True)


# A teacher that is given as a recipe


def student_in(folder, *overrides):
    """The fake takes any starting file; its teacher is the same recipe under another name."""
    training_fake.write_recipe(folder)
    (folder / "teacher.toml").write_text("extends = 'tiny.toml'\n[metric]\ntag = 'teacher'\n[train]\nlr = 0.02\n")
    return read_recipe(folder / "tiny.toml", [*QUICK, "init.teacher=teacher.toml", *overrides])


def test_a_teacher_is_trained_first_on_the_students_split(tmp_path):
    recipe = student_in(tmp_path, "split.seed=4", "train.seed=9", "teacher.train.epochs=2")
    out = run.train_recipe(recipe, tmp_path / "out")
    teacher = read_recipe(out / "teacher" / "recipe.toml")
    assert (teacher.metric.tag, teacher.train.lr, teacher.train.epochs) == ("teacher", 0.02, 2)
    assert (teacher.split, teacher.train.seed, teacher.data) == (recipe.split, 9, recipe.data)
    rows = [(folder / "predictions.csv").read_text().splitlines() for folder in (out, out / "teacher")]
    held = [{tuple(row.split(",")[:4]) for row in part[1:]} for part in rows]
    assert held[0] == held[1]
    # The environment has the digest of what the student learnt from.
    digest = hashlib.sha256((out / "teacher" / "checkpoint.safetensors").read_bytes()).hexdigest()
    assert digest in (out / "environment.json").read_text()


def test_a_student_killed_after_its_teacher_does_not_train_it_again(tmp_path):
    recipe, out = student_in(tmp_path), tmp_path / "out"
    teacher = run.train_recipe(teacher_recipe(recipe, out), out / "teacher")
    written = (teacher / "checkpoint.safetensors").stat().st_mtime_ns
    with pytest.raises(TrainingError, match="already holds a run; resume it"):
        run.train_recipe(recipe, out)
    run.train_recipe(recipe, out, resume=True)
    assert (teacher / "checkpoint.safetensors").stat().st_mtime_ns == written
    with pytest.raises(RecipeError, match=r"was begun with another recipe \(teacher\.train changed\)"):
        run.train_recipe(student_in(tmp_path, "teacher.train.lr=0.5"), out, resume=True)


def test_a_missing_file_is_told_before_the_teacher_is_trained_and_missing_data_before_that(tmp_path):
    recipe = student_in(tmp_path, "init.backbone=./none.safetensors")
    with pytest.raises(RecipeError, match=r"none\.safetensors: does not exist"):
        run.train_recipe(recipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "data.csv").write_text("image,mos\nnone.png,0.5\n")
    with pytest.raises(DataError, match="1 of 1 files do not exist"):
        run.train_recipe(recipe, tmp_path / "out")
    training_fake.write_dataset(tmp_path)
    with pytest.raises(RecipeError, match=r"only init\.teacher may be a recipe"):
        run.train_recipe(student_in(tmp_path, "init.backbone=teacher.toml"), tmp_path / "out")
