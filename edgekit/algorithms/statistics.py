"""What a measured difference is worth: intervals, tests and sample counts, all exact or resampled, none assumed normal.

Two models judged on the same samples, or timed in the same rounds, differ far less by chance than two independent ones; so
everything here is paired. Intervals are percentile intervals of the bootstrap (Efron & Tibshirani 1993, "An Introduction to the
Bootstrap", chapter 13). Their correction BCa (chapter 14) was tried and covers less where changes are few: on counts its bias
estimate is itself a coin toss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from edgekit.core.report import Interval

Array = np.ndarray
Figured = Callable[[Array], Array]

RESAMPLES = 2000
CONFIDENCE = 0.95
_DRAWS_AT_ONCE = 1_000_000
_GRID = 4000


@lru_cache(maxsize=4096)  # a thousand classes of five samples have a few dozen different counts
def share_change(losses: int, gains: int, samples: int, *, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Change of a share of right answers, with its 95 % paired bootstrap interval.

    A bootstrap can't draw what it has not seen: without a single change its interval has no width, however few the samples. So the
    resamples come from the sample with one more loss and one more gain, as in Bonett & Price 2012, "Adjusted Wald Confidence
    Interval for a Difference of Binomial Proportions Based on Paired Data" (J. Educ. Behav. Stat. 37:479-488).

    Args:
        losses: samples that the first model has right and the second wrong.
        gains: samples that the second model has right and the first wrong.
        samples: all samples.
        resamples: bootstrap resamples.
        seed: of the resampling.

    Returns:
        ``(gains - losses) / samples`` with its interval, as shares.
    """
    value = (gains - losses) / samples
    total = samples + 2
    chances = np.array([losses + 1, gains + 1, samples - losses - gains]) / total
    drawn = np.random.default_rng(seed).multinomial(total, chances, size=resamples)
    return _percentile(value, (drawn[:, 1] - drawn[:, 0]) / total, (1 - CONFIDENCE) / 2)


def mean_change(differences: Array, *, resamples: int = RESAMPLES, seed: int = 0, confidence: float = CONFIDENCE) -> Interval:
    """Mean of paired differences [N] with its bootstrap interval; memory is bounded whatever N is.

    With few samples the interval is widened as in Hesterberg 2015, "What Teachers Should Know About the Bootstrap"
    (The American Statistician 69:371-386), section 5.4.
    """
    values, counts = np.unique(np.asarray(differences, dtype=np.float64), return_counts=True)
    n = len(differences)
    generator = np.random.default_rng(seed)
    if len(values) <= 64:  # as good as drawing samples, at a cost that does not depend on N
        means = generator.multinomial(n, counts / n, size=resamples) @ values / n
    else:
        means = np.concatenate([np.asarray(differences)[index].mean(axis=1) for index in _indices(n, resamples, generator)])
    return _percentile(float(np.mean(differences)), means, _tail(n, confidence))


def figure_changes(first: Figured, second: Figured, n: int, *, resamples: int = RESAMPLES, seed: int = 0) -> tuple[Array, Array]:
    """Change of any figures of a set, such as F1 or average precision, and what it is in resamples of the set.

    Args:
        first: figures [M] of the first model as a function of how often each of the samples is drawn.
        second: those of the second model.
        n: number of samples.
        resamples: bootstrap resamples; each computes the figures twice.
        seed: of the resampling.

    Returns:
        Changes [M], and changes by resample [R, M]; NaN where a resample holds nothing that tells a figure.
    """
    once = np.ones(n, np.int64)
    drawn = _indices(n, resamples, np.random.default_rng(seed))
    counts = (np.bincount(row, minlength=n) for index in drawn for row in index)
    return second(once) - first(once), np.stack([second(each) - first(each) for each in counts])


def interval_of(value: float, resampled: Array, n: int, *, confidence: float = CONFIDENCE) -> Interval:
    """Interval of a figure of n samples from its resamples; where none of them tells it, anything is possible."""
    known = resampled[~np.isnan(resampled)]
    return _percentile(value, known, _tail(n, confidence)) if len(known) else Interval(value=value, low=-100.0, high=100.0)


def mcnemar(losses: int, gains: int) -> float:
    """Two-sided exact McNemar test: the chance of a split at least as uneven if losses and gains were equally likely.

    Reference: McNemar 1947, with the binomial distribution of the discordant pairs. It never claims more than it can; the mid-p variant
    finds more but may err more often than it says.
    """
    if losses == gains:
        return 1.0
    return min(1.0, 2 * binomial_tail(max(losses, gains), losses + gains, 0.5))


def binomial_tail(successes: int, trials: int, chance: float) -> float:
    """Probability of at least so many successes in so many independent trials."""
    if successes <= 0:
        return 1.0
    if successes > trials or chance <= 0:
        return 0.0
    if chance >= 1:
        return 1.0
    if successes <= trials * chance:
        return 1.0 - binomial_tail(trials - successes + 1, trials, 1 - chance)
    term = math.exp(
        math.lgamma(trials + 1)
        - math.lgamma(successes + 1)
        - math.lgamma(trials - successes + 1)
        + successes * math.log(chance)
        + (trials - successes) * math.log1p(-chance)
    )
    total = 0.0
    for count in range(successes, trials + 1):
        total += term
        term *= (trials - count) / (count + 1) * chance / (1 - chance)
        if term <= total * 1e-17:
            break
    return min(1.0, total)


def holm(p_values: Sequence[float]) -> Array:
    """Adjust p-values for having looked at several things at once.

    Reference: Holm 1979, "A Simple Sequentially Rejective Multiple Test Procedure".
    """
    given = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(given, kind="stable")
    factors = np.arange(len(given), 0, -1)
    adjusted = np.empty_like(given)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(given[order] * factors)) if len(given) else given
    return adjusted


