"""Labels of distortion and scene: LIQE's lists in the package, and files of the user's."""

import gzip
from collections import Counter
from pathlib import Path

import dataset_releases as releases
import pytest

from iqametrics.datasets.catalogue import dataset_spec, load_dataset
from iqametrics.datasets.distortions import DISTORTIONS
from iqametrics.datasets.image_labels import (
    CLASS_OF_NAME,
    PACKAGED,
    SCENES,
    ImageLabels,
    packaged_labels,
    read_image_labels,
    with_labels,
)
from iqametrics.datasets.labelled import LabelledImages
from iqametrics.datasets.sample import LIQE_CLASSES, Sample
from iqametrics.errors import DataError
from iqametrics.training.data import RunImage

HEADER = "image\tdistortion\tscene1\tscene2\tscene3\n"


def test_liqes_33_names_fold_into_its_eleven():
    assert len(CLASS_OF_NAME) == 33
    assert set(CLASS_OF_NAME.values()) == set(LIQE_CLASSES)


@pytest.mark.parametrize("name", PACKAGED)
def test_the_packaged_lists_are_whole(name):
    labels = packaged_labels(name)
    assert len(labels) == dataset_spec(name).images
    assert all(label.distortion in CLASS_OF_NAME and 1 <= len(label.scenes) <= 3 for label in labels.values())
    assert dataset_spec(name).labels


def test_the_list_of_kadid_agrees_with_the_types_in_its_file_names():
    """The types were folded by hand, from the dataset's description, before this list was at hand."""
    seen = Counter()
    for image, label in packaged_labels("kadid10k").items():
        kind = int(Path(image).name.split("_")[1])
        seen[kind] += CLASS_OF_NAME[label.distortion] == DISTORTIONS[kind].liqe_class
    # Color shift moves the green channel: a color to us, a blur to LIQE.
    assert {kind for kind, count in seen.items() if count != 405} == {5}
    assert seen[5] == 0


def test_photographs_get_the_labels_of_the_package(tmp_path):
    releases.koniq10k(tmp_path, folder="512x384")
    samples = load_dataset("koniq10k", tmp_path)
    # The first three rows of the list, which names the images of the other size.
    assert [(s.distortion, s.liqe_class, s.scenes) for s in samples[:2]] == [
        ("other realistic", "other", ("landscape",)),
        ("other realistic", "other", ("cityscape",)),
    ]
    assert RunImage(samples[0]).distortion_class == LIQE_CLASSES.index("other")
    assert RunImage(samples[0]).scenes == [float(scene == "landscape") for scene in SCENES]


def test_a_synthetic_set_keeps_the_types_that_it_names_itself(tmp_path):
    releases.kadid10k(tmp_path)
    first = load_dataset("kadid10k", tmp_path)[0]
    assert (first.liqe_class, first.scenes) == ("blur", ("still_life",))
    (tmp_path / "labels.tsv").write_text(HEADER + "images/I01_01_01.png\tjitter\tnight\t\t\n")
    first, second, *_ = load_dataset("kadid10k", tmp_path)
    assert (first.liqe_class, first.scenes) == ("spatial", ("night",))
    assert (second.liqe_class, second.scenes) == ("blur", ())


def test_files_of_one_name_in_two_folders_are_told_apart():
    labels = {"wn/img1.bmp": ImageLabels("white noise"), "jpeg/img1.bmp": ImageLabels("jpeg compression")}
    samples = [Sample(Path(f"/live/{folder}/IMG1.bmp"), None, 0.5) for folder in ("jpeg", "wn", "other")]
    assert [s.liqe_class for s in with_labels(samples, labels)] == ["jpeg compression", "noise", None]


def test_a_file_of_labels_for_a_csv(tmp_path):
    for name in ("a.png", "b.png"):
        releases.picture(tmp_path / name)
    (tmp_path / "data.csv").write_text("image,mos\na.png,0.1\nb.png,0.9\n")
    own = tmp_path / "mine.tsv"
    own.write_bytes(gzip.compress(b"image\tdistortion\na.png\trealistic noise\n"))
    images = LabelledImages(csv=str(tmp_path / "data.csv"), labels_file=str(own))
    assert [s.liqe_class for s in images.load()] == ["noise", None]
    assert images.to_table()["labels_file"] == str(own)
    own.write_text("image\tdistortion\nc.png\tjitter\n")
    with pytest.raises(DataError, match=r"mine\.tsv: names none of the images of .*data\.csv"):
        images.load()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name\tkind\n", r"line 1: the columns are \['name', 'kind'\]; give image, distortion"),
        (HEADER + "a.png\tblurry\n", "line 2: 'blurry' is no distortion of LIQE's"),
        (HEADER + "a.png\tjitter\tbeach\n", "line 2: 'beach' is no scene of LIQE's"),
        (HEADER + "a.png\tjitter\na.png\tjitter\n", "line 3: a.png is there twice"),
        ("\x1f\x8b damaged", "cannot be read"),
    ],
)
def test_what_is_no_list_of_labels_is_told_in_one_line(tmp_path, text, message):
    path = tmp_path / "labels.tsv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=message):
        read_image_labels(path)
