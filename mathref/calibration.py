"""How good an evaluator's scores are as probabilities and as a ranking; temperature fitted on validation.

Paper: S_cls(X | P) of section 6.1, which the paper judges by re-ranking accuracy alone (Tables 3, 6, 7).
Choices [P]: AUC over all scored candidates, and pairwise accuracy within a problem, which is what re-ranking
uses: a high AUC may come from easy and hard problems alone. Brier score and expected calibration error (bins
of equal count) say whether S_cls = 0.8 means 80%. One temperature T, S = sigmoid((l_c - l_i) / T), is fitted
by likelihood on validation problems, with smoothed labels. It changes no order within a problem (but for ties
where scores are rounded near 0 or 1) and so no RR choice; it changes the weights of W.RR. Intervals resample
problems, because candidates of one problem are not independent.

Scores and labels come as one array per problem (`scored_arrays`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mathref.formats import SampledProblem
from mathref.metrics import Interval, mean_interval

BINS = 10
TEMPERATURES = (1e-3, 1e3)  # range of the fit; at its end the scores say nothing, or all
UNREAD = 1e-300  # the score of a candidate that does not fit the evaluator's context; others lie above
EPSILON = 1e-12  # scores are kept this far from 0 and 1 where their log odds are taken


@dataclass(frozen=True)
class Bin:
    """One bin of a reliability curve: mean score, share of right candidates, their number."""

    score: float
    right: float
    count: int


@dataclass(frozen=True)
class Quality:
    """An evaluator's scores on one samples file; T is None where no validation file was given."""

    candidates: int
    auc: Interval
    pairwise: Interval | None  # None: no problem has both right and wrong candidates
    brier: float
    ece: float
    curve: list[Bin]
    temperature: float | None = None
    brier_fitted: float | None = None  # the same three for the scores at temperature T
    ece_fitted: float | None = None
    curve_fitted: list[Bin] | None = None


