"""Synthetic data: layout, labels, the same files however they are made, clear errors."""

import csv
import errno
import json
import os
from typing import Any

import numpy as np
import pytest
from PIL import Image as PilImage

from iqametrics.datasets.csv_dataset import read_csv_dataset
from iqametrics.datasets.distortions import distort
from iqametrics.datasets.synthetic import find_photographs, prepare_reference, synthesize
from iqametrics.datasets.tables import kadid_opinions
from iqametrics.errors import DataError, ImageReadError, InputError

SMALL: dict[str, Any] = {"size": (48, 32), "progress": False}


@pytest.fixture
def photographs(tmp_path):
    folder = tmp_path / "pristine"
    folder.mkdir()
    for index, name in enumerate(("b.png", "a.jpg")):
        pixels = np.random.default_rng(index).integers(0, 256, (80, 100, 3), dtype=np.uint8)
        PilImage.fromarray(pixels).save(folder / name)
    (folder / "notes.txt").write_text("not a photograph")
    return find_photographs(folder)


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_layout_and_labels(photographs, tmp_path):
    out = tmp_path / "set"
    path = synthesize(photographs, out, kinds=[1, "jpeg"], levels=[1, 5], **SMALL)
    assert path == out / "labels.csv"
    names = {f"I0{r}_{t}_0{level}.png" for r in (1, 2) for t in ("01", "10") for level in (1, 5)}
    assert {p.name for p in (out / "images").iterdir()} == names | {"I01.png", "I02.png"}
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert list(rows[0]) == ["image", "reference", "mos", "kind", "level", "distortion", "group"]
    assert len(rows) == 8
    assert rows[3] == {
        "image": "images/I01_10_05.png",
        "reference": "images/I01.png",
        # KADID-10k's dmos.csv: the mean of type 10, level 5 over its 81 photographs is 1.35, so (1.35 - 1) / 4.
        "mos": rows[3]["mos"],
        "kind": "10",
        "level": "5",
        "distortion": "jpeg",
        "group": photographs[0].name,
    }
    assert float(rows[3]["mos"]) == pytest.approx(0.0875, abs=0.0013)
    # Our own reader takes it as it is.
    sample = read_csv_dataset(path)[3]
    assert (sample.kind, sample.level, sample.distortion, sample.reference) == (10, 5, "jpeg", out / "images/I01.png")


def test_images_are_what_distort_gives(photographs, tmp_path):
    synthesize(photographs, tmp_path / "set", seed=5, kinds=[11], levels=[4], **SMALL)
    with PilImage.open(tmp_path / "set/images/I02.png") as reference:
        assert reference.size == (48, 32)
        pixels = np.asarray(reference).astype(np.float32) / np.float32(255)
    wanted = distort(pixels, "white_noise", 4, np.random.default_rng([5, 2, 11, 4]))
    with PilImage.open(tmp_path / "set/images/I02_11_04.png") as image:
        np.testing.assert_array_equal(np.asarray(image), np.rint(wanted * 255).astype(np.uint8))


@pytest.mark.slow
def test_same_files_from_one_process_two_and_a_stopped_run(photographs, tmp_path):
    options: dict[str, Any] = {"seed": 1, "kinds": [3, 11, 20], "levels": [2, 5], **SMALL}
    synthesize(photographs, tmp_path / "one", **options)
    synthesize(photographs, tmp_path / "two", workers=2, **options)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    for name in ("images/I01_03_05.png", "images/I02_20_02.png", "labels.csv"):
        (tmp_path / "two" / name).unlink()
    untouched = (tmp_path / "two/images/I01_11_02.png").stat().st_mtime_ns
    synthesize(photographs, tmp_path / "two", **options)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert (tmp_path / "two/images/I01_11_02.png").stat().st_mtime_ns == untouched


def test_seed_changes_the_noise_and_nothing_else(photographs, tmp_path):
    for seed in (1, 2):
        synthesize(photographs, tmp_path / str(seed), seed=seed, kinds=[10, 11], levels=[5], **SMALL)
    one, two = contents(tmp_path / "1"), contents(tmp_path / "2")
    assert {n for n in one if one[n] != two[n]} == {"images/I01_11_05.png", "images/I02_11_05.png", "recipe.json"}


@pytest.mark.parametrize(("change", "word"), [({"seed": 9}, "seed"), ({"size": (32, 32)}, "size")])
def test_another_recipe_in_the_same_folder_is_refused(photographs, tmp_path, change, word):
    options: dict[str, Any] = {"kinds": [10], "levels": [1], **SMALL}
    synthesize(photographs, tmp_path / "set", **options)
    with pytest.raises(DataError, match=word):
        synthesize(photographs, tmp_path / "set", **{**options, **change})
    with pytest.raises(DataError, match="references"):
        synthesize(photographs[:1], tmp_path / "set", **options)


def test_more_types_join_an_earlier_set(photographs, tmp_path):
    synthesize(photographs, tmp_path / "set", kinds=[10], levels=[1], **SMALL)
    path = synthesize(photographs, tmp_path / "set", kinds=[10, 18], levels=[1], **SMALL)
    assert len(read_csv_dataset(path)) == 4


def test_foreign_and_damaged_folders_are_refused(photographs, tmp_path):
    (tmp_path / "full/images").mkdir(parents=True)
    (tmp_path / "full/images/holiday.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="empty folder"):
        synthesize(photographs, tmp_path / "full", **SMALL)
    (tmp_path / "torn/images").mkdir(parents=True)
    (tmp_path / "torn/recipe.json").write_text('{"seed": ')
    with pytest.raises(DataError, match="damaged"):
        synthesize(photographs, tmp_path / "torn", **SMALL)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="another folder"):
        synthesize(photographs, tmp_path / "file", **SMALL)


