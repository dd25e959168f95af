"""Every form of input gives every picture one row, with the score of the command line."""

import json

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("pyarrow", reason="the extra `fleet` is not installed")

import fleet_here
from fleet_here import png

from iqametrics.cli.common import UsageError
from iqametrics.cli.main import main
from iqametrics.errors import InputError
from iqametrics.fleet.worker import UnitScorer
from iqametrics.pipeline import BatchScorer

pytestmark = pytest.mark.usefixtures("fake_metrics")
COUNT = 90


@pytest.fixture
def folder(tmp_path):
    pictures = tmp_path / "in"
    pictures.mkdir()
    for number in range(COUNT):
        (pictures / f"{number}.png").write_bytes(png(number))
    (pictures / "7.png").write_bytes(b"\x89PNG no more")
    return pictures


def wanted(capsys, *arguments, metric="fake-nr.tiny"):
    main(["score", *map(str, arguments), "--metric", metric, "--device", "cpu", "--format", "jsonl"])
    names = ("image", "reference", "metric", "score", "error", "fingerprint")
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return [{name: row.get(name) for name in names} for row in rows]


def test_a_folder_gives_the_rows_of_score(folder, tmp_path, capsys):
    rows, _ = fleet_here.score([folder], tmp_path)
    assert rows == wanted(capsys, folder)
    assert [row["error"] is None for row in rows].count(False) == 1


def test_lists_give_the_rows_of_score(folder, tmp_path, capsys):
    names = [f"{number}.png" for number in (3, 1, 7, 3, 99)]
    (folder / "list.txt").write_text("\n".join(names) + "\n\n")
    (folder / "list.csv").write_text("mos,image\n" + "".join(f"1,{name}\n" for name in names))
    fleet_here.write_parquet(folder / "list.parquet", {"image": names})
    rows = wanted(capsys, *(folder / name for name in names))
    for form in ("txt", "csv", "parquet"):
        assert fleet_here.score([folder / f"list.{form}"], tmp_path)[0] == rows


def shard(folder, path, count=COUNT):
    members = {}
    for number in range(count):
        members |= {
            f"set/{number:03d}.png": (folder / f"{number}.png").read_bytes(),
            f"set/{number:03d}.cls": b"1",
        }
    return fleet_here.write_tar(path, members)


def test_a_tar_shard_gives_a_row_a_picture(folder, tmp_path, capsys):
    path = shard(folder, tmp_path / "a.tar")
    rows, _ = fleet_here.score([path], tmp_path)
    assert [row["image"] for row in rows] == [f"{path}/set/{number:03d}.png" for number in range(COUNT)]
    assert [row["score"] for row in rows] == [row["score"] for row in wanted(capsys, folder)]
    assert rows[7]["error"].startswith(f"{path}/set/007.png: ")


@pytest.mark.parametrize("cut_at", [100, 1000, 0.5, -1100])
def test_a_tar_shard_that_is_cut_gives_what_is_whole_and_a_row_that_says_so(folder, tmp_path, cut_at):
    path = shard(folder, tmp_path / "a.tar")
    whole, _ = fleet_here.score([path], tmp_path)
    content = path.read_bytes().rstrip(b"\0")
    path.write_bytes(content[: int(len(content) * cut_at) if isinstance(cut_at, float) else cut_at])
    rows, _ = fleet_here.score([path], tmp_path)
    assert rows[-1]["image"] == str(path)
    assert str(path) in rows[-1]["error"]
    good = [row for row in rows if row["score"] is not None]
    assert good == [row for row in whole if row["score"] is not None][: len(good)]
    assert {row["image"] for row in rows[:-1]} <= {row["image"] for row in whole}


@pytest.mark.parametrize("content", [b"", b"no tar file at all" * 100, bytes(10240)])
def test_what_holds_no_picture_is_one_row_with_an_error(tmp_path, content):
    (tmp_path / "a.tar").write_bytes(content)
    (row,), _ = fleet_here.score([tmp_path / "a.tar"], tmp_path)
    assert row["image"] == str(tmp_path / "a.tar")
    assert row["error"]


