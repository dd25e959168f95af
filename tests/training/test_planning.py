"""What a plan says is what a run does: counts, files, memory and operations."""

import json
import math
from pathlib import Path

import pytest
import torch
import training_fake
from torch import nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count
from training_fake import FakeConfig, FakeObjective, write_dataset, write_recipe
from training_real import tables, train, write_starting_files

from iqametrics.cli.main import main
from iqametrics.datasets.catalogue import dataset_spec
from iqametrics.datasets.protocol import SIX_TWO_TWO, random_parts
from iqametrics.datasets.sample import Sample
from iqametrics.errors import RecipeError
from iqametrics.nn.flops import COUNTED, attention_backward_flops, attention_flops
from iqametrics.objective import Objective
from iqametrics.training import run, starting
from iqametrics.training.planning import plan_run, published_work
from iqametrics.training.recipe import TrainTable, parse_recipe, read_recipe
from iqametrics.training.recipes import list_recipes
from iqametrics.training.step_cost import _Step, measure_step


@pytest.fixture(autouse=True)
def fake(monkeypatch):
    with training_fake.registered(monkeypatch):
        yield


def everything_in(folder):
    return sorted(path for path in folder.rglob("*"))


class TestCounts:
    def test_a_run_takes_the_planned_steps_and_writes_files_of_the_planned_size(self, tmp_path):
        recipe = read_recipe(write_recipe(tmp_path, train="views = 3"))
        before = everything_in(tmp_path)
        (plan,) = plan_run(recipe)
        assert everything_in(tmp_path) == before
        steps = []
        step = run.Trainer._step

        def counting(self, parts, *args):
            steps.append(sum(map(len, parts)))
            step(self, parts, *args)

        run.Trainer._step, kept = counting, step
        try:
            folder = run.train_recipe(recipe, tmp_path / "run")
        finally:
            run.Trainer._step = kept
        assert (len(steps), sum(steps)) == (plan.work.steps, plan.work.crops * plan.work.epochs)
        planned = {"last": plan.size.state, "best": plan.size.best, "checkpoint": plan.size.checkpoint}
        for name, expected in planned.items():
            content = (folder / f"{name}.safetensors").read_bytes()
            held = len(content) - 8 - int.from_bytes(content[:8], "little")
            assert expected <= held <= expected + 64, name  # AdamW's counters of steps come on top
        assert plan.work.images == {"train": 18, "validation": 6, "test": 0}

    def test_numbers_of_an_absent_dataset_are_those_of_its_protocol(self):
        spec = dataset_spec("kadid10k")
        recipe = read_recipe("paper/bpclip-fr/kadid10k", ["data.root=nowhere"])
        work = published_work(recipe)
        count = spec.images // spec.references
        samples = [Sample(Path(f"{i}.png"), Path(f"r{i // count}.png"), 0.5) for i in range(spec.images)]
        parts = random_parts(samples, seed=0, shares=SIX_TWO_TWO)
        assert work.images == {name: len(getattr(parts, name)) for name in ("train", "validation", "test")}
        assert (work.steps_per_epoch, work.steps) == (math.ceil(6125 / 16), 200 * math.ceil(6125 / 16))
        official = published_work(read_recipe("paper/bpclip-nr/koniq10k-official", ["data.root=nowhere"]))
        assert official.images == {**dataset_spec("koniq10k").official_parts}

    @pytest.mark.parametrize("name", [name for name in list_recipes() if name.count("/") == 2])
    def test_every_dataset_recipe_can_be_counted(self, name):
        overrides = ["data.root=nowhere"]
        try:
            recipe = read_recipe(name, overrides)
        except RecipeError:  # another reading of a method, for any images
            recipe = read_recipe(name, [*overrides, "data.dataset=clive"])
        work = published_work(recipe)
        assert work.published
        assert work.steps > 0
        assert sum(work.images.values()) == dataset_spec(recipe.data.dataset).images

    def test_a_csv_has_no_published_numbers(self, tmp_path):
        with pytest.raises(RecipeError, match="no dataset with published numbers"):
            plan_run(read_recipe(write_recipe(tmp_path)), published=True)

    def test_steps_that_the_recipe_fixes(self):
        work = published_work(read_recipe("paper/pfd-teacher/clive", ["data.root=nowhere"]))
        assert (work.steps_per_epoch, work.steps, work.crops) == (200, 16_000, 200 * 32 * 3)


class TestReading:
    def test_files_and_cache_are_those_of_the_run(self, tmp_path):
        """The pixels of all files, and the bytes that the cache then takes."""
        write_starting_files(tmp_path)
        recipe = parse_recipe(tables("bpclip-nr"), tmp_path)
        (plan,) = plan_run(recipe, measure=False)
        train(tmp_path, tables("bpclip-nr"), "run")
        stored = sum(path.stat().st_size for path in (tmp_path / "cache").rglob("*.bin"))
        assert plan.work.files == 12
        assert plan.reading.pixels == pytest.approx(3 * 6 * (64 * 64 + 72 * 66), rel=0.1)
        assert plan.reading.features == pytest.approx(stored, rel=0.25)
        assert plan.reading.hours_per_epoch == pytest.approx(9 * plan.reading.seconds / 3600)
        assert plan.step is None
        assert plan.hours is None


