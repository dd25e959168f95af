"""The adapters on small releases in the original formats: files, scale, direction, split, and each mistake."""

import sys

import dataset_releases as releases
import numpy as np
import pytest
import scipy.io
from hypothesis import given, settings
from hypothesis import strategies as st

import iqametrics
from iqametrics.datasets.catalogue import dataset_spec, list_datasets, load_dataset
from iqametrics.datasets.image_labels import PACKAGED
from iqametrics.errors import DataError, IqaError, MissingExtraError

# The eleven names of LIQE's paper, which PFD-IQA's prompts use.
LIQE = {
    *("jpeg2000 compression", "jpeg compression", "noise", "blur", "color", "contrast"),
    *("overexposure", "underexposure", "spatial", "quantization", "other"),
}


@pytest.mark.parametrize("name", list_datasets())
def test_every_release_is_read_whole(name, tmp_path):
    releases.BUILDERS[name](tmp_path)
    samples = load_dataset(name, tmp_path)
    assert samples
    for sample in samples:
        assert sample.image.is_file()
        assert 0 <= sample.mos <= 1
        assert sample.group is None
        assert (sample.reference is not None) == (dataset_spec(name).mode == "fr")
        # Of the photographs of the small releases not all are in LIQE's lists.
        assert sample.liqe_class in (LIQE if sample.reference else LIQE | {None} if name in PACKAGED else {None})
        assert sample.mos_std is None or 0 <= sample.mos_std < 0.5
    assert any(s.mos_std is not None for s in samples) == dataset_spec(name).has_spread
    assert iqametrics.load_dataset(name, str(tmp_path)) == samples


def test_live(tmp_path):
    releases.live(tmp_path)
    samples = load_dataset("live", tmp_path)
    # 982 entries, of which this one, like the release, marks 203 as copies; entry 1 is one of them.
    assert len(samples) == 779
    first = samples[0]
    assert first.image == tmp_path / "jp2k/img2.bmp"
    assert first.reference == tmp_path / "refimgs/picture1.bmp"
    # By hand: 1 - (15.51295442 + 5) / 120, and 1.62945566 / 120.
    assert first.mos == pytest.approx(0.829058713, abs=1e-9)
    assert first.mos_std == pytest.approx(0.0135787972, abs=1e-9)
    assert (first.distortion, first.liqe_class, first.level) == ("jp2k", "jpeg2000 compression", None)
    # 227 images of jp2k/ stand before it, 58 of them copies.
    assert samples[169].image == tmp_path / "jpeg/img1.bmp"
    # The worse the DMOS, the lower the MOS.
    assert np.corrcoef([s.mos for s in samples[:7]], releases.LIVE_REALIGNED[1:8])[0, 1] == pytest.approx(-1)
    original = load_dataset("live", tmp_path, scores="original")
    assert original[0].mos == pytest.approx(1 - 0.2800384536)
    assert original[0].mos_std is None
    with pytest.raises(DataError, match=r"no scores called 'best'; choose one of default, original"):
        load_dataset("live", tmp_path, scores="best")


@pytest.mark.parametrize("folder", ["ImageDatabase", "."])
def test_bid(folder, tmp_path):
    releases.bid(tmp_path, folder)
    samples = load_dataset("bid", tmp_path)
    names = ["DatabaseImage0001.JPG", "DatabaseImage0003.JPG", "DatabaseImage0004.JPG"]
    assert [s.image for s in samples] == [tmp_path / folder / name for name in names]
    # By hand: 2.355 / 5 and 4.0305 / 5.
    assert [s.mos for s in samples] == pytest.approx([0.471, 0.8061, 0.0])
    # From LIQE's list.
    assert [(s.liqe_class, s.scenes) for s in samples][:2] == [("blur", ("human",)), ("blur", ("human", "landscape"))]
    releases.workbook(tmp_path / "DatabaseGrades.xlsx", [[1, 2.355], [3, 4.03]])
    with pytest.raises(DataError, match="row 1: is no header but an image"):
        load_dataset("bid", tmp_path)
    releases.workbook(tmp_path / "DatabaseGrades.xlsx", [["Image", "Average"], [1, 5.5]])
    with pytest.raises(DataError, match=r"row 2: score 5\.5 is outside"):
        load_dataset("bid", tmp_path)