@pytest.mark.parametrize("rows_in_a_group", [1000, 13])
@pytest.mark.parametrize("form", ["bytes", "struct"])
def test_parquet_with_bytes_gives_a_row_a_row(folder, tmp_path, capsys, form, rows_in_a_group):
    contents = [(folder / f"{number}.png").read_bytes() for number in range(COUNT)]
    contents[20] = None
    values = contents if form == "bytes" else [{"bytes": content, "path": "a.png"} for content in contents]
    path = tmp_path / "a.parquet"
    fleet_here.write_parquet(path, {"image": values, "id": [f"n{number}" for number in range(COUNT)]}, rows_in_a_group)
    rows, _ = fleet_here.score([path], tmp_path)
    assert [row["image"] for row in rows] == [f"{path}#{number}" for number in range(COUNT)]
    scores = [row["score"] for row in wanted(capsys, folder)]
    scores[20] = None
    assert [row["score"] for row in rows] == scores
    assert rows[20]["error"] == f"{path}#20: there is no picture (None); give bytes, an array or a path"
    called, _ = fleet_here.score([path], tmp_path, name_column="id")
    assert [(row["image"], row["score"]) for row in called] == [(f"n{n}", score) for n, score in enumerate(scores)]


def test_a_folder_of_shards_is_its_shards_in_natural_order(folder, tmp_path):
    shards = tmp_path / "shards"
    (shards / "sub").mkdir(parents=True)
    for name in ("s10.tar", "s9.tar", "sub/s1.tar"):
        shard(folder, shards / name, 3)
    fleet_here.write_parquet(shards / "a.parquet", {"image": [png(1)]})
    rows, _ = fleet_here.score([shards], tmp_path)
    assert [row["image"].removeprefix(f"{shards}/")[:7] for row in rows] == [
        "a.parqu", *["s9.tar/"] * 3, *["s10.tar"] * 3
    ]  # fmt: skip
    assert len(fleet_here.score([shards], tmp_path, recursive=True)[0]) == 10


@pytest.mark.parametrize("form", ["folder", "csv", "paths", "tar", "bytes"])
def test_references_of_every_form_give_the_scores_of_score(folder, tmp_path, capsys, form):
    references = tmp_path / "ref"
    references.mkdir()
    for number in range(COUNT):
        (references / f"{number}.png").write_bytes(png(1000 + number))
    (references / "5.png").unlink()
    (references / "6.png").write_bytes(b"no picture")
    (references / "8.png").write_bytes(png(8, (10, 10)))
    expected = wanted(capsys, folder, "--ref-dir", references, metric="fake-fr.lite")
    numbers = range(COUNT)
    names = [f"in/{number}.png" for number in numbers]
    others = [f"ref/{number}.png" if number != 5 else None for number in numbers]
    reads = [(tmp_path / name).read_bytes() if name else None for name in others]
    options = {}
    if form == "folder":
        path, options = folder, {"ref_dir": str(references)}
    elif form == "csv":
        path = tmp_path / "a.csv"
        path.write_text("image,reference\n" + "".join(f"{a},{b or ''}\n" for a, b in zip(names, others, strict=True)))
    elif form == "paths":
        path = fleet_here.write_parquet(tmp_path / "a.parquet", {"image": names, "reference": others})
    elif form == "bytes":
        contents = [(tmp_path / name).read_bytes() for name in names]
        path = fleet_here.write_parquet(tmp_path / "a.parquet", {"image": contents, "reference": reads})
    else:
        members = {}
        for number, read in enumerate(reads):
            members[f"{number}.png"] = (folder / f"{number}.png").read_bytes()
            members |= {f"{number}.ref.png": read} if read else {}
        path = fleet_here.write_tar(tmp_path / "a.tar", members)
    rows, _ = fleet_here.score([path], tmp_path, metric="fake-fr.lite", **options)
    assert [row["score"] for row in rows] == [row["score"] for row in expected]
    assert [number for number, row in enumerate(rows) if row["error"]] == [5, 6, 7, 8]
    if form == "folder":
        assert rows == expected
    elif form != "bytes":
        assert rows[5]["reference"] is None
        assert str(rows[4]["reference"]).endswith(("ref/4.png", "4.ref.png"))


