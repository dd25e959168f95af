"""Options of a run: precision, batches in parts, averages, selection, sizes, datasets; and real objectives."""

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import training_fake
import training_real
from places import HELPERS, ROOT
from safetensors.torch import load_file
from training_fake import assert_same_weights, history, weights, write_recipe

from iqametrics.datasets import catalogue
from iqametrics.datasets.csv_dataset import read_csv_dataset
from iqametrics.errors import DataError, RecipeError, TrainingError
from iqametrics.pfd_iqa.teacher_objective import PfdTeacherObjective
from iqametrics.training import data, precision, run
from iqametrics.training.recipe import parse_recipe
from iqametrics.training.resume import Average
from iqametrics.weights.checkpoint import load_checkpoint

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def fake(monkeypatch):
    with training_fake.registered(monkeypatch):
        yield


@pytest.mark.parametrize("amp", ["bfloat16", "float16"])
def test_half_precision_learns_and_resumes_bit_for_bit(tmp_path, monkeypatch, amp):
    recipe = write_recipe(tmp_path, train=f'amp = "{amp}"\ngrad_clip = 1.0')
    plain = run.train(recipe, ["train.amp='none'", "train.epochs=1"], tmp_path / "plain")
    whole = run.train(recipe, [], tmp_path / "whole")
    losses = [float(row["train_loss"]) for row in history(whole)]
    assert losses[-1] < losses[0]
    # The scale of float16 starts too high for this loss, so its first steps are left out.
    assert losses[0] == pytest.approx(float(history(plain)[0]["train_loss"]), rel=0.02 if amp == "bfloat16" else 0.3)
    assert losses[0] != float(history(plain)[0]["train_loss"])
    assert all(tensor.dtype != torch.half for tensor in weights(whole).values())
    step, steps = run.Trainer._step, []

    def stops(self, *args):
        if len(steps) == 5:
            raise KeyboardInterrupt
        steps.append(step(self, *args))

    with monkeypatch.context() as patch:
        patch.setattr(run.Trainer, "_step", stops)
        with pytest.raises(KeyboardInterrupt):
            run.train(recipe, [], tmp_path / "stopped")
    run.train(recipe, [], tmp_path / "stopped", resume=True)
    assert_same_weights(whole, tmp_path / "stopped")


def test_an_overflow_skips_the_step_and_halves_the_scale(tmp_path, monkeypatch):
    recipe = write_recipe(tmp_path, train='amp = "float16"')
    backward, seen = run.Trainer._gradient, []

    def overflows(self, *args):
        values = backward(self, *args)
        if len(seen) == 5:  # by now the scale has come down to where nothing overflows by itself
            self.objective.model.out.weight.grad.fill_(float("inf"))
        seen.append((self.precision.scaler.get_scale(), self.objective.model.out.weight.detach().clone()))
        return values

    monkeypatch.setattr(run.Trainer, "_gradient", overflows)
    run.train(recipe, ["train.epochs=3"], tmp_path / "run")
    scales, weights_before = zip(*seen, strict=True)
    assert scales[6] == scales[5] / 2 == scales[4] / 2
    assert torch.equal(weights_before[6], weights_before[5])
    assert not torch.equal(weights_before[5], weights_before[4])


def test_a_loss_that_overflows_in_float16_skips_the_step_though_its_gradient_is_finite(tmp_path, monkeypatch):
    recipe = write_recipe(tmp_path, train='amp = "float16"')
    backward, seen = run.Trainer._gradient, []

    def overflows(self, *args):
        values = backward(self, *args)
        if len(seen) == 5:
            values = {name: torch.full_like(value, float("inf")) for name, value in values.items()}
        seen.append((self.precision.scaler.get_scale(), self.objective.model.out.weight.detach().clone()))
        return values

    monkeypatch.setattr(run.Trainer, "_gradient", overflows)
    folder = run.train(recipe, ["train.epochs=3"], tmp_path / "run")
    scales, weights_before = zip(*seen, strict=True)
    assert scales[6] == scales[5] / 2
    assert torch.equal(weights_before[6], weights_before[5])
    assert not torch.equal(weights_before[5], weights_before[4])
    # The means of the epoch are over the steps that were taken.
    assert all(math.isfinite(float(row["train_loss"])) for row in history(folder))
    monkeypatch.setattr(precision, "_SMALLEST_SCALE", 2.0**16)
    seen.clear()
    with pytest.raises(TrainingError, match="loss is inf in epoch"):
        run.train(recipe, [], tmp_path / "again")


