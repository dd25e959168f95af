"""Inputs in an object store: moto's S3 on loopback gives the scores of the same files here."""

import io
import json

import pytest

pytest.importorskip("pyarrow", reason="the extra `fleet` is not installed")
pytest.importorskip("moto", reason="moto, which plays an object store, is not installed")
pytest.importorskip("s3fs", reason="the extra `remote` is not installed")

import fleet_here
from fleet_here import png
from object_store import object_store

from iqametrics.cli.main import main
from iqametrics.errors import InputError

COUNT = 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("remote")
    for number in range(COUNT):
        (root / f"{number}.png").write_bytes(png(number) if number != 7 else b"no picture")
    names = [f"{number}.png" for number in range(COUNT)]
    contents = [(root / name).read_bytes() for name in names]
    fleet_here.write_tar(root / "a.tar", dict(zip(names, contents, strict=True)))
    fleet_here.write_parquet(root / "a.parquet", {"image": contents})
    fleet_here.write_parquet(root / "names.parquet", {"image": names, "reference": names[1:] + names[:1]})
    (root / "a.csv").write_text("image,reference\n" + "".join(f"{name},0.png\n" for name in names))
    (root / "a.txt").write_text("\n".join(names))
    return root


@pytest.fixture(scope="module")
def bucket(folder):
    contents = {f"set/{path.name}": path.read_bytes() for path in folder.iterdir()}
    contents["set/sub/x.png"] = png(100)
    with pytest.MonkeyPatch.context() as patch, object_store(patch, contents) as address:
        yield f"{address}/set"


@pytest.mark.usefixtures("fake_metrics")
@pytest.mark.parametrize("name", ["a.tar", "a.parquet", "names.parquet", "a.csv", "a.txt", "3.png", "*.png", "*.tar"])
@pytest.mark.parametrize("metric", ["fake-nr.tiny", "fake-fr.lite"])
def test_every_form_of_input_gives_the_scores_of_the_files_here(bucket, folder, tmp_path, name, metric):
    def scored(root):
        inputs = [f"{root}/{name}"]
        if root == folder:
            inputs = sorted(map(str, root.glob(name)), key=lambda path: (len(path), path))
        return fleet_here.score(inputs, tmp_path, metric=metric, allow_urls=True)[0]

    here, elsewhere = scored(folder), scored(bucket)
    assert [row["score"] for row in elsewhere] == [row["score"] for row in here]
    assert [row["image"] for row in elsewhere] == [row["image"].replace(str(folder), bucket) for row in here]
    assert any(row["score"] is not None for row in elsewhere) or metric == "fake-fr.lite"


@pytest.mark.usefixtures("fake_metrics")
def test_a_folder_of_a_store_is_its_pictures_and_shards(bucket, tmp_path):
    rows, _ = fleet_here.score([f"{bucket}/"], tmp_path)
    assert len(rows) == COUNT * 4
    assert len(fleet_here.score([bucket], tmp_path, recursive=True)[0]) == COUNT * 4 + 1
    with pytest.raises(InputError, match="holds no"):
        fleet_here.score([f"{bucket}/none/"], tmp_path)


@pytest.mark.usefixtures("fake_metrics")
def test_what_was_finished_in_a_store_is_not_scored_again(bucket, tmp_path):
    rows, scored = fleet_here.score([f"{bucket}/a.tar", f"{bucket}/2.png"], tmp_path)
    assert scored == COUNT + 1
    assert fleet_here.score([f"{bucket}/a.tar", f"{bucket}/2.png"], tmp_path, resume=True) == (rows, 1)


@pytest.mark.usefixtures("fake_metrics")
def test_addresses_in_a_list_need_leave(bucket, folder, tmp_path):
    (tmp_path / "list.txt").write_text(f"{bucket}/1.png\n{folder}/2.png\n{bucket}/gone.png\n")
    refused, _ = fleet_here.score([tmp_path / "list.txt"], tmp_path)
    assert ["--allow-urls" in (row["error"] or "") for row in refused] == [True, False, True]
    allowed, _ = fleet_here.score([tmp_path / "list.txt"], tmp_path, allow_urls=True)
    assert [row["error"] is None for row in allowed] == [True, True, False]
    assert "cannot be read" in allowed[2]["error"]


@pytest.mark.usefixtures("fake_metrics")
def test_score_reads_addresses_of_a_list(bucket, folder, capsys, monkeypatch):
    options = ["--metric", "fake-nr.tiny", "--device", "cpu", "--format", "jsonl"]
    names = ["0.png", "7.png", "gone.png", "4.png"]
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{bucket}/{name}\n" for name in names)))
    assert main(["score", "-", "--allow-urls", *options]) == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    main(["score", str(folder / "0.png"), str(folder / "4.png"), *options])
    here = [json.loads(line)["score"] for line in capsys.readouterr().out.splitlines()]
    assert [row["image"] for row in rows] == [f"{bucket}/{name}" for name in names]
    assert [rows[0]["score"], rows[3]["score"]] == here
    assert main(["score", f"{bucket}/0.png", *options]) == 2
    assert "--allow-urls" in capsys.readouterr().err
