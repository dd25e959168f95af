"""Exported files compute what the metric computes, say what they are, and are not written where they do not."""

import json
import re

import numpy as np
import pytest
import torch
from fakes import FakeFr, FakeNr, TinyModel
from PIL import Image
from places import ROOT

from iqametrics import ExportError, create_metric
from iqametrics.cli.main import main
from iqametrics.exporting import files, proof, trace
from iqametrics.exporting.export import export_metric
from iqametrics.exporting.network import symbolic_fit
from iqametrics.images import Sizing
from iqametrics.metric import Metric

ort = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 14):
    pytest.skip("exports need torch 2.14", allow_module_level=True)


class PairMetric(Metric):
    """A full-reference metric that asks for no value of a size."""

    spec = FakeFr.spec
    default_sizing = Sizing(8, 64)

    @classmethod
    def build(cls, config):
        return TinyModel()

    def encode_images(self, ref):
        return [self.model.features(ref)]

    def score_images(self, dist, ref):
        return self.model.score((self.model.features(dist) - ref.levels[0]).abs())


def run_onnx(path, *images):
    session = ort.InferenceSession(str(path))
    inputs = {given.name: image.numpy() for given, image in zip(session.get_inputs(), images, strict=True)}
    return torch.from_numpy(session.run(None, inputs)[0])