@pytest.mark.parametrize("build", [releases.csiq, releases.csiq_rearranged])
def test_csiq(build, tmp_path):
    build(tmp_path)
    samples = load_dataset("csiq", tmp_path)
    blur = [s for s in samples if s.distortion == "BLUR"]
    assert [s.level for s in blur] == [1, 2, 3, 4, 5]
    assert [s.mos for s in blur] == pytest.approx([0.957332, 0.857565, 0.658886, 0.528962, 0.250205])
    assert {s.reference for s in blur} == {tmp_path / "src_imgs/1600.png"}
    elk = next(s for s in samples if s.image.name == "elk.jpeg2000.1.png")
    assert (elk.distortion, elk.liqe_class, elk.mos) == ("jpeg2000", "jpeg2000 compression", pytest.approx(0.8))
    with_std = build is releases.csiq
    assert all((s.mos_std is not None) == with_std for s in samples)


def test_tid2013(tmp_path):
    releases.tid2013(tmp_path)
    samples = load_dataset("tid2013", tmp_path)
    # The score file's i01_08_3.BMP is i01_08_3.bmp on this disk, and so on.
    assert [s.image.name for s in samples] == ["i01_01_1.bmp", "I01_08_1.BMP", "i01_08_2.bmp", "i01_08_3.bmp"]
    assert {s.reference for s in samples} == {tmp_path / "reference_images/I01.BMP"}
    assert samples[0].mos == pytest.approx(5.51429 / 9)
    assert samples[0].mos_std == pytest.approx(0.13013 / 9)
    assert samples[0].distortion == "additive gaussian noise"
    blur = samples[1:]
    assert {(s.distortion, s.liqe_class) for s in blur} == {("gaussian blur", "blur")}
    assert blur[0].mos > blur[1].mos > blur[2].mos  # levels 1, 2, 3


@pytest.mark.parametrize("folders", [("images", "images"), ("distorted_images", "reference_images")])
def test_kadid10k(folders, tmp_path):
    releases.kadid10k(tmp_path, *folders)
    weak, strong, bright = load_dataset("kadid10k", tmp_path)
    assert weak.image == tmp_path / folders[0] / "I01_01_01.png"
    assert bright.reference == tmp_path / folders[1] / "I02.png"
    # "dmos" rises with quality: 4.57 of 1..5 is (4.57 - 1) / 4.
    assert (weak.mos, strong.mos) == (pytest.approx(0.8925), pytest.approx(0.025))
    assert (weak.kind, weak.level, weak.distortion, weak.liqe_class) == (1, 1, "gaussian_blur", "blur")
    assert (bright.kind, bright.level, bright.liqe_class) == (16, 3, "overexposure")
    # 30 opinions with mean 4.57 have a variance of at least 0.2456; its root is the 0.496 of the column "var".
    assert weak.mos_std == pytest.approx(0.2456**0.5 / 4, abs=2e-4)


def test_clive(tmp_path):
    releases.clive(tmp_path)
    samples = load_dataset("clive", tmp_path)
    assert [s.image.name for s in samples] == ["100.bmp", "101.bmp", "102.JPG"]  # without t1 to t7
    assert samples[0].mos == pytest.approx(0.3256107532)
    assert samples[0].mos_std == pytest.approx(0.1912472638)


@pytest.mark.parametrize("folder", ["1024x768", "512x384"])
@pytest.mark.parametrize("sets", [True, False])
def test_koniq10k(sets, folder, tmp_path):
    releases.koniq10k(tmp_path, sets, folder)
    samples = load_dataset("koniq10k", tmp_path)
    assert samples[0].image == tmp_path / folder / "10004473376.jpg"
    # The z-score, never the mean of 1..5, whatever the file calls "MOS".
    assert [s.mos for s in samples] == pytest.approx([0.7738362069, 0.6872857143, 0.7120432692])
    assert samples[0].mos_std == pytest.approx(0.527277894 / 4)
    assert [s.split for s in samples] == (["train", "test", "validation"] if sets else [None] * 3)