class Square(Objective):
    """Keeps its input and, for the square, its output: bytes that can be counted by hand."""

    def __init__(self, width):
        super().__init__()
        self.model = nn.Module()
        self.kernel = nn.Parameter(torch.randn(5, 3 * width, 1, 1))

    def trunk(self, images):
        return [images]

    def loss(self, batch):
        return nn.functional.conv2d(torch.cat([batch.dist[0]] * 2, 1), self.kernel).square().mean(), {}


class TestStep:
    def test_memory_and_operations_are_those_counted_by_hand(self):
        train = TrainTable(batch_size=6, crop=32)
        cost = measure_step(Square(2), train, torch.device("cpu"))
        pixels = 6 * 32 * 32
        assert cost.activations == 4 * pixels * (6 + 5)
        assert cost.flops == 2 * (2 * pixels * 6 * 5)  # the convolution, and the gradient of its kernel
        half = measure_step(Square(2), TrainTable(batch_size=6, crop=32, accumulate=2), torch.device("cpu"))
        assert half.activations == cost.activations / 2
        assert half.flops == cost.flops

    def test_two_small_batches_tell_a_large_one(self):
        """The straight line is compared with a measurement at the batch itself."""
        objective = FakeObjective(FakeConfig())
        far = measure_step(objective, TrainTable(batch_size=9, crop=32), torch.device("cpu"))
        kept, flops = _Step(objective, TrainTable(crop=32), torch.device("cpu"), cached=False).count(9)
        assert far.activations == pytest.approx(kept, rel=0.01)
        assert far.flops == pytest.approx(flops, rel=0.01)

    @pytest.mark.parametrize("groups", [1, 4])
    @pytest.mark.parametrize("transposed", [False, True])
    def test_gradients_of_a_convolution_cost_twice_what_it_costs(self, groups, transposed):
        layer = (nn.ConvTranspose2d if transposed else nn.Conv2d)(8, 8, 3, groups=groups, bias=False)
        counts = []
        with FlopCounterMode(display=False, custom_mapping=COUNTED) as counter:
            out = layer(torch.rand(2, 8, 9, 7, requires_grad=True))
            counts.append(counter.get_total_flops())
            out.sum().backward()
        assert counter.get_total_flops() == 3 * counts[0]

    def test_attention_costs_what_torch_counts_on_a_gpu(self):
        q, k, v = torch.Size((2, 3, 5, 8)), torch.Size((2, 3, 7, 8)), torch.Size((2, 3, 7, 8))
        out = torch.Size((2, 3, 5, 8))
        assert attention_flops(q, k, v) == sdpa_flop_count(q, k, v)
        assert attention_backward_flops(out, q, k, v) == sdpa_backward_flop_count(out, q, k, v)
        inputs = [torch.rand(size, requires_grad=True) for size in (q, k, v)]
        with FlopCounterMode(display=False, custom_mapping=COUNTED) as counter:
            nn.functional.scaled_dot_product_attention(*inputs).sum().backward()
        assert counter.get_total_flops() == sdpa_flop_count(q, k, v) + sdpa_backward_flop_count(out, q, k, v)


class TestCommand:
    @pytest.fixture(autouse=True)
    def nothing_is_fetched(self, monkeypatch, tmp_path):
        def refuse(name):
            raise AssertionError(f"{name} was asked for")

        monkeypatch.setattr(starting, "starting_file", refuse)
        monkeypatch.chdir(tmp_path)

    def test_text_and_json(self, tmp_path, capsys):
        recipe = str(write_recipe(tmp_path))
        before = everything_in(tmp_path)
        assert main(["train", recipe, "--plan"]) == 0
        text = capsys.readouterr().out
        assert "18 train, 6 validation" in text
        assert "measured on this cpu with 2 images, scaled to 6" in text
        assert main(["train", recipe, "--plan", "--json", "--splits", "3"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["splits"] == 3
        assert found["runs"][0]["work"]["steps"] == 9
        assert found["runs"][0]["memory"] > 0
        assert everything_in(tmp_path) == before

    def test_a_student_and_its_teacher_without_any_file(self, tmp_path, capsys):
        assert main(["train", "lite/pfd-iqa", "--dataset", "clive", "--plan", "--json"]) == 0
        teacher, student = json.loads(capsys.readouterr().out)["runs"]
        assert (teacher["metric"], student["metric"]) == ("pfd-teacher", "pfd-iqa")
        assert student["work"]["published"]
        assert student["reading"] is None
        assert student["size"]["frozen"] > teacher["size"]["trained"]
        assert everything_in(tmp_path) == []

    def test_mistakes_are_one_line(self, tmp_path, capsys):
        write_dataset(tmp_path)
        for arguments, told in (
            (["lite/bpclip-nr", "--csv", "missing.csv", "--plan"], "missing.csv"),
            (["lite/bpclip-nr", "--plan"], "names no images"),
            (["lite/bpclip-nr", "--dataset", "clive", "--root", "nowhere", "--plan"], "nowhere"),
            (["lite/bpclip-nr", "--csv", "data.csv", "--json"], "--plan"),
        ):
            assert main(["train", *arguments]) != 0
            err = capsys.readouterr().err
            assert told in err
            assert "Traceback" not in err
