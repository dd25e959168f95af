"""Bootstrap intervals and comparisons, against scipy.stats.bootstrap and published examples."""

import math
import time

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from iqametrics.errors import DataError
from iqametrics.evaluation import (
    bootstrap_interval,
    compare_metrics,
    holm,
    krcc,
    paired_bootstrap,
    plcc,
    srcc,
    williams_test,
)
from iqametrics.evaluation.bootstrap import group_counts, percentile_interval


def related(n, seed=0, noise=1.0):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=n)
    return x, x + noise * generator.normal(size=n)


def slow_srcc(x, y):
    """The same figure under another name, which keeps it off the fast path."""
    return srcc(x, y)


def slow_plcc(x, y):
    return plcc(x, y)


# --- one metric -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("figure", [srcc, plcc])
def test_agrees_with_scipy(figure):
    x, y = related(150)
    theirs = scipy.stats.bootstrap(
        (x, y), figure, paired=True, vectorized=False, n_resamples=1000, method="percentile", random_state=1
    ).confidence_interval
    ours = bootstrap_interval(figure, x, y, n_resamples=4000)
    # Monte Carlo error of a 2.5% quantile of 1,000 draws: about 0.08 of the interval's half-width.
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.2 * (theirs.high - theirs.low) / 2)


@pytest.mark.parametrize(("fast", "slow"), [(srcc, slow_srcc), (plcc, slow_plcc)])
@pytest.mark.parametrize("groups", [None, np.repeat(np.arange(12), [1, 9] * 6)])
def test_fast_path_is_the_same_figure(fast, slow, groups):
    x, y = related(60)
    x, y = np.round(x, 1), np.round(y)  # many ties
    arguments = {"groups": groups, "n_resamples": 60}
    assert bootstrap_interval(fast, x, y, **arguments) == pytest.approx(
        bootstrap_interval(slow, x, y, **arguments), abs=1e-12
    )


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=3, max_size=12), st.integers(0, 5))
def test_interval_holds_the_estimate(rows, seed):
    x, y = np.array(rows, dtype=float).T
    low, high = bootstrap_interval(srcc, x, y, n_resamples=50, seed=seed)
    estimate = srcc(x, y)
    if math.isnan(estimate):
        assert math.isnan(low)
        assert math.isnan(high)
    else:
        assert -1 <= low <= estimate <= high <= 1


def test_interval_is_widened_to_the_estimate_and_skips_nan():
    draws = np.array([0.6, math.nan, 0.7, 0.8])
    assert percentile_interval(0.5, draws, 0.5) == pytest.approx((0.5, 0.75))
    assert percentile_interval(0.9, draws, 0.5) == pytest.approx((0.65, 0.9))
    assert np.isnan(percentile_interval(0.9, np.array([math.nan]), 0.5)).all()


