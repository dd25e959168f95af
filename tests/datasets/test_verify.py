"""`iqametrics datasets`, and sets that `synthesize` makes in KADID-10k's layout."""

import json
import subprocess
import sys
from typing import Any

import dataset_releases as releases
import numpy as np
import pytest
from PIL import Image

from iqametrics.cli.main import main
from iqametrics.datasets.catalogue import dataset_spec, list_datasets, load_dataset, made_labels
from iqametrics.datasets.csv_dataset import read_csv_dataset
from iqametrics.datasets.synthetic import adjust_labels, synthesize
from iqametrics.datasets.verify import verify_dataset
from iqametrics.errors import DataError

pytestmark = pytest.mark.slow


def run(capsys, *arguments):
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_live_of_full_length_is_complete(tmp_path):
    releases.live(tmp_path)
    found = verify_dataset("live", tmp_path, deep=True)
    assert found.problems == ()
    assert found.facts["images"] == "779 of 779 in the score file"
    assert found.facts["references"] == "29 of 29 in the score file"
    assert found.facts["opened"] == "808 files"
    assert found.notes == ("203 further pictures in the same folders are not in the score file, and not used",)
    assert found.ok
    assert len(found.lines) < 40


def test_what_is_missing_is_named_on_one_page(tmp_path, capsys):
    releases.live(tmp_path)
    for index in range(1, 101):
        (tmp_path / "wn" / f"img{index}.bmp").unlink()
    status, out, err = run(capsys, "datasets", "verify", "live", "--root", tmp_path)
    assert (status, err) == (1, "")
    assert "problem: 100 of 808 files do not exist: wn/img1.bmp, wn/img2.bmp, wn/img3.bmp, ...\n" in out
    assert "images      679 of 779 in the score file\n" in out
    assert out.endswith("NOT complete: 1 problem(s)\n")


def test_damage_is_found(tmp_path, capsys):
    releases.kadid10k(tmp_path)
    cut = tmp_path / "images" / "I01_01_05.png"
    cut.write_bytes(cut.read_bytes()[:-30])
    releases.picture(tmp_path / "images" / "I02.png", size=(9, 9))
    status, out, _ = run(capsys, "datasets", "verify", "kadid10k", "--root", tmp_path, "--subset", "--format", "json")
    found = json.loads(out)
    assert (status, found["ok"]) == (1, False)
    assert found["problems"][0].startswith("images/I01_01_05.png: cannot be decoded")
    assert found["problems"][1] == "1 images have another size than their reference: images/I02_16_03.png"


def test_a_part_must_be_declared(tmp_path, capsys):
    releases.koniq10k(tmp_path)
    command = ("datasets", "verify", "koniq10k", "--root", tmp_path)
    status, out, _ = run(capsys, *command)
    assert status == 1
    assert "problem: the score file lists 3 images, the release has 10,073\n" in out
    assert "problem: part test of the official split has 1 images, in the release 2,015\n" in out
    status, out, _ = run(capsys, *command, "--subset")
    assert status == 0
    assert "note: a declared subset: the score file lists 3 images, the release has 10,073\n" in out
    assert out.endswith("complete\n")


def test_flive_without_its_training_file_is_told(tmp_path):
    releases.flive(tmp_path, training=False)
    found = verify_dataset("flive", tmp_path, subset=True)
    assert "no file here lists the official part train and validation" in found.notes
    assert "3 images belong to no part of the official split that is known here" in found.notes
    assert found.ok


def test_nothing_to_compare_with_is_an_error(tmp_path, capsys):
    status, out, err = run(capsys, "datasets", "verify", "csiq", "--root", tmp_path)
    assert (status, out) == (1, "")
    assert err.startswith(
        f"iqametrics: error: {tmp_path}: holds no csiq.DMOS.xlsx or csiq.beta.xlsx or csiq_label.txt;"
    )
    assert err.count("\n") == 1


def test_list_and_info(capsys):
    status, out, _ = run(capsys, "datasets", "list", "--format", "json")
    listed = json.loads(out)
    assert status == 0
    assert [row["name"] for row in listed] == list_datasets()
    assert listed[5]["official_split"] == {"train": 7058, "validation": 1000, "test": 2015}
    assert [
        row["name"] for row in json.loads(run(capsys, "datasets", "list", "--mode", "nr", "--format", "json")[1])
    ] == [*("clive", "koniq10k", "spaq", "flive", "biq2021", "bid")]
    for name in list_datasets():
        status, out, _ = run(capsys, "datasets", "info", name)
        assert status == 0
        assert dataset_spec(name).paper in out
        assert json.loads(run(capsys, "datasets", "info", name, "--format", "json")[1])["images"] > 500
    status, _, err = run(capsys, "datasets", "info", "kadid")
    assert (status, err) == (2, "iqametrics: error: unknown dataset 'kadid'; did you mean kadid10k?\n")


