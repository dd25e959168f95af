"""Splits: nothing leaks for any seed, every index once, the same split for ever."""

import hashlib
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as PilImage
from scipy import ndimage
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from iqametrics.datasets.splits import (
    _close_pairs,
    _connected,
    difference_hash,
    near_duplicate_groups,
    split_groups,
)
from iqametrics.errors import DataError, ImageReadError

FRACTIONS = st.sampled_from([[1.0], [0.8, 0.2], [0.5, 0.5], [0.6, 0.2, 0.2], [0.7, 0.1, 0.1, 0.1]])


@given(groups=st.lists(st.integers(0, 12), min_size=1, max_size=80), fractions=FRACTIONS, seed=st.integers())
@settings(max_examples=150, deadline=None)
def test_no_group_on_two_sides_and_every_index_once(groups, fractions, seed):
    if len(set(groups)) < len(fractions):
        with pytest.raises(DataError, match="more groups"):
            split_groups(groups, fractions, seed)
        return
    parts = split_groups(groups, fractions, seed)
    assert sorted(index for part in parts for index in part) == list(range(len(groups)))
    sides = [{groups[index] for index in part} for part in parts]
    assert sum(map(len, sides)) == len(set(groups))
    assert all(parts)
    assert parts == split_groups(groups, fractions, seed)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=50, deadline=None)
def test_shares_are_met_up_to_one_group(seed):
    groups = [index // 4 for index in range(400)]
    parts = split_groups(groups, [0.6, 0.2, 0.2], seed)
    for part, wanted in zip(parts, (240, 80, 80), strict=True):
        assert abs(len(part) - wanted) <= 4


def test_one_giant_group_leaves_no_part_empty():
    groups = [0] * 97 + [1, 2]
    for seed in range(20):
        assert sorted(map(len, split_groups(groups, [0.5, 0.25, 0.25], seed))) == [1, 1, 97]


def test_seeds_differ():
    groups = list(range(50))
    assert len({json.dumps(split_groups(groups, [0.8, 0.2], seed)) for seed in range(10)}) == 10


def test_frozen_digest():
    """The same split on every machine, for ever: published figures depend on it."""
    parts = split_groups([f"I{index // 5:02d}.png" for index in range(405)], [0.6, 0.2, 0.2], seed=2026)
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    assert [len(part) for part in parts] == [245, 80, 80]
    assert digest == "c37b6735906558176eede2c9c7c321bad9b19094a9c19513c42340b41ad2eccb"


def test_order_is_that_of_sha256():
    """Worked by hand: groups in the order of SHA-256 of seed, NUL, group."""
    names = ["a", "b", "c", "d"]
    order = sorted(names, key=lambda name: hashlib.sha256(b"3\x00" + name.encode()).hexdigest())
    parts = split_groups(names, [0.25] * 4, seed=3)
    assert [names[part[0]] for part in parts] == order


@pytest.mark.parametrize("fractions", [[], [0.5, 0.4], [1.2, -0.2], [1.0, 0.0], [0.5, 0.6]])
def test_wrong_fractions(fractions):
    with pytest.raises(DataError, match="sum to one"):
        split_groups(list(range(10)), fractions, 0)


# ---- near-duplicates


def scene(seed, size=(160, 120)):
    """A random smooth colour image, 8 bits, as a Pillow image."""
    noise = np.random.default_rng(seed).standard_normal((size[1], size[0], 3))
    smooth = ndimage.gaussian_filter(noise, (8, 8, 0))
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return PilImage.fromarray((smooth * 255).astype(np.uint8))


def test_versions_of_one_scene_group_and_others_do_not(tmp_path):
    paths, wanted = [], []
    for seed in range(6):
        original = scene(seed)
        buffer = io.BytesIO()
        original.save(buffer, "JPEG", quality=8)
        versions = {
            "original": original,
            "small": original.resize((80, 60), PilImage.Resampling.LANCZOS),
            "coded": PilImage.open(buffer),
            "dark": original.point(lambda v: v // 2),
            "grey": original.convert("L"),
        }
        for name, image in versions.items():
            paths.append(tmp_path / f"{seed}_{name}.png")
            image.save(paths[-1])
            wanted.append(seed)
    assert near_duplicate_groups(paths) == wanted


def test_flat_images_are_not_joined_by_their_flatness(tmp_path):
    paths = []
    for index, shade in enumerate((250, 251, 3)):
        pixels = np.full((60, 60, 3), shade, dtype=np.uint8)
        pixels[10 * index : 10 * index + 8, 30:40] = 128
        paths.append(tmp_path / f"{index}.png")
        PilImage.fromarray(pixels).save(paths[-1])
    assert near_duplicate_groups(paths) == [0, 1, 2]


def test_hash_of_a_ramp(tmp_path):
    """Each pixel brighter than its left neighbour, equal to the one above: 256 ones, 256 zeros."""
    ramp = np.repeat(np.arange(0, 255, 15, dtype=np.uint8)[None, :], 17, axis=0)
    PilImage.fromarray(ramp).save(tmp_path / "ramp.png")
    np.testing.assert_array_equal(difference_hash(tmp_path / "ramp.png"), [1] * 256 + [0] * 256)


def test_close_pairs_equal_a_loop_over_all_pairs():
    rng = np.random.default_rng(0)
    hashes = rng.choice([-1, 1], size=(60, 512)).astype(np.int8)
    for index in range(0, 60, 3):
        hashes[index + 1] = hashes[index]
        hashes[index + 1, rng.choice(512, 20 * (index // 3), replace=False)] *= -1
    pairs = {tuple(pair) for pair in _close_pairs(hashes, 0.55).tolist()}
    # Without zeros: agreement is 1 - 2 d / 512, so 0.55 means a Hamming distance of at most 115.
    wanted = {(i, j) for i in range(60) for j in range(i + 1, 60) if (hashes[i] != hashes[j]).sum() <= 115}
    assert pairs == wanted
    assert len(wanted) == 6


@given(
    count=st.integers(1, 30),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_components_equal_scipys(count, data):
    pairs = data.draw(st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=40))
    array = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    graph = coo_matrix((np.ones(len(array)), (array[:, 0], array[:, 1])), shape=(count, count))
    _, theirs = connected_components(graph, directed=False)
    ours = _connected(count, array)
    assert len(set(ours)) == len(set(theirs)) == len(set(zip(ours, theirs.tolist(), strict=True)))
    assert list(dict.fromkeys(ours)) == list(range(len(set(ours))))


def test_groups_of_nothing_and_wrong_arguments(tmp_path):
    assert near_duplicate_groups([]) == []
    for agreement in (0, -1, 1.1, float("nan")):
        with pytest.raises(DataError, match="agreement"):
            near_duplicate_groups([], agreement)
    (tmp_path / "broken.jpg").write_bytes(b"no")
    with pytest.raises(ImageReadError, match=r"broken\.jpg"):
        near_duplicate_groups([tmp_path / "broken.jpg"])
