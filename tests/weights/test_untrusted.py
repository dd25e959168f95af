"""Checkpoints that pass every check of their header and then would cost, crash or score nonsense."""

import json
import struct
import subprocess
import sys
from pathlib import Path

import fakes
import pytest
import torch
from fakes import FakeNr, metadata, seeded_model
from PIL import Image

from iqametrics import InputError, WeightsError, create_metric
from iqametrics.cli.main import main
from iqametrics.errors import RecipeError
from iqametrics.methods import named_class
from iqametrics.metric import Sizing
from iqametrics.pfd_iqa.config import PfdIqaConfig, PfdTeacherConfig
from iqametrics.registry import metric_spec
from iqametrics.weights import checkpoint as module
from iqametrics.weights.checkpoint import load_checkpoint, save_checkpoint
from iqametrics.weights.manifest import WEIGHTS_FOLDER

GIB = 2**30


def sparse(path, extra, **changes):
    """Write a good checkpoint with one more tensor of zeros, which takes no room on the disk."""
    tensors = seeded_model().state_dict()
    header, position, data = {}, 0, b""
    for name, tensor in tensors.items():
        content = tensor.numpy().tobytes()
        header[name] = {
            "dtype": "F32",
            "shape": list(tensor.shape),
            "data_offsets": [position, position + len(content)],
        }
        position, data = position + len(content), data + content
    header["surplus"] = {"dtype": "F32", "shape": [extra // 4], "data_offsets": [position, position + extra]}
    record = {"format": 1, **metadata("fake-nr", **changes)}
    text = json.dumps({"__metadata__": {"iqametrics": json.dumps(record)}, **header}).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)
        file.truncate(8 + len(text) + position + extra)


def lite(name, *, sizing=None, **config):
    """Make a lite metric whose config or sizing was changed."""
    spec = metric_spec(name)
    record, tensors = load_checkpoint(WEIGHTS_FOLDER / f"{name}.lite.safetensors")
    record = {**record, "config": {**record["config"], **config}, "sizing": sizing or record["sizing"]}
    return named_class(spec.factory).from_checkpoint(spec, record, tensors, "lite")


class TestSizing:
    @pytest.mark.parametrize(
        "sizing",
        [
            {"min_side": None},
            {"min_side": None, "max_side": 64},
            {"min_side": 9999},
            {"min_side": 1025},
            {"min_side": 8, "short_side": 9999},
            {"min_side": 8, "short_side": 0},
            {"min_side": 8, "max_side": True},
            {"min_side": 8.0},
            {"min_side": "8"},
            {"min_side": [8]},
            {},
            {"max_side": 64},
            {"min_side": 8, "sides": 3},
        ],
    )
    def test_refused(self, sizing, tmp_path, fake_metrics):
        with pytest.raises(WeightsError, match="sizing"):
            FakeNr.from_checkpoint(FakeNr.spec, metadata("fake-nr", sizing=sizing), seeded_model().state_dict(), "x")

    @pytest.mark.parametrize(
        ("sizing", "size"),
        [
            (Sizing(1024), (1, 20_000)),
            (Sizing(1024, max_side=10**6), (1, 200_000)),  # not scaled up, but stretched
            (Sizing(1, short_side=1024), (2, 40_000)),
            (Sizing(448), (1, 10**5)),
        ],
    )
    def test_no_image_grows_beyond_all_bounds(self, sizing, size):
        with pytest.raises(InputError, match="too narrow"):
            sizing.fit(*size)
        with pytest.raises(InputError, match="too narrow"):
            sizing.fit(*reversed(size))

    def test_a_large_image_stays_as_it_is(self):
        assert Sizing(448).fit(9000, 11_000) == (9000, 11_000)

    def test_windows_that_no_image_has_room_for(self):
        for sizing in ({"min_side": 1}, {"min_side": 200, "max_side": 400}):
            with pytest.raises(WeightsError, match="smaller than a window"):
                lite("pfd-iqa", sizing=sizing)


class TestWork:
    @pytest.mark.parametrize(
        "config",
        [
            {"n_samples": 20_000},
            {"sampling_steps": 400},
            {"sampling_steps": 50_000, "start_step": 60_000, "timesteps": 100_000},
            {"n_crops": 10_000},
            {"n_samples": 100, "sampling_steps": 100},
            {"n_samples": 100, "n_crops": 100},
        ],
    )
    def test_refused(self, config):
        with pytest.raises(WeightsError, match="makes no model"):
            lite("pfd-iqa", **config)
        with pytest.raises(RecipeError, match="impossible"):
            PfdIqaConfig(**config)

    def test_a_teachers_windows(self):
        with pytest.raises(RecipeError, match="n_crops = 101"):
            PfdTeacherConfig(n_crops=101)

    def test_what_the_papers_and_a_careful_user_ask_for(self):
        assert PfdIqaConfig(n_crops=15, n_samples=8, sampling_steps=10).n_samples == 8


class TestMemory:
    @pytest.mark.slow
    @pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak memory as Linux tells it")
    def test_a_surplus_tensor_of_3_gib_is_refused_unread(self, tmp_path, fake_metrics):
        path = tmp_path / "x.safetensors"
        sparse(path, 3 * GIB)
        code = (
            "import re, sys; sys.path.insert(0, sys.argv[2]); import fakes\n"
            "from iqametrics import WeightsError, create_metric, register_metric\n"
            "register_metric(fakes.FakeNr.spec)\n"
            "try: create_metric('fake-nr=' + sys.argv[1])\n"
            "except WeightsError as error: print(error)\n"
            # Not getrusage: its peak begins with that of the process that started this one.
            "print(int(re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1]) * 1024)"
        )
        command = [sys.executable, "-c", code, str(path), str(fakes.__file__).rpartition("fakes")[0]]
        message, peak = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        assert "surplus" in message
        assert int(peak) < GIB

    def test_publish_reads_it_no_more(self, tmp_path, fake_metrics, monkeypatch, capsys):
        path = tmp_path / "x.safetensors"
        sparse(path, 3 * GIB)
        read = module._read_file

        def small(path, begin, end):
            assert end - begin < GIB
            return read(path, begin, end)

        monkeypatch.setattr(module, "_read_file", small)
        assert main(["weights", "publish", str(path), "--repo", "org/x", "--dry-run"]) == 1
        assert "surplus" in capsys.readouterr().err

    def test_too_little_memory_is_one_of_our_errors(self, tmp_path, fake_metrics, monkeypatch):
        path = tmp_path / "x.safetensors"
        save_checkpoint(path, seeded_model().state_dict(), metadata("fake-nr"))
        with pytest.raises(WeightsError, match="more memory than there is"):
            module._read_file(path, 0, 2**62)
        monkeypatch.setattr(torch, "frombuffer", no_memory)
        with pytest.raises(WeightsError, match="more memory than there is"):
            create_metric("fake-nr", weights=path)

    def test_a_file_that_shrinks_while_it_is_read(self, tmp_path):
        path = tmp_path / "x.safetensors"
        save_checkpoint(path, seeded_model().state_dict(), metadata("fake-nr"))
        tensors = load_checkpoint(path)[1]
        path.write_bytes(path.read_bytes()[:-100])
        with pytest.raises(WeightsError, match="became shorter"):
            [tensors[name] for name in tensors]
        path.unlink()
        with pytest.raises(WeightsError, match="cannot be read"):
            tensors["conv.weight"]


def no_memory(*_, **__):
    raise RuntimeError("DefaultCPUAllocator: can't allocate memory")


class TestScores:
    @pytest.fixture
    def overflowing(self, tmp_path, fake_metrics):
        """Weights that are all finite, and scores that are not."""
        tensors = seeded_model().state_dict()
        tensors |= {"head.weight": torch.full((1, 4), 3e38), "conv.bias": torch.full((4,), 100.0)}
        path = tmp_path / "x.safetensors"
        save_checkpoint(path, tensors, metadata("fake-nr"))
        return path

    def test_a_score_that_is_no_number_raises(self, overflowing):
        image = torch.rand(3, 20, 20)
        for as_loss in (False, True):
            with pytest.raises(InputError, match=r"fake-nr\.tiny gives (nan|-?inf) for the image"):
                create_metric("fake-nr", weights=overflowing, as_loss=as_loss)(image)

    def test_it_says_which(self, fake_metrics):
        metric = create_metric("fake-nr.tiny")
        metric.score_images = lambda dist, ref: dist.mean((1, 2, 3)).where(dist.mean((1, 2, 3)) > 0.5, torch.nan)
        good, bad = torch.full((3, 20, 20), 0.9), torch.full((3, 20, 20), 0.1)
        with pytest.raises(InputError, match="gives nan for image 1"):
            metric([good, bad, good])
        assert metric([good, good]).isfinite().all()

    def test_the_spread_over_noise(self):
        metric = lite("pfd-iqa", pixel_std=[1e-40] * 3)
        with pytest.raises(InputError, match="gives nan"):
            metric.noise_spread(torch.rand(3, 64, 64), samples=2)

    def test_on_the_command_line_it_costs_its_row(self, overflowing, tmp_path, capsys):
        Image.new("RGB", (20, 20), (200, 100, 50)).save(tmp_path / "x.png")
        command = ["score", str(tmp_path / "x.png"), "--metric", f"fake-nr={overflowing}", "--metric", "fake-nr.tiny"]
        assert main([*command, "--format", "jsonl"]) == 1
        first, second = map(json.loads, capsys.readouterr().out.splitlines())
        assert first["score"] is None
        assert "try float32" in first["error"]
        assert isinstance(second["score"], float)
