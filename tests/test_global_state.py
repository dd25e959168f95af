"""Scores depend on the picture and the weights alone, and making a metric leaves the process as it was."""

import locale
import random
import warnings

import numpy as np
import pytest
import torch
from pictures import arguments, picture
from PIL import Image

from iqametrics import create_metric

LITE = ("bpclip-fr.lite", "bpclip-nr.lite", "pfd-iqa.lite")


@pytest.fixture
def photo(tmp_path):
    """A file with an EXIF record that Pillow warns of, turned on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "described " * 4
    record = exif.tobytes()
    path = tmp_path / "photo.jpg"
    values = (picture(120, 140).numpy().transpose(1, 2, 0) * 255).astype(np.uint8)
    Image.fromarray(values).save(path, quality=92, exif=record[:-30])  # its description is cut short
    with pytest.warns(UserWarning, match="EXIF|Truncated"), Image.open(path) as image:
        image.getexif().get(0x0112)
    return path


def score(name, photo):
    metric = create_metric(name)
    given = arguments(metric, photo, photo)
    return metric(*given).item()


def state():
    return (
        torch.get_rng_state().tolist(),
        random.getstate(),
        np.random.get_state()[1].tolist(),
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.is_grad_enabled(),
        torch.get_num_threads(),
        locale.setlocale(locale.LC_ALL),
        list(warnings.filters),
    )


@pytest.mark.parametrize("name", LITE)
def test_generators_and_settings_stay_as_they_are(name, photo):
    torch.manual_seed(0)
    before = state()
    score(name, photo)
    assert state() == before
    torch.manual_seed(0)
    create_metric(name.split(".")[0], weights=None)
    assert state() == before


@pytest.mark.slow
@pytest.mark.parametrize("name", LITE)
def test_scores_do_not_depend_on_settings(name, photo):
    plain = score(name, photo)
    made_before = create_metric(name)
    given = arguments(made_before, photo, photo)
    torch.manual_seed(123)
    assert score(name, photo) == plain
    for dtype in (torch.float64, torch.bfloat16):
        torch.set_default_dtype(dtype)
        try:
            assert score(name, photo) == plain
            assert made_before(*given).item() == plain
        finally:
            torch.set_default_dtype(torch.float32)
    for action in ("error", "ignore", "always"):
        with warnings.catch_warnings():
            warnings.simplefilter(action)
            assert score(name, photo) == plain
    with torch.device("meta"):
        assert score(name, photo) == plain
        assert made_before(*given).item() == plain
