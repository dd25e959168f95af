"""Names of metrics and checkpoints, and what is made from them."""

import json
import shutil
import subprocess
import sys
import time
import warnings
from dataclasses import replace

import fakes
import pytest
import torch

import iqametrics
from iqametrics import (
    InputError,
    LiteCheckpointWarning,
    UnknownMetricError,
    WeightsError,
    create_metric,
    list_metrics,
    methods,
    metric_info,
    register_metric,
    registry,
)
from iqametrics.spec import Method
from iqametrics.weights.checkpoint import save_checkpoint
from iqametrics.weights.manifest import read_manifest


class TestNames:
    def test_the_metrics_of_the_package(self):
        assert {"bpclip-fr", "bpclip-nr", "pfd-iqa"} <= set(list_metrics())
        assert "bpclip-fr" in list_metrics("fr")
        assert "bpclip-fr" not in list_metrics("nr")
        assert list_metrics() == sorted(list_metrics("fr") + list_metrics("nr"))

    def test_unknown_mode(self):
        with pytest.raises(UnknownMetricError, match="unknown mode 'full'"):
            list_metrics("full")

    @pytest.mark.parametrize(
        ("name", "hint"),
        [
            ("bpclp-fr", "did you mean 'bpclip-fr'"),
            ("PFD-IQA", "did you mean 'pfd-iqa'"),
            ("pfdiqa", "did you mean 'pfd-iqa'"),
            ("zzzz", "known: bpclip-fr, bpclip-nr"),
            ("", "known: "),
            ("bpclip-nr.", "leave out the dot"),
            ("bpclip-nr.huge", "unknown checkpoint of bpclip-nr 'huge'"),
        ],
    )
    def test_unknown_name(self, name, hint):
        for ask in (create_metric, metric_info):
            start = time.perf_counter()
            with pytest.raises(UnknownMetricError, match=hint):
                ask(name)
            assert time.perf_counter() - start < 1

    def test_unknown_keyword(self):
        with pytest.raises(TypeError, match="weight"):
            create_metric("pfd-iqa", weight="lite")  # type: ignore[call-arg]

    def test_a_metric_of_ones_own(self, fake_metrics):
        assert "fake-nr" in list_metrics("nr")
        with pytest.raises(ValueError, match="is there already"):
            register_metric(fakes.FakeNr.spec)
        with pytest.raises(ValueError, match="is there already"):
            register_metric(replace(fakes.FakeNr.spec, name="pfd-iqa"))

    @pytest.mark.parametrize("name", ["a.b", "a/b", "A", "a b", "", "-a"])
    def test_names_that_cannot_be(self, name):
        with pytest.raises(ValueError, match="is no name"):
            register_metric(replace(fakes.FakeNr.spec, name=name))

    def test_two_packages_with_one_name(self, monkeypatch):
        monkeypatch.setattr(methods, "METRIC_PACKAGES", (*methods.METRIC_PACKAGES, "fakes", "fakes"))
        with pytest.raises(ValueError, match="a metric named 'fake-nr' is there already"):
            list_metrics()

    def test_unregister(self):
        with pytest.raises(UnknownMetricError):
            registry.unregister_metric("pfd-iqa")


