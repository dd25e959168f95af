import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from training_fake import FakeConfig, FakeObjective, write_dataset

from iqametrics.datasets.csv_dataset import read_csv_dataset
from iqametrics.errors import DataError, TrainingError
from iqametrics.images import read_image
from iqametrics.metric import Sizing
from iqametrics.training import cache as cache_module
from iqametrics.training.batches import Batches, CachedFeatures, ImageFiles
from iqametrics.training.cache import FeatureCache, cache_key, in_order
from iqametrics.training.data import RunImage, View

SIZING = Sizing(48)


@pytest.fixture
def objective() -> FakeObjective:
    torch.manual_seed(0)
    return FakeObjective(FakeConfig(frozen_levels=2)).eval()


@pytest.fixture
def paths(tmp_path) -> list[Path]:
    return [sample.image for sample in read_csv_dataset(write_dataset(tmp_path, count=6))]


def test_maps_and_windows_are_the_trunks(tmp_path, objective, paths):
    cache = FeatureCache(tmp_path / "cache", objective, SIZING, "float32")
    cache.build(paths, workers=2)
    for path in paths:
        image = SIZING.apply(read_image(path)[None])
        assert cache.size(path) == tuple(image.shape[-2:])
        levels = objective.trunk(image)
        for stored, level in zip(cache.maps(path), levels, strict=True):
            # The cache computes on one thread; another number of them adds up in another order.
            np.testing.assert_allclose(stored, level[0].numpy(), rtol=1e-5, atol=1e-6)
        # A cell of 32 pixels is 16 elements of level 1 and 8 of level 2.
        one, two = cache.windows(path, 0, 1, 1)
        np.testing.assert_allclose(one, levels[0][0, :, 0:16, 16:32].numpy(), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(two, levels[1][0, :, 0:8, 8:16].numpy(), rtol=1e-5, atol=1e-6)


def test_float16_is_the_rounded_float32(tmp_path, objective, paths):
    whole, half = (FeatureCache(tmp_path / "cache", objective, SIZING, dtype) for dtype in ("float32", "float16"))
    assert whole.folder != half.folder
    for cache in (whole, half):
        cache.build(paths, workers=1)
    for one, other in zip(whole.maps(paths[0]), half.maps(paths[0]), strict=True):
        assert np.array_equal(one.astype(np.float16), other)


def test_flips_mirror_the_maps(tmp_path, objective, paths):
    cache = FeatureCache(tmp_path / "cache", objective, SIZING, "float32")
    cache.build(paths, workers=1)
    source = CachedFeatures(cache, crop=32, levels=2)
    plain, mirrored, turned = (
        source.crop([paths[0]], [View(0, 0.9, 0.0, flip_h, flip_v)])
        for flip_h, flip_v in ((False, False), (True, False), (False, True))
    )
    for level, other, upside_down in zip(plain, mirrored, turned, strict=True):
        assert torch.equal(level.flip(3), other)
        assert torch.equal(level.flip(2), upside_down)
    # The image is 64 rows high: 0.9 of the two places on the grid is the lower one.
    assert torch.equal(plain[1][0], torch.from_numpy(cache.maps(paths[0])[1][:, 8:16, 0:8].copy()))


def test_only_the_needed_levels_are_stored(tmp_path, objective, paths):
    objective.needed_levels = (2,)
    cache = FeatureCache(tmp_path / "cache", objective, SIZING, "float32")
    cache.build(paths, workers=1)
    assert [file.name for file in sorted(cache.folder.glob("*.bin"))] == ["level2.bin"]
    levels = CachedFeatures(cache, crop=32, levels=2).crop(paths[:3], [View(0, 0.0, 0.0, False, False)] * 3)
    assert [tuple(level.shape) for level in levels] == [(3, 0), (3, 6, 8, 8)]


def test_the_key_holds_all_that_matters(objective):
    key = cache_key(objective, SIZING, "float16")
    assert key == cache_key(objective, SIZING, "float16")
    assert key != cache_key(objective, Sizing(48, 100), "float16")
    assert key != cache_key(objective, SIZING, "float32")
    objective.needed_levels = (2,)
    assert key != cache_key(objective, SIZING, "float16")
    objective.needed_levels = None
    with torch.no_grad():
        objective.model.out.bias.add_(1)
    assert key == cache_key(objective, SIZING, "float16")
    with torch.no_grad():
        objective.model.backbone[1].bias[0] += 1e-6
    changed = cache_key(objective, SIZING, "float16")
    assert key["weights"] != changed["weights"]
    # What is no tensor, such as pixel normalisation, is seen by what it does to the probe.
    trunk = objective.trunk
    objective.trunk = lambda images: trunk(images * 0.9)
    assert cache_key(objective, SIZING, "float16")["probe"] != changed["probe"]


def test_an_interrupted_build_goes_on_and_ends_the_same(tmp_path, objective, paths, monkeypatch):
    whole = FeatureCache(tmp_path / "whole", objective, SIZING, "float32")
    whole.build(paths, workers=1)
    monkeypatch.setattr(cache_module, "_IMAGES_A_SAVE", 2)
    cache = FeatureCache(tmp_path / "cache", objective, SIZING, "float32")
    features, done = FeatureCache._features, []

    def broken(self, path):
        if len(done) == 5:
            raise KeyboardInterrupt
        done.append(path)
        return features(self, path)

    monkeypatch.setattr(FeatureCache, "_features", broken)
    with pytest.raises(KeyboardInterrupt):
        cache.build(paths, workers=1)
    # What a kill leaves behind the last index.
    with (cache.folder / "level1.bin").open("ab") as stream:
        stream.write(b"half an image")
    done.clear()
    monkeypatch.setattr(FeatureCache, "_features", lambda self, path: done.append(path) or features(self, path))
    again = FeatureCache(tmp_path / "cache", objective, SIZING, "float32")
    again.build(paths, workers=1)
    assert 0 < len(done) < len(paths)
    for level in (1, 2):
        name = f"level{level}.bin"
        assert (again.folder / name).read_bytes() == (whole.folder / name).read_bytes()
    done.clear()
    again.build(paths, workers=1)
    assert not done


def test_a_changed_image_is_computed_anew(tmp_path, objective, paths):
    cache = FeatureCache(tmp_path / "cache", objective, SIZING, "float32")
    cache.build(paths, workers=1)
    before = [np.array(level) for level in cache.maps(paths[0])]
    shutil.copy(paths[2], paths[0])
    cache.build(paths, workers=1)
    assert not np.array_equal(before[0], cache.maps(paths[0])[0])
    assert np.array_equal(cache.maps(paths[0])[0], cache.maps(paths[2])[0])


def test_a_disk_too_small_is_told_before_it_is_full(tmp_path, objective, paths, monkeypatch):
    cache = FeatureCache(tmp_path / "cache", objective, SIZING, "float32")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6, 1000))
    with pytest.raises(TrainingError, match=r"GB are free; set cache\.folder"):
        cache.build(paths, workers=1)