def samples_needed(half_width: float, samples: int, margin: float) -> int | None:
    """Samples with which an interval would be narrower than a margin, if further samples behave like those at hand.

    Inverts the interval of :func:`share_change`, whose variance with N samples is (s N + 2) / N², s being what the observed changes
    contribute.

    Args:
        half_width: half of the interval's width at hand, as a share.
        samples: samples at hand.
        margin: distance between the measured value and the limit, as a share.

    Returns:
        The number of samples, or None when no number settles it because the value stands on the limit.
    """
    if margin <= 0:
        return None
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    observed = max(0.0, ((half_width * samples / z) ** 2 - 2) / samples)
    b = z * z * observed
    return math.ceil((b + math.sqrt(b * b + 8 * (z * margin) ** 2)) / (2 * margin * margin))


def median_of_rounds(medians: Array, *, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Median over rounds [R] with its interval, resampling whole rounds: calls within a round are not independent."""
    given = np.asarray(medians, dtype=np.float64)
    rounds = np.random.default_rng(seed).integers(0, len(given), size=(resamples, len(given)))
    return _percentile(float(np.median(given)), np.median(given[rounds], axis=1), _tail(len(given), CONFIDENCE))


def ratio_of_medians(numerator: Array, denominator: Array, *, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Ratio of two medians over the same rounds [R] with its interval, resampling whole rounds of both together.

    Raises:
        ValueError: the two don't have the same rounds.
    """
    above, below = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    if len(above) != len(below):
        raise ValueError(f"{len(above)} rounds can't be paired with {len(below)}")
    rounds = np.random.default_rng(seed).integers(0, len(above), size=(resamples, len(above)))
    ratios = np.median(above[rounds], axis=1) / np.median(below[rounds], axis=1)
    return _percentile(float(np.median(above) / np.median(below)), ratios, _tail(len(above), CONFIDENCE))


def quantile_of_rounds(rounds: Sequence[Array], q: float, *, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Quantile of all calls with its interval.

    The interval spans both that of whole rounds resampled, which sees how rounds differ, and the exact one of order statistics, which sees
    how few calls lie beyond a high quantile. Neither goes beyond what was seen.
    """
    pooled = np.sort(np.concatenate([np.asarray(r, dtype=np.float64) for r in rounds]))
    grid = np.unique(pooled[np.linspace(0, len(pooled) - 1, min(_GRID, len(pooled))).round().astype(int)])
    below = np.stack([np.searchsorted(np.sort(np.asarray(r, dtype=np.float64)), grid, side="right") for r in rounds]).astype(np.float64)
    drawn = np.random.default_rng(seed).multinomial(len(rounds), np.full(len(rounds), 1 / len(rounds)), size=resamples).astype(np.float64)
    lengths = np.array([len(r) for r in rounds], dtype=np.float64)
    found = [
        grid[np.argmax(part @ below >= q * (part @ lengths)[:, None] - 1e-9, axis=1)]
        for part in np.array_split(drawn, max(1, resamples * len(grid) // _DRAWS_AT_ONCE))
    ]
    between = _percentile(float(np.quantile(pooled, q)), np.concatenate(found), _tail(len(rounds), CONFIDENCE))
    low, high = order_statistics(len(pooled), q)
    return Interval(value=between.value, low=min(between.low, float(pooled[low])), high=max(between.high, float(pooled[high])))


def order_statistics(n: int, q: float) -> tuple[int, int]:
    """Indices of the sorted sample between which a quantile lies with 95 % confidence, whatever the distribution.

    Reference: David & Nagaraja 2003, "Order Statistics", section 7.1. Where n is too small for that, the outermost indices.
    """
    tail = (1 - CONFIDENCE) / 2
    spread = NormalDist().inv_cdf(1 - tail) * math.sqrt(n * q * (1 - q))
    low = max(0, min(n - 1, math.floor(n * q - spread) - 2))
    high = max(0, min(n - 1, math.ceil(n * q + spread) + 2))
    while low + 1 <= n - 1 and 1 - binomial_tail(low + 2, n, q) <= tail:
        low += 1
    while high - 1 >= 0 and binomial_tail(high, n, q) <= tail:
        high -= 1
    return low, high


def _indices(n: int, resamples: int, generator: np.random.Generator) -> Iterator[Array]:
    """Yield resamples of N sample numbers, a few at a time: [K, N] each."""
    at_once = max(1, _DRAWS_AT_ONCE // n)
    for begin in range(0, resamples, at_once):
        yield generator.integers(0, n, size=(min(at_once, resamples - begin), n))


def _tail(n: int, confidence: float) -> float:
    """Share of resamples beyond each end of the interval, smaller with few samples (Hesterberg 2015)."""
    nominal = (1 - confidence) / 2
    if n < 2:
        return 0.0
    return NormalDist().cdf(-math.sqrt(n / (n - 1)) * student_quantile(1 - nominal, n - 1))


def student_quantile(p: float, freedom: int) -> float:
    """Quantile of Student's t distribution for p > 0.5 (Abramowitz & Stegun 26.7.5; exact for one and two degrees of freedom)."""
    if freedom == 1:
        return math.tan(math.pi * (p - 0.5))
    if freedom == 2:
        return (2 * p - 1) * math.sqrt(1 / (2 * p * (1 - p)))
    z = NormalDist().inv_cdf(p)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + sum(term / float(freedom) ** (power + 1) for power, term in enumerate(terms))


def _percentile(value: float, resampled: Array, tail: float) -> Interval:
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Interval(value=value, low=min(float(low), value), high=max(float(high), value))
