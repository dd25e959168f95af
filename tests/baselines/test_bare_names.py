"""Names of piq's and pyiqa's metrics without the package: what they mean, and that it is said once."""

import warnings

import pytest
from PIL import Image

import iqametrics
from iqametrics import BareNameWarning, baselines, create_metric
from iqametrics.cli.main import main
from iqametrics.errors import MissingExtraError, UnknownMetricError
from iqametrics.spec import MetricSpec


@pytest.fixture
def pyiqa_too(monkeypatch):
    """Pretend that pyiqa is installed and has the two metrics."""
    package = baselines.PACKAGES["pyiqa"]
    piq_ssim = baselines.piq_specs()["ssim"]
    specs = {
        name: MetricSpec(**{**vars(piq_ssim), "name": f"pyiqa/{name}", "mode": mode})
        for name, mode in (("ssim", "fr"), ("niqe", "nr"))
    }
    fake = baselines.Package(**{**vars(package), "specs": lambda: specs})
    monkeypatch.setitem(baselines.PACKAGES, "pyiqa", fake)
    monkeypatch.setattr(baselines, "is_installed", lambda package: True)
    baselines._read.cache_clear()
    yield
    baselines._read.cache_clear()


def without(monkeypatch, *packages):
    monkeypatch.setattr(baselines, "is_installed", lambda package: package not in packages)
    baselines._read.cache_clear()


def test_a_bare_name_is_piqs_metric_and_one_warning_says_so():
    pytest.importorskip("piq")
    with pytest.warns(BareNameWarning, match=r"ssim is taken as piq/ssim.*ask for piq/ssim") as caught:
        metric = create_metric("ssim")
    assert metric.full_name == "piq/ssim"
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        create_metric("piq/ssim")


def test_piq_comes_before_pyiqa_and_the_other_is_named(pyiqa_too):
    assert baselines.full_name_of("ssim") == "piq/ssim"
    assert baselines.full_name_of("niqe") == "pyiqa/niqe"
    assert baselines.full_name_of("bpclip") is None
    assert iqametrics.registry.bare_name_note("ssim").endswith("pyiqa/ssim is another implementation")
    assert iqametrics.metric_info("niqe").name == "pyiqa/niqe"


def test_what_is_installed_comes_first(pyiqa_too, monkeypatch):
    without(monkeypatch, "piq")
    assert baselines.full_name_of("ssim") == "pyiqa/ssim"


def test_a_metric_of_a_package_that_is_missing_tells_how_to_install_it(monkeypatch):
    without(monkeypatch, "piq", "pyiqa")
    with pytest.raises(MissingExtraError, match="pip install"):
        create_metric("ssim")


@pytest.mark.parametrize("name", ["bpclip-nrr", "pdf-iqa", "sssim", "ssim.lite", "bpclip"])
def test_unknown_names_keep_the_suggestion(name):
    with pytest.raises(UnknownMetricError, match="unknown metric"):
        create_metric(name)


def test_names_of_ours_come_before_all_others(fake_metrics, monkeypatch):
    monkeypatch.setattr(baselines, "full_name_of", lambda name: f"piq/{name}")
    assert create_metric("fake-nr").full_name == "fake-nr.tiny"


def test_on_the_command_line(tmp_path, capsys):
    pytest.importorskip("piq")
    picture = tmp_path / "a.png"
    Image.new("RGB", (64, 64), "gray").save(picture)
    command = ["score", str(picture), "--metric", "ssim", "--ref", str(picture), "--fail-below", "ssim=0.9"]
    assert main([*command, "--format", "jsonl"]) == 0
    out, err = capsys.readouterr()
    assert '"metric": "piq/ssim"' in out
    assert [line for line in err.splitlines() if "note" in line] == [
        line for line in err.splitlines() if "ssim is taken as piq/ssim" in line
    ]
    assert main([*command, "--quiet"]) == 0
    assert "taken as" not in capsys.readouterr().err
    assert main(["info", "ssim"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("piq/ssim\n")
    assert "taken as piq/ssim" in err