def test_features_beyond_float16_are_told(tmp_path, objective, paths):
    with torch.no_grad():
        objective.model.backbone[0].bias.fill_(1e6)
    cache = FeatureCache(tmp_path / "cache", objective, SIZING, "float16")
    with pytest.raises(DataError, match=r"cache\.dtype = 'float32'"):
        cache.build(paths, workers=1)


def test_nothing_frozen_is_nothing_to_cache(tmp_path):
    with pytest.raises(TrainingError, match="leaves nothing to store"):
        FeatureCache(tmp_path, FakeObjective(FakeConfig(frozen_levels=0)), SIZING, "float32")


def test_images_are_cropped_and_flipped_as_the_view_says(tmp_path, paths):
    source = ImageFiles(SIZING, crop=48)
    image = SIZING.apply(read_image(paths[0])[None])[0]
    (crop,) = source.crop([paths[0]], [View(0, 0.5, 0.0, True, False)])
    # 64 - 48 + 1 = 17 places, half of which is row 8.
    assert torch.equal(crop[0], image[:, 8:56, 0:48].flip(2))
    assert source.size(paths[1]) == tuple(SIZING.apply(read_image(paths[1])[None]).shape[-2:])


def test_whole_images_come_in_batches_of_one_size(tmp_path, paths):
    items = [RunImage(sample) for sample in read_csv_dataset(tmp_path / "data.csv")]
    batches = Batches(ImageFiles(SIZING, crop=32), workers=2, with_reference=False)
    found = list(batches.whole(items, 2))
    assert sorted(index for indices, _ in found for index in indices) == list(range(6))
    assert all(len(indices) <= 2 for indices, _ in found)
    for indices, batch in found:
        assert batch.mos.tolist() == pytest.approx([items[i].sample.mos for i in indices])
        assert batch.keys == tuple(f"{i}.png" for i in indices)


def test_in_order_keeps_order_and_passes_errors_on():
    assert list(in_order(lambda x: x * x, range(50), 3)) == [x * x for x in range(50)]
    with pytest.raises(ZeroDivisionError):
        list(in_order(lambda x: 1 / x, [1, 0, 1], 2))