def test_spaq(tmp_path):
    releases.spaq(tmp_path)
    samples = load_dataset("spaq", tmp_path)
    assert [(s.image.name, s.mos) for s in samples] == [
        ("00001.jpg", pytest.approx(0.4886)),
        ("00002.jpg", 0.625),
        ("00003.jpg", 0.7725),
    ]


def test_spaq_without_openpyxl(tmp_path, monkeypatch):
    releases.spaq(tmp_path)
    # A text file beside the workbook is no substitute that nobody asked for.
    releases.text(tmp_path / "names_and_mos.csv", "Image name,MOS", "00001.jpg,50")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(MissingExtraError, match=r'pip install "iqametrics\[datasets\]"'):
        load_dataset("spaq", tmp_path)
    (tmp_path / "Annotations" / "MOS and Image attribute scores.xlsx").unlink()
    assert load_dataset("spaq", tmp_path)[0].mos == 0.5


@pytest.mark.parametrize("training", [True, False])
def test_flive(training, tmp_path):
    releases.flive(tmp_path, training)
    samples = load_dataset("flive", tmp_path)
    assert [s.split for s in samples] == [
        "train" if training else None,
        "test",
        None,
        "validation" if training else None,
    ]
    assert samples[3].image == tmp_path / "database/voc_emotic_ava/b,c.jpg"
    assert samples[0].mos == pytest.approx(0.7544372348)


def test_flive_with_images_in_the_root(tmp_path):
    releases.flive(tmp_path)
    (tmp_path / "database").rename(tmp_path / "root")
    for path in tmp_path.glob("*.csv"):
        path.rename(tmp_path / "root" / path.name)
    assert [s.split for s in load_dataset("flive", tmp_path / "root")] == ["train", "test", None, "validation"]


def test_flive_refuses_a_split_that_contradicts_itself(tmp_path):
    releases.flive(tmp_path)
    line = "voc_emotic_ava/EMOTIC__a.jpg,59.6,False"
    releases.text(tmp_path / "labels=640_padded.csv", "name_image,mos_image,is_valid", line)
    with pytest.raises(DataError, match=r"line 2: voc_emotic_ava/EMOTIC__a\.jpg is a test image"):
        load_dataset("flive", tmp_path)


def test_biq2021(tmp_path):
    releases.biq2021(tmp_path)
    samples = load_dataset("biq2021", tmp_path)
    assert [(s.image.name, s.mos, s.split) for s in samples] == [
        ("ss01 (1).jpg", 0.8114, "train"),
        ("ss02 (7).jpg", 0.5124, "train"),
        ("ss03 (2).jpg", 0.25, "test"),
    ]


def test_a_part_of_biq2021(tmp_path):
    releases.text(tmp_path / "train_subset.csv", "image,mos", "Images/ss01 (1).jpg,0.8114")
    releases.picture(tmp_path / "Images" / "ss01 (1).jpg")
    (sample,) = load_dataset("biq2021", tmp_path)
    assert (sample.image, sample.split) == (tmp_path / "Images/ss01 (1).jpg", "train")
    # Half of the release is neither the release nor a declared part of it.
    releases.text(tmp_path / "Train (Images and MOS).csv", "Image Name,MOS", "ss01 (1).jpg,0.8114")
    with pytest.raises(DataError, match=r"holds no Test \(Images and MOS\)\.csv"):
        load_dataset("biq2021", tmp_path)


# --- mistakes -------------------------------------------------------------------------------------------------------


