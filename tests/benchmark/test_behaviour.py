"""`benchmarks/behaviour.py` and the makers of pictures under `weights/`, on pictures whose answers are known."""

import csv
import json
import sys

import behaviour
import behaviour_pictures
import make_damaged
import numpy as np
import pytest
import torch
from PIL import Image
from spoilt import SPOILT, UNSEEN


@pytest.fixture(scope="module")
def photograph():
    y, x = np.mgrid[:96, :96] / 96
    rng = np.random.default_rng(0)
    waves = np.stack([np.sin(9 * x + 4 * y), np.cos(7 * y), np.sin(5 * x * y)], axis=2)
    return np.clip(0.5 + 0.3 * waves + 0.1 * rng.standard_normal((96, 96, 3)), 0, 1).astype(np.float32)


def closeness(images, reference):
    """A scorer of known behaviour: minus the mean absolute difference."""
    return [-float(np.abs(np.clip(image, 0, 1) - reference).mean()) for image in images]


def test_noise_grows_with_its_level_and_a_constant_score_has_no_order(photograph):
    kinds = {"noise": behaviour_pictures.DAMAGE["noise"]}
    found = behaviour.order_under_damage(closeness, [photograph], kinds)["noise"]
    assert found["right"] == 1
    assert found["means"][0] == 0
    assert len(found["means"]) == 6
    blind = behaviour.order_under_damage(lambda images, _: [0.5] * len(images), [photograph], kinds)
    assert blind["noise"]["right"] == 0


def test_spoilt_pictures_lie_below_for_a_scorer_that_sees_them_only(photograph):
    seen = behaviour.spoilt(closeness, [photograph, photograph])
    assert {name: row["below"] for name, row in seen.items()} == dict.fromkeys(behaviour_pictures.SPOILT, 1.0)
    turned = behaviour.spoilt(lambda images, reference: [-s for s in closeness(images, reference)], [photograph])
    assert not any(row["clearly"] for row in turned.values())


def test_a_loss_that_is_the_distance_restores(photograph):
    class Distance:
        mode = "fr"

        def __call__(self, image, reference):
            return (image - reference).square().sum()

    start = torch.from_numpy(behaviour_pictures.STARTS["noise"](photograph, np.random.default_rng(0)))
    tensors = [behaviour.tensor(image) for image in (start.numpy(), photograph)]
    end = behaviour._descend(Distance(), *tensors, steps=60)
    assert behaviour.psnr(end, photograph) > behaviour.psnr(start.numpy(), photograph) + 5
    assert behaviour.psnr(photograph, photograph) == pytest.approx(100)
    assert behaviour.psnr(photograph * 0 + 0.5, photograph * 0) == pytest.approx(6.0206, abs=1e-4)


def test_from_the_command_line(tmp_path, photograph, monkeypatch, capsys):
    pixels = Image.fromarray((photograph * 255).astype(np.uint8))
    for name in ("a", "b", "c"):
        pixels.save(tmp_path / f"{name}.png")
    rows = "image,reference,mos,type\n" + "".join(
        f"{name}{level}.png,a.png,{5 - level},1\n" for name in "n" for level in range(4)
    )
    (tmp_path / "pairs.csv").write_text(rows)
    for level in range(4):
        noisy = behaviour_pictures.DAMAGE["noise"][0](photograph, 0.01 * level, np.random.default_rng(0))
        Image.fromarray((np.clip(noisy, 0, 1) * 255).astype(np.uint8)).save(tmp_path / f"n{level}.png")
    (tmp_path / "scores.csv").write_text("image,mos\na.png,0.2\nb.png,0.9\nc.png,0.5\n")
    (tmp_path / "list.txt").write_text("a.png\nc.png\n")
    monkeypatch.setattr(behaviour, "DAMAGE", {"noise": behaviour_pictures.DAMAGE["noise"]})
    monkeypatch.setattr(behaviour, "NEAR_LOSSLESS", {})
    monkeypatch.setattr(behaviour, "FURTHER_DAMAGE", {})
    arguments = ["scores.csv", "--only", "list.txt", "--photographs", "1", "--side", "64", "--metric", "piq/psnr"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        sys, "argv", ["behaviour.py", *arguments, "--loss-steps", "2", "--pairs", ".", "--output", "out.json"]
    )
    behaviour.main()
    assert "in order" in capsys.readouterr().out
    report = json.loads((tmp_path / "out.json").read_text())["metrics"]["piq/psnr"]
    assert report["agreement"]["all"] == pytest.approx(1)
    assert report["identical"]["photographs"][0] == pytest.approx(80, abs=0.1)
    assert [path.name for path in behaviour.chosen(tmp_path / "scores.csv", None, 2)] == ["b.png", "c.png"]
    setting = {"photographs": 1, "side": 64, "source": "scores.csv", "only": "list.txt", "shrunk": False}
    assert set(behaviour.kept(tmp_path / "out.json", setting)) == {"piq/psnr"}
    for other in ({"photographs": 2}, {"only": None}, {"shrunk": True}):
        assert behaviour.kept(tmp_path / "out.json", setting | other) == {}


