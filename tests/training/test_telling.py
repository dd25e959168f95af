"""What a run says while it works and at its end: lines without a terminal, the cache's size, curves, a table."""

import importlib
import json
import re
import sys
import time

import numpy as np
import pytest
from PIL import Image
from training_fake import FakeConfig, FakeObjective, history, registered, write_dataset, write_recipe

from iqametrics.cli.main import main
from iqametrics.datasets.csv_dataset import read_csv_dataset
from iqametrics.metric import Sizing
from iqametrics.training import curves, telling
from iqametrics.training.cache import FeatureCache
from iqametrics.training.run import train
from iqametrics.training.telling import Count, Telling, still


@pytest.fixture(autouse=True)
def _fake(monkeypatch):
    with registered(monkeypatch):
        yield


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""

    class Clock:
        now = 0.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(telling, "time", clock)
    return clock


class TestLines:
    def test_a_line_each_minute_with_the_time_left(self, clock, capsys):
        count = Count(Telling(), "step {} of {}", 10)
        for _ in range(6):
            clock.now += 25
            count.update(note=", loss 0.5")
        # 150 s were silent once: now no more than a minute and a step are.
        assert capsys.readouterr().err.splitlines() == [
            "step 3 of 10, loss 0.5, about 3 min left",
            "step 6 of 10, loss 0.5, about 2 min left",
        ]

    def test_a_resumed_epoch_counts_only_its_own_time(self, clock, capsys):
        count = Count(Telling(), "{} of {}", 100, done=90)
        clock.now = 100.0
        count.update(5)
        assert capsys.readouterr().err == "95 of 100, about 2 min left\n"

    def test_a_terminal_and_other_processes_get_none(self, clock, capsys, monkeypatch):
        silent = Telling(on=False)
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
        on_terminal = Telling()
        clock.now = 1000.0
        for one in (silent, on_terminal):
            one.tell(lambda: "never")
        assert capsys.readouterr().err == ""

    def test_work_of_unknown_length_is_told_too(self, monkeypatch, capsys):
        monkeypatch.setattr(telling, "EVERY_SECONDS", 0.02)
        with still("reading"):
            time.sleep(0.2)
        said = capsys.readouterr().err.splitlines()
        assert said
        assert all(re.fullmatch(r"still reading, after \d+ s", line) for line in said)
        with still("reading", on=False):
            time.sleep(0.1)
        assert capsys.readouterr().err == ""