def test_an_unknown_name():
    with pytest.raises(DataError, match=r"unknown dataset 'KADID-10k'; did you mean kadid10k\?"):
        dataset_spec("KADID-10k")
    with pytest.raises(DataError, match="choose one of live, csiq"):
        load_dataset("imagenet", ".")


@pytest.mark.parametrize("name", list_datasets())
def test_a_wrong_root(name, tmp_path):
    with pytest.raises(DataError, match="nowhere: does not exist; give the dataset's root folder"):
        load_dataset(name, tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="is a file, not the dataset's folder"):
        load_dataset(name, tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: holds no .*\.(mat|xlsx|txt|csv).*; give the dataset's root folder"):
        load_dataset(name, tmp_path / "empty")


def test_a_root_one_level_too_high_or_too_low(tmp_path):
    releases.kadid10k(tmp_path / "kadid10k")
    with pytest.raises(DataError, match=r"holds no dmos\.csv; .*/kadid10k does, give that as the root"):
        load_dataset("kadid10k", tmp_path)
    with pytest.raises(DataError, match=r"images: holds no dmos\.csv; .*/kadid10k does, give that as the root"):
        load_dataset("kadid10k", tmp_path / "kadid10k" / "images")


def test_missing_files_are_named(tmp_path):
    releases.kadid10k(tmp_path)
    (tmp_path / "images" / "I01_01_05.png").unlink()
    (tmp_path / "images" / "I02.png").unlink()
    match = (
        r"2 of 5 files of kadid10k do not exist \(images/I01_01_05\.png, images/I02\.png\); .*datasets verify kadid10k"
    )
    with pytest.raises(DataError, match=match):
        load_dataset("kadid10k", tmp_path)
    assert len(load_dataset("kadid10k", tmp_path, check_files=False)) == 3


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        ("live", "dmos_realigned.mat", b"nothing", "not a readable MATLAB file"),
        ("live", "refnames_all.mat", b"", "not a readable MATLAB file"),
        ("spaq", "Annotations/MOS and Image attribute scores.xlsx", b"PK\x03\x04", r"not a readable \.xlsx file"),
        ("tid2013", "mos_with_names.txt", b"5.5 I01_99_1.bmp\r\n" * 4, "line 1: '5.5 I01_99_1.bmp' is not a score and"),
        (
            "tid2013",
            "mos_with_names.txt",
            b"5.5 I01_01_1.bmp\r\n",
            r"mos_std\.txt: 4 lines where mos_with_names\.txt has 1",
        ),
        ("csiq", "csiq.DMOS.xlsx", b"", r"not a readable \.xlsx file"),
        ("kadid10k", "dmos.csv", b"\xff\xfe", r"dmos\.csv: not UTF-8 text"),
        ("kadid10k", "dmos.csv", b"dist_img,dmos\n", r"line 1: no column ref_img or var among \['dist_img', 'dmos'\]"),
        ("kadid10k", "dmos.csv", b"dist_img,ref_img,dmos,var\n", "lists no image"),
        ("kadid10k", "dmos.csv", b"dist_img,ref_img,dmos,var\nI01_01_01.png,I01.png\n", "line 2: only 2 cells"),
        (
            "kadid10k",
            "dmos.csv",
            b"dist_img,ref_img,dmos,var\nI01_26_01.png,I01.png,2,1\n",
            "line 2: 'I01_26_01.png' is not",
        ),
        (
            "kadid10k",
            "dmos.csv",
            b"dist_img,ref_img,dmos,var\nI01_01_01.png,I01.png,52,1\n",
            r"score 52 is outside \[1, 5\]",
        ),
        (
            "kadid10k",
            "dmos.csv",
            b"dist_img,ref_img,dmos,var\nI01_01_01.png,I01.png,good,1\n",
            "'good' is not a number",
        ),
        (
            "kadid10k",
            "dmos.csv",
            b"dist_img,ref_img,dmos,var\nI01_01_01.png,I01.png,nan,1\n",
            "'nan' is not a finite number",
        ),
        (
            "koniq10k",
            "koniq10k_distributions_sets.csv",
            b"image_name,MOS,SD,set\na.jpg,50,1,spare\n",
            "set 'spare' is none of",
        ),
        ("biq2021", "Test (Images and MOS).csv", b"Image Name,MOS\nss01 (1).jpg,0.5\n", r"lists ss01 \(1\)\.jpg twice"),
        ("flive", "labels_image.csv", b'name,mos\n"a.jpg,5\n', "not a CSV row"),
    ],
)
def test_a_damaged_score_file_is_named(name, file, content, message, tmp_path):
    releases.BUILDERS[name](tmp_path)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        load_dataset(name, tmp_path, check_files=False)
    assert "\n" not in str(caught.value)