def test_as_many_groups_are_drawn_as_there_are():
    counts = np.concatenate(list(group_counts(["a", "b", "b", "c"], 4, 500, seed=0)))
    assert counts.shape == (500, 4)
    assert (counts[:, 1] == counts[:, 2]).all()
    assert (counts[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert counts.mean(axis=0) == pytest.approx(1, abs=0.15)  # 4 sigma of 500 draws


@pytest.mark.parametrize("unit", [1e-200, 1e-6, 1e6, 1e149])
def test_the_unit_of_scores_changes_nothing(unit):
    x, y = related(60)
    for figure in (srcc, plcc):
        assert bootstrap_interval(figure, x * unit, y, n_resamples=50) == pytest.approx(
            bootstrap_interval(figure, x, y, n_resamples=50), rel=1e-9
        )


def test_perfect_order_has_no_width():
    x = np.arange(20.0)
    assert bootstrap_interval(srcc, x, x**3) == pytest.approx((1.0, 1.0))


def test_whole_groups_are_drawn():
    # Ten copies of each of 15 images carry no more evidence than the 15: the grouped interval must not shrink.
    x, y = related(15, seed=4)
    groups = np.tile(np.arange(15), 10)
    single = bootstrap_interval(srcc, x, y)
    grouped = bootstrap_interval(srcc, np.tile(x, 10), np.tile(y, 10), groups=groups)
    ungrouped = bootstrap_interval(srcc, np.tile(x, 10), np.tile(y, 10))
    assert grouped[1] - grouped[0] == pytest.approx(single[1] - single[0], rel=0.1)
    assert ungrouped[1] - ungrouped[0] < 0.5 * (single[1] - single[0])


def test_seed_decides_and_confidence_widens():
    x, y = related(80)
    assert bootstrap_interval(srcc, x, y, seed=7) == bootstrap_interval(srcc, x, y, seed=7)
    assert bootstrap_interval(srcc, x, y, seed=7) != bootstrap_interval(srcc, x, y, seed=8)
    narrow, wide = (bootstrap_interval(srcc, x, y, confidence=level) for level in (0.5, 0.99))
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_coverage_of_plcc():
    # 95% intervals of a normal sample with correlation 0.7 hold 0.7 in 95% of trials, give or take 3 sigma of 200.
    generator = np.random.default_rng(0)
    held = 0
    for trial in range(200):
        x = generator.normal(size=100)
        y = 0.7 * x + math.sqrt(1 - 0.49) * generator.normal(size=100)
        low, high = bootstrap_interval(plcc, x, y, n_resamples=200, seed=trial)
        held += low <= 0.7 <= high
    assert 0.89 <= held / 200 <= 0.99


def test_fast_enough():
    x, y = related(2000)
    srcc(x, y)  # SciPy's import is not what is timed
    start = time.process_time()
    bootstrap_interval(srcc, x, y)
    assert time.process_time() - start < 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"groups": ["a", "b"]}, "groups has 2 labels for 5 images"),
        ({"groups": ["a"] * 5}, "all 5 images are in group 'a'"),
        ({"groups": ["a", None, "b", "b", "b"]}, r"groups\[1\] is None"),
        ({"groups": np.array([1, 2, math.nan, 1, 2])}, r"groups\[2\] is nan"),
        ({"confidence": 95}, "confidence=95"),
        ({"n_resamples": 0}, "n_resamples=0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(DataError, match=message):
        bootstrap_interval(srcc, [1, 2, 3, 4, 5], [2, 1, 3, 5, 4], **arguments)


# --- two metrics ----------------------------------------------------------------------------------------------------

# Output of R packages: psych's r.test through bruceR (documentation of cor_diff), and cocor 1.1 with test
# williams1959 (documentation of rmcorr, and others' published analyses); correlations printed there to four places.
PUBLISHED = [
    ((0.20, 0.45, 0.80, 100), -4.56, 97, 0.005),
    ((0.8066, 0.2383, 0.2255, 177), 9.3823, 174, 0.002),
    ((-0.1741, 0.2015, 0.3734, 646), -9.0340, 643, 0.003),
    ((0.5447, 0.8000, 0.0729, 70), -2.8114, 67, 0.001),
]


@pytest.mark.parametrize(("arguments", "t", "freedom", "tolerance"), PUBLISHED)
def test_williams_published(arguments, t, freedom, tolerance):
    result = williams_test(*arguments)
    assert result.t == pytest.approx(t, abs=tolerance)
    assert result.degrees_of_freedom == freedom


def test_williams_published_p_value():
    assert williams_test(0.5447, 0.8000, 0.0729, 70).p_value == pytest.approx(0.0065, abs=5e-5)


def test_williams_by_hand():
    # Steiger's example of 1980 (masculinity .5, femininity .4 with verbal ability, .1 with each other, n = 103):
    # |R| = .62, mean .45, t = .1 sqrt(102 * 1.1 / (2 * .62 * 102/100 + .2025 * .729)) = .1 sqrt(112.2 / 1.412423).
    result = williams_test(0.5, 0.4, 0.1, 103)
    assert result.t == pytest.approx(0.1 * math.sqrt(112.2 / 1.4124225))
    assert result.p_value == pytest.approx(2 * scipy.stats.t.sf(result.t, 100))


def test_williams_is_not_fooled_by_rounding():
    # Two metrics that are one but for a scale: their correlations differ in the last digit.
    assert williams_test(0.8, 0.8 + 2e-16, 1.0, 50).p_value == 1
    x, y = related(50)
    assert compare_metrics({"a": x, "b": x / 3 + 0.1}, y, statistic="plcc")[0].p_williams == 1


def test_williams_is_antisymmetric_and_knows_equality():
    ahead, behind = williams_test(0.9, 0.8, 0.7, 50), williams_test(0.8, 0.9, 0.7, 50)
    assert ahead.t == -behind.t > 0
    assert ahead.p_value == behind.p_value
    assert williams_test(0.8, 0.8, 1.0, 50) == williams_test(0.8, 0.8, 0.3, 50)
    assert williams_test(0.8, 0.8, 1.0, 50).p_value == 1


def test_williams_false_alarms():
    # Two metrics of equal merit: about 5% of tests reject at 5% (3 sigma of 400 trials: 3.3%).
    generator = np.random.default_rng(0)
    rejected = 0
    for _ in range(400):
        truth, a, b = generator.normal(size=(3, 60))
        r = np.corrcoef([truth + a, truth + b, truth])
        rejected += williams_test(r[0, 2], r[1, 2], r[0, 1], 60).p_value < 0.05
    assert 0.015 < rejected / 400 < 0.085


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.2, 0.5, 0.5, 50), "r_a=1.2"),
        ((0.5, math.nan, 0.5, 50), "r_b=nan"),
        ((0.5, 0.4, 0.5, 3), "n=3"),
        ((0.9, -0.9, 0.9, 50), "cannot come from the same images"),
    ],
)
def test_williams_bad_arguments(arguments, message):
    with pytest.raises(DataError, match=message):
        williams_test(*arguments)


