"""The protocol: no reference on two sides for any dataset's layout and seed, shares met, splits frozen."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from places import DATA
from tools import load_tool

from iqametrics.datasets.protocol import (
    EIGHT_TWO,
    SIX_TWO_TWO,
    Parts,
    Shares,
    group_keys,
    official_parts,
    parts_digest,
    random_parts,
    repeated_parts,
    select,
)
from iqametrics.datasets.sample import Sample
from iqametrics.datasets.splits import split_groups
from iqametrics.errors import DataError

DIGESTS = json.loads((DATA / "split_digests.json").read_text())
BOTH = [SIX_TWO_TWO, EIGHT_TWO]
SEEDS = st.integers(-(2**40), 2**40)
LABELS = os.environ.get("IQAMETRICS_LABELS")


def synthetic(count, versions, image, reference):
    """A dataset of `count` references; the patterns take the reference's number r and the version's k."""
    return [
        Sample(Path(image.format(r=r, k=k)), Path(reference.format(r=r, k=k)), 0.5)
        for r in range(1, count + 1)
        for k in range(versions(r))
    ]


def mixed_case(samples):
    """Every other row names the same reference file in the other case, as TID2013's releases do."""
    return [
        Sample(s.image, s.reference.with_name(s.reference.name.swapcase()) if i % 2 else s.reference, s.mos)
        for i, s in enumerate(samples)
    ]


# Names and numbers as in the releases, a fifth of the versions.
LAYOUTS = {
    "live": synthetic(29, lambda r: 4 + r % 3, "live/jp2k/img{r}{k}.bmp", "live/refimgs/ref{r}.bmp"),
    "csiq": synthetic(30, lambda r: 6, "csiq/dst_imgs/AWGN/n{r}.AWGN.{k}.png", "csiq/src_imgs/n{r}.png"),
    "tid2013": mixed_case(synthetic(25, lambda r: 24, "tid/i{r:02d}_{k:02d}_1.bmp", "tid/ref/I{r:02d}.BMP")),
    "kadid10k": synthetic(81, lambda r: 25, "kadid/images/I{r:02d}_{k:02d}_01.png", "kadid/images/I{r:02d}.png"),
    "clive": [Sample(Path(f"clive/Images/{n}.bmp"), None, 0.5) for n in range(1162)],
    "koniq10k": [Sample(Path(f"koniq/1024x768/{7 * n}.jpg"), None, 0.5) for n in range(1000)],
    "spaq": [Sample(Path(f"spaq/TestImage/{n:05d}.jpg"), None, 0.5) for n in range(1112)],
    "flive": [Sample(Path(f"flive/database/{'ab'[n % 2]}/{n}.jpg"), None, 0.5) for n in range(1000)],
    "biq2021": [Sample(Path(f"biq/Images/ss{n % 9:02d} ({n}).jpg"), None, 0.5) for n in range(1200)],
    "csv with groups": [
        Sample(Path(f"{n}.jpg"), Path(f"r{n // 4}.jpg"), 0.5, group=f"scene {n // 12}" if n % 3 else None)
        for n in range(400)
    ],
    "one original in two folders": synthetic(20, lambda r: 6, "d/{r}_{k}.png", "folder{k}/{r}.png"),
}


def sides(samples, parts):
    """Indices, and names of references (or images), of the three parts."""
    indices = [parts.train, parts.validation, parts.test]
    return indices, [{(samples[i].reference or samples[i].image).name.casefold() for i in part} for part in indices]


# ---- no leak, everything once, sizes


@pytest.mark.parametrize("shares", BOTH, ids=["6:2:2", "8:2"])
@pytest.mark.parametrize("name", LAYOUTS)
@settings(max_examples=20, deadline=None)
@given(seed=SEEDS)
def test_no_reference_stands_on_two_sides(name, shares, seed):
    samples = LAYOUTS[name]
    parts = random_parts(samples, seed=seed, shares=shares)
    indices, names = sides(samples, parts)
    assert sorted(i for part in indices for i in part) == list(range(len(samples)))
    assert all(list(part) == sorted(part) for part in indices)
    assert sum(map(len, names)) == len(set.union(*names))
    keys = group_keys(samples)
    largest = max(keys.count(key) for key in set(keys)) if len(samples) < 700 else 125
    for part, share in zip(indices, (shares.train, shares.validation, shares.test), strict=True):
        assert abs(len(part) - share * len(samples)) <= largest
        assert part


