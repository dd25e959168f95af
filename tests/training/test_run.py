import csv
import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import training_fake
from places import HELPERS
from safetensors.torch import load_file, save_file
from training_fake import assert_same_weights, history, weights, write_dataset, write_recipe

from iqametrics.datasets.csv_dataset import read_csv_dataset
from iqametrics.errors import DataError, RecipeError, TrainingError
from iqametrics.training import environment, run, starting
from iqametrics.training import folder as run_folder
from iqametrics.weights.checkpoint import load_checkpoint
from iqametrics.weights.manifest import read_manifest

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def fake(monkeypatch):
    with training_fake.registered(monkeypatch):
        yield


def test_a_run_leaves_everything_that_describes_it(tmp_path):
    folder = run.train(write_recipe(tmp_path), ["train.epochs=4"], tmp_path / "run")
    rows = history(folder)
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert float(rows[-1]["train_loss"]) < float(rows[0]["train_loss"])
    assert rows[0]["train_loss"] == rows[0]["train_mse"]
    metadata, tensors = load_checkpoint(folder / "checkpoint.safetensors")
    assert (metadata["metric"], metadata["tag"]) == ("fake", "tiny")
    assert metadata["sizing"] == {"min_side": 32, "max_side": None}
    assert metadata["training"]["images"] == {"train": 18, "validation": 6, "test": 0}
    best = max(range(4), key=lambda i: float(rows[i]["val_srcc"]))
    assert metadata["training"]["epoch"] == best + 1
    assert metadata["training"]["selection"] == "best-val"
    assert metadata["results"]["validation"]["srcc"] == pytest.approx(float(rows[best]["val_srcc"]))
    assert "out.weight" in tensors
    with (folder / "predictions.csv").open() as stream:
        predictions = list(csv.DictReader(stream))
    assert len(predictions) == metadata["results"]["validation"]["n"] == 6
    assert {row["reference"] for row in predictions} == {""}
    # NumPy's own correlation of the stored predictions, which have six decimals, is the stored PLCC.
    scores, mos = ([float(row[key]) for row in predictions] for key in ("score", "mos"))
    assert np.corrcoef(scores, mos)[0, 1] == pytest.approx(metadata["results"]["validation"]["plcc"], abs=1e-3)
    assert str(tmp_path) not in json.dumps(metadata)
    (session,) = json.loads((folder / "environment.json").read_text())["sessions"]
    assert torch.__version__.startswith(session["packages"]["torch"])


def test_two_runs_are_bit_equal_and_another_seed_is_not(tmp_path):
    recipe = write_recipe(tmp_path)
    one, two = (run.train(recipe, ["train.epochs=1"], tmp_path / name) for name in ("one", "two"))
    assert_same_weights(one, two)
    three = run.train(recipe, ["train.epochs=1", "train.seed=1"], tmp_path / "three")
    assert any(not torch.equal(t, weights(three)[name]) for name, t in weights(one).items())


@pytest.mark.parametrize("cached", [False, True])
def test_threads_do_not_change_the_weights(tmp_path, cached):
    recipe = write_recipe(tmp_path, frozen=2, cached=cached)
    one, two = (
        run.train(recipe, ["train.epochs=1", f"train.workers={workers}", f"cache.folder=c{workers}"], tmp_path / name)
        for name, workers in (("one", 1), ("two", 4))
    )
    assert_same_weights(one, two)