@pytest.mark.parametrize("figure", [srcc, plcc, krcc])
def test_paired_bootstrap_sees_the_better_metric(figure):
    x, y = related(120)
    worse = x + 2 * np.random.default_rng(9).normal(size=120)
    result = paired_bootstrap(figure, x, worse, y, n_resamples=200)
    assert result.difference == figure(x, y) - figure(worse, y)
    assert 0 < result.low < result.difference < result.high
    assert result.p_value == pytest.approx(2 / 201)


def test_paired_interval_is_narrower_than_unpaired():
    # Two nearly equal metrics share their errors; a paired comparison must profit from that.
    x, y = related(200)
    other = x + 0.05 * np.random.default_rng(9).normal(size=200)
    paired = paired_bootstrap(srcc, x, other, y)
    low, high = bootstrap_interval(srcc, x, y)
    assert paired.high - paired.low < 0.3 * (high - low)


def test_paired_bootstrap_of_a_metric_with_itself():
    x, y = related(50)
    result = paired_bootstrap(srcc, x, x, y)
    assert (result.difference, result.low, result.high, result.p_value) == (0, 0, 0, 1)


def test_paired_bootstrap_with_a_constant_metric():
    x, y = related(50)
    result = paired_bootstrap(srcc, x, np.ones(50), y)
    assert math.isnan(result.difference)
    assert math.isnan(result.p_value)


def test_few_groups_cannot_be_sure():
    # All of three references agree: with a coin for each that has a chance of 1/4, whatever the resamples say.
    x, y = related(60)
    worse = x + 2 * np.random.default_rng(9).normal(size=60)
    for count, least in ((3, 0.25), (6, 1 / 32)):
        groups = np.arange(60) % count
        assert paired_bootstrap(srcc, x, worse, y, groups=groups).p_value == pytest.approx(least)
        pair = compare_metrics({"good": x, "poor": worse}, y, groups=groups)[0]
        assert pair.p_bootstrap == pytest.approx(least)


def test_holms_rule_leaves_findings_possible_among_many_metrics():
    # With 1,000 resamples p is at least 0.002: times the 45 pairs of 10 metrics that would be 0.09, always.
    generator = np.random.default_rng(3)
    y, *noise = generator.normal(size=(10, 40))
    found = compare_metrics({"good": y, **{str(k): column for k, column in enumerate(noise)}}, y)
    assert len(found) == 45
    assert all(pair.p_bootstrap_holm < 0.05 for pair in found if pair.a == "good")


def test_paired_bootstrap_lengths():
    with pytest.raises(DataError, match="scores_b has 4"):
        paired_bootstrap(srcc, [1, 2, 3], [1, 2, 3, 4], [1, 2, 3])


# --- several metrics ---


def metrics(n=120):
    x, y = related(n)
    noise = np.random.default_rng(8).normal(size=(2, n))
    return {"good": x, "fair": -(x + noise[0]), "poor": x + 3 * noise[1]}, y