def test_wrong_arguments(photographs, tmp_path):
    out = tmp_path / "set"
    for options, word in (
        ({"kinds": ["webp"]}, "human scores"),
        ({"kinds": []}, "types"),
        ({"levels": [0]}, "1..5"),
        ({"levels": []}, "1..5"),
        ({"size": (200, 20)}, "smaller"),
    ):
        with pytest.raises(DataError, match=word):
            synthesize(photographs, out, **{**SMALL, **options})
    with pytest.raises(DataError, match="at least one"):
        synthesize([], out, **SMALL)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(ImageReadError, match=r"broken\.png"):
        synthesize([broken], tmp_path / "other", **SMALL)
    with pytest.raises(ImageReadError, match=r"absent\.png"):
        synthesize([tmp_path / "absent.png"], tmp_path / "third", **SMALL)


def test_folder_without_photographs(tmp_path):
    with pytest.raises(DataError, match="no photograph"):
        find_photographs(tmp_path)
    with pytest.raises(InputError, match="does not exist"):
        find_photographs(tmp_path / "absent")


def test_full_disk_is_one_clear_line_and_leaves_no_partial_file(photographs, tmp_path, monkeypatch):
    replace = os.replace

    def full(source, target):
        if "_10_" in str(target):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(DataError, match=r"No space left.*free some space") as caught:
        synthesize(photographs, tmp_path / "set", kinds=[10], levels=[1], **SMALL)
    assert "\n" not in str(caught.value)
    assert {p.name for p in (tmp_path / "set/images").iterdir()} == {"I01.png", "I02.png"}


def test_reference_is_upright_scaled_and_cropped_in_the_middle(tmp_path):
    pixels = np.zeros((60, 200, 3), dtype=np.uint8)
    pixels[:, 100:] = 255
    exif = PilImage.Exif()
    exif[0x0112] = 6  # the camera was held upright: rotate by 90 degrees to show
    PilImage.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    upright = prepare_reference(tmp_path / "turned.png", size=None)
    assert upright.size == (60, 200)
    cropped = np.asarray(prepare_reference(tmp_path / "turned.png", size=(30, 30)))
    np.testing.assert_array_equal(cropped[2], 0)
    np.testing.assert_array_equal(cropped[-3], 255)
    assert prepare_reference(tmp_path / "turned.png", None, max_side=50).size == (15, 50)


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    PilImage.fromarray(np.full((20, 20), 32768, dtype=np.uint16)).save(tmp_path / "deep.png")
    assert np.asarray(prepare_reference(tmp_path / "deep.png", size=None)).tolist()[0][0] == [128] * 3


def test_scaling_down_is_antialiased(tmp_path):
    """A fine checkerboard becomes grey, not a coarse pattern."""
    board = ((np.indices((256, 256)).sum(axis=0) % 2) * 255).astype(np.uint8)
    PilImage.fromarray(np.repeat(board[..., None], 3, axis=2)).save(tmp_path / "board.png")
    small = np.asarray(prepare_reference(tmp_path / "board.png", size=(50, 50)), dtype=np.float64)
    assert small[5:-5, 5:-5].std() < 3
    assert small.mean() == pytest.approx(127.5, abs=2)


def test_opinions_are_kadids():
    opinions = kadid_opinions()
    assert len(opinions) == 125
    assert all(0 < o.mean < 1 and 0 < o.std < 0.25 for o in opinions.values())
    # From the published dmos.csv: types 1 and 2 at level 1 have means of 4.61 and 3.86.
    assert opinions[1, 1].mean == pytest.approx((4.61 - 1) / 4, abs=0.002)
    assert opinions[2, 1].mean == pytest.approx((3.86 - 1) / 4, abs=0.002)
    # The sign: more blur, fewer points. KADID's "dmos" rises with quality in spite of its name.
    assert all(opinions[1, level].mean > opinions[1, level + 1].mean for level in range(1, 5))


def test_recipe_names_its_sources(photographs, tmp_path):
    synthesize(photographs, tmp_path / "set", kinds=[10], levels=[1], **SMALL)
    recipe = json.loads((tmp_path / "set/recipe.json").read_text())
    assert [r["name"] for r in recipe["references"]] == ["a.jpg", "b.png"]
    assert recipe["seed"] == 0


def test_crops_of_a_photograph_differ_and_share_a_group(photographs, tmp_path):
    out = tmp_path / "crops"
    path = synthesize(photographs[:1], out, kinds=["jpeg"], levels=[3], size=(16, 16), crops=3, progress=False)
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert {row["group"] for row in rows} == {photographs[0].name}
    pixels = {(out / row["reference"]).read_bytes() for row in rows}
    assert len(rows) == len(pixels) == 3


def test_crops_need_a_size(photographs, tmp_path):
    with pytest.raises(DataError, match="crops"):
        synthesize(photographs, tmp_path / "out", size=None, crops=2)


def test_an_image_that_was_not_damaged_has_the_best_label(tmp_path):
    grey = np.random.default_rng(0).integers(0, 256, (40, 60, 1), dtype=np.uint8).repeat(3, axis=2)
    PilImage.fromarray(grey).save(tmp_path / "grey.png")
    kinds = ["color_saturation_1", "jpeg"]
    path = synthesize([tmp_path / "grey.png"], tmp_path / "out", kinds=kinds, levels=[4], **SMALL)
    labels = {row["distortion"]: float(row["mos"]) for row in csv.DictReader(path.read_text().splitlines())}
    assert labels["color_saturation_1"] == 1.0
    assert labels["jpeg"] < 0.6
