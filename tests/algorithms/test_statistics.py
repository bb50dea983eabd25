"""Intervals hold what they promise, and the exact tests agree with SciPy."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from scipy import stats

from edgekit.algorithms import statistics as st


@pytest.mark.parametrize(("losses", "gains"), [(0, 0), (1, 0), (5, 0), (12, 3), (3, 12), (7, 7), (200, 150), (40, 41)])
def test_mcnemar_is_the_binomial_test_of_the_discordant_pairs(losses, gains):
    expected = stats.binomtest(losses, losses + gains, 0.5).pvalue if losses + gains else 1.0
    assert st.mcnemar(losses, gains) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("k", "n", "p"), [(0, 5, 0.3), (3, 5, 0.01), (5, 5, 0.02), (6, 5, 0.5), (40, 500, 0.05), (1, 500, 0.2), (300, 500, 0.6), (2, 3, 1.0)]
)
def test_binomial_tail_agrees_with_scipy(k, n, p):
    assert st.binomial_tail(k, n, p) == pytest.approx(stats.binom.sf(k - 1, n, p), rel=1e-9, abs=1e-300)


def test_holm_multiplies_the_smallest_by_the_number_of_tests_and_never_falls():
    assert st.holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert st.holm([0.9, 0.8]).tolist() == [1.0, 1.0]
    assert st.holm([]).tolist() == []


@pytest.mark.parametrize("freedom", [1, 2, 3, 5, 9, 30, 500])
@pytest.mark.parametrize("p", [0.95, 0.975, 0.995])
def test_student_quantile_agrees_with_scipy(freedom, p):
    assert st.student_quantile(p, freedom) == pytest.approx(stats.t.ppf(p, freedom), rel=0.01)


def test_mean_change_agrees_with_scipys_bootstrap():
    differences = np.random.default_rng(3).gamma(2.0, 1.0, 400)
    ours = st.mean_change(differences, resamples=9000)
    scipys = stats.bootstrap((differences,), np.mean, method="percentile", n_resamples=9000, rng=1).confidence_interval
    assert ours.value == pytest.approx(differences.mean())
    assert (ours.low, ours.high) == pytest.approx((scipys.low, scipys.high), abs=0.02)


def test_few_distinct_values_take_the_fast_path_to_the_same_interval():
    few = np.random.default_rng(0).choice([-1.0, 0.0, 1.0], p=[0.05, 0.92, 0.03], size=1000)
    fast = st.mean_change(few, resamples=9000)
    slow = st.mean_change(few + np.linspace(0, 1e-9, 1000), resamples=9000)
    assert (fast.low, fast.high) == pytest.approx((slow.low, slow.high), abs=0.0016)


def test_a_metric_that_is_a_mean_has_the_interval_of_the_mean():
    rng = np.random.default_rng(5)
    first, second = rng.normal(size=(300, 1)), rng.normal(0.2, 1, size=(300, 1))
    figured = [lambda counts, rows=rows: np.array([np.average(rows[:, 0], weights=counts)]) for rows in (first, second)]
    change, drawn = st.figure_changes(figured[0], figured[1], len(first), resamples=4000)
    by_metric = st.interval_of(float(change[0]), drawn[:, 0], len(first))
    by_mean = st.mean_change((second - first)[:, 0], resamples=4000)
    assert by_metric.value == pytest.approx(by_mean.value)
    assert (by_metric.low, by_metric.high) == pytest.approx((by_mean.low, by_mean.high), abs=0.01)


def test_a_figure_that_few_resamples_tell_has_the_interval_of_those_few():
    known = st.interval_of(1.0, np.array([np.nan, 0.5, np.nan, 1.5]), 4)
    assert (known.low, known.high) == pytest.approx((0.5, 1.5), abs=0.05)
    unknown = st.interval_of(1.0, np.full(3, np.nan), 4)
    assert (unknown.value, unknown.low, unknown.high) == (1.0, -100.0, 100.0)


def test_share_change_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(11)
    for n, loss, gain in [(100, 0.03, 0.03), (500, 0.05, 0.03), (500, 0.003, 0.0), (2000, 0.02, 0.02)]:
        drawn = rng.multinomial(n, [loss, gain, 1 - loss - gain], size=400)
        found = [st.share_change(int(a), int(b), n, resamples=400, seed=i) for i, (a, b, _) in enumerate(drawn)]
        covered = np.mean([i.low <= gain - loss <= i.high for i in found])
        assert covered >= 0.93, (n, loss, gain, covered)
        assert loss == 0.003 or covered <= 0.995, (n, loss, gain, covered)


def test_mean_change_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(12)
    for n in (8, 60):
        found = [st.mean_change(rng.normal(1.0, 2.0, n), resamples=500, seed=i) for i in range(400)]
        covered = np.mean([i.low <= 1.0 <= i.high for i in found])
        assert 0.925 <= covered <= 0.975, (n, covered)


def test_no_change_seen_is_not_no_change_possible():
    none = st.share_change(0, 0, 128)
    assert none.value == 0
    assert -0.03 < none.low < -0.01
    assert none.high == pytest.approx(-none.low, abs=0.01)


def test_the_same_seed_gives_the_same_interval():
    assert st.share_change(9, 4, 500, seed=1) == st.share_change(9, 4, 500, seed=1)
    assert st.share_change(9, 4, 500, seed=1) != st.share_change(9, 4, 500, seed=2)


def test_memory_of_the_bootstrap_is_bounded():
    differences = np.random.default_rng(0).normal(size=50_000)
    tracemalloc.start()
    st.mean_change(differences, resamples=200)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40e6


@pytest.mark.parametrize(("losses", "gains", "limit"), [(9, 6, 1.0), (2, 2, 0.5), (0, 0, 1.0), (30, 26, 2.0)])
def test_so_many_samples_bring_the_interval_within_the_limit(losses, gains, limit):
    now = st.share_change(losses, gains, 500, resamples=20_000)
    needed = st.samples_needed((now.high - now.low) / 2, 500, limit / 100 + now.value)
    assert needed is not None
    factor = needed / 500
    then = st.share_change(round(losses * factor), round(gains * factor), needed, resamples=20_000)
    assert -then.low * 100 == pytest.approx(limit, rel=0.12)


def test_no_number_of_samples_settles_a_value_on_the_limit():
    assert st.samples_needed(0.01, 500, 0.0) is None


def test_ratio_of_medians_cancels_what_the_rounds_share():
    rng = np.random.default_rng(2)
    machine = rng.lognormal(0, 0.5, 12)
    ratio = st.ratio_of_medians(3.0 * machine, machine)
    alone = st.median_of_rounds(3.0 * machine)
    assert ratio.value == pytest.approx(3.0)
    assert (ratio.high - ratio.low) / ratio.value < 1e-9
    assert (alone.high - alone.low) / alone.value > 0.3


def test_ratio_of_medians_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(7)
    hits = []
    for seed in range(500):
        load = rng.lognormal(0, 0.05, 10)
        ratio = st.ratio_of_medians(2 * load * rng.lognormal(0, 0.03, 10), load * rng.lognormal(0, 0.03, 10), resamples=500, seed=seed)
        hits.append(ratio.low <= 2 <= ratio.high)
    assert 0.93 <= np.mean(hits) <= 0.995


def test_rounds_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="3 rounds can't be paired with 4"):
        st.ratio_of_medians(np.ones(3), np.ones(4))


def test_quantile_of_rounds_covers_the_truth_when_rounds_differ():
    rng = np.random.default_rng(9)
    truth = float(np.quantile(np.exp(rng.normal(0, np.hypot(0.2, 0.05), 2_000_000)), 0.9))
    hits = []
    for seed in range(200):
        rounds = [np.exp(rng.normal(rng.normal(0, 0.05), 0.2, 60)) for _ in range(12)]
        found = st.quantile_of_rounds(rounds, 0.9, resamples=500, seed=seed)
        hits.append(found.low <= truth <= found.high)
    assert 0.9 <= np.mean(hits) <= 1.0


def test_quantile_of_many_calls_is_found_on_a_thinned_grid():
    rng = np.random.default_rng(1)
    rounds = [rng.exponential(size=20_000) for _ in range(10)]
    found = st.quantile_of_rounds(rounds, 0.99, resamples=500)
    assert found.value == pytest.approx(-np.log(0.01), rel=0.02)
    assert found.low < -np.log(0.01) < found.high
    assert (found.high - found.low) / found.value < 0.05


@pytest.mark.parametrize(("n", "q"), [(5, 0.5), (40, 0.9), (100, 0.99), (500, 0.99), (1000, 0.5), (3000, 0.9)])
def test_order_statistics_enclose_the_quantile_with_the_binomial_probability(n, q):
    low, high = st.order_statistics(n, q)
    below, above = stats.binom.cdf(low, n, q), stats.binom.sf(high, n, q)
    assert below <= 0.025 or low == 0
    assert above <= 0.025 or high == n - 1
    if low > 0:
        assert stats.binom.cdf(low + 1, n, q) > 0.025
    if high < n - 1:
        assert stats.binom.sf(high - 1, n, q) > 0.025
