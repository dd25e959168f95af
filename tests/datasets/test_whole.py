"""The whole score files of the eight benchmark datasets, where IQAMETRICS_LABELS names the folder that holds them.

There are no images with them, so the samples are read without checking files. `.ci/run` sets the variable when it
finds the folder; elsewhere these tests are skipped.
"""

import csv
import os
from collections import Counter, defaultdict
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest

from iqametrics.datasets.catalogue import dataset_spec, load_dataset
from iqametrics.datasets.release import Release, read_csv
from iqametrics.datasets.tables import kadid_opinions
from iqametrics.datasets.verify import verify_dataset

FOLDER = os.environ.get("IQAMETRICS_LABELS")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FOLDER, reason="IQAMETRICS_LABELS names no folder with the datasets' score files"),
]

ROOTS = {
    "live": "live/databaserelease2",
    "csiq": "csiq",
    "tid2013": "tid2013",
    "kadid10k": "kadid10k",
    "clive": "clive/ChallengeDB_release",
    "koniq10k": "koniq10k",
    "spaq": "spaq",
    "flive": "flive",
}


def root(name):
    return Path(FOLDER or "") / ROOTS[name]


@pytest.fixture(scope="module")
def samples():
    """Samples of a dataset, read once."""
    read = {}

    def get(name):
        if name not in read:
            read[name] = load_dataset(name, root(name), check_files=False)
        return read[name]

    return get


@pytest.mark.parametrize(
    ("name", "images", "references", "groups"),
    [
        ("live", 779, 29, {169, 175, 145}),  # Sheikh et al. 2006: 169 JPEG2000, 175 JPEG, 145 of the three others each
        ("csiq", 866, 30, {150, 116}),  # 30 x 5 a type; contrast has four levels, and four images only three
        ("tid2013", 3000, 25, {125}),
        ("kadid10k", 10_125, 81, {405}),
        # LIQE's list names a distortion of each photograph: `cut -f2 clive.tsv | sort | uniq -c`.
        ("clive", 1162, None, {29, 30, 62, 105, 437, 499}),
        ("koniq10k", 10_073, None, {179, 345, 435, 1015, 3578, 4521}),
        ("spaq", 11_125, None, {11_125}),
        ("flive", 39_810, None, {39_810}),
    ],
)
def test_counts(samples, name, images, references, groups):
    found = samples(name)
    assert len(found) == images == dataset_spec(name).images
    assert len({s.image for s in found}) == images
    assert dataset_spec(name).references == references
    assert set(Counter(s.distortion for s in found).values()) == groups
    if references:
        assert len({s.reference.name.casefold() for s in found}) == references
    assert all(0 <= s.mos <= 1 for s in found)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        # By hand from the smallest and largest scores of each file.
        ("live", 1 - (111.77469351 + 5) / 120, 1 - (-2.64001502 + 5) / 120),
        ("csiq", 0, 1),
        ("tid2013", 0.24242 / 9, 7.21429 / 9),
        ("kadid10k", 0, (4.93 - 1) / 4),
        ("clive", 0.0342, 0.9243195266),
        ("koniq10k", 0.0391176471, 0.8838888889),
        ("spaq", 0.02, 0.96),
        ("flive", 0, 0.9433323437),
    ],
)
def test_the_range_is_the_documented_one(samples, name, low, high):
    values = [s.mos for s in samples(name)]
    assert (min(values), max(values)) == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))


@pytest.mark.parametrize(
    ("name", "blur"), [("csiq", "BLUR"), ("tid2013", "gaussian blur"), ("kadid10k", "gaussian_blur")]
)
def test_more_blur_is_worse(samples, name, blur):
    by_level = defaultdict(list)
    for sample in samples(name):
        if sample.distortion == blur:
            by_level[sample.level].append(sample.mos)
    means = [fmean(by_level[level]) for level in (1, 2, 3, 4, 5)]
    assert means == sorted(means, reverse=True)
    assert means[0] - means[4] > 0.3