def test_gradients_that_overflow_at_every_scale_end_the_run(tmp_path, monkeypatch):
    recipe = write_recipe(tmp_path, train='amp = "float16"')
    monkeypatch.setattr(precision, "_SMALLEST_SCALE", 2.0**16)
    backward = run.Trainer._gradient

    def overflows(self, *args):
        values = backward(self, *args)
        self.objective.model.out.weight.grad.fill_(float("nan"))
        return values

    monkeypatch.setattr(run.Trainer, "_gradient", overflows)
    with pytest.raises(TrainingError, match="gradient is nan in epoch 1, step 2"):
        run.train(recipe, [], tmp_path / "run")


def test_a_device_that_cannot_compute_in_half_precision_is_told(tmp_path, monkeypatch):
    def cannot(*_):
        raise RuntimeError("not implemented for 'Half'")

    monkeypatch.setattr(torch.nn.Conv2d, "forward", cannot)
    with pytest.raises(RecipeError, match=r"train\.amp = 'float16': cpu cannot.*use 'bfloat16' or 'none'"):
        precision.Precision("float16", torch.device("cpu"))


def test_a_batch_in_parts_gives_the_gradient_of_the_whole(tmp_path):
    # The real student: its loss is a mean over images and its normalisation is by image.
    training_real.write_starting_files(tmp_path)
    training_real.train(tmp_path, training_real.tables("pfd-teacher"), "teacher")
    teacher = {"teacher": "./teacher/checkpoint.safetensors"}
    moments = []
    for name, accumulate in (("whole", 1), ("parts", 3)):
        recipe = training_real.tables("pfd-iqa", teacher, accumulate=accumulate, batch_size=9, grad_clip=0.05)
        state = load_file(training_real.train(tmp_path, recipe, name) / "last.safetensors")
        moments.append({key: value for key, value in state.items() if key.endswith("/exp_avg")})
    # One step: the first moment is a tenth of the clipped gradient.
    norm = sum(float((value / 0.1).square().sum()) for value in moments[0].values()) ** 0.5
    assert norm == pytest.approx(0.05, rel=1e-3)
    for key, value in moments[0].items():
        assert torch.allclose(moments[1][key], value, rtol=1e-3, atol=1e-7), key


def test_the_average_has_running_statistics_of_its_own(tmp_path):
    norm = torch.nn.BatchNorm2d(2)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1), norm)
    average = Average(module, 0.9)
    start = norm.running_mean.clone()
    module(torch.rand(4, 3, 5, 5) + 3)
    average.update(module, step=1000)
    expected = 0.9 * start + 0.1 * norm.running_mean
    current = norm.running_mean.clone()
    average.swap(module)
    assert torch.allclose(norm.running_mean, expected)
    average.swap(module)
    assert torch.equal(norm.running_mean, current)
    # The shipped network of a run has them too.
    folder = run.train(write_recipe(tmp_path, train='selection = "last"'), ["train.epochs=1"], tmp_path / "run")
    shipped = load_checkpoint(folder / "checkpoint.safetensors")[1]["norm.running_var"]
    assert torch.equal(shipped, weights(folder)["average.model.norm.running_var"])
    assert not torch.equal(shipped, weights(folder)["objective.model.norm.running_var"])


def test_the_average_starts_where_training_starts(tmp_path):
    # A step of nothing: the average is the initial state, with the score's bias at the mean opinion.
    overrides = ["train.epochs=1", "train.batch_size=100", "train.lr=1e-30", "train.selection='last'"]
    folder = run.train(write_recipe(tmp_path), overrides, tmp_path / "run")
    state = weights(folder)
    assert torch.allclose(state["average.model.out.bias"], state["objective.model.out.bias"], atol=1e-7)