KILLER = """
import os, signal, sys, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import scipy.stats, torch, torch._dynamo  # so that no child has to import them anew
import training_fake
from iqametrics import methods
from iqametrics.training import run

torch.set_num_threads(1)
methods.register_method(training_fake.METHOD)
state = Path(sys.argv[3]) / "last.safetensors"

def changed():
    return state.stat().st_mtime_ns if state.exists() else 0

kills = 0
while True:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            run.train(sys.argv[2], [], sys.argv[3], resume=True)
            status = 0
        finally:
            os._exit(status)
    seen, saves, started = changed(), 0, time.monotonic()
    while True:
        finished, status = os.waitpid(child, os.WNOHANG)
        saves, seen = saves + (changed() != seen), changed()
        # The first strikes before anything is saved, the others a varying moment after the third new state.
        if finished or saves == 3 or (kills == 0 and time.monotonic() > started + 0.05):
            break
        time.sleep(0.0005)
    if finished:
        sys.exit(f"failed after {kills} kills") if os.waitstatus_to_exitcode(status) else print(kills)
        break
    time.sleep(kills * 7 % 11 / 1000)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    kills += 1
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_run_killed_again_and_again_ends_with_the_weights_of_an_unbroken_one(tmp_path):
    recipe = write_recipe(tmp_path, frozen=2, cached=True)
    whole = run.train(recipe, [], tmp_path / "whole")
    paths = [HELPERS, recipe, tmp_path / "killed"]
    root = str(Path(run.__file__).parents[2])
    process = subprocess.run(
        [sys.executable, "-c", KILLER, *map(str, paths)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert process.returncode == 0, process.stderr
    assert int(process.stdout) >= 3
    assert_same_weights(whole, tmp_path / "killed")
    columns = [name for name in history(whole)[0] if name != "seconds"]
    assert [[row[c] for c in columns] for row in history(whole)] == [
        [row[c] for c in columns] for row in history(tmp_path / "killed")
    ]
    one, two = (load_file(folder / "checkpoint.safetensors") for folder in (whole, tmp_path / "killed"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    recipe = write_recipe(tmp_path, train="").read_text().replace("save_every = 1", "save_every = 0")
    (tmp_path / "tiny.toml").write_text(recipe)
    whole = run.train(tmp_path / "tiny.toml", [], tmp_path / "whole")
    step, steps = run.Trainer._step, []

    def interrupted(self, *args):
        step(self, *args)
        steps.append(1)
        if len(steps) == 4:
            os.kill(os.getpid(), signal.SIGINT)

    assert threading.current_thread() is threading.main_thread()
    monkeypatch.setattr(run.Trainer, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt, match=r"epoch 2 after step 1.*--resume"):
        run.train(tmp_path / "tiny.toml", [], tmp_path / "stopped")
    with pytest.raises(TrainingError, match=r"already holds a run.*--resume"):
        run.train(tmp_path / "tiny.toml", [], tmp_path / "stopped")
    with pytest.raises(RecipeError, match=r"train\.lr"):
        run.train(tmp_path / "tiny.toml", ["train.lr=0.5"], tmp_path / "stopped", resume=True)
    assert capsys.readouterr().err.count("--resume") == 0  # the caller tells
    run.train(tmp_path / "tiny.toml", ["train.workers=3"], tmp_path / "stopped", resume=True)
    assert_same_weights(whole, tmp_path / "stopped")


def test_ctrl_c_in_the_last_validation_is_heard(tmp_path, monkeypatch):
    # Or a series of splits would go on with the next one.
    recipe, close = write_recipe(tmp_path), run.Trainer._close_epoch

    def interrupted(self, *args):
        os.kill(os.getpid(), signal.SIGINT)
        close(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(run.Trainer, "_close_epoch", interrupted)
        with pytest.raises(KeyboardInterrupt, match=r"stopped after epoch 1; .*--resume"):
            run.train(recipe, ["train.epochs=1"], tmp_path / "run")
    assert not (tmp_path / "run" / "results.json").exists()
    run.train(recipe, ["train.epochs=1"], tmp_path / "run", resume=True)
    assert (tmp_path / "run" / "results.json").exists()


@pytest.mark.parametrize("old_form", [False, True])
def test_the_record_keeps_every_session(tmp_path, monkeypatch, old_form):
    answers = {"rev-parse": "first", "status": " M iqametrics/metric.py"}
    monkeypatch.setattr(environment, "_git", lambda command, *_: answers[command])
    recipe, folder = write_recipe(tmp_path), tmp_path / "run"
    run.train(recipe, ["train.epochs=1"], folder)
    (first,) = json.loads((folder / "environment.json").read_text())["sessions"]
    assert (first["commit"], first["changed_since_commit"]) == ("first", True)
    (folder / "results.json").unlink()  # as if it had been stopped before the end
    if old_form:  # one record and not yet a list
        (folder / "environment.json").write_text(json.dumps(first))
    answers |= {"rev-parse": "second", "status": ""}
    run.train(recipe, ["train.epochs=1"], folder, resume=True)
    sessions = json.loads((folder / "environment.json").read_text())["sessions"]
    assert [session["commit"] for session in sessions] == ["first", "second"]
    assert sessions[0] == first
    training = load_checkpoint(folder / "checkpoint.safetensors")[0]["training"]
    assert (training["commit"], training["date"]) == ("first", first["date"])
    assert [(s["commit"], s["changed_since_commit"]) for s in training["resumed"]] == [("second", False)]


def test_a_run_that_saved_nothing_begins_with_the_session_that_did(tmp_path, monkeypatch):
    recipe, folder = write_recipe(tmp_path), tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(run.Trainer, "run", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run.train(recipe, ["train.epochs=1"], folder)
    run.train(recipe, ["train.epochs=1"], folder, resume=True)
    assert len(json.loads((folder / "environment.json").read_text())["sessions"]) == 1


def test_resuming_on_changed_data_is_refused(tmp_path):
    recipe = write_recipe(tmp_path)
    run.train(recipe, ["train.epochs=1"], tmp_path / "run")
    text = (tmp_path / "data.csv").read_text()
    (tmp_path / "data.csv").write_text(text.replace("1.png,0.95", "1.png,0.94"))
    with pytest.raises(TrainingError, match=r"data\.csv changed"):
        run.train(recipe, ["train.epochs=1"], tmp_path / "run", resume=True)


def test_nan_loss_names_step_and_images_and_keeps_the_last_state(tmp_path):
    recipe = write_recipe(tmp_path)
    recipe.write_text(recipe.read_text().replace("frozen_levels = 0", "frozen_levels = 0\nnan_at = 5"))
    with pytest.raises(TrainingError, match=r"loss is nan in epoch 2, step 2 \(\d+\.png, .*last good state"):
        run.train(recipe, [], tmp_path / "run")
    assert all(t.isfinite().all() for t in weights(tmp_path / "run").values())
    assert len(history(tmp_path / "run")) == 1


def test_a_full_disk_leaves_the_last_good_state(tmp_path, monkeypatch):
    recipe = write_recipe(tmp_path)
    whole = run.train(recipe, [], tmp_path / "whole")
    fsync, calls = os.fsync, []

    def full(descriptor):
        calls.append(1)
        if len(calls) > 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TrainingError, match=r"No space left.*last good state is kept"):
        run.train(recipe, [], tmp_path / "full")
    monkeypatch.setattr(os, "fsync", fsync)
    assert weights(tmp_path / "full")
    assert not list((tmp_path / "full").glob(".*"))
    run.train(recipe, [], tmp_path / "full", resume=True)
    assert_same_weights(whole, tmp_path / "full")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("", "no rows"),
        ("0.png,0.5\n1.png,0.5\n2.png,0.5\n3.png,0.5\n", "all 4 scores are 0.5"),
        ("0.png,3.5\n1.png,2.5\n2.png,1.5\n", "mos_range"),
        ("0.png,0.1\n1.png,0.2\n", "too few"),
        ("0.png,0.1\n1.png,0.2\n2.png,0.3\n3.png,0.4\n", "1 validation images have no correlation"),
    ],
)
def test_unusable_data_fail_before_anything_is_written(tmp_path, rows, message):
    recipe = write_recipe(tmp_path)
    (tmp_path / "data.csv").write_text("image,mos\n" + rows)
    with pytest.raises(DataError, match=message):
        run.train(recipe, [], tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_selection_last_ships_the_averaged_last_weights(tmp_path):
    folder = run.train(write_recipe(tmp_path, train='selection = "last"'), [], tmp_path / "run")
    state = weights(folder)
    metadata, tensors = load_checkpoint(folder / "checkpoint.safetensors")
    assert metadata["training"]["epoch"] == 3
    assert torch.equal(tensors["out.weight"], state["average.model.out.weight"])
    assert not torch.equal(tensors["out.weight"], state["objective.model.out.weight"])


@pytest.mark.parametrize(("group", "interval"), [("", True), ("one", False)])
def test_an_interval_needs_groups_to_draw(tmp_path, group, interval):
    recipe = write_recipe(tmp_path, by="column")
    header, *rows = (tmp_path / "data.csv").read_text().splitlines()
    lines = [f"{header},group", *(f"{row},{group if ',val,' in row else ''}" for row in rows)]
    (tmp_path / "data.csv").write_text("\n".join(lines))
    folder = run.train(recipe, ["train.epochs=1"], tmp_path / "run")
    measured = load_checkpoint(folder / "checkpoint.safetensors")[0]["results"]["validation"]
    assert measured["n"] in (4, 5, 6)
    assert (measured["srcc_low"] is not None) == interval


def test_the_moving_average_follows_its_definition(tmp_path):
    overrides = ["train.epochs=1", "train.batch_size=100", "train.selection='last'"]
    folder = run.train(write_recipe(tmp_path), overrides, tmp_path / "run")
    torch.manual_seed(0)
    start = training_fake.FakeModel(training_fake.FakeConfig()).out.weight
    # One step: the decay is min(0.9, (1 + 0) / (10 + 0)) = 0.1.
    expected = 0.1 * start + 0.9 * weights(folder)["objective.model.out.weight"]
    assert torch.allclose(weights(folder)["average.model.out.weight"], expected, atol=1e-7)


def test_unknown_metric_device_and_starting_file_are_named(tmp_path):
    recipe = write_recipe(tmp_path)
    with pytest.raises(RecipeError, match="'fakes' cannot be trained"):
        run.train(recipe, ["metric.name=fakes"], tmp_path / "run")
    with pytest.raises(RecipeError, match="'abacus'"):
        run.train(recipe, ["train.device=abacus"], tmp_path / "run")
    with pytest.raises(RecipeError, match=r"no\.safetensors: does not exist"):
        run.train(recipe, ["init.backbone=./no.safetensors"], tmp_path / "run")
    with pytest.raises(RecipeError, match="'nothing-bundled'"):
        run.train(recipe, ["init.backbone=nothing-bundled"], tmp_path / "run")


def test_a_bundled_backbone_is_not_stored_again(tmp_path, monkeypatch):
    torch.manual_seed(5)
    backbone = training_fake.FakeModel(training_fake.FakeConfig(frozen_levels=2)).backbone.state_dict()
    save_file(backbone, tmp_path / "base.safetensors")
    digest = hashlib.sha256((tmp_path / "base.safetensors").read_bytes()).hexdigest()
    entry = {"name": "tiny-backbone", "file": "base.safetensors", "sha256": digest}
    (tmp_path / "manifest.json").write_text(json.dumps({"format": 1, "checkpoints": [], "bases": [entry]}))
    for module in (run_folder, starting):
        monkeypatch.setattr(module, "WEIGHTS_FOLDER", tmp_path)
        monkeypatch.setattr(module, "read_manifest", lambda: read_manifest(tmp_path))
    recipe = write_recipe(tmp_path, frozen=2)
    folder = run.train(recipe, ["train.epochs=1", "init.backbone=tiny-backbone"], tmp_path / "run")
    path = folder / "checkpoint.safetensors"
    assert not any(name.startswith("backbone.") for name in load_file(path))
    metadata, tensors = load_checkpoint(path, folder=tmp_path)
    assert metadata["backbone"] == {"name": "tiny-backbone", "sha256": digest}
    assert all(torch.equal(tensors[f"backbone.{name}"], tensor) for name, tensor in backbone.items())
    # The same file given by its path is the same backbone.
    folder = run.train(recipe, ["train.epochs=1", "init.backbone=./base.safetensors"], tmp_path / "run1")
    assert load_checkpoint(folder / "checkpoint.safetensors", folder=tmp_path)[0]["backbone"] == metadata["backbone"]
    # Trained, the backbone is another one and is stored.
    folder = run.train(
        write_recipe(tmp_path), ["train.epochs=1", "init.backbone=./base.safetensors"], tmp_path / "run2"
    )
    assert load_checkpoint(folder / "checkpoint.safetensors", folder=tmp_path)[0]["backbone"] is None


def test_full_reference_pairs_are_cropped_alike(tmp_path):
    # With the image as its own reference the fake's score is 0 up to dropout, whatever the crop.
    write_dataset(tmp_path)
    with (tmp_path / "data.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    with (tmp_path / "data.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", "reference", "mos"])
        writer.writerows([row["image"], row["image"], row["mos"]] for row in rows)
    recipe = write_recipe(tmp_path, frozen=2, cached=True, by="reference", dataset=False)
    recipe.write_text(recipe.read_text().replace("frozen_levels = 2", 'frozen_levels = 2\nmode = "fr"'))
    folder = run.train(recipe, ["train.epochs=1"], tmp_path / "run")
    with (folder / "predictions.csv").open() as stream:
        predictions = list(csv.DictReader(stream))
    assert all(float(row["score"]) == 0 for row in predictions)
    assert all(row["reference"] == row["image"] and not Path(row["image"]).is_absolute() for row in predictions)
    # What `iqametrics evaluate --csv predictions.csv --root ROOT` reads.
    samples = read_csv_dataset(folder / "predictions.csv", tmp_path)
    assert [sample.reference for sample in samples] == [tmp_path / row["image"] for row in predictions]
    assert [sample.mos for sample in samples] == pytest.approx([float(row["mos"]) for row in predictions])
    (tmp_path / "data.csv").write_text(
        "image,reference,mos\n" + "".join(f"{i}.png,{i + 1}.png,{i / 20}\n" for i in range(16))
    )
    # As `evaluate` says it, and before anything is begun.
    with pytest.raises(DataError, match=r"\.png: is \d+x\d+ but its reference is \d+x\d+; crop or resize them"):
        run.train(recipe, ["train.epochs=1"], tmp_path / "run2")
    assert not (tmp_path / "run2").exists()


def test_a_checkpoint_is_called_after_its_run_unless_the_recipe_names_it(tmp_path, monkeypatch):
    recipe = write_recipe(tmp_path)

    def tag(folder, *overrides, resume=False):
        run.train(recipe, ["train.epochs=1", *overrides], folder, resume=resume)
        metadata, tensors = load_checkpoint(folder / "checkpoint.safetensors")
        assert json.loads((folder / "results.json").read_text())["tag"] == metadata["tag"]
        return metadata["tag"], {name: tensors[name].clone() for name in tensors}

    first, weights = tag(tmp_path / "my run", "metric.tag=")
    assert first == "my-run"
    # Resumed with another name, the checkpoint is written again with it, and with the same weights.
    second, again = tag(tmp_path / "my run", "metric.tag=other", resume=True)
    assert second == "other"
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert tag(tmp_path / "third", "metric.tag=lite")[0] == "lite"
