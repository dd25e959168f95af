"""Metrics of other packages: their names, and piq's numbers against calling piq itself.

pyiqa is not in the development extra; a small package that behaves as it does stands in for it here, and
test_pyiqa.py runs the real one where it is installed.
"""

import importlib
import json
import math
import subprocess
import sys
import textwrap
import time
from urllib.error import URLError

import numpy as np
import piq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pictures import arguments, blurred, picture
from PIL import Image

from iqametrics import (
    InputError,
    MissingExtraError,
    UnknownMetricError,
    WeightsError,
    baselines,
    create_metric,
    list_metrics,
    metric_info,
)
from iqametrics.baselines.paper_rows import PAPER_ROWS, paper_row
from iqametrics.baselines.piq_table import PIQ
from iqametrics.baselines.pyiqa_table import parse_configs, parse_range
from iqametrics.cli.main import main

OFFLINE = sorted(name for name, entry in PIQ.items() if not entry.downloads)
JUDGING = [name for name in OFFLINE if name != "total_variation"]  # which likes what is blurred


@pytest.fixture(scope="module")
def pairs():
    """Two distorted pictures and their references."""
    references = torch.stack([picture(seed=seed) for seed in (1, 2)])
    return torch.stack([blurred(references[0], 2), (references[1] * 0.9 + 0.03)]), references


