"""`iqametrics score --append-to metadata.jsonl`, in this process on two tiny metrics."""

import json
import os
import unicodedata

import numpy as np
import pytest
from PIL import Image

from iqametrics.cli.main import main

NR = ("--metric", "fake-nr.lite")


@pytest.fixture
def run(fake_metrics, tmp_path, capsys, monkeypatch):
    """Run the command line beside a folder of pictures, a.png and sub/b.png; status and stderr."""
    (tmp_path / "set" / "sub").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name in ("a.png", "sub/b.png"):
        picture(tmp_path / "set" / name, generator)
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        status = main(["score", *(str(argument) for argument in arguments), "--quiet"])
        return status, capsys.readouterr().err

    return call


def picture(path, generator):
    """Write a small picture."""
    Image.fromarray(generator.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(path)


def lines(path="set/metadata.jsonl"):
    """The file's records."""
    with open(path, encoding="utf-8") as stream:
        return [json.loads(line) for line in stream if line.strip()]


def test_a_file_that_does_not_exist_is_made(run):
    assert run(
        "set", "--recursive", *NR, "--format", "json", "--output", "s.json", "--append-to", "set/metadata.jsonl"
    ) == (0, "")
    with open("s.json", encoding="utf-8") as stream:
        rows = json.load(stream)
    assert lines() == [
        {"file_name": name, "fake-nr.lite": row["score"], "fake-nr.lite.fingerprint": row["fingerprint"]}
        for name, row in zip(("a.png", "sub/b.png"), rows, strict=True)
    ]


def test_lines_keep_what_they_say_and_their_order(run):
    before = [
        '{"text":"gone",  "file_name":"gone.png"}',
        '{"file_name": "./sub/b.png", "text": "ü", "fake-nr.lite": 7}',
        "",
    ]
    with open("set/metadata.jsonl", "w", encoding="utf-8") as stream:
        stream.write("\n".join(before))
    assert run("set", "--recursive", *NR, "--append-to", "set/metadata.jsonl")[0] == 0
    with open("set/metadata.jsonl", encoding="utf-8") as stream:
        text = stream.read()
    assert text.splitlines()[0] == before[0]
    assert "ü" in text
    _, second, third = lines()
    assert list(second) == ["file_name", "text", "fake-nr.lite", "fake-nr.lite.fingerprint"]
    assert second["fake-nr.lite"] != 7
    assert third["file_name"] == "a.png"


def test_two_metrics_one_after_the_other(run):
    run("set/a.png", *NR, "--append-to", "set/metadata.jsonl")
    run("set/a.png", "--metric", "fake-fr.lite", "--ref", "set/a.png", "--append-to", "set/metadata.jsonl")
    (line,) = lines()
    assert {"fake-nr.lite", "fake-fr.lite"} <= set(line)


def test_a_damaged_picture_has_no_earlier_score(run):
    run("set/a.png", *NR, "--append-to", "set/metadata.jsonl")
    with open("set/a.png", "wb") as stream:
        stream.write(b"no picture")
    assert run("set/a.png", *NR, "--append-to", "set/metadata.jsonl")[0] == 1
    assert lines()[0]["fake-nr.lite"] is None


def test_pictures_elsewhere_are_told(run):
    picture("elsewhere.png", np.random.default_rng(1))
    status = main(["score", "elsewhere.png", "set/a.png", *NR, "--append-to", "set/metadata.jsonl"])
    assert status == 0
    assert [line["file_name"] for line in lines()] == ["a.png"]


def test_the_note_counts_pictures_elsewhere(run, capsys):
    picture("elsewhere.png", np.random.default_rng(1))
    _, told = run("elsewhere.png", *NR, "--append-to", "set/metadata.jsonl")
    assert "set/metadata.jsonl: 1 scores are not in it" in told
    assert not os.path.exists("set/metadata.jsonl")


def test_a_link_is_the_name_that_counts(run):
    picture("elsewhere.png", np.random.default_rng(1))
    os.symlink(os.path.abspath("elsewhere.png"), "set/link.png")
    run("set/link.png", *NR, "--append-to", "set/metadata.jsonl")
    assert [line["file_name"] for line in lines()] == ["link.png"]


def test_composed_and_decomposed_letters_are_one_name(run):
    name = "é.png"
    picture(f"set/{unicodedata.normalize('NFD', name)}", np.random.default_rng(1))
    with open("set/metadata.jsonl", "w", encoding="utf-8") as stream:
        stream.write(json.dumps({"file_name": unicodedata.normalize("NFC", name)}) + "\n")
    run("set", *NR, "--append-to", "set/metadata.jsonl")
    assert [line["file_name"] for line in lines()] == [name, "a.png"]


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_a_name_that_is_not_utf8(run):
    os.rename(b"set/a.png", b"set/\xff.png")
    assert run("set", *NR, "--append-to", "set/metadata.jsonl")[0] == 0
    (line,) = lines()
    assert os.fsencode(line["file_name"]) == b"\xff.png"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{\n", "line 1: is no JSON"),
        ('{"file_name": "a.png"}\n{"image": "a.png"}\n', 'line 2: has no "file_name"'),
        ("[1]\n", 'line 1: has no "file_name"'),
        ('{"file_name": 3}\n', 'line 1: has no "file_name"'),
        ("\0", "is not a text file"),
    ],
)
def test_a_file_of_another_form_is_refused_before_anything_is_scored(run, text, told):
    with open("set/metadata.jsonl", "w", encoding="utf-8") as stream:
        stream.write(text)
    status, error = run("set/a.png", *NR, "--append-to", "set/metadata.jsonl")
    assert status == 1
    assert told in error
    with open("set/metadata.jsonl", encoding="utf-8") as stream:
        assert stream.read() == text


@pytest.mark.parametrize("name", ["set/metadata.csv", "/dev/stdout", "none/metadata.jsonl", "set"])
def test_a_name_that_cannot_be(run, name):
    assert run("set/a.png", *NR, "--append-to", name)[0] == 2


def test_what_was_scored_stays_after_an_interrupt(run, monkeypatch):
    from iqametrics import scoring

    usual = scoring.score_items

    def interrupted(*arguments, **more):
        yield next(usual(*arguments, **more))
        raise KeyboardInterrupt

    monkeypatch.setattr(scoring, "score_items", interrupted)
    assert run("set", "--recursive", *NR, "--append-to", "set/metadata.jsonl")[0] == 130
    assert [line["file_name"] for line in lines()] == ["a.png"]


def test_datasets_reads_the_columns(run):
    datasets = pytest.importorskip("datasets")
    run("set", "--recursive", *NR, "--append-to", "set/metadata.jsonl")
    loaded = datasets.load_dataset("imagefolder", data_dir="set", split="train", cache_dir="cache")
    scores = {line["file_name"]: line["fake-nr.lite"] for line in lines()}
    assert sorted(loaded["fake-nr.lite"]) == pytest.approx(sorted(scores.values()))
