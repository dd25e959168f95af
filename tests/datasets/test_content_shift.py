"""Labels shifted for each photograph: the arithmetic by hand, the metrics against piq, the cache."""

import csv
import importlib
import json
from typing import Any

import numpy as np
import piq
import pytest
from PIL import Image as PilImage
from scipy import ndimage

from iqametrics.datasets import content_shift as shift
from iqametrics.datasets.csv_dataset import read_csv_dataset
from iqametrics.datasets.synthetic import adjust_labels, find_photographs, synthesize
from iqametrics.datasets.tables import kadid_opinions
from iqametrics.errors import DataError, MissingExtraError

OPTIONS: dict[str, Any] = {"size": (96, 80), "progress": False, "kinds": [1, 18], "levels": [3, 5]}


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pristine")
    for index, sigma in enumerate((0.7, 2, 6)):
        texture = ndimage.gaussian_filter(np.random.default_rng(index).standard_normal((90, 100, 3)), (sigma, sigma, 0))
        texture = 0.5 + 0.15 * texture / texture.std()
        PilImage.fromarray((np.clip(texture, 0, 1) * 255).astype(np.uint8)).save(folder / f"{index}.png")
    return find_photographs(folder)


def rows(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def test_shift_by_hand():
    """Four photographs in one cell, two metrics that agree but for one swap."""
    values = np.array([[0.1, 10], [0.2, 30], [0.3, 20], [0.4, 40]])
    # Mean ranks 1, 2.5, 2.5, 4, so ranks 1, 2.5, 2.5, 4: the normal scores are Phi^-1 of 1/8, 1/2, 1/2, 7/8, that is
    # -1.15035, 0, 0, 1.15035; divided by their deviation: -sqrt(2), 0, 0, sqrt(2).
    cell = kadid_opinions()[10, 3]
    wanted = cell.mean + 0.5 * cell.std * np.sqrt(2) * np.array([-1, 0, 0, 1])
    np.testing.assert_allclose(shift.content_shift([10] * 4, [3] * 4, values, 0.5), wanted, atol=1e-9)


def test_cells_do_not_touch_each_other():
    values = np.random.default_rng(0).random((20, 3))
    kinds, levels = [10] * 10 + [11] * 10, [2] * 20
    both = shift.content_shift(kinds, levels, values)
    np.testing.assert_allclose(both[:10], shift.content_shift(kinds[:10], levels[:10], values[:10]))
    # The mean and the spread of a cell are the human ones (the spread times the strength).
    cell = kadid_opinions()[11, 2]
    assert both[10:].mean() == pytest.approx(cell.mean)
    assert both[10:].std() == pytest.approx(shift.DEFAULT_STRENGTH * cell.std)


def test_no_strength_one_photograph_or_ties_give_the_human_mean():
    mean = kadid_opinions()[1, 1].mean
    values = np.random.default_rng(0).random((5, 2))
    np.testing.assert_allclose(shift.content_shift([1] * 5, [1] * 5, values, 0), mean)
    np.testing.assert_allclose(shift.content_shift([1], [1], values[:1]), mean)
    np.testing.assert_allclose(shift.content_shift([1] * 5, [1] * 5, 1 + 1e-6 * values), mean)


def test_labels_stay_in_range():
    values = np.arange(200.0)[:, None]
    labels = shift.content_shift([1] * 200, [5] * 200, values, 1)
    assert labels.min() == 0
    assert labels.max() < 0.3


@pytest.mark.parametrize(
    ("values", "strength", "word"),
    [([[1.0], [float("nan")]], 0.5, "finite"), ([[1.0]], 0.5, "each of 2"), ([[1.0], [2.0]], 1.5, "0 to 1")],
)
def test_wrong_values(values, strength, word):
    with pytest.raises(DataError, match=word):
        shift.content_shift([1, 1], [1, 1], np.array(values), strength)


def test_without_piq(photographs, tmp_path, monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(MissingExtraError, match=r"iqametrics\[train\]"):
        synthesize(photographs, tmp_path / "set", labels="adjusted", **OPTIONS)


def test_adjusted_set(photographs, tmp_path, monkeypatch):
    import torch

    path = synthesize(photographs, tmp_path / "set", labels="adjusted", strength=0.5, **OPTIONS)
    made = rows(path)
    assert len(read_csv_dataset(path)) == 12

    def tensor(name):
        pixels = np.asarray(PilImage.open(tmp_path / "set" / name), dtype=np.float32) / 255
        return torch.from_numpy(pixels).permute(2, 0, 1)[None].contiguous()

    row = made[1]
    pair = tensor(row["image"]), tensor(row["reference"])
    assert float(row["fr_vsi"]) == pytest.approx(float(piq.vsi(*pair)), abs=1e-6)
    assert float(row["fr_haarpsi"]) == pytest.approx(float(piq.haarpsi(*pair)), abs=1e-5)
    assert float(row["fr_mdsi"]) == pytest.approx(-float(piq.mdsi(*pair)), abs=1e-6)

    # Blur takes most from the photograph with the finest texture, so it gets the lowest label of the three.
    blurred = [float(r["mos"]) for r in made if (r["kind"], r["level"]) == ("1", "5")]
    assert blurred[0] < blurred[1] < blurred[2]
    # Type 18, level 3 changes nothing, and nothing is better than an undamaged image.
    assert {float(r["mos"]) for r in made if (r["kind"], r["level"]) == ("18", "3")} == {1.0}

    # A second run measures nothing again and gives the same file.
    before = path.read_bytes()
    monkeypatch.setattr(shift, "_measure", None)
    synthesize(photographs, tmp_path / "set", labels="adjusted", strength=0.5, **OPTIONS)
    assert path.read_bytes() == before

    # Labels can be remade from the CSV alone.
    adjust_labels(path, 0)
    means = {(r["kind"], r["level"]): float(r["mos"]) for r in rows(path)}
    assert means["1", "5"] == pytest.approx(kadid_opinions()[1, 5].mean, abs=1e-6)
    adjust_labels(path, 0.5)
    assert path.read_bytes() == before


def test_remaking_needs_the_values(photographs, tmp_path):
    path = synthesize(photographs, tmp_path / "set", **OPTIONS)
    with pytest.raises(DataError, match="adjusted"):
        adjust_labels(path, 0.5)
    with pytest.raises(DataError, match="cannot be read"):
        adjust_labels(tmp_path / "absent.csv", 0.5)


def test_cache_of_another_ensemble_or_damaged(photographs, tmp_path):
    synthesize(photographs, tmp_path / "set", **{**OPTIONS, "kinds": [18]})
    folder = tmp_path / "set/metrics"
    folder.mkdir()
    (folder / "I01.json").write_text(json.dumps({"images/I01_18_05.png": {"psnr": 1.0}}))
    synthesize(photographs, tmp_path / "set", labels="adjusted", **{**OPTIONS, "kinds": [18]})
    assert json.loads((folder / "I01.json").read_text())["images/I01_18_05.png"].keys() == shift.ENSEMBLE.keys()
    (folder / "I01.json").write_text("{")
    with pytest.raises(DataError, match="damaged"):
        synthesize(photographs, tmp_path / "set", labels="adjusted", **{**OPTIONS, "kinds": [18]})


def test_too_small_and_unknown_labels(photographs, tmp_path):
    with pytest.raises(DataError, match="too small"):
        synthesize(photographs, tmp_path / "set", labels="adjusted", **{**OPTIONS, "size": (80, 40)})
    with pytest.raises(DataError, match="choose human or adjusted"):
        synthesize(photographs, tmp_path / "other", **{**OPTIONS, "labels": "robot"})
