import dataclasses
import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse.csgraph
from hypothesis import given
from hypothesis import strategies as st
from training_fake import write_dataset

from iqametrics.datasets.sample import LIQE_CLASSES, Sample
from iqametrics.errors import DataError, RecipeError
from iqametrics.training.checks import check_ranked, check_references
from iqametrics.training.data import (
    RunImage,
    epoch_steps,
    epoch_views,
    image_files,
    load_data,
    portions,
    split_samples,
    step_views,
    with_known_groups,
)
from iqametrics.training.recipe import Recipe, SplitTable, TrainTable, parse_recipe
from iqametrics.words import NONE, UNKNOWN, WORDS


def sample(number: int, **values) -> Sample:
    return Sample(Path(f"{number}.png"), values.pop("reference", None), number / 100, **values)


def recipe(folder: Path, **tables) -> Recipe:
    tables = {"metric": {"name": "fake"}, "data": {"csv": "data.csv"}, "train": {"crop": 32}, **tables}
    return parse_recipe(tables, folder)


@given(seed=st.integers(0, 10**6), by=st.sampled_from(["reference", "distortion", "image"]))
def test_no_group_stands_on_two_sides(seed, by):
    samples = [sample(i, reference=Path(f"r{i % 9}.png"), kind=i % 7) for i in range(60)]
    parts = split_samples(samples, SplitTable(validation=0.2, test=0.2, by=by, seed=seed))
    assert sorted(item.sample.mos for part in parts for item in part) == [s.mos for s in samples]
    assert all(parts)
    key = {"reference": lambda s: s.reference, "distortion": lambda s: s.kind, "image": lambda s: s.image}[by]
    sides = [{key(item.sample) for item in part} for part in parts]
    assert not sides[0] & sides[1] | sides[0] & sides[2] | sides[1] & sides[2]


def test_the_csv_column_decides_where_it_is_asked_to():
    samples = [sample(i, split=name) for i, name in enumerate(["train", "Test", "val", "training", "validation"])]
    train, validation, test = split_samples(samples, SplitTable(by="column"))
    assert [[item.sample.mos * 100 for item in part] for part in (train, validation, test)] == [[0, 3], [2, 4], [1]]
    with pytest.raises(DataError, match=r"5\.png: nothing to split by 'column'"):
        split_samples([*samples, sample(5)], SplitTable(by="column"))
    with pytest.raises(DataError, match="no reference and no group to split by"):
        split_samples(samples, SplitTable(by="reference"))


def test_near_duplicates_stay_together(tmp_path):
    write_dataset(tmp_path, count=8)
    (tmp_path / "8.png").write_bytes((tmp_path / "7.png").read_bytes())
    with (tmp_path / "data.csv").open("a") as stream:
        stream.write("8.png,0.0,,\n")
    for seed in range(8):
        data = load_data(recipe(tmp_path, split={"validation": 0.4, "by": "near-duplicates", "seed": seed}))
        sides = [{item.sample.image.name for item in part} for part in (data.train, data.validation)]
        assert not any(len({"7.png", "8.png"} & side) == 1 for side in sides)


@pytest.mark.slow
@given(
    looks=st.lists(st.integers(0, 9), min_size=12, max_size=12),
    references=st.lists(st.none() | st.integers(0, 4), min_size=12, max_size=12),
)
def test_look_alikes_also_keep_to_their_references(looks, references):
    samples = [
        sample(i, reference=None if r is None else Path(f"r{r}.png"), group="g" if i < 2 else None)
        for i, r in enumerate(references)
    ]
    samples = [s if s.group is None else dataclasses.replace(s, reference=None) for s in samples]
    found = with_known_groups(samples, [str(look) for look in looks])
    # The oracle: a graph whose edges are what must stay together.
    graph = np.zeros((12, 12))
    for i, one in enumerate(samples):
        for j, other in enumerate(samples):
            known = (one.reference is not None and one.reference == other.reference) or one.group == other.group == "g"
            graph[i, j] = looks[i] == looks[j] or known
    _, expected = scipy.sparse.csgraph.connected_components(graph)
    assert [[a == b for b in found] for a in found] == [[a == b for b in expected] for a in expected]
    if all(s.reference is None and s.group is None for s in samples):
        assert found == [str(look) for look in looks]