def test_the_sign_of_live(samples):
    # dmos_new of a copy of a reference is 0, and every image with a DMOS above that of another is worse.
    from scipy.io import loadmat

    content = loadmat(root("live") / "dmos_realigned.mat")
    dmos = content["dmos_new"].ravel()[content["orgs"].ravel() == 0]
    mos = np.array([s.mos for s in samples("live")])
    assert np.corrcoef(dmos, mos)[0, 1] == pytest.approx(-1)
    # The two sets of scores of one experiment agree, in one direction.
    original = [s.mos for s in load_dataset("live", root("live"), check_files=False, scores="original")]
    assert np.corrcoef(original, mos)[0, 1] == pytest.approx(0.9468415, abs=1e-6)


def test_the_two_score_files_of_csiq_agree(samples, tmp_path):
    (tmp_path / "csiq_label.txt").write_bytes((root("csiq") / "csiq_label.txt").read_bytes())
    from_text = {s.image.name: s.mos for s in load_dataset("csiq", tmp_path, check_files=False)}
    from_workbook = {s.image.name: s.mos for s in samples("csiq")}
    assert from_text.keys() == from_workbook.keys()
    assert max(abs(from_text[name] - mos) for name, mos in from_workbook.items()) < 1e-6


def test_the_two_score_files_of_koniq10k_agree(samples, tmp_path):
    file = "koniq10k_scores_and_distributions.csv"
    (tmp_path / file).write_bytes((root("koniq10k") / file).read_bytes())
    others = load_dataset("koniq10k", tmp_path, check_files=False)
    assert [s.mos for s in others] == pytest.approx([s.mos for s in samples("koniq10k")], abs=1e-9)
    assert {s.split for s in others} == {None}


def test_official_parts(samples):
    assert Counter(s.split for s in samples("koniq10k")) == {"train": 7058, "validation": 1000, "test": 2015}
    found = Counter(s.split for s in samples("flive"))
    assert found["test"] == 1827
    if any(Release(root("flive")).find(name) for name in ("labels=640_padded.csv", "labels<=640_padded.csv")):
        assert found == {"train": 30_253, "validation": 7_727, "test": 1_827, None: 3}
    else:
        assert found == {"test": 1827, None: 37_983}


def test_the_scores_of_flives_test_part_are_those_of_its_own_file(samples):
    rows = read_csv(root("flive") / "labels640.csv", ("name_image", "mos_image"))
    theirs = {row["name_image"]: float(row["mos_image"]) / 100 for _, row in rows}
    ours = {s.image.relative_to(root("flive") / "database").as_posix(): s.mos for s in samples("flive") if s.split}
    assert ours == pytest.approx(theirs, abs=1e-9)


def test_tid2013s_files_have_one_order(samples):
    # mos_std.txt has no names; mos.txt stands in the same order and repeats the scores.
    lines = (root("tid2013") / "mos.txt").read_text().split()
    assert [s.mos for s in samples("tid2013")] == pytest.approx([float(line) / 9 for line in lines])


def test_the_column_var_of_kadid10k_is_a_standard_deviation():
    with (root("kadid10k") / "dmos.csv").open(newline="") as stream:
        rows = [(float(row["dmos"]), float(row["var"])) for row in csv.DictReader(stream)]
    # Opinions are whole numbers: with mean m their variance is at least f (1 - f), f the fraction of m, and where only
    # two neighbouring numbers occur it is that. 0.01 is the rounding of m.
    least = [(spread, (mean % 1) * (1 - mean % 1)) for mean, spread in rows if mean > 4.8]
    assert len(least) > 10
    assert all(spread**2 >= bound - 0.01 for spread, bound in least)
    assert sum(abs(spread**2 - bound) < 0.01 for spread, bound in least) > len(least) / 2
    assert sum(abs(spread - bound) < 0.01 for spread, bound in least) < len(least) / 10


def test_kadid10ks_means_are_those_of_the_package(samples):
    by_type = defaultdict(list)
    for sample in samples("kadid10k"):
        by_type[sample.kind, sample.level].append(sample.mos)
    for key, opinion in kadid_opinions().items():
        assert fmean(by_type[key]) == pytest.approx(opinion.mean, abs=1e-3)


@pytest.mark.parametrize("name", ROOTS)
def test_verify_says_that_the_images_are_missing_and_nothing_else(name):
    found = verify_dataset(name, root(name))
    assert len(found.problems) == 1
    assert "files do not exist" in found.problems[0]