class TestCreate:
    def test_default_and_tag(self, fake_metrics, picture):
        default, tagged = create_metric("fake-nr"), create_metric("fake-nr.tiny")
        assert default.full_name == tagged.full_name == "fake-nr.tiny"
        assert torch.equal(default(picture), tagged(picture))
        assert torch.equal(default(picture), create_metric("fake-nr", weights="tiny")(picture))
        assert not torch.equal(default(picture), create_metric("fake-nr", weights="lite")(picture))

    def test_a_file_of_ones_own(self, fake_metrics, tmp_path, picture):
        path = tmp_path / "mine.safetensors"
        shutil.copy(fake_metrics / "fake-nr.tiny.safetensors", path)
        for given in (path, str(path)):
            assert torch.equal(create_metric("fake-nr", weights=given)(picture), create_metric("fake-nr")(picture))

    def test_untrained(self, fake_metrics, picture):
        metric = create_metric("fake-nr", weights=None)
        assert metric.full_name == "fake-nr.untrained"
        assert metric(picture).shape == (1,)

    def test_lite_by_default_warns_once_and_by_name_not(self, fake_metrics):
        with pytest.warns(LiteCheckpointWarning, match=r"fake-fr\.lite by name") as caught:
            create_metric("fake-fr")
        assert len(caught) == 1
        assert caught[0].filename == __file__
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            create_metric("fake-fr.lite")
            create_metric("fake-fr", weights="lite")

    def test_dtype_device_and_loss(self, fake_metrics, picture):
        metric = create_metric("fake-nr", dtype="bfloat16", device="cpu", as_loss=True)
        assert metric.model.conv.weight.dtype == torch.bfloat16
        assert metric(picture).shape == ()
        assert create_metric("fake-nr", dtype=torch.float64, device="auto").model.conv.weight.dtype == torch.float64

    @pytest.mark.parametrize("dtype", ["int8", torch.int32, "nn", "float33", 3])
    def test_no_such_dtype(self, fake_metrics, dtype):
        with pytest.raises(InputError, match="dtype"):
            create_metric("fake-nr", dtype=dtype)

    @pytest.mark.parametrize("device", ["quantum", "meta:x", "cuda:99"])
    def test_no_such_device(self, fake_metrics, device):
        with pytest.raises(InputError, match="cannot be used here"):
            create_metric("fake-nr", device=device)

    def test_no_gradient_no_loss(self, fake_metrics, monkeypatch):
        spec = replace(fakes.FakeNr.spec, differentiable=False)
        monkeypatch.setattr(fakes.FakeNr, "spec", spec)
        monkeypatch.setattr(methods, "_registered", [Method(metrics=(spec,))])
        with pytest.raises(InputError, match="no useful gradient"):
            create_metric("fake-nr", as_loss=True)

    def test_two_tags(self, fake_metrics):
        with pytest.raises(UnknownMetricError, match="leave out one"):
            create_metric("fake-nr.tiny", weights="lite")

    def test_checkpoint_of_another_metric(self, fake_metrics):
        with pytest.raises(WeightsError, match="of fake-fr, not of fake-nr"):
            create_metric("fake-nr", weights=fake_metrics / "fake-fr.lite.safetensors")

    @pytest.mark.parametrize("weights", ["absent.safetensors", "../lite", "/tmp/x/lite"])
    def test_absent_weights_fail_quickly(self, fake_metrics, weights):
        start = time.perf_counter()
        with pytest.raises(WeightsError, match=r"cannot be read|neither a checkpoint's tag"):
            create_metric("fake-nr", weights=weights)
        assert time.perf_counter() - start < 1

    def test_absent_default(self, fake_metrics, monkeypatch):
        manifest = json.loads((fake_metrics / "manifest.json").read_text())
        manifest["checkpoints"] = []
        (fake_metrics / "manifest.json").write_text(json.dumps(manifest))
        read_manifest.cache_clear()
        with pytest.raises(WeightsError, match=r"no default checkpoint of fake-nr.*weights="):
            create_metric("fake-nr")

    def test_damaged_weights(self, fake_metrics):
        path = fake_metrics / "fake-nr.tiny.safetensors"
        path.write_bytes(path.read_bytes()[:-1] + b"\x00")
        with pytest.raises(WeightsError, match="SHA-256"):
            create_metric("fake-nr")
        path.unlink()
        with pytest.raises(WeightsError, match="cannot be read"):
            create_metric("fake-nr")


class TestInfo:
    def test_of_a_checkpoint(self, fake_metrics):
        info = metric_info("fake-fr")
        assert (info.full_name, info.tags) == ("fake-fr.lite", ("lite",))
        assert info.metadata["training"] == {"data": "none", "epochs": 0}
        assert info.checkpoint.licence == "CC0"
        assert not info.higher_is_better
        assert json.loads(json.dumps(info.to_dict()))["checkpoint"]["tag"] == "lite"

    def test_by_tag(self, fake_metrics):
        assert metric_info("fake-nr").tag == "tiny"
        assert metric_info("fake-nr.lite").tag == "lite"
        assert metric_info("fake-nr").tags == ("tiny", "lite")

    def test_without_a_checkpoint(self, fake_metrics):
        spec = replace(fakes.FakeNr.spec, name="bare")
        register_metric(spec)
        info = metric_info("bare")
        registry.unregister_metric("bare")
        assert (info.full_name, info.tag, info.checkpoint, info.metadata) == ("bare", None, None, {})


class TestPackage:
    def test_public_names_exist(self):
        for name in iqametrics.__all__:
            assert getattr(iqametrics, name) is not None
        with pytest.raises(AttributeError, match="no attribute 'score'"):
            iqametrics.score  # noqa: B018

    def test_nothing_heavy_is_imported(self):
        code = (
            "import sys, iqametrics; iqametrics.list_metrics(); iqametrics.metric_info('pfd-iqa')\n"
            "print([m for m in ('torch', 'numpy', 'PIL', 'scipy', 'tqdm') if m in sys.modules])"
        )
        answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert answer.stdout.strip() == "[]"


@pytest.fixture
def picture():
    return torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0))


def test_saved_and_made(tmp_path, fake_metrics, picture):
    """The way of a weight, end to end: model, file, metric, the model's own score."""
    model = fakes.seeded_model(seed=5)
    save_checkpoint(tmp_path / "five.safetensors", model.state_dict(), fakes.metadata("fake-nr", tag="five"))
    metric = create_metric("fake-nr", weights=tmp_path / "five.safetensors")
    assert metric.full_name == "fake-nr.five"
    with torch.no_grad():
        assert torch.allclose(metric(picture), model.eval().score(model.features(picture[None])))
