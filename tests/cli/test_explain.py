"""`iqametrics explain` and `Explanation.save`: files, one page, refusals, and whether maps point at damage."""

import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from iqametrics import create_metric
from iqametrics.cli.main import main
from iqametrics.errors import InputError
from iqametrics.images.explanation import differences

PHOTO = "docs/example/seeding.jpg"


@pytest.fixture
def cli(capsys):
    """Run the command; status, stdout and stderr."""

    def run(*arguments):
        status = main(["explain", *(str(argument) for argument in arguments)])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def pair(tmp_path):
    """Paths of a small photograph with a blurred lower right quarter, and of the photograph."""
    photo = Image.open(PHOTO).convert("RGB").resize((192, 128))
    quarter = (96, 64, 192, 128)
    damaged = photo.copy()
    damaged.paste(photo.crop(quarter).filter(ImageFilter.GaussianBlur(3)), quarter)
    photo.save(tmp_path / "ref.png")
    damaged.save(tmp_path / "dist.png")
    return tmp_path / "dist.png", tmp_path / "ref.png"


@pytest.mark.parametrize("name", ["bpclip-nr.lite", "bpclip-fr.lite", "pfd-iqa.lite"])
def test_a_folder_holds_facts_and_maps_over_the_picture(cli, pair, tmp_path, name):
    dist, ref = pair
    references = ("--ref", ref) if name == "bpclip-fr.lite" else ()
    status, out, _ = cli(dist, "--metric", name, *references, "--output", tmp_path / "why")
    explanation = create_metric(name).explain(dist, *references[1:])
    assert status == 0
    assert f"score: {explanation.score:.4f}" in out
    told = json.loads((tmp_path / "why" / "explanation.json").read_text())
    assert told["facts"] == explanation.facts()
    assert told["maps"].keys() == explanation.maps().keys()
    for path in (tmp_path / "why").glob("*.png"):
        with Image.open(path) as picture:
            assert picture.size == explanation.picture.shape[:0:-1]
    for name_of_map, entry in told["maps"].items():
        values = explanation.maps()[name_of_map]
        assert entry["low"] == pytest.approx(values[values.isfinite()].min().item())
        assert (tmp_path / "why" / entry["file"]).is_file()


def test_one_page_needs_nothing_from_elsewhere(cli, pair, tmp_path):
    dist, ref = pair
    status, _, _ = cli(dist, "--metric", "bpclip-fr.lite", "--ref", ref, "--output", tmp_path / "why.html")
    page = (tmp_path / "why.html").read_text()
    assert status == 0
    assert page.count("<figure>") == 1 + len(create_metric("bpclip-fr.lite").explain(dist, ref).maps())
    assert "http" not in page.replace("http-equiv", "")


def test_the_difference_is_where_the_pictures_differ(pair):
    dist, ref = pair
    metric = create_metric("bpclip-fr.lite")
    found = metric.explain(dist, ref).difference
    rows, columns = found.shape
    quarter = found[rows // 2 :, columns // 2 :]
    assert quarter.mean() > 2 * found.mean() * 0.9
    assert metric.explain(ref, ref).difference.max() < 1e-9
    assert create_metric("bpclip-nr.lite").explain(dist).difference is None


def test_differences_by_hand():
    one, other = torch.zeros(1, 2, 1, 2), torch.zeros(1, 2, 1, 2)
    one[0, 0] = 2.0
    other[0, :, 0] = torch.tensor([[5.0, 0.0], [0.0, 1.0]])
    assert torch.equal(differences([one], [other], 1, 2), torch.tensor([[0.0, 1.0]], dtype=torch.float64))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--metric", "bpclip-fr.lite"), "give --ref"),
        (("--metric", "pfd-iqa.lite", "--ref", PHOTO), "leave out --ref"),
        (("--metric", "piq/ssim"), "does not explain its scores"),
        (("--metric", "bpclip-nr.lit"), "did you mean 'lite'"),
        (("--metric", "bpclip-nr.lite", "--output", "setup.cfg"), "is a file; give a folder"),
        (("--metric", "bpclip-nr.lite", "--output", "nowhere/why.html"), "lies in one that does not exist"),
    ],
)
def test_wrong_usage_is_one_line(cli, tmp_path, arguments, said):
    output = () if "--output" in arguments else ("--output", tmp_path / "why")
    status, _, err = cli(PHOTO, *arguments, *output)
    assert status == 2
    assert said in err.splitlines()[-1]
    assert not (tmp_path / "why").exists()


def test_what_cannot_be_read_or_written_is_one_line(cli, tmp_path):
    (tmp_path / "file").write_text("")
    status, _, err = cli("none.png", "--metric", "bpclip-nr.lite", "--output", tmp_path / "why")
    assert (status, err.count("\n")) == (1, 1)
    status, _, err = cli(PHOTO, "--metric", "bpclip-nr.lite", "--output", tmp_path / "file" / "why")
    assert (status, err.count("\n")) == (1, 1)
    assert "cannot be made" in err


def test_features_alone_have_no_picture(tmp_path):
    from dataclasses import replace

    explanation = create_metric("bpclip-nr.lite").explain(np.zeros((64, 64, 3), np.uint8))
    with pytest.raises(InputError, match="no picture"):
        replace(explanation, picture=None).save(tmp_path)


@pytest.mark.parametrize(("name", "rows"), [("bpclip-nr.lite", [5, 5, 1]), ("pfd-iqa.lite", [3, 2, 2])])
def test_the_papers_figure_is_made_by_one_command(cli, pair, tmp_path, name, rows):
    dist, _ = pair
    figure = tmp_path / "figure.jpg"
    status, _, _ = cli(dist, "--metric", name, "--output", tmp_path / "why.html", "--figure", figure)
    explanation = create_metric(name).explain(dist)
    assert status == 0
    laid_out = explanation.figure()
    assert [len(row) + (at == 0) for at, row in enumerate(laid_out)] == rows
    assert sorted(name for row in laid_out for name in row) == sorted(explanation.maps())
    with Image.open(figure) as picture:
        # Tiles of 240x160 with 10 pixels around each, and captions of 20 pixels.
        assert (picture.format, picture.size) == ("JPEG", (max(rows) * 250 + 10, 3 * 190 + 10))
        tile = np.asarray(picture)[10:170, 10:250].astype(float)
    expected = explanation.picture.permute(1, 2, 0).numpy() * 255
    assert abs(tile.mean() - expected.mean()) < 3


def test_a_figure_without_a_folder_is_refused_before_anything_is_scored(cli, tmp_path):
    status, _, err = cli(PHOTO, "--metric", "bpclip-nr.lite", "--output", tmp_path / "why", "--figure", "nowhere/f.png")
    assert status == 2
    assert "--figure nowhere/f.png" in err
    assert not (tmp_path / "why").exists()