def test_datasets_are_listed_without_torch_scipy_or_openpyxl():
    code = (
        "import sys; from iqametrics.cli.main import main; main(['datasets', 'list']);"
        "main(['datasets', 'info', 'live']);"
        "print(sorted({'torch', 'torchvision', 'scipy', 'openpyxl', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


# --- a mini-KADID ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mini(tmp_path_factory):
    root = tmp_path_factory.mktemp("mini")
    paths = []
    for index in range(2):
        pixels = np.random.default_rng(index).integers(0, 256, (40, 56, 3), dtype=np.uint8)
        paths.append(root / f"{index}.png")
        Image.fromarray(pixels).save(paths[-1])
    options: dict[str, Any] = {
        "kinds": [1, 10, 16],
        "levels": [1, 5],
        "size": (48, 32),
        "layout": "kadid10k",
        "progress": False,
    }
    synthesize(paths, root / "set", **options)
    return root / "set"


def test_a_made_set_reads_as_kadid10k(mini, capsys):
    samples = load_dataset("kadid10k", mini)
    plain = read_csv_dataset(mini / "labels.csv")
    assert [s.image for s in samples] == [s.image for s in plain]
    assert [s.reference for s in samples] == [s.reference for s in plain]
    assert [s.mos for s in samples] == pytest.approx([s.mos for s in plain], abs=1e-6)
    assert [(s.kind, s.level, s.distortion) for s in samples] == [(s.kind, s.level, s.distortion) for s in plain]
    # Nobody was asked, so there is no spread.
    assert {s.mos_std for s in samples} == {None}
    assert samples[0].mos > samples[1].mos
    status, out, _ = run(capsys, "datasets", "verify", "kadid10k", "--root", mini, "--subset", "--deep")
    assert status == 0
    assert "no opinions of these images" in out
    assert "opened      14 files\n" in out
    assert run(capsys, "datasets", "verify", "kadid10k", "--root", mini)[0] == 1


def test_a_made_set_is_marked(mini, tmp_path):
    assert made_labels(mini)
    releases.kadid10k(tmp_path)
    assert not made_labels(tmp_path)


def test_labels_that_are_adjusted_later_are_written_in_both_forms(mini):
    from iqametrics.datasets.content_shift import METRIC_COLUMNS

    path = mini / "labels.csv"
    lines = path.read_text().splitlines()
    # The second photograph suffers more than the first, in each type and level and by each metric.
    values = ["," + ",".join([str(value)] * len(METRIC_COLUMNS)) for value in (0.9, 0.6)]
    head = lines[0] + "," + ",".join(METRIC_COLUMNS)
    path.write_text("\n".join([head, *[line + values["I02" in line] for line in lines[1:]]]) + "\n")
    adjust_labels(path, 1.0)
    adjusted = [s.mos for s in read_csv_dataset(path)]
    assert adjusted != [float(line.split(",")[2]) for line in lines[1:]]
    assert [s.mos for s in load_dataset("kadid10k", mini)] == pytest.approx(adjusted, abs=1e-6)


def test_the_layout_is_an_option_of_the_command_line(tmp_path, capsys, monkeypatch):
    seen = {}
    monkeypatch.setattr("iqametrics.datasets.synthetic.synthesize", lambda *_, **keywords: seen.update(keywords))
    releases.picture(tmp_path / "a.png")
    command = ("synthesize", "--pristine", tmp_path, "--out", tmp_path / "set")
    assert run(capsys, *command, "--layout", "kadid10k")[0] == 0
    assert seen["layout"] == "kadid10k"
    assert run(capsys, *command)[0] == 0
    assert seen["layout"] == "plain"


def test_crops_have_no_place_in_the_layout(tmp_path):
    releases.picture(tmp_path / "a.png", size=(60, 60))
    with pytest.raises(DataError, match="cannot say which crops belong together; give 1"):
        synthesize([tmp_path / "a.png"], tmp_path / "set", size=(16, 16), crops=2, layout="kadid10k", progress=False)
