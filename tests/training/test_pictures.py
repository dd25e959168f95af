"""The cache of pictures: what is read from it is what decoding gives, and each image is decoded once."""

import json
import os

import numpy as np
import pytest
import torch
import training_fake
from PIL import Image
from training_fake import assert_same_weights, write_dataset, write_recipe

from iqametrics.datasets.csv_dataset import read_csv_dataset
from iqametrics.errors import ImageReadError, TrainingError
from iqametrics.images import read_image
from iqametrics.metric import Sizing
from iqametrics.training import batches, pictures, run
from iqametrics.training.batches import ImageFiles
from iqametrics.training.data import View
from iqametrics.training.pictures import PictureCache, StoredPictures, to_unit

OWN_SIZE, SCALED = Sizing(32), Sizing(56)
VIEWS = [View(0, 0.0, 0.0, False, False), View(1, 0.99, 0.4, True, False), View(2, 0.3, 0.99, True, True)]


@pytest.fixture
def paths(tmp_path):
    return [sample.image for sample in read_csv_dataset(write_dataset(tmp_path, count=6))]


def built(folder, paths, sizing=OWN_SIZE, gigabytes=1.0):
    cache = PictureCache(folder / "cache", sizing, gigabytes=gigabytes)
    cache.build(paths, workers=2)
    return cache


@pytest.mark.parametrize(("sizing", "most"), [(OWN_SIZE, 0.0), (SCALED, 1 / 510 + 1e-6)])
def test_crops_and_whole_images_are_those_of_the_files(tmp_path, paths, sizing, most):
    stored = StoredPictures(built(tmp_path, paths, sizing), crop=32)
    files = ImageFiles(sizing, crop=32)
    (one,), (other,) = (source.crop(paths[:3], VIEWS) for source in (stored, files))
    assert one.dtype == torch.uint8
    assert float((to_unit(one) - other).abs().max()) <= most
    for path in paths:
        assert stored.size(path) == files.size(path)
        (one,), (other,) = (source.whole([path]) for source in (stored, files))
        assert float((to_unit(one) - other).abs().max()) <= most


def test_what_is_not_an_8_bit_colour_picture_is_rounded_to_the_nearest(tmp_path):
    deep = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16
    Image.fromarray(deep).save(tmp_path / "deep.png")
    (image,) = StoredPictures(built(tmp_path, [tmp_path / "deep.png"]), crop=32).whole([tmp_path / "deep.png"])
    exact = read_image(tmp_path / "deep.png")
    assert torch.equal(image[0], (exact * 255).round().to(torch.uint8))
    assert 0 < float((to_unit(image)[0] - exact).abs().max()) <= 1 / 510 + 1e-6


def test_the_limit_changes_no_result_and_is_told(tmp_path, paths, capsys):
    whole = StoredPictures(built(tmp_path / "whole", paths, SCALED), crop=32)
    capsys.readouterr()
    size = whole.cache.size(paths[0])
    some = StoredPictures(built(tmp_path / "some", paths, SCALED, 2.5 * size[0] * size[1] * 3 / 1e9), crop=32)
    told = capsys.readouterr().err
    assert "pictures of 4 images do not fit (cache.images_gb = " in told
    assert os.path.getsize(some.cache.folder / "pixels.bin") <= some.cache.limit
    for path in paths:
        assert torch.equal(whole.whole([path])[0], some.whole([path])[0])
        assert torch.equal(whole.crop([path], VIEWS[1:2])[0], some.crop([path], VIEWS[1:2])[0])


def test_a_second_run_decodes_only_what_changed(tmp_path, paths, monkeypatch):
    built(tmp_path, paths)
    decoded = []

    def counting(path):
        decoded.append(path)
        return read_image(path)

    monkeypatch.setattr(pictures, "read_image", counting)
    built(tmp_path, paths)
    assert decoded == []
    Image.new("RGB", (50, 50), (7, 8, 9)).save(paths[2])
    cache = built(tmp_path, paths)
    assert decoded == [paths[2]]
    assert cache.rows(paths[2]).tolist() == [[[7, 8, 9]] * 50] * 50
    built(tmp_path, paths, SCALED)  # another sizing is another cache
    assert len(decoded) == 1 + len(paths)