def test_strong_distortions_of_one_image_are_not_split_by_their_looks(tmp_path):
    write_dataset(tmp_path, count=12)
    rows = (tmp_path / "data.csv").read_text().splitlines()[1:]
    lines = [f"{row.split(',')[0]},{row.split(',')[1]},{int(row.split('.')[0]) % 4}.png" for row in rows]
    (tmp_path / "data.csv").write_text("\n".join(["image,mos,reference", *lines]) + "\n")
    data = load_data(recipe(tmp_path, split={"validation": 0.3, "by": "near-duplicates"}))
    sides = [{item.sample.reference for item in part} for part in (data.train, data.validation)]
    assert all(sides)
    assert not sides[0] & sides[1]


def test_further_data_join_training_only_and_never_leak(tmp_path):
    write_dataset(tmp_path, count=20)
    (tmp_path / "extra.csv").write_text(
        "image,mos,reference,distortion\n" + "".join(f"{i}.png,{5 - i % 5},{i}.png,noise\n" for i in range(20))
    )
    extra = [{"csv": "extra.csv", "mos_range": [1, 5], "weight": 0.5}]
    data = load_data(
        recipe(tmp_path, data={"csv": "data.csv", "extra": extra}, split={"validation": 0.3, "by": "image"}),
    )
    held = {item.sample.image for item in data.validation}
    added = [item for item in data.train if item.source == 1]
    assert len(data.validation) == 6
    assert all(item.source == 0 for item in data.validation)
    assert len(added) == 14
    assert not held & {item.sample.image for item in data.train}
    assert {item.weight for item in added} == {0.5}
    assert {item.distortion_class for item in added} == {LIQE_CLASSES.index("noise")}
    assert max(item.sample.mos for item in added) == 1.0


def test_distortion_classes_come_from_name_or_kind():
    expected = {"jpeg": "jpeg compression", "gaussian_blur": "blur", "overexposure": "overexposure"}
    for name, wanted in expected.items():
        assert RunImage(sample(1, distortion=name)).distortion_class == LIQE_CLASSES.index(wanted)
    # KADID-10k's type 9 is JPEG 2000, which is LIQE's first name.
    assert RunImage(sample(1, kind=9)).distortion_class == 0
    assert RunImage(sample(1, distortion="coffee stain")).distortion_class == -1
    assert RunImage(sample(1)).distortion_class == -1


def test_missing_references_are_told(tmp_path):
    write_dataset(tmp_path)
    tables = recipe(tmp_path, split={"validation": 0.25, "by": "image"})
    with pytest.raises(DataError, match="fill the reference column"):
        check_references(tables, load_data(tables))


def test_views_are_the_same_on_every_machine():
    items = [RunImage(sample(i)) for i in range(10)]
    train = TrainTable(views=2, flips=("h", "v"), seed=3)
    views = epoch_views(items, train, epoch=4)
    crops = [(view.item, view.top, view.left, view.flip_h, view.flip_v) for view in views]
    digest = hashlib.sha256(repr(crops).encode()).hexdigest()
    assert digest[:16] == "18f892a77f5de679"
    assert hashlib.sha256(repr([view.seed for view in views]).encode()).hexdigest()[:16] == "0e32d48ebf92f4c3"
    assert views == epoch_views(items, train, epoch=4)
    assert views != epoch_views(items, train, epoch=5)
    assert Counter(view.item for view in views) == dict.fromkeys(range(10), 2)


def test_views_cover_the_room_evenly():
    items = [RunImage(sample(i)) for i in range(4000)]
    views = epoch_views(items, TrainTable(flips=("h",)), epoch=0)
    assert not any(view.flip_v for view in views)
    for values in ([v.top for v in views], [v.left for v in views], [v.flip_h for v in views]):
        # A uniform mean over 4000 draws has a deviation of 0.0046, a coin's 0.008.
        assert sum(values) / len(values) == pytest.approx(0.5, abs=0.03)
    assert min(v.top for v in views) >= 0
    assert max(v.top for v in views) < 1
    order = [view.item for view in views]
    assert order != sorted(order)


def test_weights_are_frequencies():
    items = [RunImage(sample(i), weight=weight) for i, weight in enumerate([1.0] * 500 + [0.25] * 500 + [2.5] * 500)]
    counts = Counter(view.item for view in epoch_views(items, TrainTable(), epoch=0))
    assert all(counts[i] == 1 for i in range(500))
    assert sum(counts[i] for i in range(500, 1000)) == pytest.approx(125, abs=40)
    assert {counts[i] for i in range(1000, 1500)} == {2, 3}