@settings(max_examples=100, deadline=None)
@given(st.data(), SEEDS)
def test_no_leak_in_random_tables(data, seed):
    """Rows with and without references and groups, in any case and folder."""
    rows = data.draw(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 2), st.booleans()), min_size=12, max_size=60))
    samples = [
        Sample(
            Path(f"{n}.png"),
            Path("x" if folder else "y", f"{'R' if n % 2 else 'r'}{number}.png") if folder < 2 else None,
            0.5,
            group=f"g{number % 4}" if grouped and folder else None,
        )
        for n, (number, folder, grouped) in enumerate(rows)
    ]
    keys = group_keys(samples)
    if len(set(keys)) < 4 or 2 * max(map(keys.count, keys)) > len(keys):
        return  # one group may fill all but one part, which is refused
    parts = random_parts(samples, seed=seed, shares=SIX_TWO_TWO)
    for kind in (lambda s: s.group, lambda s: s.reference and str(s.reference).casefold()):
        held = [{kind(samples[i]) for i in part} - {None} for part in (parts.train, parts.validation, parts.test)]
        assert sum(map(len, held)) == len(set.union(*held))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=5, max_size=60), SEEDS)
def test_the_test_part_does_not_depend_on_the_rest(sizes, seed):
    samples = [Sample(Path(f"{r}_{k}.png"), Path(f"{r}.png"), 0.5) for r, n in enumerate(sizes) for k in range(n)]
    tests = {
        random_parts(samples, seed=seed, shares=shares).test
        for shares in (SIX_TWO_TWO, EIGHT_TWO, Shares(0.8, 0.0, 0.2))
    }
    assert len(tests) == 1


@pytest.mark.parametrize(
    ("shares", "written"),
    [(SIX_TWO_TWO, Shares(1 - 0.2 - 0.2, 0.2, 0.2)), (EIGHT_TWO, Shares(1 - 0.08 - 0.2, 0.08, 0.2))],
)
def test_rounding_of_the_shares_changes_nothing(shares, written):
    # A recipe gives validation and test; the training share is what is left, up to rounding.
    for count in range(20, 120):
        samples = [sample(f"{n}.png") for n in range(count)]
        assert random_parts(samples, seed=0, shares=shares) == random_parts(samples, seed=0, shares=written), count


def test_order_and_place_change_nothing():
    samples = LAYOUTS["kadid10k"]
    moved = [Sample(Path("/else") / s.image.name, Path("/x/y") / s.reference.name.upper(), 0.5) for s in samples]
    one = random_parts(samples, seed=4, shares=SIX_TWO_TWO)
    assert one == random_parts(moved, seed=4, shares=SIX_TWO_TWO)
    other = random_parts(samples[::-1], seed=4, shares=SIX_TWO_TWO)
    assert {samples[i].image for i in one.test} == {samples[::-1][i].image for i in other.test}


def test_two_parts_are_those_of_split_groups():
    """The bundled lite checkpoints were split so, by a group column or near-duplicates, without a test part."""
    samples = [sample(f"{n}.png", f"r{n}.png", group=f"Photo {n // 7}") for n in range(300)]
    parts = random_parts(samples, seed=0, shares=Shares(0.85, 0.15, 0.0))
    assert [list(parts.train), list(parts.validation)] == split_groups([s.group for s in samples], [0.85, 0.15], 0)


def test_no_part_wanted_is_empty():
    parts = random_parts(LAYOUTS["clive"], seed=0, shares=Shares(1.0, 0.0, 0.0))
    assert (len(parts.train), parts.validation, parts.test) == (1162, (), ())


# ---- frozen


def test_the_made_sets_are_split_as_ever():
    ours = load_tool("benchmarks/make_split_digests.py")
    sets = ours.made_sets()
    assert set(sets) == set(DIGESTS["made"])
    for name, samples in sets.items():
        assert ours.digests(samples) == DIGESTS["made"][name], name


