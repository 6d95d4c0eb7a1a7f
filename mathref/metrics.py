"""Pass@k, Maj1@N, MajK@N, maj@k, and how sure one may be of them: intervals and paired tests.

Paper: Pass@1, Pass@N and Maj1@N of Tables 2 to 7, which give no intervals; MajK@N of section 5, in no table.
Choices, where the paper is silent: Pass@k for k < N is the unbiased estimator [P]. Clusters of equal size:
the one whose first member was sampled first (`ties="first"`), a seeded draw ("random"), or the average over
the tied ones ("expected") [P]. Solutions without an answer count in N and win only where no solution has
one [P]. maj@k for k < N is the mean over seeded random subsets of the N samples, kept in sampling order
[P]; k = 1 and k = N are exact.
Intervals: Wilson for shares of 0/1 outcomes, bootstrap over problems for averages of at least FEW problems,
Wilson for those of fewer; two systems on the same problems are compared by exact McNemar, a bootstrap
interval of their difference and a sign-flip permutation test of it [P].

Everything here is a pure function of flags (`correct[i]`: solution i is right), clusters (`rerank.cluster`:
tuples of sample indices, largest first, the first index representing the cluster) and seeds. No torch.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from statistics import NormalDist

import numpy as np

from mathref.rerank import TIES, Ties

FEW = 30  # problems, below which resampling gives an interval that is too narrow
ALL_SIGNS = 12  # differences, up to which a permutation test takes every sign pattern instead of drawing some


@dataclass(frozen=True)
class Interval:
    """A value with its confidence limits, all in the unit of the value."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedDifference:
    """Mean of a - b over the same problems, its bootstrap interval, and a two-sided permutation p-value."""

    difference: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class McNemar:
    """Problems only a solves, problems only b solves, and the exact two-sided p-value."""

    only_a: int
    only_b: int
    p_value: float


# ---- one problem -------------------------------------------------------------------------------------


def pass_at_k(n: int, c: int, k: int) -> float:
    """Chance that k of n samples, drawn without replacement, hold one of the c correct ones.

    Pass@k = 1 - C(n - c, k) / C(n, k). With k = n this is the oracle: 1 if c > 0. The ratio of binomials is
    symmetric in c and k, and is multiplied out over the smaller of the two in log space: neither a large n
    overflows nor a small result loses digits. Example: n = 3, c = 1, k = 2 -> 2/3.
    """
    if not (0 <= c <= n and 1 <= k <= n):
        raise ValueError(f"pass@k needs 0 <= c <= n and 1 <= k <= n, got n = {n}, c = {c}, k = {k}")
    if n - c < k:
        return 1.0
    small, large = min(c, k), max(c, k)
    return -math.expm1(math.fsum(math.log1p(-large / (n - i)) for i in range(small)))


def majk_at_n(
    correct: Sequence[bool],
    clusters: Sequence[Sequence[int]],
    k: int = 1,
    *,
    ties: Ties = "first",
    seed: int = 0,
) -> float:
    """MajK@N: 1 if the representative of one of the K largest clusters is right; K = 1 is majority voting,
    Maj1@N.

    When clusters of one size compete for the last places, `ties` decides: the earliest sampled ones, a draw
    from `seed`, or the expectation of that draw (a fraction). Example: correct = [0, 1, 0], clusters (0),
    (1), (2), K = 1: first 0.0, expected 1/3.
    """
    _check_ties(ties)
    if k < 1:
        raise ValueError(f"MajK@N needs K >= 1, got {k}")
    if not clusters:  # no solution has an answer: the first one stands, and without an answer it is wrong
        return float(bool(correct) and correct[0])
    if ties == "first" or k >= len(clusters):
        return float(any(correct[c[0]] for c in clusters[:k]))
    edge = len(clusters[k - 1])  # clusters larger than this are in, smaller ones are out
    sure = [c for c in clusters if len(c) > edge]
    tied = [c for c in clusters if len(c) == edge]
    if any(correct[c[0]] for c in sure):
        return 1.0
    places = k - len(sure)
    if ties == "random":
        order = random.Random(seed).sample(tied, len(tied))  # one order for every K: MajK@N grows with K
        return float(any(correct[c[0]] for c in order[:places]))
    return pass_at_k(len(tied), sum(bool(correct[c[0]]) for c in tied), places)