def test_damaged_versions_are_ranked_and_made_again_alike(tmp_path, monkeypatch):
    monkeypatch.setattr(make_damaged, "CROP", 48)
    Image.effect_noise((64, 56), 60).convert("RGB").save(tmp_path / "one.png")
    for folder in ("first", "second"):
        (tmp_path / folder / "images").mkdir(parents=True)
    rows = [
        list(make_damaged.versions(tmp_path / "one.png", tmp_path / folder, kinds=3, spoilt=2))
        for folder in ("first", "second")
    ]
    assert rows[0] == rows[1]
    assert len(rows[0]) == 1 + 3 * 2 + 2
    names = [row[0] for row in rows[0]]
    for name in names:
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()
    ranks = [row[1] for row in rows[0]]
    assert max(ranks[1:]) < ranks[0] == 1
    for weak, strong in ((1, 2), (3, 4), (5, 6)):
        assert rows[0][weak][3] == rows[0][strong][3]
        assert ranks[weak] > ranks[strong] >= 0.5


def test_kinds_that_should_come_often_do(tmp_path, monkeypatch):
    monkeypatch.setattr(make_damaged, "CROP", 16)
    monkeypatch.setattr(make_damaged, "STRENGTHS", {name: make_damaged.STRENGTHS[name] for name in ("haze", "darken")})
    (tmp_path / "images").mkdir()
    kinds = []
    for number in range(60):
        Image.new("RGB", (16, 16), (number, 99, 80)).save(tmp_path / f"{number}.png")
        made = make_damaged.versions(tmp_path / f"{number}.png", tmp_path, kinds=1, spoilt=0, often=["haze"])
        kinds += {row[3] for row in made} - {""}
    assert 36 <= kinds.count("haze") <= 58  # 48 of 60 are expected, give or take 4 standard deviations


def test_what_is_held_out_is_in_no_training_table(tmp_path):
    assert not set(make_damaged.HELD_OUT) & set(make_damaged.STRENGTHS)
    assert {"avif", *behaviour_pictures.FURTHER_DAMAGE} == set(make_damaged.HELD_OUT)
    assert not set(UNSEEN) & set(SPOILT)
    with (tmp_path / "scores.csv").open("w") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", "mos"])
        for number in range(4):
            Image.new("RGB", (400, 390)).save(tmp_path / f"{number}.png")
            writer.writerow([f"{number}.png", 0.9 if number else 0.1])
    (tmp_path / "held.txt").write_text("2.png\n")
    chosen = make_damaged.chosen([tmp_path / "scores.csv"], tmp_path / "held.txt", 0.5, 9)
    assert sorted(path.name for path in chosen) == ["1.png", "3.png"]


@pytest.mark.parametrize("name", [*SPOILT, *UNSEEN])
def test_spoilt_pictures_keep_shape_and_range(name, photograph):
    photograph = np.tile(photograph, (3, 2, 1))
    make = (UNSEEN | {known: entry[0] for known, entry in SPOILT.items()})[name]
    for seed in range(6):
        made = make(photograph, np.random.default_rng(seed))
        assert made.shape == photograph.shape
        assert made.dtype == np.float32
        assert made.min() >= 0
        assert made.max() <= 1
        assert np.abs(made - photograph).mean() > 0.01


def test_less_colour_of_a_gray_photograph_is_no_version_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(make_damaged, "CROP", 48)
    Image.effect_noise((64, 56), 60).convert("RGB").save(tmp_path / "gray.png")
    (tmp_path / "images").mkdir()
    monkeypatch.setattr(make_damaged, "STRENGTHS", {"color_saturation_1": (0.8, 0.6, 0.4, 0.2, 0)})
    rows = make_damaged.versions(tmp_path / "gray.png", tmp_path, kinds=1, spoilt=0, slight=["color_saturation_1"])
    assert [row[3] for row in rows] == [""]


def test_a_photograph_is_cut_or_shrunk_to_the_side(tmp_path):
    wide = np.zeros((64, 128, 3), np.uint8)
    wide[:, 48:80] = 255
    Image.fromarray(wide).save(tmp_path / "wide.png")
    cut, shrunk = behaviour.middle(tmp_path / "wide.png", 32), behaviour.shrunk(tmp_path / "wide.png", 32)
    assert cut.shape == shrunk.shape == (32, 32, 3)
    assert cut.min() == 1  # the white band fills the middle
    assert shrunk[:, 0].max() < 0.1  # scaled down, the band has black on either side
    assert shrunk[:, 16].min() > 0.9