def scored_arrays(problems: Sequence[SampledProblem]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Scores and labels (1.0: right) of each problem's scored candidates: two lists of (n_p,) arrays.

    Candidates that did not fit the evaluator's context are not among them: their score is no judgement.
    """
    scored = [[s for s in p.samples if s.score not in (None, UNREAD)] for p in problems]
    scores = [np.array([s.score for s in found], dtype=float) for found in scored]
    labels = [np.array([s.correct for s in found], dtype=float) for found in scored]
    return scores, labels


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """P(score of a right candidate > score of a wrong one), a tie counting one half; NaN without both.

    Example: right 0.9 and 0.4, wrong 0.4
    and 0.1 -> (1 + 1 + 1/2 + 1) / 4 = 0.875.
    """
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=np.nan) != 0)  # first of each run of equal scores
    return _auc_of_sorted(labels[order], np.ones(len(scores)), starts)


def _auc_of_sorted(labels: np.ndarray, weights: np.ndarray, starts: np.ndarray) -> float:
    """AUC of candidates in order of their scores; `starts`: where a run of equal scores begins.

    `weights` (n,) count candidates several times, as a bootstrap does.
    """
    if not len(labels):
        return float("nan")
    right = np.add.reduceat(labels * weights, starts)  # per distinct score
    wrong = np.add.reduceat((1 - labels) * weights, starts)
    pairs = right.sum() * wrong.sum()
    below = np.cumsum(wrong) - wrong
    return float((right * (below + wrong / 2)).sum() / pairs) if pairs else float("nan")


def auc_interval(
    scores: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    *,
    confidence: float = 0.95,
    draws: int = 500,
    seed: int = 0,
) -> Interval:
    """AUC over the candidates of all problems, with a percentile interval from resampling problems."""
    s, y = np.concatenate(scores), np.concatenate(labels)
    problem = np.repeat(np.arange(len(scores)), [len(found) for found in scores])
    order = np.argsort(s, kind="stable")
    s, y, problem = s[order], y[order], problem[order]
    starts = np.flatnonzero(np.diff(s, prepend=np.nan) != 0)
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(draws):
        times = np.bincount(rng.integers(len(scores), size=len(scores)), minlength=len(scores))
        drawn.append(_auc_of_sorted(y, times[problem], starts))
    low, high = np.nanquantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(_auc_of_sorted(y, np.ones(len(y)), starts), float(low), float(high))


def pairwise_accuracy(scores: Sequence[np.ndarray], labels: Sequence[np.ndarray]) -> list[float]:
    """For each problem with right and wrong candidates: the share of such pairs that are ordered rightly."""
    values = [auc(s, y) for s, y in zip(scores, labels, strict=True)]
    return [value for value in values if not np.isnan(value)]


def brier(scores: np.ndarray, labels: np.ndarray) -> float:
    """Mean of (S - y)^2."""
    return float(np.mean((scores - labels) ** 2))


def reliability(scores: np.ndarray, labels: np.ndarray, bins: int = BINS) -> list[Bin]:
    """Reliability curve over bins of equal count, by increasing score.

    Example: scores 0.1, 0.3, 0.6, 0.8, labels 0, 1, 1, 1, two bins -> (0.2, 0.5), (0.7, 1.0). Candidates of
    one score count each as the share of right ones among them: an edge between bins may cut through them, and
    which of them come before it must not matter.
    """
    _, run, counts = np.unique(scores, return_inverse=True, return_counts=True)
    right = (np.bincount(run, weights=labels) / counts)[run]  # (n,)
    parts = [part for part in np.array_split(np.argsort(scores), bins) if len(part)]
    return [Bin(float(scores[i].mean()), float(right[i].mean()), len(i)) for i in parts]


def calibration_error(curve: Sequence[Bin]) -> float:
    """ECE = sum_b n_b / n |mean score - share right|. The example of `reliability`: 0.3."""
    total = sum(b.count for b in curve)
    return sum(b.count * abs(b.score - b.right) for b in curve) / total


def log_odds(scores: np.ndarray) -> np.ndarray:
    """l_c - l_i behind each S_cls: log S - log(1 - S), finite also for scores rounded to 0 or 1."""
    clipped = np.clip(scores, EPSILON, 1 - EPSILON)
    return np.log(clipped) - np.log1p(-clipped)


def at_temperature(scores: np.ndarray, temperature: float) -> np.ndarray:
    """S_cls at another temperature: sigmoid(log odds / T)."""
    return _sigmoid(log_odds(scores) / temperature)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return (1 + np.tanh(x / 2)) / 2  # exp() would overflow


def fit_temperature(odds: np.ndarray, labels: np.ndarray) -> float:
    """The T that minimises the mean of -log sigmoid(+-odds / T), + for right candidates, - for wrong ones.

    The loss is convex in w = 1 / T, so that its minimum is where its slope, the mean of (sigmoid(w odds) -
    y) odds, changes sign: found by bisection in log w. Scores that rank wrongly get the largest T.
    """
    low, high = np.log(1 / TEMPERATURES[1]), np.log(1 / TEMPERATURES[0])
    for _ in range(60):
        middle = (low + high) / 2
        slope = np.mean((_sigmoid(np.exp(middle) * odds) - labels) * odds)
        low, high = (low, middle) if slope > 0 else (middle, high)
    return float(np.exp(-(low + high) / 2))


def smoothed(labels: np.ndarray) -> np.ndarray:
    """Labels a little off 0 and 1 (Platt 1999): (n_right + 1) / (n_right + 2) and 1 / (n_wrong + 2).

    A few validation candidates are often ordered without a mistake, and likelihood alone would then ask for
    T = 0, at which all scores are rounded to 0 or 1 and rank nothing.
    """
    right = labels.sum()
    return np.where(labels > 0, (right + 1) / (right + 2), 1 / (len(labels) - right + 2))


def fitted_on(problems: Sequence[SampledProblem]) -> float:
    """The temperature that fits the stored scores of (validation) problems, their labels smoothed as train.py
    does it.
    """
    scores, labels = map(np.concatenate, scored_arrays(problems))
    return fit_temperature(log_odds(scores), smoothed(labels))


def quality(
    problems: Sequence[SampledProblem], temperature: float | None = None, bins: int = BINS
) -> Quality | None:
    """Judge the stored scores; None where there are none, not all in [0, 1], or all of one class.

    `temperature` is one fitted on other problems (`fitted_on`); the scores' calibration at it is added.
    """
    scores, labels = scored_arrays(problems)
    s, y = np.concatenate(scores), np.concatenate(labels)
    if len(set(y)) < 2 or s.min() < 0 or s.max() > 1:
        return None
    pairs = pairwise_accuracy(scores, labels)
    curve = reliability(s, y, bins)
    result = Quality(
        len(s),
        auc_interval(scores, labels),
        mean_interval(pairs) if pairs else None,
        brier(s, y),
        calibration_error(curve),
        curve,
    )
    if temperature is None:
        return result
    fitted = at_temperature(s, temperature)
    curve = reliability(fitted, y, bins)
    return dataclasses.replace(
        result,
        temperature=temperature,
        brier_fitted=brier(fitted, y),
        ece_fitted=calibration_error(curve),
        curve_fitted=curve,
    )
