"""BatchScorer: scores of the command line bit for bit, a row for everything, sent to workers."""

import io
import json
import pickle
from typing import Any

import fakes
import numpy as np
import pytest
from PIL import Image

from iqametrics import InputError, UnknownMetricError
from iqametrics.cli.main import main
from iqametrics.pipeline import BatchScorer


@pytest.fixture
def files(tmp_path, monkeypatch):
    weights = tmp_path / "weights"
    weights.mkdir()
    fakes.install(weights, monkeypatch)
    generator = np.random.default_rng(3)
    for name in ("a", "b", "c"):
        Image.fromarray(generator.integers(0, 256, (24, 40, 3), dtype=np.uint8)).save(tmp_path / f"{name}.png")
    (tmp_path / "bad.png").write_bytes(b"\x89PNG no more")
    return tmp_path


def on_the_command_line(capsys, *arguments):
    main(["score", "--format", "jsonl", "--device", "cpu", *map(str, arguments)])
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_scores_and_fingerprints_are_those_of_the_command_line(files, capsys):
    paths = [files / "a.png", files / "bad.png", files / "b.png"]
    wanted = on_the_command_line(capsys, *paths, "--metric", "fake-nr.tiny")
    array = np.asarray(Image.open(files / "b.png"))
    got = BatchScorer("fake-nr.tiny", device="cpu")([str(paths[0]), paths[1].read_bytes(), array])
    assert [row.score for row in got] == [row.get("score") for row in wanted]
    assert {row.fingerprint for row in got} == {row["fingerprint"] for row in wanted}
    assert [row.error is None for row in got] == [True, False, True]
    assert [row.image for row in got] == [str(paths[0]), "images[1]", "images[2]"]


@pytest.mark.parametrize("form", ["path", "bytes", "array"])
def test_references_of_every_form_give_the_score_of_the_command_line(files, capsys, form):
    wanted = on_the_command_line(
        capsys, files / "a.png", files / "b.png", "--ref", files / "c.png", "--metric", "fake-fr.lite"
    )
    given = {
        "path": str(files / "c.png"),
        "bytes": (files / "c.png").read_bytes(),
        "array": np.asarray(Image.open(files / "c.png")),
    }[form]
    got = BatchScorer("fake-fr.lite", device="cpu")([files / "a.png", files / "b.png"], [given, given])
    assert [row.score for row in got] == [row["score"] for row in wanted]


@pytest.mark.parametrize("as_bytes", [True, False])
def test_references_of_one_name_are_told_apart_and_equal_ones_are_encoded_once(files, as_bytes):
    def content(name):
        return (files / f"{name}.png").read_bytes() if as_bytes else np.asarray(Image.open(files / f"{name}.png"))

    scorer = BatchScorer("fake-fr.lite", device="cpu")
    before = fakes.FakeFr.encoded
    got = scorer([content("a")] * 3, [content("b"), content("c"), content("b")], reference_names=["reference"] * 3)
    assert fakes.FakeFr.encoded - before == 2
    alone = [scorer([content("a")], [content(name)])[0].score for name in ("b", "c", "b")]
    assert [row.score for row in got] == alone
    assert alone[0] != alone[1]
    assert {row.reference for row in got} == {"reference"}


def test_a_missing_picture_or_reference_costs_its_row(files):
    good = str(files / "a.png")
    images: list[Any] = [good, None, good, "nowhere.png", object(), good]
    got = BatchScorer("fake-fr.lite", device="cpu")(images, [good, good, None, good, good, b""])
    assert [row.error is None for row in got] == [True, False, False, False, False, False]
    assert all("\n" not in row.error for row in got[1:])


def test_a_file_may_be_called_something_else(files):
    row, lost = BatchScorer("fake-nr.tiny", device="cpu")([files / "a.png", "nowhere"], names=["first", "second"])
    assert (row.image, row.error) == ("first", None)
    assert "nowhere" in lost.error


def test_it_is_sent_to_a_worker_without_its_model(files):
    scorer = BatchScorer("fake-nr.tiny", device="cpu", batch_size=2)
    before = scorer([files / "a.png"])
    sent = pickle.dumps(scorer)
    assert len(sent) < 500
    again = pickle.loads(sent)
    assert again._metric is None
    assert again.batch_size == 2
    assert again([files / "a.png"]) == before
    assert again.metric is again.metric


def test_wrong_calls_are_refused(files):
    scorer = BatchScorer("fake-nr.tiny", device="cpu")
    with pytest.raises(InputError, match="takes no reference"):
        scorer([files / "a.png"], [files / "b.png"])
    with pytest.raises(InputError, match="1 images and 2 names"):
        scorer([files / "a.png"], names=["a", "b"])
    with pytest.raises(UnknownMetricError):
        BatchScorer("fake-nothing")
    assert scorer([]) == []


def test_a_picture_of_bytes_needs_no_file(files):
    stream = io.BytesIO()
    Image.new("L", (16, 16), 128).save(stream, "PNG")
    assert BatchScorer("fake-nr.tiny", device="cpu")([memoryview(stream.getvalue())])[0].error is None