def test_selection_by_test_is_told_and_stored(tmp_path, capsys):
    recipe = write_recipe(tmp_path, train='selection = "best-test"')
    with pytest.raises(DataError, match=r"no test images to choose an epoch by; hold some out \(split\.test\)"):
        run.train(recipe, [], tmp_path / "run")
    folder = run.train(recipe, ["split.test=0.25"], tmp_path / "run")
    assert "too good" in capsys.readouterr().err
    rows, results = history(folder), json.loads((folder / "results.json").read_text())
    best = max(range(3), key=lambda k: float(rows[k]["test_srcc"]))
    assert results["selection"] == "best-test"
    assert results["epoch"] == best + 1
    assert results["results"]["test"]["srcc"] == pytest.approx(float(rows[best]["test_srcc"]))
    metadata = load_checkpoint(folder / "checkpoint.safetensors")[0]
    assert metadata["training"]["selection"] == "best-test"
    assert metadata["results"] == results["results"]
    assert results["labels"] is metadata["training"]["labels"] is None  # of a CSV whose scores nobody vouches for
    assert set(results) >= {"metric", "tag", "split", "images", "commit", "hardware", "date", "seconds"}
    assert results["images"] == {"train": 12, "validation": 6, "test": 6}


def test_best_val_does_not_look_at_the_test_part(tmp_path):
    folder = run.train(write_recipe(tmp_path), ["split.test=0.25", "train.epochs=1"], tmp_path / "run")
    assert "val_srcc" in history(folder)[0]
    assert "test_srcc" not in history(folder)[0]
    assert set(json.loads((folder / "results.json").read_text())["results"]) == {"validation", "test"}


@pytest.mark.parametrize("cached", [False, True])
def test_the_shorter_side_is_the_same_in_training_and_in_the_shipped_metric(tmp_path, monkeypatch, cached):
    recipe = write_recipe(tmp_path, frozen=2, cached=cached)
    seen = set()
    loss, predict = training_fake.FakeObjective.loss, training_fake.FakeObjective.predict

    def remembers(function):
        def call(self, batch):
            seen.add((function.__name__, *batch.dist[0].shape[-2:]))
            return function(self, batch)

        return call

    monkeypatch.setattr(training_fake.FakeObjective, "predict", remembers(predict))
    monkeypatch.setattr(training_fake.FakeObjective, "loss", remembers(loss))
    folder = run.train(recipe, ["train.epochs=1", "sizing.short_side=32"], tmp_path / "run")
    # Images of 64x48 and 40x70 become 43x32 and 32x56; level 1 has half of that, rounded up.
    assert seen == {("loss", 16, 16), ("predict", 22, 16), ("predict", 16, 28)}
    assert load_checkpoint(folder / "checkpoint.safetensors")[0]["sizing"] == {
        "min_side": 32,
        "max_side": None,
        "short_side": 32,
    }
    with pytest.raises(RecipeError, match="min_side <= short_side"):
        run.train(recipe, ["sizing.short_side=31"], tmp_path / "other")


def test_epochs_of_different_lengths_keep_their_rates(tmp_path, monkeypatch):
    recipe = write_recipe(tmp_path, train='schedule = "step"\nstep_epochs = 1\nstep_factor = 0.5')
    (tmp_path / "extra.csv").write_text("image,mos\n" + "".join(f"{n}.png,0.5\n" for n in range(24)))
    recipe.write_text(recipe.read_text() + '[[data.extra]]\ncsv = "extra.csv"\nweight = 0.4\n')
    step, rates = run.Trainer._step, {}

    def remembers(self, *args):
        epoch = self.progress.epoch
        step(self, *args)
        rates.setdefault(epoch, []).append(self.optimizer.param_groups[0]["lr"])

    monkeypatch.setattr(run.Trainer, "_step", remembers)
    run.train(recipe, ["train.epochs=4", "train.batch_size=2"], tmp_path / "run")
    assert len({len(found) for found in rates.values()}) > 1
    assert [set(found) for found in rates.values()] == [{0.01 * 0.5**epoch} for epoch in range(4)]


