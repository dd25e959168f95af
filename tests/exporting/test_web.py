"""The page scores pictures as the package does, in a browser, from the disk and without asking for anything."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from browser import Browser, find_browser, opened
from PIL import Image
from places import ROOT

from iqametrics import ExportError, create_metric
from iqametrics.cli.main import main
from iqametrics.exporting.web import export_page, read_runtime

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
RUNTIME = Path(os.environ.get("IQAMETRICS_ORT_WEB", ROOT / "node_modules" / "onnxruntime-web"))


@pytest.fixture
def runtime():
    if not RUNTIME.is_dir():
        pytest.skip(
            "onnxruntime-web is not installed; npm install onnxruntime-web@1.30.0, or name it in IQAMETRICS_ORT_WEB"
        )
    return read_runtime(RUNTIME)


def drop(browser: Browser, path: Path, rows: int) -> float:
    """Give the page a picture and return its score."""
    root = browser.call("DOM.getDocument")["root"]["nodeId"]
    zone = browser.call("DOM.querySelector", nodeId=root, selector='.zone[data-name="dist"] input')["nodeId"]
    browser.call("DOM.setFileInputFiles", nodeId=zone, files=[str(path)])
    browser.wait(f"document.querySelectorAll('.row').length === {rows}")
    return float(browser.js("document.querySelector('.row').dataset.score"))


@pytest.mark.skipif(find_browser() is None, reason="there is no Chromium on this machine")
@pytest.mark.skipif(torch.__version__ < "2.14", reason="exports need torch 2.14")
@pytest.mark.slow
def test_a_dropped_picture_scores_as_in_python(tmp_path, fake_metrics, runtime):
    metric = create_metric("fake-nr")
    done = export_page(metric, tmp_path / "page", runtime, licence="<b>CC0</b>")
    assert done.proof.largest <= 1e-5
    pixels = np.random.default_rng(0).integers(0, 256, (21, 30, 4), dtype=np.uint8)
    smooth = Image.fromarray(pixels[..., :3]).resize((90, 61))
    smooth.save(tmp_path / "photo.jpg", quality=90)
    smooth.save(tmp_path / "photo.png")
    Image.fromarray(pixels[..., :3]).save(tmp_path / "small.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with opened(tmp_path / "page" / "index.html", width=390) as browser:
        browser.wait("document.documentElement.dataset.ready")
        for rows, name in enumerate(("photo.jpg", "photo.png", "small.png"), start=1):
            assert drop(browser, tmp_path / name, rows) == pytest.approx(metric(tmp_path / name).item(), abs=1e-4)
        assert "<b>CC0</b>" in browser.text("footer")
        assert str(metric.fingerprint) in browser.text("footer")
        for width in (390, 768, 1500):
            browser.resize(width, 900)
            assert browser.js("document.documentElement.scrollWidth") <= width
        root = browser.call("DOM.getDocument")["root"]["nodeId"]
        zone = browser.call("DOM.querySelector", nodeId=root, selector=".zone input")["nodeId"]
        browser.call("DOM.setFileInputFiles", nodeId=zone, files=[str(tmp_path / "broken.png")])
        browser.wait("document.querySelector('#state').classList.contains('bad')")
        assert browser.text("#state") == "broken.png is no picture that this browser can read."
        assert browser.problems == []
        assert all(address.startswith(("file:", "blob:", "data:")) for address in browser.asked)


def test_what_is_not_the_tested_runtime_is_refused(tmp_path, fake_metrics, capsys):
    assert main(["export", "fake-nr", "--web", str(tmp_path / "page"), "--runtime", str(tmp_path)]) == 1
    assert "npm install onnxruntime-web@1.30.0" in capsys.readouterr().err
    (tmp_path / "dist").mkdir()
    for name in ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"):
        (tmp_path / "dist" / name).write_bytes(b"another")
    with pytest.raises(ExportError, match=r"is not that of onnxruntime-web 1\.30\.0"):
        read_runtime(tmp_path)
    assert not (tmp_path / "page").exists()


def test_a_page_is_for_any_size(tmp_path, fake_metrics, capsys):
    assert main(["export", "fake-nr", "--web", str(tmp_path / "page"), "--size", "31x45"]) == 2
    assert "leave out --size" in capsys.readouterr().err
