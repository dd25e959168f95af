"""`benchmarks/averages.py` and `benchmarks/made_labels.py`, on scores whose agreement is known."""

import averages
import made_labels
import numpy as np
import pytest
import torch


def test_agreement_is_told_apart_by_folder():
    mos = np.array([0.1, 0.2, 0.3, 0.4, 0.1, 0.2, 0.3, 0.4])
    scores = np.array([0.1, 0.2, 0.3, 0.4, 0.4, 0.3, 0.2, 0.1])
    found = averages.agreement(scores, mos, np.array(["ss01"] * 4 + ["ss02"] * 4))
    assert found["n"] == 8
    assert found["srcc"] == 0
    assert found["srcc within a folder"] == {"ss01": 1, "ss02": -1}


def test_versions_are_the_picture_mirrored_smaller_and_larger():
    image = torch.rand(1, 3, 8, 12)
    mirrored, smaller, larger = (change(image) for change in averages.VERSIONS.values())
    assert torch.equal(mirrored, image.flip(-1))
    assert smaller.shape == (1, 3, 6, 9)
    assert larger.shape == (1, 3, 10, 15)
    assert 0 <= larger.min() <= larger.max() <= 1


def made_rows():
    """Labels of ten known pictures and of ten predicted ones, two kinds of damage at five levels each."""
    cells = [(kind, level) for kind in ("blur", "jpeg") for level in range(1, 6)]
    return [
        {"image": f"{part}-{kind}-{level}.png", "distortion": kind, "level": str(level), "mos": str(1 - level / 10)}
        for part in ("known", "predicted")
        for kind, level in cells
    ]


def predictions_of(rows):
    """Scores that are the labels, but for the order of the last two levels of blur."""
    swapped = {"predicted-blur-4.png": "0.5", "predicted-blur-5.png": "0.6"}
    return [
        {"image": row["image"], "score": swapped.get(row["image"], row["mos"])}
        for row in rows
        if row["image"].startswith("predicted")
    ]


def test_made_labels_with_levels_are_compared_with_a_lookup():
    found = made_labels.compare(predictions_of(made_rows()), made_rows())
    assert found["n"] == 10
    assert found["model, SRCC of each type"] == {"blur": 0.9, "jpeg": 1}
    assert found["model, mean SRCC within a type"] == pytest.approx(0.95)
    assert found["model, mean SRCC within a type and level"] is None  # one picture each
    assert found["lookup of type and level"]["srcc"] == pytest.approx(1)


def test_made_labels_without_levels_have_the_figures_of_kinds_only():
    rows = [{name: value for name, value in row.items() if name != "level"} for row in made_rows()]
    found = made_labels.compare(predictions_of(made_rows()), rows)
    assert found["model, SRCC of each type"] == {"blur": 0.9, "jpeg": 1}
    assert set(found) == {"n", "model", "model, mean SRCC within a type", "model, SRCC of each type"}