def test_an_interrupted_build_goes_on_where_it_stopped(tmp_path, paths, monkeypatch):
    expected = [built(tmp_path / "whole", paths).rows(path) for path in paths]
    monkeypatch.setattr(pictures, "_IMAGES_A_SAVE", 2)

    def failing(path):
        if path == paths[4]:
            raise KeyboardInterrupt
        return read_image(path)

    with monkeypatch.context() as patch:
        patch.setattr(pictures, "read_image", failing)
        with pytest.raises(KeyboardInterrupt):
            built(tmp_path, paths)
    # What a kill leaves behind the last index is cut off.
    (folder,) = (tmp_path / "cache").iterdir()
    kept = len(json.loads((folder / "index.json").read_text()))
    with (folder / "pixels.bin").open("ab") as stream:
        stream.write(b"half a picture")
    decoded = []
    monkeypatch.setattr(pictures, "read_image", lambda path: decoded.append(path) or read_image(path))
    cache = built(tmp_path, paths)
    assert len(decoded) == len(paths) - kept < len(paths)
    assert all(np.array_equal(cache.rows(path), rows) for path, rows in zip(paths, expected, strict=True))


def test_damage_is_told_in_one_line(tmp_path, paths):
    cache = built(tmp_path, paths)
    file = cache.folder / "pixels.bin"
    values = bytearray(file.read_bytes())
    values[100] ^= 1
    file.write_bytes(values)
    with pytest.raises(TrainingError, match=r"pixels\.bin: its pictures are not what was written; delete its folder"):
        built(tmp_path, paths).rows(paths[0])
    file.write_bytes(bytes(values[:1000]))
    with pytest.raises(TrainingError, match="is shorter than its index says; delete its folder"):
        built(tmp_path, paths).rows(paths[5])
    file.unlink()
    with pytest.raises(TrainingError, match=r"pixels\.bin: cannot be read"):
        built(tmp_path, paths).rows(paths[5])
    (cache.folder / "index.json").write_text('{"a": [1, -2, 3, 4]}')
    with pytest.raises(TrainingError, match=r"index\.json: is damaged"):
        built(tmp_path, paths)
    (tmp_path / "cache2").write_text("a file")
    with pytest.raises(TrainingError, match=r"cannot be made .*cache\.images = false"):
        PictureCache(tmp_path / "cache2", OWN_SIZE, gigabytes=1.0)
    paths[1].write_bytes(b"no picture")
    with pytest.raises(ImageReadError, match=r"1\.png"):
        built(tmp_path / "other", paths)


@pytest.mark.slow
class TestRuns:
    @pytest.fixture(autouse=True)
    def fake(self, monkeypatch):
        with training_fake.registered(monkeypatch):
            yield

    @pytest.mark.parametrize(("cached", "decoded"), [("true", 24 + 6), ("false", 3 * (18 + 6) + 18 + 6)])
    def test_each_image_is_decoded_once(self, tmp_path, monkeypatch, cached, decoded):
        """With the cache: once, and the validation part anew for the results as shipped."""
        seen = []
        for module in (pictures, batches):
            monkeypatch.setattr(module, "read_image", lambda path: seen.append(path) or read_image(path))
        run.train(write_recipe(tmp_path), [f"cache.images={cached}"], tmp_path / "run")
        assert len(seen) == decoded

    def test_pictures_of_8_bits_at_their_own_size_train_the_same_weights(self, tmp_path):
        recipe = write_recipe(tmp_path)
        folders = [
            run.train(recipe, overrides, tmp_path / name)
            for name, overrides in (
                ("stored", []),
                ("decoded", ["cache.images=false"]),
                ("limited", ["cache.images_gb=1e-5", "cache.folder='limited'"]),
            )
        ]
        assert_same_weights(*folders[:2])
        assert_same_weights(folders[0], folders[2])
        rows = [(folder / "predictions.csv").read_text() for folder in folders]
        assert rows[0] == rows[1] == rows[2]

    def test_results_are_those_of_the_files_and_not_of_8_bits(self, tmp_path):
        """Scaled up to 56, stored pictures are rounded; the shipped scores are those of the metric."""
        recipe = write_recipe(tmp_path)
        folder = run.train(recipe, ["sizing.min_side=56", "train.selection='last'", "train.ema=0"], tmp_path / "run")
        objective = training_fake.FakeObjective(training_fake.FakeConfig()).eval()
        state = training_fake.weights(folder)
        objective.load_state_dict({name[10:]: t for name, t in state.items() if name.startswith("objective.")})
        lines = (folder / "predictions.csv").read_text().splitlines()[1:]
        with torch.no_grad():
            for line in lines:
                name, *_, score = line.split(",")
                image = SCALED.apply(read_image(tmp_path / name)[None])
                assert float(objective.model.head(objective.model.trunk(image))) == pytest.approx(
                    float(score), abs=2e-6
                )
