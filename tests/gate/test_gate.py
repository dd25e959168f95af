"""Limits, baselines and changes, by hand-worked cases and by SciPy."""

import json
import math

import numpy as np
import pytest
import scipy.stats

from iqametrics.errors import DataError, InputError
from iqametrics.gate.baseline import AllowedDrop, Baseline, read_allowed_drop, read_baseline
from iqametrics.gate.change import measure_change
from iqametrics.gate.limits import AskedMetric, Limit, read_limits
from iqametrics.gate.pairing import pair_names
from iqametrics.gate.verdicts import Gate
from iqametrics.scoring import Row
from iqametrics.spec import MetricSpec


def asked(name, *, higher=True, text=None):
    spec = MetricSpec(
        name=name,
        mode="nr",
        higher_is_better=higher,
        score_range=(0.0, 1.0),
        range_is_bound=False,
        differentiable=True,
        paper="",
        paper_url="",
        factory="",
    )
    return AskedMetric(text or name, spec)


class TestLimits:
    def test_a_name_means_every_checkpoint_of_the_metric(self):
        metrics = [asked("a", text="a.lite"), asked("a", text="a=mine.safetensors"), asked("b")]
        limits = read_limits(metrics, ["a=0.5", "a=mine.safetensors=0.6", "b=0.7"], [])
        assert limits == [(Limit(0.5, True),), (Limit(0.5, True), Limit(0.6, True)), (Limit(0.7, True),)]

    def test_a_bare_number_is_the_worse_side(self):
        assert read_limits([asked("a")], ["0.5"], []) == [(Limit(0.5, below=True),)]
        assert read_limits([asked("a", higher=False)], ["0.5"], []) == [(Limit(0.5, below=False),)]
        assert read_limits([asked("a", higher=False)], [], ["a=0.5"]) == [(Limit(0.5, below=False),)]

    def test_a_score_at_the_limit_passes(self):
        assert not Limit(0.5, below=True).fails(0.5)
        assert not Limit(0.5, below=False).fails(0.5)

    @pytest.mark.parametrize(
        ("below", "above", "words"),
        [
            (["0.5"], [], "which of the 2 metrics"),
            (["c=0.5"], [], "c is not among"),
            (["a=nan"], [], "nan is not a finite number"),
            (["a="], [], "nothing is not a finite number"),
            (["=0.5"], [], "is not a finite number"),
            (["low=0.5"], [], "use --fail-above"),
            ([], ["a=0.5"], "use --fail-below"),
        ],
    )
    def test_what_cannot_be_meant(self, below, above, words):
        with pytest.raises(InputError, match=words):
            read_limits([asked("a"), asked("low", higher=False)], below, above)


class TestPairing:
    def test_equal_paths_come_first(self):
        assert pair_names(["x/a.png", "x/b.png"], ["x/a.png", "y/b.png"]) == {"x/a.png": "x/a.png"}

    def test_other_folders_pair_by_what_follows_the_common_one(self):
        first, second = ["out1/a/1.png", "out1/b/1.png"], ["/tmp/out2/b/1.png", "/tmp/out2/a/1.png"]
        assert pair_names(first, second) == dict(zip(first, reversed(second), strict=True))

    def test_no_partner(self):
        assert pair_names(["a/x.png", "a/y.png"], ["b/z.png"]) == {}
        assert pair_names([], ["b/z.png"]) == {}


