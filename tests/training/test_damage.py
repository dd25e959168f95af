"""What lies in a run's folder and its cache when the disk, a person or another run has been at it."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
import training_fake
from places import HELPERS
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from training_fake import FakeConfig, FakeObjective, assert_same_weights, write_dataset, write_recipe

from iqametrics.common.interrupts import Stopped
from iqametrics.common.locks import locked
from iqametrics.datasets.csv_dataset import read_csv_dataset
from iqametrics.errors import RecipeError, TrainingError
from iqametrics.metric import Sizing
from iqametrics.training import run
from iqametrics.training.cache import FeatureCache
from iqametrics.training.recipe import read_recipe
from iqametrics.training.repeats import _read_results
from iqametrics.training.resume import Progress, load_state, save_state

pytestmark = pytest.mark.slow
SIZING = Sizing(48)
DAMAGED_INDEX = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"1",
    b'{"a": 1}',
    b'{"a": [1]}',
    b'{"a": [[48, 48], [0, 0], [[1, 2, 3]]]}',
    b'{"a": [[48, 48], [0, "0"], [[1, 2, 3], [1, 2, 3]]]}',
    b'{"a": [[48, 48], [0, -1], [[1, 2, 3], [1, 2, 3]]]}',
    b'{"a": [[48, 48], [0, 0.5], [[1, 2, 3], [1, 2, 3]]]}',
    b'{"a": [[48], [0, 0], [[1, 2, 3], [1, 2, 3]]]}',
    b'{"a": [[48, 48], [0, 0], [[1, 2, 3], [1, 2, 3]], [1, 2], 5]}',
    b"[" * 10**5,
    b"\xff\xfe\x00\x00",
    b'{"a": [[48, 48], [0, 0], [[1, 2, 3], [1, 2, ' + b"9" * 5000 + b"]]]}",
]


@pytest.fixture(autouse=True)
def fake(monkeypatch):
    with training_fake.registered(monkeypatch):
        yield


class TestCache:
    @pytest.fixture
    def build(self, tmp_path):
        torch.manual_seed(0)
        objective = FakeObjective(FakeConfig(frozen_levels=2)).eval()
        paths = [sample.image for sample in read_csv_dataset(write_dataset(tmp_path, count=4))]

        def call():
            cache = FeatureCache(tmp_path / "cache", objective, SIZING, "float32")
            cache.build(paths, workers=1)
            return cache, paths

        return call

    @pytest.mark.parametrize("content", DAMAGED_INDEX, ids=range(len(DAMAGED_INDEX)))
    def test_a_damaged_index_is_one_line(self, build, content):
        cache, _ = build()
        (cache.folder / "index.json").write_bytes(content)
        with pytest.raises(TrainingError, match=r"index\.json: .*") as caught:
            build()
        assert "\n" not in str(caught.value)

    def test_a_flipped_bit_in_the_features_is_found(self, build):
        cache, paths = build()
        whole = [cache.maps(path) for path in paths]
        file = cache.folder / "level2.bin"
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        assert all(np.array_equal(a, b) for a, b in zip(whole[0], cache.maps(paths[0]), strict=True))
        fresh, _ = build()
        with pytest.raises(TrainingError, match=r"level2\.bin: its features are not what was written"):
            [fresh.maps(path) for path in paths]

    def test_a_cache_from_before_checksums_is_read(self, build):
        cache, paths = build()
        path = cache.folder / "index.json"
        stored = {name: values[:3] for name, values in json.loads(path.read_text()).items()}
        path.write_text(json.dumps(stored))
        again, _ = build()
        for one, other in zip(cache.maps(paths[1]), again.maps(paths[1]), strict=True):
            assert np.array_equal(one, other)

    def test_a_folder_that_cannot_be_made(self, tmp_path):
        (tmp_path / "file").write_text("")
        objective = FakeObjective(FakeConfig(frozen_levels=2)).eval()
        with pytest.raises(TrainingError, match="cannot be made"):
            FeatureCache(tmp_path / "file" / "cache", objective, SIZING, "float32")


class TestState:
    @pytest.fixture
    def state(self, tmp_path):
        """A saved state after one step, and a function that reads it back."""
        torch.manual_seed(0)
        module = FakeObjective(FakeConfig())
        optimizer = torch.optim.AdamW(module.parameters())
        sum(parameter.sum() for parameter in module.parameters()).backward()
        optimizer.step()
        path = tmp_path / "last.safetensors"
        save_state(path, module, Progress(epoch=1, history=[{"epoch": 1, "loss": 0.5}]), optimizer=optimizer)
        return path, lambda: load_state(path, module, optimizer=optimizer)

    def test_every_flipped_bit_is_found(self, state):
        path, read = state
        content = path.read_bytes()
        generator = np.random.default_rng(0)
        good = read()
        header = 8 + int.from_bytes(content[:8], "little")
        for position in generator.integers(8, len(content), 60):
            damaged = bytearray(content)
            damaged[position] ^= 1 << int(generator.integers(8))
            path.write_bytes(damaged)
            if position < header and b"iqametrics-checksum" not in damaged[:header]:
                # A flip in the checksum's own name: the state is read as one from before checksums, and is whole.
                assert read() == good
                continue
            with pytest.raises(TrainingError, match=r"is no readable state|is the state of another model"):
                read()

    @pytest.mark.parametrize(
        "change",
        [
            {"epoch": -1},
            {"epoch": 10**9},
            {"step_in_epoch": -1},
            {"step": -5},
            {"images": -1},
            {"seconds": float("inf")},
            {"seconds": float("nan")},
            {"best_epoch": 10**9},
            {"best_epoch": -2},
            {"history": [1]},
            {"history": ["x"]},
            {"history": [{"epoch": "one"}]},
            {"history": []},
            {"sums": {"loss": None}},
            {"scaler": {"scale": "x"}},
        ],
    )
    def test_impossible_progress_is_refused(self, state, change):
        path, read = state
        with safe_open(path, framework="pt") as stream:
            progress = json.loads(stream.metadata()["iqametrics-run"])
        text = json.dumps({**progress, **change})
        # Without a checksum, as an older version wrote it.
        save_file(load_file(path), path, metadata={"iqametrics-run": text})
        with pytest.raises(TrainingError, match="is no readable state") as caught:
            read()
        assert "\n" not in str(caught.value)

    def test_a_state_from_before_checksums_is_read(self, state):
        path, read = state
        with safe_open(path, framework="pt") as stream:
            text = stream.metadata()["iqametrics-run"]
        save_file(load_file(path), path, metadata={"iqametrics-run": text})
        assert read().history == [{"epoch": 1, "loss": 0.5}]


class TestFolder:
    @pytest.mark.parametrize(
        "content", [b"", b"{", b"[]", b"3", b'{"sessions": 3}', b'{"sessions": []}', b'{"sessions": [{}]}', b"\xff\0"]
    )
    def test_a_damaged_record_of_sessions(self, tmp_path, content):
        recipe = write_recipe(tmp_path)
        folder = run.train(recipe, ["train.epochs=1"], tmp_path / "run")
        (folder / "checkpoint.safetensors").unlink()
        (folder / "environment.json").write_bytes(content)
        with pytest.raises(TrainingError, match=r"environment\.json: "):
            run.train(recipe, ["train.epochs=1"], folder, resume=True)

    @pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\0"])
    def test_damaged_results_of_a_split(self, tmp_path, content):
        (tmp_path / "results.json").write_bytes(content)
        with pytest.raises(TrainingError, match=r"results\.json: "):
            _read_results(tmp_path)

    @pytest.mark.parametrize("resume", [False, True])
    def test_two_runs_do_not_share_a_folder(self, tmp_path, resume):
        recipe, folder = write_recipe(tmp_path), tmp_path / "run"
        folder.mkdir()
        with locked(folder / "run.lock", error=TrainingError):
            with pytest.raises(TrainingError, match="another run is at work"):
                run.train(recipe, [], folder, resume=resume)
            assert [path.name for path in folder.iterdir()] == ["run.lock"]
        run.train(recipe, ["train.epochs=1"], folder, resume=resume)

    def test_a_run_holds_its_folder(self, tmp_path, monkeypatch):
        recipe, folder, seen = write_recipe(tmp_path), tmp_path / "run", []
        step = run.Trainer._step

        def looked_at(self, *arguments):
            with locked(folder / "run.lock", wait=False, error=TrainingError) as free:
                seen.append(free)
            return step(self, *arguments)

        monkeypatch.setattr(run.Trainer, "_step", looked_at)
        run.train(recipe, ["train.epochs=1"], folder)
        assert set(seen) == {False}

    def test_a_folder_that_cannot_be_made(self, tmp_path):
        with pytest.raises(TrainingError, match="cannot be made"):
            run.train(write_recipe(tmp_path), [], tmp_path / ("x" * 300))


@pytest.mark.skipif(os.name == "nt", reason="the signals of POSIX")
@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_run_that_is_ended_saves_and_goes_on(tmp_path, monkeypatch, name, status):
    recipe = write_recipe(tmp_path)
    whole = run.train(recipe, [], tmp_path / "whole")
    step = run.Trainer._step

    def ended(self, *arguments):
        if self.progress.step == 4:
            os.kill(os.getpid(), getattr(signal, name))
        return step(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(run.Trainer, "_step", ended)
        with pytest.raises(Stopped, match="continue with the same command and --resume") as caught:
            run.train(recipe, [], tmp_path / "run")
    assert 128 + caught.value.number == status
    assert_same_weights(run.train(recipe, [], tmp_path / "run", resume=True), whole)


class TestRecipes:
    @pytest.mark.parametrize(
        "override",
        [
            "train.lr=1e308",
            "train.backbone_lr=1e308",
            "train.weight_decay=1e308",
            "train.views=1000000000000",
            "train.epochs=1000000000000",
            "train.batch_size=1000000000000",
            "train.accumulate=1000000000000",
            "train.crop=1000000000000",
            "train.workers=100000",
            "train.seed=123456789012345678901234",
            "split.seed=123456789012345678901234",
            "train.seed=" + "9" * 5000,
            "sizing.max_side=1000000000000",
            "model.width=1000000000",
            "model.decoder.width=1000000000",
            "model.widths=[1, 1000000000]",
        ],
    )
    def test_what_no_machine_computes_is_refused(self, tmp_path, override):
        with pytest.raises(RecipeError) as caught:
            read_recipe(write_recipe(tmp_path), [override])
        assert override.partition("=")[0] in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_all_crops_of_an_epoch_fit_in_memory(self, tmp_path, monkeypatch):
        monkeypatch.setattr(run, "_MOST_VIEWS", 100)
        with pytest.raises(RecipeError, match=r"train\.views = 10: of 18 images"):
            run.train(write_recipe(tmp_path), ["train.views=10"], tmp_path / "run")

    @pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="POSIX")
    @pytest.mark.parametrize(
        "arguments",
        [
            ("train", "bpclip-nr", "--csv", "/dev/zero"),
            ("train", "/dev/zero"),
            ("evaluate", "--metric", "bpclip-nr", "--csv", "/dev/zero"),
            ("score", "x.png", "--metric", "bpclip-nr", "--config", "/dev/zero"),
            ("score", "x.png", "--metric", "bpclip-nr", "--baseline", "/dev/zero"),
            ("score", "x.png", "--metric", "bpclip-nr", "--workers", "100000"),
        ],
    )
    def test_nothing_without_end_is_read(self, tmp_path, arguments):
        """The address space ends at 8 GB, so that a file without end would be a MemoryError."""
        code = (
            "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33)); "
            "from iqametrics.cli.main import main; sys.exit(main(sys.argv[1:]))"
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(HELPERS)])}
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode in (1, 2)
        errors = [line for line in done.stderr.splitlines() if not line.startswith("iqametrics: note: ")]
        assert len(errors) == 1
        assert errors[0].startswith("iqametrics: error: ")