def test_a_run_says_where_it_is(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(telling, "EVERY_SECONDS", 0.0)
    recipe = write_recipe(tmp_path, frozen=2, cached=True)
    train(recipe, output=tmp_path / "run")
    said = capsys.readouterr().err
    assert re.search(r"^epoch 2/3: step 2 of 3, loss \d\.\d{4}, about \d+ s left$", said, re.MULTILINE)
    assert re.search(r"^features: 24 of 24 images, about 0 s left$", said, re.MULTILINE)
    assert re.search(r"^held-out images: 6 of 6 scored", said, re.MULTILINE)


@pytest.mark.parametrize("sizing", [Sizing(48), Sizing(33, 61), Sizing(40, short_side=50)])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_cache_says_how_much_it_will_take_before_it_begins(tmp_path, monkeypatch, capsys, sizing, dtype):
    objective = FakeObjective(FakeConfig(frozen_levels=2)).eval()
    sizes = ((64, 48), (41, 70), (33, 131))
    paths = [sample.image for sample in read_csv_dataset(write_dataset(tmp_path, count=9, sizes=sizes))]
    cache = FeatureCache(tmp_path / "cache", objective, sizing, dtype)
    needed = cache._needed_bytes(paths)
    said = []
    features = FeatureCache._features
    monkeypatch.setattr(
        FeatureCache, "_features", lambda self, path: said.append(capsys.readouterr().err) or features(self, path)
    )
    cache.build(paths, workers=1)
    assert sum(file.stat().st_size for file in cache.folder.glob("*.bin")) == needed
    assert f"features of 9 images: 0 MB in {cache.folder} (" in said[0]
    capsys.readouterr()
    cache.build(paths, workers=1)
    assert capsys.readouterr().err == ""  # nothing is missing, so there is nothing to announce


class TestCurves:
    ROWS = (
        {"epoch": 1, "lr": 1e-3, "train_loss": 0.4, "val_srcc": 0.5, "val_plcc": 0.25, "seconds": 3.0},
        {"epoch": 2, "lr": 5e-4, "train_loss": 0.2, "seconds": 3.0},
        {"epoch": 3, "lr": 1e-4, "train_loss": 0.1, "val_srcc": 0.75, "val_plcc": float("nan"), "seconds": 3.0},
    )

    def test_a_picture(self, tmp_path):
        pytest.importorskip("matplotlib")
        curves.write_curves(tmp_path, self.ROWS)
        with Image.open(tmp_path / "curves.png") as image:
            assert image.size == (1200, 300)
            assert len(np.unique(np.asarray(image.convert("L")))) > 20
        before = (tmp_path / "curves.png").read_bytes()
        curves.write_curves(tmp_path, self.ROWS)
        assert (tmp_path / "curves.png").read_bytes() == before

    def test_without_matplotlib_one_note(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        curves.write_curves(tmp_path, self.ROWS)
        assert capsys.readouterr().err == (
            'note: no curves.png, which takes matplotlib: pip install "iqametrics[report]"\n'
        )
        assert not list(tmp_path.iterdir())

    def test_events_hold_the_figures(self, tmp_path):
        writer = pytest.importorskip("tensorboardX")
        events = curves.Events(tmp_path)
        for row in self.ROWS:
            events.add(row)
        events.close()
        (file,) = (tmp_path / "tensorboard").iterdir()
        found = {
            (value.tag, event.step): value.simple_value
            for event in read_events(file, writer)
            for value in event.summary.value
        }
        assert found == {
            **{("lr", step): pytest.approx(value) for step, value in ((1, 1e-3), (2, 5e-4), (3, 1e-4))},
            **{("loss/train", step): pytest.approx(value) for step, value in ((1, 0.4), (2, 0.2), (3, 0.1))},
            **{("srcc/val", 1): 0.5, ("srcc/val", 3): 0.75, ("plcc/val", 1): 0.25},
        }

    def test_without_a_writer_there_are_no_events(self, tmp_path, monkeypatch):
        for name in curves._WRITERS:
            monkeypatch.setitem(sys.modules, name, None)
        events = curves.Events(tmp_path)
        for row in self.ROWS:
            events.add(row)
        events.close()
        assert not list(tmp_path.iterdir())


def read_events(path, writer):
    """Read a file of events: records of length, checksum, message, checksum."""
    kind = importlib.import_module(f"{writer.__name__}.proto.event_pb2").Event
    content = path.read_bytes()
    while content:
        length = int.from_bytes(content[:8], "little")
        yield kind.FromString(content[12 : 12 + length])
        content = content[16 + length :]


class TestTheEnd:
    def test_a_table_on_stderr_and_the_path_alone_on_stdout(self, tmp_path, capsys):
        recipe = write_recipe(tmp_path)
        output = tmp_path / "run"
        assert main(["train", str(recipe), "--output", str(output)]) == 0
        out, err = capsys.readouterr()
        assert out == f"{output / 'checkpoint.safetensors'}\n"
        found = json.loads((output / "results.json").read_text())["results"]["validation"]
        header, row = (line.split() for line in err.splitlines()[-2:])
        table = dict(zip(header, row, strict=True))
        assert table["part"] == "validation"
        assert table["n"] == str(found["n"])
        assert (table["srcc"], table["krcc"]) == (f"{found['srcc']:.4f}", f"{found['krcc']:.4f}")
        assert len(history(output)) == 3
        assert (output / "curves.png").is_file()

    def test_several_splits_have_mean_and_deviation(self, tmp_path, capsys):
        recipe = write_recipe(tmp_path)
        output = tmp_path / "runs"
        command = ["train", str(recipe), "--output", str(output), "--splits", "2", "--set", "split.test=0.25"]
        assert main([*command, "--set", "train.epochs=1"]) == 0
        out, err = capsys.readouterr()
        assert out == f"{output / 'summary.json'}\n"
        summary = json.loads((output / "summary.json").read_text())
        lines = [line.split() for line in err.splitlines()[-5:]]
        assert [line[:2] for line in lines[1:]] == [
            [part, figure] for part in ("validation", "test") for figure in ("mean", "std")
        ]
        assert lines[3][2] == f"{summary['test']['srcc']['mean']:.4f}"