def maj_at_k(
    correct: Sequence[bool],
    clusters: Sequence[Sequence[int]],
    k: int,
    *,
    ties: Ties = "first",
    draws: int = 100,
    seed: int = 0,
) -> float:
    """maj@k: expected accuracy of majority voting among k of the N samples.

    k = N is Maj1@N and k = 1 the mean accuracy, both exact. Between them: the mean over `draws` subsets of
    size k drawn with `seed`. A subset keeps the sampling order and the clusters of the full set (g is not
    asked again); its cluster is represented by the first member in the subset. The subsets of one seed are
    nested in k, which keeps the curve over k smooth.
    """
    _check_ties(ties)
    n = len(correct)
    if not 1 <= k <= n:
        raise ValueError(f"maj@k needs 1 <= k <= {n} (the number of samples), got {k}")
    if k == n:
        return majk_at_n(correct, clusters, ties=ties, seed=seed)
    if k == 1:
        return sum(map(bool, correct)) / n
    if len(set(map(bool, correct))) == 1:  # whoever wins
        return float(correct[0])
    return float(np.mean(_vote(correct, clusters, _subsets(n, k, draws, seed), ties, seed)))


def _subsets(n: int, k: int, draws: int, seed: int) -> np.ndarray:
    """(draws, k) sample indices, each row a subset in sampling order."""
    order = np.random.default_rng(seed).random((draws, n)).argsort(axis=1)  # (draws, n) permutations
    return np.sort(order[:, :k], axis=1)


def _vote(
    correct: Sequence[bool], clusters: Sequence[Sequence[int]], subsets: np.ndarray, ties: Ties, seed: int
) -> np.ndarray:
    """Accuracy of the vote within each row of `subsets` (draws, k): (draws,) values in [0, 1]."""
    draws, k = subsets.shape
    n_label = len(clusters)
    label = np.full(len(correct), n_label)  # (N,) cluster of each sample; n_label: no answer
    for number, members in enumerate(clusters):
        label[list(members)] = number
    drawn = label[subsets]  # (draws, k)
    right = np.asarray(correct, dtype=float)[subsets]  # (draws, k)
    count = np.zeros((draws, n_label + 1), dtype=int)
    first = np.full((draws, n_label + 1), k)  # position of each cluster's first member, k where it has none
    rows = np.arange(draws)
    for position in range(k - 1, -1, -1):
        count[rows, drawn[:, position]] += 1
        first[rows, drawn[:, position]] = position
    count[:, n_label] = 0  # solutions without an answer cannot win
    top = count.max(axis=1, keepdims=True)  # (draws, 1)
    tied = (count == top) & (count > 0)  # (draws, n_label + 1)
    representative = np.minimum(first, k - 1)
    value = np.take_along_axis(right, representative, axis=1)  # (draws, n_label + 1)
    if ties == "expected":
        share = (value * tied).sum(axis=1) / np.maximum(tied.sum(axis=1), 1)
    else:
        rank = first if ties == "first" else np.random.default_rng([seed, 1]).random(first.shape)
        winner = np.where(tied, rank, np.inf).argmin(axis=1)
        share = value[rows, winner]
    return np.where(
        tied.any(axis=1), share, right[:, 0]
    )  # no answer in the subset: its first solution stands


def _check_ties(ties: str) -> None:
    if ties not in TIES:
        raise ValueError(f"unknown tie rule {ties!r}, expected one of {', '.join(TIES)}")


# ---- many problems -----------------------------------------------------------------------------------


def wilson_interval(successes: float, n: int, confidence: float = 0.95) -> Interval:
    """Wilson score interval of a share: the rates p with |successes/n - p| <= z sqrt(p (1 - p) / n).

    Example: 178 of 500 -> 0.356 in [0.315, 0.399].
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"a Wilson interval needs 0 <= successes <= n and n >= 1, got {successes} of {n}")
    z = _z(confidence)
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low = (
        0.0 if successes == 0 else max(0.0, centre - half)
    )  # exact ends: rounding must not push past the share
    high = 1.0 if successes == n else min(1.0, centre + half)
    return Interval(share, low, high)


def bootstrap_interval(
    values: Sequence[float], *, confidence: float = 0.95, draws: int = 2000, seed: int = 0
) -> Interval:
    """Percentile bootstrap over problems for a mean of values in [0, 1] that are not 0 or 1."""
    data = np.asarray(values, dtype=float)
    means = _resampled_means(data, draws, seed)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(data.mean()), float(low), float(high))


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Interval of the mean of one value in [0, 1] per problem.

    Wilson where all values are 0 or 1, else bootstrap. Wilson also where there are fewer than FEW problems or
    no spread [P]: resampling one value, or equal ones, gives an interval of no width, and of few values one
    that is too narrow. Fractions scatter no more than 0/1 outcomes of the same mean: Wilson's is wide enough.
    """
    data = np.asarray(values, dtype=float)
    if len(data) < FEW or data.min() == data.max() or np.isin(data, (0, 1)).all():
        return wilson_interval(math.fsum(data), len(data), confidence)
    return bootstrap_interval(data, confidence=confidence)