class TestDatasets:
    """A dataset by its name; its reader has tests of its own."""

    @pytest.fixture
    def named(self, tmp_path, monkeypatch):
        path = write_recipe(tmp_path)

        def load(name, root):
            assert name == "tiny"
            return read_csv_dataset(Path(root) / "data.csv")

        monkeypatch.setattr(catalogue, "load_dataset", load)
        path.write_text(path.read_text().replace('csv = "data.csv"', 'dataset = "tiny"\nroot = "."'))
        return path

    def test_trains_as_its_csv_does(self, tmp_path, named):
        one = run.train(named, ["train.epochs=1"], tmp_path / "one")
        recipe = write_recipe(tmp_path, dataset=False)
        two = run.train(recipe, ["train.epochs=1"], tmp_path / "two")
        assert_same_weights(one, two)
        results = json.loads((one / "results.json").read_text())
        assert (results["data"], results["labels"]) == (["dataset tiny"], "human")
        assert (one / "predictions.csv").read_text() == (two / "predictions.csv").read_text()

    def test_changed_scores_are_not_resumed_on(self, tmp_path, named):
        run.train(named, ["train.epochs=1"], tmp_path / "run")
        (tmp_path / "data.csv").write_text((tmp_path / "data.csv").read_text().replace("1.png,0.95", "1.png,0.94"))
        with pytest.raises(TrainingError, match="dataset tiny changed"):
            run.train(named, ["train.epochs=1"], tmp_path / "run", resume=True)

    def test_the_official_split(self, tmp_path, named):
        # The CSV's column has a training and a validation part; the latter is the official one.
        folder = run.train(named, ["train.epochs=1", "split.by=official"], tmp_path / "run")
        rows = (folder / "predictions.csv").read_text().splitlines()[1:]
        assert {row.split(",")[0] for row in rows} == {f"{number}.png" for number in range(0, 24, 4)}

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("data.csv=data.csv", "both given"),
            ("data.dataset=", "names no images"),
            ("data.mos_range=[0, 1]", r"data\.mos_range: is for a CSV"),
            ("data.root=", r"data\.root is missing"),
        ],
    )
    def test_csv_or_dataset(self, tmp_path, named, override, message):
        with pytest.raises(RecipeError, match=message):
            run.train(named, [override], tmp_path / "run")


def test_a_nan_of_a_real_objective_names_its_image(tmp_path, monkeypatch):
    training_real.write_starting_files(tmp_path)
    recipe = training_real.tables("pfd-teacher", save_every=1, epochs=2)
    trained = data.load_data(parse_recipe(recipe, tmp_path)).train
    bad = trained[0].sample.image.name
    loss = PfdTeacherObjective.loss

    def poisoned(self, batch):
        if bad in batch.keys:
            batch.dist[-1][batch.keys.index(bad)] = float("nan")
        return loss(self, batch)

    monkeypatch.setattr(PfdTeacherObjective, "loss", poisoned)
    with pytest.raises(TrainingError, match=rf"loss is nan in epoch 1, step \d \({bad}\); the last good state"):
        training_real.train(tmp_path, recipe, "run")


KILLED = """
import json, os, signal, sys
from pathlib import Path
import torch
import training_real
torch.set_num_threads(1)
replace, states = os.replace, []

def dies(source, target):
    states.append(target) if Path(target).name == "last.safetensors" else None
    if len(states) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)

os.replace = dies
training_real.train(Path(sys.argv[1]), json.loads(sys.argv[2]), "killed")
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_run_of_a_real_objective_killed_while_it_writes_ends_with_the_checkpoint_of_an_unbroken_one(tmp_path):
    training_real.write_starting_files(tmp_path)
    recipe = training_real.tables("pfd-teacher", save_every=1, epochs=2)
    whole = training_real.train(tmp_path, recipe, "whole")
    paths = f"{HELPERS}{os.pathsep}{ROOT}"
    process = subprocess.run(
        [sys.executable, "-c", KILLED, tmp_path, json.dumps(recipe)],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert process.returncode == -signal.SIGKILL, process.stderr.decode()
    assert list((tmp_path / "killed").glob(".last.safetensors.*.part"))
    training_real.train(tmp_path, recipe, "killed", resume=True)
    assert not list((tmp_path / "killed").glob(".*"))
    assert_same_weights(whole, tmp_path / "killed")
    one, two = (load_file(folder / "checkpoint.safetensors") for folder in (whole, tmp_path / "killed"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_two_runs_of_a_real_objective_are_bit_equal(tmp_path):
    training_real.write_starting_files(tmp_path)
    recipe = training_real.tables("bpclip-nr", batch_size=9)
    one, two = (training_real.train(tmp_path, recipe, name) for name in ("one", "two"))
    assert_same_weights(one, two)
    assert (one / "checkpoint.safetensors").stat().st_size == (two / "checkpoint.safetensors").stat().st_size