def test_a_digest_tells_splits_apart():
    samples = LAYOUTS["live"]
    keys = group_keys(samples)
    found = {parts_digest(keys, parts) for shares in BOTH for parts in repeated_parts(samples, shares=shares)}
    assert len(found) == 20


@pytest.mark.skipif(LABELS is None, reason="IQAMETRICS_LABELS does not name the score files")
@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(DIGESTS["datasets"]))
def test_the_datasets_are_split_as_ever(name):
    samples = load_tool("benchmarks/make_split_digests.py").real_set(Path(LABELS), name)
    if samples is None:
        pytest.skip(f"{LABELS} has no {name}")
    repeats = 10 if len(samples) < 20_000 else 2  # ten of FLIVE's take long
    splits = load_tool("benchmarks/make_split_digests.py").splits(samples, repeats)
    frozen = {shares: digests[:repeats] for shares, digests in DIGESTS["datasets"][name].items()}
    assert load_tool("benchmarks/make_split_digests.py").digests(samples, splits) == frozen
    names = [(s.reference or s.image).name.casefold() for s in samples]
    for parts in (parts for ten in splits.values() for parts in ten):
        assert sorted(parts.train + parts.validation + parts.test) == list(range(len(samples)))
        held = [{names[i] for i in part} for part in (parts.train, parts.validation, parts.test)]
        assert sum(map(len, held)) == len(set(names))


# ---- groups


def sample(image="a.png", reference=None, **more):
    return Sample(Path(image), None if reference is None else Path(reference), 0.5, **more)


def test_what_makes_a_group():
    rows = [
        sample("d/A1.png", "r/I01.BMP"),
        sample("d/a2.png", "other/i01.bmp"),
        sample("d/a3.png", "r/I02.BMP", group="Pair"),
        sample("d/a4.png", "R/i02.bmp"),
        sample("d/A5.png"),
    ]
    # Equal names in two folders are one group; a row without a group takes that of its reference; a group keeps its
    # case, since somebody wrote it so.
    assert group_keys(rows) == ["i01.bmp", "i01.bmp", "Pair", "Pair", "a5.png"]
    assert group_keys(rows[:4], "reference") == ["i01.bmp", "i01.bmp", "Pair", "Pair"]
    assert group_keys(rows, "image") == ["a1.png", "a2.png", "a3.png", "a4.png", "a5.png"]
    typed = [sample(kind=3, distortion="blur"), sample(distortion="noise")]
    assert group_keys(typed, "distortion") == ["3", "noise"]


def test_a_group_column_tells_equal_names_apart():
    rows = [sample(f"{f}/{k}.png", f"{f}/ref.png", group=f) for f in "abcd" for k in range(3)]
    assert group_keys(rows) == [f for f in "abcd" for _ in range(3)]
    bare = [sample(str(s.image), str(s.reference)) for s in rows]
    with pytest.raises(DataError, match=r"12 images of 1 group .* group column"):
        random_parts(bare, seed=0, shares=SIX_TWO_TWO)


def test_near_duplicates_keep_their_numbers(monkeypatch):
    monkeypatch.setattr("iqametrics.datasets.protocol.near_duplicate_groups", lambda paths: [0, 1, 0])
    assert group_keys([sample(), sample("b.png"), sample("c.png")], "near-duplicates") == ["0", "1", "0"]


@pytest.mark.parametrize(
    ("rows", "by", "message"),
    [
        ([sample()], "scene", "'scene': there is no such grouping"),
        ([sample()], "reference", r"a\.png: no reference and no group"),
        ([sample()], "distortion", r"a\.png: no distortion type"),
        ([sample(reference="r", group="x"), sample("b", "r", group="y")], "auto", "groups 'x' and 'y'"),
    ],
)
def test_groups_that_cannot_be(rows, by, message):
    with pytest.raises(DataError, match=message):
        group_keys(rows, by)


@pytest.mark.parametrize("shares", [(0.5, 0.2, 0.2), (1.2, -0.2, 0.0), (0.0, 0.5, 0.5)])
def test_wrong_shares(shares):
    with pytest.raises(DataError, match="sum to one"):
        Shares(*shares)


