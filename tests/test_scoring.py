"""Scoring of many images: order, batches, held references, errors in their place, memory."""

import threading
import time
import tracemalloc
from typing import Any

import fakes
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from iqametrics import InputError, scoring
from iqametrics.metric import Sizing
from iqametrics.scoring import Item, score_items

SIZING = Sizing(8, 64)
SIZES = [(20, 30), (30, 20), (9, 9), (100, 50)]


def nr(sizing=SIZING):
    return fakes.FakeNr(fakes.seeded_model(), sizing, tag="tiny")


def fr(sizing=SIZING):
    return fakes.FakeFr(fakes.seeded_model(seed=1), sizing, tag="tiny")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Twelve pictures of four sizes, in mixed order, and a reference for each size."""
    folder = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for index in range(12):
        height, width = SIZES[index % 4 if index < 8 else 0]
        write(folder / f"{index}.png", generator.integers(0, 256, (height, width, 3), dtype=np.uint8))
    for height, width in SIZES:
        write(folder / f"ref{height}.png", generator.integers(0, 256, (height, width, 3), dtype=np.uint8))
    (folder / "bad.png").write_bytes(b"no picture")
    return folder


def write(path, array):
    Image.fromarray(array).save(path)


def items(folder, indices):
    heights = [SIZES[index % 4 if index < 8 else 0][0] for index in indices]
    return [
        Item(str(folder / f"{index}.png"), str(folder / f"ref{height}.png"))
        for index, height in zip(indices, heights, strict=True)
    ]


def alone(metric, folder, indices):
    wanted = items(folder, indices)
    if metric.mode == "nr":
        return [metric(item.image).item() for item in wanted]
    return [metric(item.image, item.reference).item() for item in wanted]


class TestOrderAndBatches:
    @pytest.mark.parametrize("make", [nr, fr])
    @settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        indices=st.lists(st.integers(0, 11), max_size=20),
        batch_size=st.integers(1, 9),
        workers=st.integers(1, 3),
    )
    def test_independent_of_batch_size_and_order(self, files, make, indices, batch_size, workers):
        metric = make()
        rows = list(score_items([metric], items(files, indices), batch_size=batch_size, workers=workers))
        assert [row.image for row in rows] == [item.image for item in items(files, indices)]
        assert [row.score for row in rows] == pytest.approx(alone(metric, files, indices), abs=1e-5)
        assert all(row.error is None and row.metric == metric.full_name for row in rows)

    def test_images_of_one_size_share_a_batch(self, files, monkeypatch):
        sizes = []
        original = fakes.FakeNr.score_images
        monkeypatch.setattr(
            fakes.FakeNr, "score_images", lambda self, dist, ref: sizes.append(len(dist)) or original(self, dist, ref)
        )
        list(score_items([nr()], items(files, range(12)), batch_size=4))
        assert sizes == [2, 2, 2, 2, 4]  # 0 4 | 1 5 | 2 6 | 3 7 | 8 9 10 11: worked by hand, looking eight ahead

    def test_a_batch_has_a_limit_of_pixels(self, files, monkeypatch):
        monkeypatch.setattr(scoring, "MAX_BATCH_PIXELS", 20 * 30 * 2)
        sizes = []
        original = fakes.FakeNr.score_images
        monkeypatch.setattr(
            fakes.FakeNr, "score_images", lambda self, dist, ref: sizes.append(len(dist)) or original(self, dist, ref)
        )
        list(score_items([nr()], items(files, [8, 9, 10, 11, 8]), batch_size=8))
        assert sizes == [2, 2, 1]

    def test_several_metrics(self, files):
        metrics = [fr(), nr(), nr(Sizing(16, 24))]
        rows = list(score_items(metrics, items(files, [0, 3])))
        assert [row.image for row in rows] == [item.image for item in items(files, [0, 0, 0, 3, 3, 3])]
        assert [row.reference is None for row in rows] == [False, True, True] * 2
        expected = [value for pair in zip(*(alone(m, files, [0, 3]) for m in metrics), strict=True) for value in pair]
        assert [row.score for row in rows] == pytest.approx(expected, abs=1e-5)

    def test_nothing(self):
        assert list(score_items([nr()], [])) == []
        assert list(score_items([], [Item("x.png")])) == []

    def test_endless_input_is_read_as_needed(self, files):
        taken = []

        def endless():
            while True:
                taken.append(1)
                yield items(files, [2])[0]

        rows: Any = score_items([nr()], endless(), batch_size=2)
        for _ in range(3):
            next(rows)
        rows.close()
        assert len(taken) <= 3 * 2 + 3
        deadline = time.perf_counter() + 5
        while any(thread.name == "iqametrics-decode" for thread in threading.enumerate()):
            assert time.perf_counter() < deadline, "the threads do not end"
            time.sleep(0.01)

    @pytest.mark.parametrize("keywords", [{"batch_size": 0}, {"workers": 0}])
    def test_impossible_options(self, keywords):
        with pytest.raises(InputError, match="1 or more"):
            next(score_items([nr()], [], **keywords))

    def test_a_loss_is_no_score(self):
        metric = nr()
        metric.as_loss = True
        with pytest.raises(InputError, match="without as_loss"):
            next(score_items([metric], []))


class TestReferences:
    def test_each_is_encoded_once(self, files):
        fakes.FakeFr.encoded = 0
        list(score_items([fr()], items(files, range(12)), batch_size=3))
        assert fakes.FakeFr.encoded == 4

    def test_each_again_where_there_is_no_room(self, files, monkeypatch):
        monkeypatch.setattr(scoring, "MAX_REFERENCE_BYTES", 1)
        metric = fr()
        fakes.FakeFr.encoded = 0
        rows = list(score_items([metric], items(files, [0, 1, 0, 1]), batch_size=1))
        assert fakes.FakeFr.encoded == 4
        assert [row.score for row in rows] == pytest.approx(alone(metric, files, [0, 1, 0, 1]), abs=1e-5)

    def test_other_size_in_the_file_though_not_after_sizing(self, files, tmp_path):
        write(tmp_path / "a.png", np.zeros((128, 128, 3), np.uint8))
        write(tmp_path / "b.png", np.zeros((64, 64, 3), np.uint8))
        (row,) = score_items([fr()], [Item(str(tmp_path / "a.png"), str(tmp_path / "b.png"))])
        assert row.score is None
        assert "128x128 but its reference is 64x64" in row.error


class TestErrors:
    def test_in_their_place(self, files):
        good = items(files, [0, 4])
        bad = [
            Item(str(files / "bad.png"), good[0].reference),
            Item(str(files / "absent.png"), good[0].reference),
            Item("nowhere", error="nowhere: holds no image"),
            Item(good[0].image, str(files / "bad.png")),
            Item(good[0].image, reference_error="0.png: has no partner"),
            Item(good[0].image),
        ]
        rows = list(score_items([fr(), nr()], [good[0], *bad, good[1]], batch_size=2))
        assert [row.error is None for row in rows[0::2]] == [True, *[False] * 6, True]
        assert [row.error is None for row in rows[1::2]] == [True, *[False] * 3, *[True] * 4]  # nr needs no reference
        assert all((row.score is None) == (row.error is not None) for row in rows)
        assert "bad.png" in rows[2].error
        assert rows[6].error == "nowhere: holds no image"
        assert "bad.png" in rows[8].error
        assert rows[10].error == "0.png: has no partner"
        assert "no reference" in rows[12].error

    def test_one_image_that_fails_in_a_batch_fails_alone(self, files, monkeypatch):
        original = fakes.FakeNr.score_images

        def fails_on_a_sum(self, dist, ref):
            if (dist.sum((1, 2, 3)) - poison).abs().min() < 1e-3:
                raise torch.OutOfMemoryError("out of memory\nwith a long tail")
            return original(self, dist, ref)

        metric = nr()
        poison = metric._prepare([scoring.read_image(files / "8.png")]).sum()
        monkeypatch.setattr(fakes.FakeNr, "score_images", fails_on_a_sum)
        rows = list(score_items([metric], items(files, [0, 4, 8, 9])))
        assert [row.error for row in rows] == [None, None, "out of memory", None]

    def test_a_score_that_is_no_number(self, files):
        metric = nr()
        metric.model.head.bias.data.fill_(float("nan"))
        (row,) = score_items([metric], items(files, [0]))
        assert row.score is None
        assert "nan" in row.error

    def test_nothing_is_kept_of_a_reference_whose_image_failed(self, files):
        decoder = scoring._Decoder(1)
        state = scoring._Scoring([fr()], 2, decoder)
        list(state.run(iter([Item(str(files / "bad.png"), str(files / "ref20.png"))] * 3 + items(files, range(9)))))
        decoder.close()
        assert not state.references.pending
        assert not decoder._queue
        assert decoder._held == 0


def test_a_folder_is_not_decoded_ahead(tmp_path):
    """Peak of what Python and NumPy allocate, over 30 pictures of 0.5 MB each in float."""
    write(tmp_path / "a.png", np.zeros((200, 200, 3), np.uint8))
    many = [Item(str(tmp_path / "a.png"))] * 30
    metric = nr(Sizing(8, None))
    tracemalloc.start()
    for _ in score_items([metric], many, batch_size=2, workers=1):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 * 0.48e6


@pytest.mark.parametrize("make", [nr, fr])
def test_images_held_are_bounded_by_bytes(tmp_path, monkeypatch, make):
    """Room for one picture: two workers may hold one each beyond it, and a full-reference metric its reference."""
    write(tmp_path / "a.png", np.zeros((100, 100, 3), np.uint8))
    write(tmp_path / "b.png", np.zeros((100, 100, 3), np.uint8))
    nbytes = 100 * 100 * 3 * 4
    monkeypatch.setattr(scoring, "MAX_HELD_BYTES", nbytes)
    monkeypatch.setattr(scoring, "MAX_REFERENCE_BYTES", 1)
    held = []
    original = scoring._decode
    decoders = []
    init = scoring._Decoder.__init__
    monkeypatch.setattr(scoring._Decoder, "__init__", lambda self, n: decoders.append(self) or init(self, n))
    monkeypatch.setattr(scoring, "_decode", lambda *a: held.append(decoders[0]._held) or original(*a))
    pairs = [Item(str(tmp_path / "a.png"), str(tmp_path / f"{'ab'[i % 2]}.png")) for i in range(12)]
    rows = list(score_items([make(Sizing(8))], pairs, batch_size=4, workers=2))
    assert [row.error for row in rows] == [None] * 12
    assert max(held) <= 3 * nbytes


def test_no_decoding_thread_outlives_the_scoring(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(path)
    list(score_items([nr()], [Item(str(path))] * 3, workers=3))
    # One that is still in torch when the interpreter ends aborts the process.
    assert not [thread for thread in threading.enumerate() if thread.name == "iqametrics-decode"]


def test_a_cpu_takes_one_image_at_a_time(tmp_path, monkeypatch):
    write(tmp_path / "a.png", np.zeros((40, 40, 3), np.uint8))
    sizes = []
    metric = nr()
    original = metric.score_images
    monkeypatch.setattr(metric, "score_images", lambda dist, *rest: (sizes.append(len(dist)), original(dist, *rest))[1])
    assert len(list(score_items([metric], [Item(str(tmp_path / "a.png"))] * 5))) == 5
    assert set(sizes) == {1}