def test_live_of_another_length_is_refused(tmp_path):
    # The order of the folders gives the file names: a shorter list would name them wrongly.
    releases.live(tmp_path, pictures=False)
    short = {"dmos_new": np.zeros((1, 981)), "dmos_std": np.zeros((1, 981)), "orgs": np.zeros((1, 981))}
    scipy.io.savemat(tmp_path / "dmos_realigned.mat", short)
    with pytest.raises(DataError, match="981 entries where the release has 982"):
        load_dataset("live", tmp_path, check_files=False)
    scipy.io.savemat(tmp_path / "dmos_realigned.mat", {"orgs": np.zeros((1, 982))})
    with pytest.raises(DataError, match="no variable dmos_new or dmos_std"):
        load_dataset("live", tmp_path, check_files=False)


def test_clive_without_its_training_images_is_refused(tmp_path):
    # Seven scores would be taken away from the test images, and all others belong to the wrong image.
    releases.clive(tmp_path)
    names = releases.cells([f"{index}.bmp" for index in range(10)])
    scipy.io.savemat(tmp_path / "Data" / "AllImages_release.mat", {"AllImages_release": names})
    with pytest.raises(DataError, match="the first 7 entries are"):
        load_dataset("clive", tmp_path)
    scipy.io.savemat(tmp_path / "Data" / "AllImages_release.mat", {"AllImages_release": names[:, :9]})
    with pytest.raises(DataError, match="different numbers of entries"):
        load_dataset("clive", tmp_path)


def test_a_folder_that_may_not_be_listed_does_not_hide_the_mistake(tmp_path, monkeypatch):
    (tmp_path / "locked").mkdir()
    listed = iqametrics.datasets.release.os.scandir

    def scandir(folder):
        if str(folder).endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return listed(folder)

    monkeypatch.setattr(iqametrics.datasets.release.os, "scandir", scandir)
    with pytest.raises(DataError, match=r"holds no dmos\.csv; give the dataset's root folder"):
        load_dataset("kadid10k", tmp_path)


@pytest.fixture(scope="module")
def score_files(tmp_path_factory):
    """Each score file of each small release, with its content; LIVE's without pictures."""
    files = []
    for name, build in releases.BUILDERS.items():
        root = tmp_path_factory.mktemp(name)
        releases.live(root, pictures=False) if name == "live" else build(root)
        for path in sorted(root.rglob("*")):
            if path.suffix in (".mat", ".csv", ".txt", ".xlsx"):
                files.append((name, root, path, path.read_bytes()))
    return files


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_whatever_happens_to_a_score_file_the_answer_is_samples_or_one_line(score_files, data):
    name, root, path, content = data.draw(st.sampled_from(score_files))
    start = data.draw(st.integers(0, len(content)))
    length = data.draw(st.integers(0, 40))
    inserted = data.draw(st.binary(max_size=40))
    whole = data.draw(st.booleans())
    path.write_bytes(content[:start] + inserted + (content[start + length :] if whole else b""))
    samples, message = [], str(root)
    try:
        samples = load_dataset(name, root, check_files=data.draw(st.booleans()))
    except IqaError as error:
        message = str(error)
    finally:
        path.write_bytes(content)
    assert all(0 <= sample.mos <= 1 for sample in samples)
    assert str(root) in message
    assert "\n" not in message