def test_ten_repeats_are_one_call():
    samples = LAYOUTS["live"]
    ten = repeated_parts(samples, shares=EIGHT_TWO)
    assert ten == [random_parts(samples, seed=seed, shares=EIGHT_TWO) for seed in range(10)]
    assert len(set(ten)) == 10
    assert repeated_parts(samples, repeats=2, seed=3, shares=EIGHT_TWO) == ten[3:5]
    with pytest.raises(DataError, match="repeats 0"):
        repeated_parts(samples, repeats=0, shares=EIGHT_TWO)


# ---- official parts and the text of a split

OFFICIAL = [sample(f"{n}.jpg", split=("training", "validation", "test", None)[min(n // 40, 3)]) for n in range(123)]
NO_VALIDATION = [sample(f"{n}.jpg", split="test" if n >= 100 else "train") for n in range(120)]


def test_official_parts():
    parts = official_parts(OFFICIAL)
    assert parts == Parts(tuple(range(40)), tuple(range(40, 80)), tuple(range(80, 120)))  # three belong to none


def test_a_share_of_the_official_training_part_is_validation():
    parts = official_parts(NO_VALIDATION)
    assert (len(parts.train), len(parts.validation), parts.test) == (90, 10, tuple(range(100, 120)))
    assert sorted(parts.train + parts.validation) == list(range(100))
    assert official_parts(NO_VALIDATION, seed=1).validation != parts.validation
    assert official_parts(NO_VALIDATION, validation=0) == Parts(tuple(range(100)), (), tuple(range(100, 120)))


def test_select():
    def numbers(samples, text, **more):
        return [int(s.image.stem) for s in select(samples, text, **more)]

    assert numbers(OFFICIAL, "all") == list(range(123))
    assert numbers(OFFICIAL, "official") == numbers(OFFICIAL, "official:test") == list(range(80, 120))
    assert numbers(OFFICIAL, "official:val") == list(range(40, 80))
    assert numbers(NO_VALIDATION, "official:train") == list(range(100))
    parts = random_parts(OFFICIAL, seed=7, shares=EIGHT_TWO)
    assert numbers(OFFICIAL, "random:7:test") == list(parts.test)
    assert numbers(OFFICIAL, "random:7:train") == list(parts.train)
    assert numbers(OFFICIAL, "random:7:train", shares=SIX_TWO_TWO) != list(parts.train)


@pytest.mark.parametrize(("name", "shares"), [("kadid10k", SIX_TWO_TWO), ("clive", EIGHT_TWO)])
def test_random_parts_on_the_command_line_are_the_papers(name, shares):
    samples = LAYOUTS[name]
    parts = random_parts(samples, seed=3, shares=shares)
    for part in ("train", "validation", "test"):
        assert select(samples, f"random:3:{part}") == [samples[index] for index in getattr(parts, part)]


@pytest.mark.parametrize(
    ("samples", "text", "mode", "message"),
    [
        (OFFICIAL, "some", None, "'some' is not one; use all, official"),
        (OFFICIAL, "random:3", None, "is not one"),
        (OFFICIAL, "random:x:test", None, "seed 'x'"),
        (OFFICIAL, "random:1:tests", None, "part 'tests'"),
        (OFFICIAL, "official:", None, "part ''"),
        (NO_VALIDATION, "official:validation", None, "this part is empty"),
        (LAYOUTS["clive"], "official", None, "no split of its own"),
        (LAYOUTS["clive"], "random:0:test", "fr", "no reference and no group"),
        ([sample(split="extra")], "official", None, r"a\.png: split names the part 'extra'"),
    ],
)
def test_splits_that_cannot_be(samples, text, mode, message):
    with pytest.raises(DataError, match=message) as caught:
        select(samples, text, mode=mode)
    assert "\n" not in str(caught.value)


def test_an_official_training_part_that_is_not_at_hand():
    parts = official_parts([sample("a.png", split="test"), sample("b.png")])
    assert parts == Parts((), (), (0,))


def test_official_validation_share():
    with pytest.raises(DataError, match="validation 1"):
        official_parts(NO_VALIDATION, validation=1)