def pictures(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def pair_metric():
    torch.manual_seed(0)
    return PairMetric(TinyModel(), PairMetric.default_sizing, tag="tiny")


@pytest.fixture(scope="module")
def pair_file(tmp_path_factory, pair_metric):
    path = tmp_path_factory.mktemp("export") / "pair.onnx"
    return export_metric(pair_metric, path, licence="CC0")


class TestOnnx:
    @pytest.mark.parametrize("shape", [(1, 3, 5, 9), (2, 3, 33, 61), (1, 3, 90, 131), (3, 3, 64, 64)])
    def test_a_pair_of_any_size_scores_as_the_metric_does(self, pair_metric, pair_file, shape):
        dist, ref = pictures(*shape), pictures(*shape, seed=1)
        torch.testing.assert_close(run_onnx(pair_file.path, dist, ref), pair_metric(dist, ref), rtol=0, atol=1e-5)

    def test_inputs_and_output_are_named_with_open_sizes(self, pair_file):
        session = ort.InferenceSession(str(pair_file.path))
        shape = ["batch", 3, "height", "width"]
        assert [(given.name, given.shape) for given in session.get_inputs()] == [("dist", shape), ("ref", shape)]
        assert [(given.name, given.shape) for given in session.get_outputs()] == [("score", ["batch"])]

    def test_it_says_what_it_is(self, pair_metric, pair_file):
        found = ort.InferenceSession(str(pair_file.path)).get_modelmeta().custom_metadata_map
        assert found["metric"] == "fake-fr"
        assert found["tag"] == "tiny"
        assert found["fingerprint"] == str(pair_metric.fingerprint)
        assert found["licence"] == "CC0"
        assert json.loads(found["fingerprint_record"]) == pair_metric.fingerprint.to_dict()

    def test_a_reference_of_another_size_is_refused(self, pair_file):
        with pytest.raises(Exception, match=r"(?i)concat|dimension|shape"):
            run_onnx(pair_file.path, pictures(1, 3, 40, 50), pictures(1, 3, 50, 40))

    def test_the_proof_is_kept(self, pair_file):
        assert pair_file.proof.runtime == f"onnxruntime {ort.__version__}"
        assert 0 <= pair_file.proof.largest <= proof.TOLERANCE
        assert len(pair_file.proof.errors) == len(pair_file.proof.cases) == 5
        assert pair_file.bytes == pair_file.path.stat().st_size


def test_pt2_needs_torch_alone_and_takes_one_image_too(tmp_path, fake_metrics):
    metric = create_metric("fake-nr")
    done = export_metric(metric, tmp_path / "a.pt2", format="pt2")
    extra = {files.RECORD: ""}
    module = torch.export.load(done.path, extra_files=extra).module()
    assert json.loads(extra[files.RECORD])["fingerprint"] == str(metric.fingerprint)
    for shape in [(1, 3, 7, 30), (2, 3, 70, 41)]:
        torch.testing.assert_close(module(pictures(*shape)), metric(pictures(*shape)), rtol=0, atol=1e-5)


def test_a_fixed_size_is_asked_for_and_kept(tmp_path, fake_metrics, capsys):
    path = tmp_path / "a.onnx"
    assert main(["export", "fake-nr", "--output", str(path), "--size", "31x45"]) == 0
    out = capsys.readouterr().out
    assert "proven with onnxruntime" in out
    assert "1 of 45x31, 3 of 45x31" in out
    assert "licence: CC0" in out
    assert ort.InferenceSession(str(path)).get_inputs()[0].shape == ["batch", 3, 31, 45]
    with pytest.raises(Exception, match=r"(?i)dimension"):
        run_onnx(path, pictures(1, 3, 45, 31))


def test_the_page_of_the_documentation_runs_the_file(tmp_path, fake_metrics, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    metric = create_metric("fake-nr")
    export_metric(metric, "bpclip-nr.onnx", size=(31, 45))
    pixels = np.random.default_rng(0).integers(0, 256, (31, 45, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("photo.png")
    page = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    exec(re.search(r"```python\n(.*?)```", page, re.S)[1], {})
    score, fingerprint = capsys.readouterr().out.split()
    assert float(score) == pytest.approx(metric("photo.png").item(), abs=1e-5)
    assert fingerprint == str(metric.fingerprint)


def test_a_file_that_computes_something_else_is_not_kept(tmp_path, fake_metrics, monkeypatch):
    path = tmp_path / "a.onnx"
    path.write_bytes(b"old")
    metric = create_metric("fake-nr")

    def spoilt(stream, program, format, record):
        with torch.no_grad():
            metric.model.head.bias.add_(1)
        files.write_program(stream, program, format, record)
        with torch.no_grad():
            metric.model.head.bias.sub_(2e-5 + 1)

    monkeypatch.setattr("iqametrics.exporting.export.write_program", spoilt)
    with pytest.raises(ExportError, match="more than 1e-05 apart"):
        export_metric(metric, path)
    assert path.read_bytes() == b"old"
    assert [found.name for found in tmp_path.iterdir()] == ["a.onnx"]


def test_a_metric_that_asks_for_sizes_is_refused_with_what_can_be_done(tmp_path, fake_metrics, capsys):
    assert main(["export", "fake-fr.lite", "--output", str(tmp_path / "a.onnx")]) == 1
    told = capsys.readouterr().err
    assert told.startswith("iqametrics: error: fake-fr.lite cannot be exported for pictures of any size")
    assert told.count("\n") == 1
    assert "--size HxW" in told
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [["--size", "0x4"], ["--size", "axb"], ["--format", "tflite"], []])
def test_wrong_usage(tmp_path, words, fake_metrics, capsys):
    output = ["--output", str(tmp_path / "a.onnx")] if words else []
    assert main(["export", "fake-nr", *output, *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_an_old_torch_is_refused(tmp_path, fake_metrics, monkeypatch):
    monkeypatch.setattr(trace.torch, "__version__", "2.4.0")
    with pytest.raises(ExportError, match=r"install 2\.14 or newer"):
        export_metric(FakeNr.untrained(FakeNr.spec), tmp_path / "a.onnx")


@pytest.mark.parametrize(
    "sizing", [Sizing(8, 64), Sizing(8), Sizing(8, 64, 16), Sizing(224, short_side=384), Sizing(384, 768)]
)
def test_the_fitted_size_is_that_of_sizing(sizing):
    drawn = np.random.default_rng(0).integers(1, 3000, (300, 2)).tolist()
    for height, width in [*drawn, (2048, 1535), (6144, 9), (768, 384), (1, 1)]:
        if max(height, width) / min(height, width) < 40:
            assert symbolic_fit(sizing, height, width) == sizing.fit(height, width)