@given(count=st.integers(1, 200), batch_size=st.integers(1, 40))
def test_steps_are_even_and_lose_nothing(count, batch_size):
    views: list[Any] = list(range(count))
    steps = step_views(views, batch_size)
    assert [view for step in steps for view in step] == views
    sizes = {len(step) for step in steps}
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    assert len(steps) == -(-count // batch_size)


def test_crops_of_an_image_stay_together():
    items = [RunImage(sample(i), weight=2.0 if i == 3 else 1.0) for i in range(7)]
    train = TrainTable(views=3, views_together=True, batch_size=3)
    steps = epoch_steps(items, train, epoch=0)
    assert [len(step) for step in steps] == [6, 9, 9]
    images = [view.item for step in steps for view in step]
    assert images[0::3] == images[1::3] == images[2::3]
    assert Counter(images[::3]) == {**dict.fromkeys(range(7), 1), 3: 2}
    assert len({view.top for step in steps for view in step}) == 24
    # The parts of a step and the shares of processes have whole images too.
    shares = [portions(steps[1], accumulate=1, processes=2, rank=rank, together=3) for rank in (0, 1)]
    assert [len(part.views) for share in shares for part in share] == [3, 6]
    assert shares[0][0].counts == (3, 6)


@pytest.mark.parametrize("steps", [2, 7])
def test_an_epoch_may_have_a_number_of_steps(steps):
    items = [RunImage(sample(i)) for i in range(10)]
    train = TrainTable(batch_size=4, steps_per_epoch=steps, epochs=3)
    first, second = (epoch_steps(items, train, epoch) for epoch in (0, 1))
    assert [len(step) for step in first] == [4] * steps
    drawn = Counter(view.item for step in first for view in step)
    # 28 crops are two passes and eight more; eight are a part of one pass.
    assert set(drawn.values()) <= ({2, 3} if steps == 7 else {1})
    assert first != second
    # 0, the default, is one pass.
    assert epoch_steps(items, TrainTable(batch_size=4), 0) == step_views(epoch_views(items, TrainTable(), 0), 4)


def test_files_are_named_once():
    reference = Path("r.png")
    items = [RunImage(sample(i, reference=reference)) for i in range(3)]
    assert [str(path) for path in image_files(items)] == ["0.png", "r.png", "1.png", "2.png"]


def test_versions_of_one_image_are_drawn_together(tmp_path):
    """They follow one another with the same crop and flips, all or none where they are drawn every second epoch."""
    scored = [RunImage(sample(i)) for i in range(40)]
    versions = [RunImage(sample(i), source=1, weight=0.5, chain=(i // 5, i % 5 - 1)) for i in range(100)]
    views = epoch_views([*scored, *versions], TrainTable(), epoch=3)
    places = [number for number, view in enumerate(views) if view.item >= 40]
    images: dict[int, list] = {}
    for number in places:
        images.setdefault((views[number].item - 40) // 5, []).append(number)
    assert 4 < len(images) < 16
    for numbers in images.values():
        assert numbers == list(range(numbers[0], numbers[0] + 5))
        assert len({(views[n].top, views[n].left, views[n].flip_h, views[n].flip_v) for n in numbers}) == 1
    assert [view for view in views if view.item < 40] == epoch_views(scored, TrainTable(), epoch=3)


def test_ranked_data(tmp_path):
    for folder in ("main", "more"):
        (tmp_path / folder).mkdir()
    write_dataset(tmp_path / "main", 16)
    write_dataset(tmp_path / "more", 4)
    rows = (tmp_path / "more" / "data.csv").read_text().splitlines()
    names = [row.split(",")[0] for row in rows[1:]]
    text = ["image,mos,group,distortion", f"{names[0]},1,a,", f"{names[1]},0.8,a,haze", f"{names[2]},0.9,b,haze"]
    (tmp_path / "more" / "order.csv").write_text("\n".join(text))
    data = {"csv": "main/data.csv", "extra": [{"csv": "more/order.csv", "ranked": True}]}
    made = recipe(tmp_path, data=data, split={"by": "column"}, train={"crop": 32, "selection": "last"})
    loaded = load_data(made).train
    chains = [item.chain for item in loaded if item.source == 1]
    assert chains == [(0, -1), (0, 0), (1, 0)]
    # Haze that is hardly seen says nothing, nor does a photograph that people scored.
    assert [item.word for item in loaded if item.source == 1] == [NONE, WORDS.index("hazy"), UNKNOWN]
    assert {item.word for item in loaded if item.source == 0} == {UNKNOWN}
    with pytest.raises(RecipeError, match=r"ranked.*model\.loss\.order_weight"):
        check_ranked(made, learns_order=False)
    check_ranked(made, learns_order=True)
    (tmp_path / "more" / "order.csv").write_text(f"image,mos\n{names[0]},1\n")
    with pytest.raises(DataError, match="has no group"):
        load_data(made)
