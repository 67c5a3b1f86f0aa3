"""What needs no normal distribution: permutation tests, and a bootstrap over seeds and images."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, comb, log10, nan

import numpy as np
from scipy import stats

from normres.inference import CONFIDENCE, numbers, pairs

MOST_EXACT = 50_000  # arrangements of a permutation test that are all looked at; beyond, a sample
SIGNIFICANT = 10  # digits of differences of means, beside the largest number
SAMPLED = 9_999  # arrangements that are drawn
LEAST_SEEDS = 5  # of the crossed bootstrap, on each side
CROSSED_SAMPLES = 2_000  # the sd of this many has a standard error of 1.6 %
SEED = 0  # of what is drawn: the same data give the same numbers


@dataclass(frozen=True)
class Permutation:
    """A permutation test of a difference of means.

    p: two-sided. arrangements: how many there are; exact: whether all were looked at. smallest: the
    least p that any data of this size can have.
    """

    p: float
    arrangements: int
    exact: bool
    smallest: float


@dataclass(frozen=True)
class CrossedSpread:
    """The spread of a difference of accuracies over other seeds and other test images.

    estimate: the difference, a - b, as a fraction. sd: over both; seeds_sd: what other seeds
    change, on these images; images_sd: what other images change on top, over all seeds. low, high:
    the interval for other seeds and other images of the same kinds. reason: why there is none.
    """

    images: int
    estimate: float
    sd: float
    seeds_sd: float
    images_sd: float
    low: float
    high: float
    reason: str = ""

    @property
    def seeds_share(self) -> float:
        """The part of the variance that is due to seeds, the rest being due to images; 0 to 1."""
        both = self.seeds_sd**2 + self.images_sd**2
        return self.seeds_sd**2 / both if both > 0 else nan


def permutation_test(
    a: Sequence[float], b: Sequence[float], *, paired: bool = False
) -> Permutation:
    """Test whether it matters which runs are a's and which are b's, by their difference of means.

    Unpaired: all ways to divide the runs into groups of these sizes (Fisher 1935, The Design of
    Experiments, 21; Pitman 1937). Paired: all ways to swap within pairs, which change the signs of
    the differences. Up to MOST_EXACT arrangements are all looked at, of more SAMPLED are drawn. NaN
    are left out, in pairs where paired. With fewer than two runs on a side, or a number that is not
    finite, p is NaN.

    Raises ValueError where paired samples differ in length.
    """
    a, b = pairs(a, b) if paired else (numbers(a), numbers(b))
    smallest = smallest_p(len(a), len(b), paired=paired)
    arrangements = 2 ** len(a) if paired else comb(len(a) + len(b), len(a))
    exact = arrangements <= MOST_EXACT
    if min(len(a), len(b)) < 2 or not np.isfinite([*a, *b]).all():
        return Permutation(nan, arrangements, True, smallest)
    # Arrangements that tie must be counted as ties, which the rounding of means would tell apart.
    places = SIGNIFICANT - ceil(log10(max(np.abs(a).max(), np.abs(b).max()) or 1.0))
    test = stats.permutation_test(
        (a, b),
        lambda x, y, axis: np.round(x.mean(axis=axis) - y.mean(axis=axis), places),
        permutation_type="samples" if paired else "independent",
        vectorized=True,
        n_resamples=np.inf if exact else SAMPLED,
        rng=np.random.default_rng(SEED),
        batch=1_000,
    )
    if not exact:
        smallest = max(smallest, 2 / (SAMPLED + 1))
    return Permutation(float(test.pvalue), arrangements, exact, smallest)


def smallest_p(n_a: int, n_b: int, *, paired: bool = False) -> float:
    """The least two-sided p that an exact permutation test of these sizes can have.

    One arrangement in all of them on each side: 2 / C(n_a + n_b, n_a), 0.0079 for 5 against 5; of n
    pairs 2 / 2^n, 0.0625 for 5. NaN where a side has no run.
    """
    if not n_a or not n_b:
        return nan
    arrangements = 2 ** min(n_a, n_b) if paired else comb(n_a + n_b, n_a)
    return min(1.0, 2 / arrangements)


def crossed_spread(
    correct_a: np.ndarray,
    correct_b: np.ndarray,
    *,
    paired: bool = False,
    confidence: float = CONFIDENCE,
    samples: int = CROSSED_SAMPLES,
) -> CrossedSpread:
    """How much of a difference's spread comes from seeds and how much from test images.

    Args:
        correct_a, correct_b: bool (seeds, images), whether a run has an image right; the images are
            the same, in the same order. Rows are pairs where paired.

    All configurations see one test set, so seeds and images are crossed, and runs are independent
    only given the images. The bootstrap resamples seeds (of a and b apart, or as pairs) and images
    independently of each other, as Owen's pigeonhole bootstrap does (2007, Annals of Applied
    Statistics 1; Bouthillier et al. 2021, MLSys, on sources of variance). Of n seeds, n - 1 are
    drawn (Rao & Wu 1988, JASA 83): with few seeds, drawing n makes the variance too small by
    (n - 1) / n.

    What belongs to a seed and an image together, the interaction, is counted thrice where both are
    resampled, and in either part (Owen 2007). It is known from the residuals of seed and image
    means; what is counted too often is taken off. So the squares of both parts add up to that of
    `sd`, and seeds have the interaction, as in Welch's standard error.

    The interval is estimate +- t sd, with Satterthwaite's degrees of freedom, where only the part
    that is due to seeds is uncertain.

    Raises ValueError where the arrays do not fit each other.
    """
    a, b = np.asarray(correct_a), np.asarray(correct_b)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or a.dtype != bool or b.dtype != bool:
        raise ValueError(f"two bool arrays (seeds, images), not {a.shape}, {b.shape}")
    if paired and len(a) != len(b):
        raise ValueError(f"pairs need two lists of one length, not {len(a)} and {len(b)}")
    images = a.shape[1]
    if min(len(a), len(b)) < LEAST_SEEDS or images < 2:
        estimate = float(a.mean() - b.mean()) if a.size and b.size else nan
        reason = f"seeds and test images are told apart from {LEAST_SEEDS} runs on each side on"
        return CrossedSpread(images, estimate, **_NO_SPREAD, reason=reason)
    both, seeds_only, images_only = _crossed_samples(a, b, paired, samples)
    both, seeds_only, images_only = (part.var(ddof=1) for part in (both, seeds_only, images_only))
    shared = _interaction(1.0 * a - b) if paired else _interaction(a) + _interaction(b)
    seeds_sd, images_sd = seeds_only**0.5, max(images_only - shared, 0.0) ** 0.5
    sd = max(both - 2 * shared, seeds_only) ** 0.5
    estimate = float(a.mean() - b.mean())
    half = _crossed_quantile(a, b, paired, sd, confidence) * sd
    return CrossedSpread(
        images,
        estimate,
        sd=float(sd),
        seeds_sd=float(seeds_sd),
        images_sd=float(images_sd),
        low=max(-1.0, estimate - half),
        high=min(1.0, estimate + half),
    )


_NO_SPREAD = dict.fromkeys(("sd", "seeds_sd", "images_sd", "low", "high"), nan)


def _crossed_samples(
    a: np.ndarray, b: np.ndarray, paired: bool, samples: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Differences (samples,) with seeds and images, only seeds, and only images resampled."""
    rng = np.random.default_rng(SEED)
    images = a.shape[1]
    rows_a, rows_b = a.astype(np.float32), b.astype(np.float32)
    all_seeds = rows_a.mean(axis=0) - rows_b.mean(axis=0)
    parts: list[list[np.ndarray]] = [[], [], []]
    step = max(1, 4_000_000 // images)  # samples at a time: bounded memory
    for start in range(0, samples, step):
        count = min(step, samples - start)
        weights_a = _seed_weights(rng, len(a), count)
        weights_b = weights_a if paired else _seed_weights(rng, len(b), count)
        by_image = weights_a @ rows_a - weights_b @ rows_b  # (count, images)
        drawn = rng.integers(0, images, (count, images), dtype=np.int32)
        parts[0].append(np.take_along_axis(by_image, drawn, axis=1).mean(axis=1, dtype=float))
        parts[1].append(by_image.mean(axis=1, dtype=float))
        parts[2].append(all_seeds[drawn].mean(axis=1, dtype=float))
    both, seeds_only, images_only = (np.concatenate(part) for part in parts)
    return both, seeds_only, images_only


def _interaction(correct: np.ndarray) -> float:
    """The variance of the mean of (seeds, images) that belongs to seeds and images together."""
    x = correct.astype(float)
    residuals = x - x.mean(axis=0) - x.mean(axis=1, keepdims=True) + x.mean()
    seeds, images = x.shape
    return float((residuals**2).sum()) / ((seeds - 1) * (images - 1)) / (seeds * images)


def _seed_weights(rng: np.random.Generator, n: int, count: int) -> np.ndarray:
    """Weights (count, n) of n - 1 seeds drawn from n with replacement, each row's sum 1."""
    return (rng.multinomial(n - 1, np.full(n, 1 / n), count) / (n - 1)).astype(np.float32)


def _crossed_quantile(
    a: np.ndarray, b: np.ndarray, paired: bool, sd: float, confidence: float
) -> float:
    """The t quantile: only the seeds' part of the variance has few degrees of freedom."""
    means_a, means_b = a.mean(axis=1), b.mean(axis=1)
    if paired:
        variances = [(float(np.var(means_a - means_b, ddof=1)) / len(a), len(a) - 1)]
    else:
        variances = [
            (float(np.var(means, ddof=1)) / len(means), len(means) - 1)
            for means in (means_a, means_b)
        ]
    uncertain = sum(variance**2 / df for variance, df in variances)
    if not uncertain > 0:
        return float(stats.norm.ppf((1 + confidence) / 2))
    total = max(sd**2, sum(variance for variance, _ in variances))
    return float(stats.t.ppf((1 + confidence) / 2, total**2 / uncertain))