class TestBaseline:
    ROWS = (
        {"image": "a.png", "metric": "m", "reference": None, "score": 0.5},
        {"image": "b.png", "metric": "m", "reference": None, "score": None, "error": "x"},
    )

    def written(self, tmp_path, form):
        path = tmp_path / "old"
        text = {
            "json": json.dumps(self.ROWS),
            "jsonl": "\n".join(map(json.dumps, self.ROWS)),
            "csv": "image,reference,metric,score,error\na.png,,m,0.5,\nb.png,,m,,x\n",
        }[form]
        path.write_text(text)
        return path

    @pytest.mark.parametrize("form", ["json", "jsonl", "csv"])
    def test_forms(self, tmp_path, form):
        assert read_baseline(self.written(tmp_path, form)).scores == {"m": {"a.png": 0.5}}

    @pytest.mark.parametrize(
        "text",
        ["", "[]", "[1]", "{", '[{"image": "a", "score": 1}]', "image,metric,score\na,m,nan\n", "x\ny\n", "[" * 9999],
    )
    def test_what_is_none(self, tmp_path, text):
        path = tmp_path / "old"
        path.write_text(text)
        with pytest.raises(DataError, match="old: "):
            read_baseline(path)

    def test_missing_or_binary(self, tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            read_baseline(tmp_path / "none")
        (tmp_path / "b").write_bytes(b"\xff\xfe\0")
        with pytest.raises(DataError, match="not a text file"):
            read_baseline(tmp_path / "b")

    @pytest.mark.parametrize("text", ["-0.1", "nan", "inf", "median=1", "x", "=1"])
    def test_drops_that_are_none(self, text):
        with pytest.raises(InputError, match="--fail-drop"):
            read_allowed_drop([text])


class TestChange:
    def test_against_scipy_and_by_hand(self):
        generator = np.random.default_rng(0)
        a = generator.normal(0.5, 0.1, 40)
        b = a + generator.normal(0.02, 0.03, 40)
        change = measure_change("m", a.tolist(), b.tolist(), higher_is_better=True)
        assert change.difference == pytest.approx((b - a).mean())
        assert change.p_value == pytest.approx(scipy.stats.wilcoxon(b, a).pvalue)
        oracle = scipy.stats.bootstrap((b - a,), np.mean, method="percentile", rng=np.random.default_rng(1))
        assert change.low == pytest.approx(oracle.confidence_interval.low, abs=2e-3)
        assert change.high == pytest.approx(oracle.confidence_interval.high, abs=2e-3)
        assert (change.wins, change.losses, change.ties) == (int((b > a).sum()), int((b < a).sum()), 0)
        assert not change.worse

    @pytest.mark.parametrize("higher", [True, False])
    def test_worse_in_either_direction(self, higher):
        a = [0.5, 0.6, 0.7, 0.8, 0.55, 0.65]
        worse = [score + (-0.1 if higher else 0.1) * (1 + i / 10) for i, score in enumerate(a)]
        change = measure_change("m", a, worse, higher_is_better=higher)
        assert (change.worse, change.losses, change.wins) == (True, 6, 0)
        assert not measure_change("m", worse, a, higher_is_better=higher).worse

    def test_equal_runs(self):
        change = measure_change("m", [0.5, 0.6], [0.5, 0.6 + 1e-7], higher_is_better=True)
        assert (change.ties, change.worse) == (2, False)
        assert math.isnan(change.p_value)
        assert change.to_dict()["p_value"] is None

    def test_one_picture_has_no_interval(self):
        change = measure_change("m", [0.5], [0.4], higher_is_better=True)
        assert math.isnan(change.low)
        assert change.worse

    def test_no_picture(self):
        with pytest.raises(DataError, match="nothing can be compared"):
            measure_change("m", [], [], higher_is_better=True)


def row(image, score, metric="m"):
    return Row(image, None, metric, score, None if score is not None else "broken")


class TestGate:
    def gate(self, *limits, higher=True, **more):
        return Gate({"m": limits}, {"m": higher}, **more)

    def test_limits_row_by_row_and_in_sum(self):
        gate = self.gate(Limit(0.5, below=True))
        rows = [row("a", 0.6), row("b", 0.41), row("c", None), row("d", 0.3)]
        assert [gate.judge(r) for r in rows] == [None, "below 0.5", None, "below 0.5"]
        assert gate.failed
        assert list(gate.finish()) == ["m: 2 of 3 below 0.5: d 0.3, b 0.41"]

    def test_a_long_list_is_cut(self):
        gate = self.gate(Limit(0.5, below=False), higher=False)
        for number in range(8):
            gate.judge(row(str(number), 1 + number / 10))
        assert list(gate.finish()) == ["m: 8 of 8 above 0.5: 7 1.7, 6 1.6, 5 1.5, 4 1.4, 3 1.3, and 3 more"]

    def test_a_drop_of_one_picture(self):
        gate = self.gate(baseline=Baseline({"m": {"old/a": 0.5, "old/b": 0.6}}), drop=AllowedDrop(picture=0.02))
        rows = [row("new/a", 0.47), row("new/b", 0.59)]
        gate.pair(rows)
        assert [gate.judge(r) for r in rows] == ["was 0.5000", None]
        lines = list(gate.finish())
        assert gate.failed
        assert lines[0].startswith("m: mean 0.5300, -0.0200 against the baseline (95% interval -0.0300 to -0.0100)")
        assert lines[1] == "m: 1 of 2 worse by more than 0.02: new/a 0.5 to 0.47"

    def test_a_drop_of_the_mean(self):
        gate = self.gate(baseline=Baseline({"m": {"a": 0.5, "b": 0.6}}), drop=AllowedDrop(mean=0.005))
        rows = [row("a", 0.49), row("b", 0.59)]
        gate.pair(rows)
        assert [gate.judge(r) for r in rows] == [None, None]
        assert "the mean is worse by 0.0100, more than 0.005" in list(gate.finish())[-1]
        assert gate.failed

    def test_a_rise_of_a_lower_is_better_metric_is_a_drop(self):
        gate = self.gate(higher=False, baseline=Baseline({"m": {"a": 0.5}}), drop=AllowedDrop(picture=0.02))
        gate.pair([row("a", 0.53)])
        assert gate.judge(row("a", 0.53)) == "was 0.5000"

    def test_what_is_missing_on_either_side_is_told(self):
        for strict in (False, True):
            gate = self.gate(baseline=Baseline({"m": {"a": 0.5, "gone": 0.6}}), strict=strict)
            gate.pair([row("a", 0.5), row("new", 0.5)])
            assert [gate.judge(row("a", 0.5)), gate.judge(row("new", 0.5))] == [None, None]
            lines = " ".join(gate.finish())
            assert "1 of 2 pictures are not in the baseline" in lines
            assert "1 pictures of the baseline have no score" in lines
            assert gate.failed == strict

    def test_nothing_in_common_fails(self):
        gate = self.gate(baseline=Baseline({"m": {"x": 0.5}}))
        gate.pair([row("a", 0.5)])
        gate.judge(row("a", 0.5))
        assert "nothing was compared" in list(gate.finish())[-1]
        assert gate.failed

    def test_a_metric_that_the_baseline_lacks(self):
        with pytest.raises(DataError, match=r"no scores of m\.lite2; it has scores of m\.lite"):
            Baseline({"m.lite": {"a": 1.0}}).check(["m.lite2"])