@pytest.mark.parametrize(("statistic", "figure"), [("srcc", srcc), ("plcc", plcc)])
def test_compare_metrics_gathers_the_single_tests(statistic, figure):
    scores, y = metrics()
    groups = np.arange(y.size) // 4
    found = compare_metrics(scores, y, lower_is_better=["fair"], groups=groups, statistic=statistic, n_resamples=200)
    assert [(pair.a, pair.b) for pair in found] == [("good", "fair"), ("good", "poor"), ("fair", "poor")]
    up = {**scores, "fair": -scores["fair"]}
    for pair in found:
        a, b = up[pair.a], up[pair.b]
        alone = paired_bootstrap(figure, a, b, y, groups=groups, n_resamples=200)
        assert (pair.difference, pair.low, pair.high, pair.p_bootstrap) == (
            alone.difference,
            alone.low,
            alone.high,
            alone.p_value,
        )
        test = williams_test(figure(a, y), figure(b, y), figure(a, b), y.size)
        assert (pair.williams_t, pair.p_williams) == (test.t, test.p_value)
        assert (pair.n, pair.statistic, pair.value_a, pair.value_b) == (y.size, statistic, figure(a, y), figure(b, y))
    assert [pair.p_bootstrap_holm for pair in found] == holm([pair.p_bootstrap for pair in found])
    assert [pair.p_williams_holm for pair in found] == holm([pair.p_williams for pair in found])


def test_williams_on_ranks_equals_williams_on_ranked_columns():
    scores, y = metrics()
    ranked = {name: scipy.stats.rankdata(column) for name, column in scores.items()}
    by_rank = compare_metrics(scores, y, n_resamples=2)
    pearson = compare_metrics(ranked, scipy.stats.rankdata(y), statistic="plcc", n_resamples=2)
    assert [pair.williams_t for pair in by_rank] == pytest.approx([pair.williams_t for pair in pearson])


def test_a_constant_metric_does_not_count_as_a_comparison():
    scores, y = metrics()
    with_constant = compare_metrics({**scores, "flat": np.ones(y.size)}, y, n_resamples=50)
    without = {(pair.a, pair.b): pair for pair in compare_metrics(scores, y, n_resamples=50)}
    for pair in with_constant:
        if pair.b != "flat":
            assert pair == without[pair.a, pair.b]
            continue
        plain = pair.to_dict()
        assert plain["value_a"] == pair.value_a
        assert plain["difference"] is plain["p_bootstrap_holm"] is plain["p_williams_holm"] is plain["low"] is None


def test_three_images_have_no_williams_test():
    pair = compare_metrics({"a": [1, 2, 3], "b": [1, 3, 2]}, [1, 2, 3], n_resamples=50)[0]
    assert pair.difference == 0.5
    assert math.isnan(pair.p_williams)


@pytest.mark.slow
def test_false_alarms_of_many_comparisons_are_held():
    # Four metrics of equal merit, 6 pairs: without Holm's rule any finding at 5% is far more frequent than with it.
    generator = np.random.default_rng(0)
    plain = adjusted = 0
    for trial in range(60):
        y = generator.normal(size=80)
        scores = {str(k): y + generator.normal(size=80) for k in range(4)}
        found = compare_metrics(scores, y, n_resamples=99, seed=trial)
        plain += any(pair.p_williams < 0.05 for pair in found)
        adjusted += any(pair.p_williams_holm < 0.05 for pair in found)
    assert adjusted <= 9  # 5% of 60 and 3 sigma
    assert plain > adjusted


@pytest.mark.parametrize(
    ("scores", "arguments", "message"),
    [
        ({"a": [1, 2, 3]}, {}, "1 metrics: give two"),
        ({"a": [1, 2, 3], "b": [1, 2]}, {}, "b has 2, mos has 3"),
        ({"a": [1, 2, 3], "b": [1, 2, math.nan]}, {}, r"b\[2\] is nan"),
        ({"a": [1, 2, 3], "b": [1, 3, 2]}, {"statistic": "krcc"}, "'krcc': compare by"),
        ({"a": [1, 2, 3], "b": [1, 3, 2]}, {"lower_is_better": ["c"]}, "names 'c'"),
    ],
)
def test_comparisons_that_cannot_be(scores, arguments, message):
    with pytest.raises(DataError, match=message):
        compare_metrics(scores, [1, 2, 3], **arguments)


# --- many comparisons -----------------------------------------------------------------------------------------------


def test_holm_hand_worked():
    # Sorted 0.005*4, 0.01*3, 0.03*2, 0.04*1 = 0.02, 0.03, 0.06, 0.04; running maximum 0.02, 0.03, 0.06, 0.06.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


def test_holm_bad_values():
    with pytest.raises(DataError, match=r"p_values\[1\] is 1.5"):
        holm([0.1, 1.5])
    with pytest.raises(DataError, match=r"p_values\[0\] is nan"):
        holm([math.nan])