def test_references_in_a_shard_are_no_pictures_to_be_scored(tmp_path):
    members = {"a.jpg": png(1), "a.ref.png": png(2), "b.x.png": png(3), "b.REF.png": png(4)}
    path = fleet_here.write_tar(tmp_path / "a.tar", members)
    rows, _ = fleet_here.score([path], tmp_path)
    assert [row["image"] for row in rows] == [f"{path}/a.jpg", f"{path}/b.x.png"]
    pairs, _ = fleet_here.score([path], tmp_path, metric="fake-fr.lite")
    assert [row["reference"] for row in pairs] == [f"{path}/a.ref.png", f"{path}/b.REF.png"]


def test_what_is_no_input_is_refused_in_one_line(folder, tmp_path):
    (tmp_path / "a.csv").write_text("picture\na.png\n")
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no more")
    fleet_here.write_parquet(tmp_path / "b.parquet", {"picture": [b"a"]})
    for name, kind, words in (
        ("a.csv", InputError, "--image-column"),
        ("a.parquet", InputError, "no parquet file"),
        ("b.parquet", InputError, "--image-column"),
        ("a.tar.gz", UsageError, "unpack it"),
        ("a.mp4", UsageError, "iqametrics score"),
        ("none.csv", InputError, "none.csv"),
    ):
        with pytest.raises(kind, match=words) as caught:
            list(fleet_here.units([tmp_path / name]))
        assert "\n" not in str(caught.value)
    # What is missing or no picture is a row, as in score.
    (row,), _ = fleet_here.score([tmp_path / "nowhere.png"], tmp_path)
    assert "does not exist" in row["error"]


def test_a_name_that_is_no_utf_8_is_scored(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    path = bytes(folder) + b"/caf\xe9.png"
    try:
        with open(path, "wb") as stream:
            stream.write(png(1))
    except OSError:
        pytest.skip("the file system takes UTF-8 only")
    (row,), _ = fleet_here.score([folder], tmp_path)
    assert row["image"] == f"{folder}/caf\\xe9.png"
    assert row["score"] is not None


def test_pictures_are_read_one_after_the_other(tmp_path, monkeypatch):
    """A shard of large pictures costs the memory of a few of them."""
    from iqametrics.fleet import places

    path = fleet_here.write_tar(tmp_path / "a.tar", {f"{n}.png": png(n) for n in range(40)})
    unit = max(fleet_here.units([path]), key=lambda unit: len(unit.pictures))
    assert len(unit.pictures) > 15
    opened = []
    usual = places.open_place
    monkeypatch.setattr(places, "open_place", lambda name: opened.append(name) or usual(name))
    at_first = []
    scorer = BatchScorer("fake-nr.tiny", device="cpu", workers=1)

    def score_images(_, dist, ref):
        at_first.append(len(opened))
        return dist.mean((1, 2, 3))

    monkeypatch.setattr(type(scorer.metric), "score_images", score_images)
    UnitScorer([scorer], {}).score(b"0" * 16, unit.dump())
    assert at_first[0] < 8
    assert len(opened) == len(unit.pictures)


def test_large_pictures_are_no_part_of_what_travels(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10_000
    path = fleet_here.write_tar(tmp_path / "a.tar", {f"{n}.png": (tmp_path / "a.png").read_bytes() for n in range(500)})
    assert sum(len(unit.dump()) for unit in fleet_here.units([path])) < 500 * 300
