"""What a type checker knows of metrics, and what they and their explanations show of themselves."""

import base64
import io
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from places import ROOT

import iqametrics
from iqametrics.images.show import explanation_html, map_png

USE = """
import iqametrics
from iqametrics import create_metric

nr = create_metric("bpclip-nr.lite")
reveal_type(nr)
reveal_type(nr("a.png"))
reveal_type(nr.explain("a.png"))
reveal_type(create_metric("bpclip-fr", device="cpu").explain("a.png", "b.png", steps=8).words)
reveal_type(iqametrics.create_metric("pfd-iqa.lite", weights=None).uncertainty("a.png"))
name = "piq/ssim" + ""
reveal_type(create_metric(name))
reveal_type(create_metric(name, as_loss=True)("a.png", "b.png"))
"""
TYPES = [
    "iqametrics.bpclip.metric.BpclipNrMetric",
    "torch._tensor.Tensor",
    "iqametrics.bpclip.explain.BpclipExplanation",
    "tuple[str, ...]",
    "torch._tensor.Tensor",
    "iqametrics.metric.Metric",
    "torch._tensor.Tensor",
]


def test_mypy_knows_the_class_by_the_name(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "use.py").write_text(USE)
    root = Path(iqametrics.__file__).parents[1]
    # mypy's own folder, so that the check of the whole package has done most of the work.
    command = [sys.executable, "-m", "mypy", "--config-file", str(root / "pyproject.toml"), str(tmp_path / "use.py")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
    assert re.findall(r'Revealed type is "([^"]*)"', done.stdout.replace("builtins.", "")) == TYPES, done.stdout
    assert " error:" not in done.stdout


def test_at_run_time_there_is_one_create_metric():
    assert iqametrics.create_metric is iqametrics.registry.create_metric is iqametrics.typed.create_metric


@pytest.fixture(scope="module")
def picture():
    generator = np.random.default_rng(3)
    return generator.integers(0, 256, (200, 260, 3), dtype=np.uint8)


def images_of(page):
    """The PNG files inside a page, decoded."""
    return [
        Image.open(io.BytesIO(base64.b64decode(data))) for data in re.findall(r"data:image/png;base64,([^\"]+)", page)
    ]


@pytest.mark.parametrize("name", ["bpclip-nr.lite", "pfd-iqa.lite"])
def test_metrics_and_explanations_show_one_line_and_a_page(name, picture):
    metric = iqametrics.create_metric(name)
    assert re.fullmatch(rf"<\w+ {re.escape(name)}: nr, higher is better, float32 on cpu>", repr(metric))
    explanation = metric.explain(picture)
    for text in (repr(metric), repr(explanation)):
        assert len(text) < 160
        assert "\n" not in text
    assert f"{explanation.score:.4f}" in repr(explanation)
    page = explanation._repr_html_()
    assert f"{explanation.score:.4f}" in page
    shown = images_of(page)
    for image, values in zip(shown, explanation.maps().values(), strict=True):
        known = values.isfinite()
        factor = image.height // values.shape[0]
        *colours, alpha = (np.asarray(band, int)[::factor, ::factor] for band in image.split())
        assert alpha.shape == values.shape
        assert (alpha == known.numpy() * 255).all()
        # The colours become brighter from the least value to the greatest.
        brightness = sum(colours)[known.numpy()][values[known].argsort()]
        assert (np.diff(brightness) >= -3).all()
        assert brightness[0] < 10
        assert brightness[-1] > 600


def test_maps_without_values_or_without_contrast_are_drawn_too():
    for values in (torch.full((2, 3), torch.nan), torch.ones(4, 4)):
        assert Image.open(io.BytesIO(map_png(values))).getbands() == ("R", "G", "B", "A")
    page = explanation_html({"<b>": "<script>"}, {"<i>": torch.eye(3)})
    assert not re.search("<(b|i|script)>", page)


NOTEBOOK = """
import sys
import nbformat
from nbclient import NotebookClient

cell = "import iqametrics\\niqametrics.create_metric('bpclip-nr.lite').explain('docs/example/seeding.jpg')"
notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)])
NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
sys.stdout.write(notebook.cells[0].outputs[-1].data["text/html"])
"""


@pytest.mark.slow
def test_a_notebook_shows_the_maps():
    # In a process of its own: the kernel's libraries warn, and warnings fail here.
    done = subprocess.run([sys.executable, "-c", NOTEBOOK], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    shown = images_of(done.stdout)
    assert len(shown) == 10  # where the score is lost; four pairs of neighbouring levels, two branches; together
    assert all(image.width > 1 for image in shown)