def paired_bootstrap(
    a: Sequence[float],
    b: Sequence[float],
    *,
    confidence: float = 0.95,
    draws: int = 10000,
    seed: int = 0,
) -> PairedDifference:
    """Mean of a_i - b_i, of values in [0, 1], over problems, with a percentile interval from resampling them.

    With fewer than FEW problems the interval is Wilson's of (1 + a_i - b_i) / 2, as in `mean_interval` [P]:
    wide where there is little to go by, also if all differences are equal. The p-value is that of a sign-flip
    permutation test [P] (`_sign_flip_p`): resampling few differences of one sign never gives the other one,
    and would call 5 of 5 certain.
    """
    difference = _paired(a, b)
    means = _resampled_means(difference, draws, seed)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    if (n := len(difference)) < FEW:
        _, low, high = astuple(wilson_interval(float((1 + difference).sum()) / 2, n, confidence))
        low, high = 2 * low - 1, 2 * high - 1
    p_value = _sign_flip_p(difference, draws, seed)
    return PairedDifference(float(difference.mean()), float(low), float(high), p_value)


def _sign_flip_p(difference: np.ndarray, draws: int, seed: int) -> float:
    """Chance of a sum at least as far from 0 if each difference had its sign by the toss of a coin.

    Over all sign patterns of up to ALL_SIGNS differences other than 0, else over `draws` drawn ones, with one
    added above and below the fraction bar, so that it is never 0. Example: 5 of 5 equal ones -> 2 / 32.
    """
    size = np.abs(difference[difference != 0])  # (M,)
    M, total = len(size), size.sum()
    least = abs(difference.sum()) - 1e-9 * total  # equal sums count, however they are rounded
    if M <= ALL_SIGNS:
        flipped = (np.arange(2**M)[:, None] >> np.arange(M)) & 1  # (2^M, M)
        return float((np.abs(total - 2 * flipped @ size) >= least).mean())
    rng = np.random.default_rng(seed)
    hits = 0
    for rows in _blocks(draws, M):
        flipped = rng.integers(2, size=(rows, M), dtype=np.int8)
        hits += int((np.abs(total - 2 * (flipped @ size)) >= least).sum())
    return (1 + hits) / (1 + draws)


def mcnemar(a: Sequence[bool | float], b: Sequence[bool | float]) -> McNemar:
    """Exact McNemar test on 0/1 outcomes: are the problems only one system solves split evenly between the
    two?

    p = min(1, 2 sum_{i <= min} C(m, i) / 2^m) over the m problems on which the two differ. Example: 1
    against 6 -> p = 2 (1 + 7) / 128 = 0.125.
    """
    difference = _paired(a, b)
    if not np.isin(difference, (-1, 0, 1)).all() or not np.isin(np.asarray(a, dtype=float), (0, 1)).all():
        raise ValueError("McNemar compares 0/1 outcomes, got fractions; use paired_bootstrap for averages")
    only_a, only_b = int((difference > 0).sum()), int((difference < 0).sum())
    differing = only_a + only_b
    tail = sum(math.comb(differing, i) for i in range(min(only_a, only_b) + 1))
    return McNemar(only_a, only_b, min(1.0, 2 * tail / 2**differing))


def _paired(a: Sequence[float], b: Sequence[float]) -> np.ndarray:
    if len(a) != len(b) or not len(a):
        raise ValueError(
            f"a paired comparison needs the same problems twice, got {len(a)} and {len(b)} values"
        )
    return np.asarray(a, dtype=float) - np.asarray(b, dtype=float)


def _resampled_means(values: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """(draws,) means of as many problems drawn with replacement as there are."""
    rng = np.random.default_rng(seed)
    n = len(values)
    return np.concatenate([values[rng.integers(n, size=(m, n))].mean(axis=1) for m in _blocks(draws, n)])


def _blocks(draws: int, width: int) -> list[int]:
    """Cut `draws` rows of `width` numbers into blocks of some 16 MB."""
    rows = max(1, 2**21 // width)
    return [min(rows, draws - i) for i in range(0, draws, rows)]


def _z(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    return NormalDist().inv_cdf((1 + confidence) / 2)