class TestNames:
    def test_the_metrics_of_an_installed_package_are_listed_when_asked_for(self):
        names = list_metrics(baselines=True)
        assert {f"piq/{name}" for name in PIQ} <= set(names)
        assert not any("/" in name for name in list_metrics())
        assert "piq/psnr" not in list_metrics("nr", baselines=True)
        assert "piq/brisque" in list_metrics("nr", baselines=True)

    @pytest.mark.parametrize(
        ("name", "hint"),
        [
            ("piq/ms_sim", "did you mean 'piq/ms_ssim'"),
            ("piq/FSIM", "did you mean 'piq/fsim'"),
            ("piq/", "names all of piq"),
            ("piqa/fsim", "unknown package 'piqa'.*did you mean .*'piq'"),
            ("/fsim", "unknown package ''"),
            ("piq/fid", "compares two sets of images"),
            ("piq/psnr.lite", "did you mean 'piq/psnr'"),
        ],
    )
    def test_unknown(self, name, hint):
        for ask in (create_metric, metric_info):
            with pytest.raises(UnknownMetricError, match=hint) as caught:
                ask(name)
            assert "\n" not in str(caught.value)

    def test_not_installed(self, monkeypatch):
        monkeypatch.setattr(baselines, "is_installed", lambda package: False)
        with pytest.raises(MissingExtraError, match=r'pip install "iqametrics\[baselines\]".*no commercial use'):
            create_metric("pyiqa/niqe")
        with pytest.raises(MissingExtraError, match=r'piq is not installed.*pip install "iqametrics\[train\]"'):
            metric_info("piq/psnr")
        assert list_metrics(baselines=True) == list_metrics()

    def test_other_weights_are_refused(self):
        for weights in ("lite", None, "mine.safetensors"):
            with pytest.raises(WeightsError, match="has the weights that piq gives it"):
                create_metric("piq/psnr", weights=weights)

    def test_what_is_known(self):
        info = metric_info("piq/mdsi")
        assert (info.full_name, info.tag, info.tags, info.checkpoint) == ("piq/mdsi", None, (), None)
        assert (info.mode, info.higher_is_better, info.range_is_bound) == ("fr", False, False)
        assert info.score_range == (0, math.inf)

    def test_light(self):
        """Names and constants are known without torch, piq or NumPy."""
        code = (
            "import sys; from iqametrics import list_metrics, metric_info\n"
            "list_metrics(baselines=True); metric_info('piq/fsim')\n"
            "sys.exit(str(sorted({'torch', 'numpy', 'piq', 'pyiqa'} & set(sys.modules))))"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert done.stderr.strip() == "[]"


class TestPiq:
    @pytest.mark.parametrize("name", OFFLINE)
    def test_numbers_are_those_of_piq(self, name, pairs):
        metric = create_metric(f"piq/{name}")
        call = getattr(piq, PIQ[name].call)
        # One by one: srsim of piq 0.8 scores an image in a batch by the contrast of the others.
        singles = [arguments(metric, dist[None], ref[None]) for dist, ref in zip(*pairs, strict=True)]
        expected = [call(*images, reduction="none", **dict(PIQ[name].options)).float() for images in singles]
        # Both in one batch: so a score depends on its image alone, too.
        assert torch.equal(metric(*arguments(metric, *pairs)), torch.cat(expected))

    @pytest.mark.parametrize("name", ["srsim", "mdsi", "total_variation"])
    def test_a_score_depends_on_its_image_alone(self, name, pairs):
        metric = create_metric(f"piq/{name}")
        dist, ref = pairs
        together = metric(*arguments(metric, dist, ref))
        alone = torch.cat([metric(*arguments(metric, d, r)) for d, r in zip(dist, ref, strict=True)])
        assert torch.equal(together, alone)
        assert torch.equal(metric(*arguments(metric, dist.flip(0), ref.flip(0))), together.flip(0))

    @pytest.mark.parametrize("name", JUDGING)
    def test_a_heavier_blur_is_worse(self, name, pairs):
        metric = create_metric(f"piq/{name}")
        reference = pairs[1][0]
        scores = [float(metric(blurred(reference, times), reference)) for times in (0, 2, 12)]
        assert scores == sorted(scores, reverse=metric.higher_is_better)
        assert len(set(scores)) == 3
        low, high = metric.score_range
        # Equal images may score a rounding beyond the end.
        assert low - 1e-5 <= min(scores) <= max(scores) <= high + 1e-5

    def test_every_door(self, tmp_path):
        array = (picture().permute(1, 2, 0) * 255).byte().numpy()
        worse = (blurred(picture(), 2).permute(1, 2, 0) * 255).byte().numpy()
        Image.fromarray(array).save(tmp_path / "a.png")
        Image.fromarray(worse).save(tmp_path / "b.png")
        metric = create_metric("piq/ssim")
        expected = metric(worse, array)
        assert torch.equal(metric(tmp_path / "b.png", str(tmp_path / "a.png")), expected)
        assert torch.equal(metric(Image.fromarray(worse), Image.fromarray(array)), expected)
        assert torch.equal(metric([worse, array], [array, array]), torch.cat([expected, metric(array, array)]))
        assert torch.equal(metric(worse, metric.encode_reference(array)), expected)

    def test_pictures_of_several_sizes(self):
        images = [picture(), picture(100, 120), picture()]
        scores = create_metric("piq/psnr")([blurred(image, 1) for image in images], images)
        assert scores[0] == scores[2] != scores[1]

    def test_wrong_arguments(self, pairs):
        metric = create_metric("piq/psnr")
        with pytest.raises(InputError, match=r"metric\(dist, ref\)"):
            metric(pairs[0])
        with pytest.raises(InputError, match="crop or resize"):
            metric(pairs[0], pairs[1][..., 1:])
        with pytest.raises(InputError, match="takes no reference"):
            create_metric("piq/total_variation")(*pairs)

    def test_too_small(self):
        with pytest.raises(InputError, match=r"piq/ms_ssim cannot score an image of 120x100.*161x161") as caught:
            create_metric("piq/ms_ssim")(picture(100, 120), picture(100, 120))
        assert "\n" not in str(caught.value)

    def test_a_loss(self, pairs):
        # Where two pixels are alike to the last bit, as rounding makes them on some processors, MDSI of piq takes a
        # root of 0, whose gradient is not a number; noise keeps them apart.
        noise = torch.rand(pairs[0][0].shape, generator=torch.Generator().manual_seed(0)) / 1e3
        noisy = (pairs[0][0] + noise).clamp(0, 1)
        for name in ("ssim", "mdsi", "psnr"):
            score = create_metric(f"piq/{name}")(noisy, pairs[1][0])
            metric = create_metric(f"piq/{name}", as_loss=True)
            dist = noisy.clone().requires_grad_()
            loss = metric(dist, pairs[1][0])
            (gradient,) = torch.autograd.grad(loss, dist)
            # The distance from the better end of the range; an open end has none.
            low, high = metric.score_range
            expected = high - score if metric.higher_is_better else score - low
            assert torch.allclose(loss, expected.mean(), atol=1e-5)
            assert gradient.isfinite().all()
            assert gradient.abs().max() > 0

    def test_a_score_has_no_gradient(self, pairs):
        assert not create_metric("piq/ssim")(pairs[0].clone().requires_grad_(), pairs[1]).requires_grad

    def test_constants_are_constant(self):
        metric = create_metric("piq/fsim")
        for name in ("spec", "mode", "higher_is_better", "score_range", "name", "full_name"):
            with pytest.raises(AttributeError):
                setattr(metric, name, None)
        assert (metric.name, metric.full_name, metric.training) == ("piq/fsim", "piq/fsim", False)

    def test_dtype(self, pairs):
        double = create_metric("piq/vif_p", dtype="float64")
        assert double(*(images.double() for images in pairs)).dtype == torch.float64

    @pytest.mark.parametrize("name", ["lpips", "brisque", "dists", "pieapp", "clip_iqa"])
    def test_weights_that_cannot_be_had(self, name, monkeypatch, tmp_path):
        def unreachable(*args, **keywords):
            raise URLError("no route to host")

        monkeypatch.setenv("TORCH_HOME", str(tmp_path))
        monkeypatch.setenv("HOME", str(tmp_path))
        monkeypatch.setattr("torch.hub.urlopen", unreachable)
        monkeypatch.setattr("piq.utils.common.urlopen", unreachable)
        monkeypatch.setattr("socket.create_connection", unreachable)
        start = time.perf_counter()
        with pytest.raises(WeightsError, match=r"weights cannot be fetched.*no route to host") as caught:
            create_metric(f"piq/{name}")
        assert time.perf_counter() - start < 10
        assert "\n" not in str(caught.value)


FAKE_CONFIG = """
from collections import OrderedDict
raise SystemExit('this file is read, never run')
DEFAULT_CONFIGS = OrderedDict(
    {
        'steady': {'metric_opts': {'type': 'A'}, 'metric_mode': 'NR', 'lower_better': True, 'score_range': '~0, ~'},
        'random': {'metric_opts': {'type': 'B'}, 'metric_mode': 'FR', 'score_range': '0, 1'},
        'absent': {'metric_opts': {'type': 'C'}, 'metric_mode': 'NR'},
        'needy': {'metric_opts': {'type': 'C'}, 'metric_mode': 'NR'},
        'flat': {'metric_opts': {'type': 'D'}, 'metric_mode': 'NR'},
        'fid': {'metric_opts': {'type': 'FID'}, 'metric_mode': 'NR'},
        'unset': {'metric_opts': {'type': 'E'}},
    }
)
"""
FAKE_CODE = """
import warnings
import numpy, torch

class Inference(torch.nn.Module):
    def __init__(self, name):
        super().__init__()
        self.name, self.as_loss, self.loss_reduction = name, False, 'mean'
        self.dummy = torch.nn.Parameter(torch.empty(0))

    def forward(self, target, ref=None):
        print('scoring')
        warnings.warn('old')
        with torch.set_grad_enabled(self.as_loss):
            if self.name == 'random':
                score = (target - ref).mean((1, 2, 3)) + torch.rand(1) + float(numpy.random.rand())
            elif self.name == 'flat':
                score = target.detach().mean((1, 2, 3))
            else:
                score = target.mean((1, 2, 3))[:, None], 'more'
        if self.as_loss:
            score = score[0] if isinstance(score, tuple) else score
            return score if self.loss_reduction == 'none' else score.mean()
        return score

def create_metric(name, device=None):
    print('Downloading')
    if name == 'absent':
        raise OSError('no network\\nand more')
    if name == 'needy':
        import no_such_package_at_all
    return Inference(name)
"""


@pytest.fixture
def pyiqa(tmp_path, monkeypatch):
    """A package that is called pyiqa and behaves like it."""
    folder = tmp_path / "site" / "pyiqa"
    folder.mkdir(parents=True)
    (folder / "default_model_configs.py").write_text(FAKE_CONFIG)
    (folder / "__init__.py").write_text(FAKE_CODE)
    for module in [name for name in sys.modules if name.partition(".")[0] == "pyiqa"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.syspath_prepend(str(folder.parent))
    importlib.invalidate_caches()
    baselines._read.cache_clear()
    yield folder
    sys.modules.pop("pyiqa", None)
    baselines._read.cache_clear()


class TestPyiqa:
    def test_its_list_is_read(self, pyiqa):
        names = [name for name in list_metrics(baselines=True) if name.startswith("pyiqa/")]
        assert names == ["pyiqa/absent", "pyiqa/flat", "pyiqa/needy", "pyiqa/random", "pyiqa/steady"]
        steady, random = metric_info("pyiqa/steady"), metric_info("pyiqa/random")
        assert (steady.mode, steady.higher_is_better, steady.score_range) == ("nr", False, (0, math.inf))
        assert (random.mode, random.higher_is_better, random.score_range) == ("fr", True, (0, 1))
        assert "no commercial use" in random.paper  # said where it is offered
        with pytest.raises(UnknownMetricError, match="compares two sets"):
            create_metric("pyiqa/fid")

    def test_a_score_depends_on_its_image_alone(self, pyiqa, pairs, capsys):
        metric = create_metric("pyiqa/random")
        state, legacy = torch.get_rng_state(), np.random.get_state()[1].copy()
        first = metric(*pairs)
        assert torch.equal(metric(pairs[0].flip(0), pairs[1].flip(0)), first.flip(0))
        assert torch.equal(torch.get_rng_state(), state)
        assert np.array_equal(np.random.get_state()[1], legacy)
        assert capsys.readouterr().out == ""

    def test_scores_and_losses(self, pyiqa, pairs):
        metric = create_metric("pyiqa/steady")
        assert torch.allclose(metric(pairs[0]), pairs[0].mean((1, 2, 3)))
        metric.as_loss = True
        dist = pairs[0].clone().requires_grad_()
        loss = metric(dist)
        assert torch.allclose(loss, pairs[0].mean())
        assert torch.allclose(torch.autograd.grad(loss, dist)[0], torch.full_like(dist, 1 / dist.numel()))

    def test_a_loss_without_gradient_is_refused(self, pyiqa, pairs):
        metric = create_metric("pyiqa/flat", as_loss=True)
        with pytest.raises(InputError, match="gives no gradient"):
            metric(pairs[0].clone().requires_grad_())

    def test_what_cannot_be_made(self, pyiqa):
        with pytest.raises(WeightsError, match=r"pyiqa/absent.*no network\)"):
            create_metric("pyiqa/absent")
        with pytest.raises(MissingExtraError, match="no_such_package_at_all"):
            create_metric("pyiqa/needy")

    def test_a_list_in_another_form(self, pyiqa):
        (pyiqa / "default_model_configs.py").write_text("DEFAULT_CONFIGS = build()")
        with pytest.raises(MissingExtraError, match="install a version that was tried"):
            create_metric("pyiqa/steady")

    def test_the_source_is_not_run(self):
        assert parse_configs("DEFAULT_CONFIGS = {'a': {'metric_mode': print('run')}}") == {}
        assert parse_configs(textwrap.dedent("x = 1")) == {}

    @given(low=st.floats(-1e3, 1e3), high=st.floats(-1e3, 1e3), about=st.tuples(st.booleans(), st.booleans()))
    def test_ranges(self, low, high, about):
        text = ", ".join(("~" if tilde else "") + repr(value) for value, tilde in zip((low, high), about, strict=True))
        assert parse_range(text) == (low, high)

    def test_open_ranges(self):
        assert parse_range("~, 2") == (-math.inf, 2)
        assert parse_range("None") == parse_range("quality: 0, 1; rank: 0, 2") == (-math.inf, math.inf)


class TestCommandLine:
    def test_list_and_info(self, capsys):
        assert main(["list", "--format", "json"]) == 0
        rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
        assert (rows["piq/mdsi"]["low"], rows["piq/mdsi"]["high"], rows["piq/mdsi"]["better"]) == (0.0, None, "lower")
        assert main(["info", "piq/mdsi", "--format", "json"]) == 0
        info = json.loads(capsys.readouterr().out)
        assert (info["score_range"], info["licence"]) == ([0.0, None], "Apache-2.0")
        assert main(["info", "piq/mdsi"]) == 0
        out = capsys.readouterr().out
        assert "0 to open" in out
        assert "Apache-2.0" in out

    def test_score_and_evaluate(self, tmp_path, capsys, monkeypatch):
        monkeypatch.chdir(tmp_path)
        lines = ["image,mos,reference"]
        Image.fromarray((picture().permute(1, 2, 0) * 255).byte().numpy()).save("ref.png")
        for times in (1, 2, 3, 4, 5, 6):
            worse = blurred(picture(), times)
            Image.fromarray((worse.permute(1, 2, 0) * 255).byte().numpy()).save(f"{times}.png")
            lines.append(f"{times}.png,{1 - times / 10},ref.png")
        (tmp_path / "scores.csv").write_text("\n".join(lines) + "\n")
        assert main(["score", "--metric", "piq/psnr", "1.png", "--ref", "ref.png", "--format", "json"]) == 0
        (row,) = json.loads(capsys.readouterr().out)
        assert row["metric"] == "piq/psnr"
        pixels = [np.asarray(Image.open(name), dtype=np.float64) / 255 for name in ("1.png", "ref.png")]
        assert row["score"] == pytest.approx(-10 * np.log10(((pixels[0] - pixels[1]) ** 2).mean()), abs=1e-3)
        assert main(["evaluate", "--metric", "piq/gmsd", "--csv", "scores.csv", "--format", "json"]) == 0
        assert abs(json.loads(capsys.readouterr().out)["srcc"]) == pytest.approx(1)

    def test_mistakes_are_one_line(self, capsys):
        assert main(["info", "piq/nothing-like-it"]) == 2
        assert main(["score", "x.png", "--metric", "piq/psnr"]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 2
        assert "give --ref" in err


class TestPaperRows:
    def test_adapters_exist(self):
        adapters = [row.adapter for row in PAPER_ROWS.values() if row.adapter]
        assert {name.partition("/")[2] for name in adapters if name.startswith("piq/")} <= set(PIQ)
        assert {name.partition("/")[0] for name in adapters} == {"piq", "pyiqa"}

    def test_every_row_says_what_it_is_worth(self):
        for name, row in PAPER_ROWS.items():
            assert row.trained_on or row.caveat, name

    def test_a_row_by_mode(self):
        assert paper_row("TOPIQ", "fr").adapter == "pyiqa/topiq_fr"
        assert paper_row("TOPIQ", "nr").adapter == "pyiqa/topiq_nr"
        assert paper_row("a method of tomorrow", "nr").adapter is None
