"""How far a network's confidence can be trusted: calibration error and temperature scaling."""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

BINS = 15  # Guo et al. 2017, section 2
LOG_TEMPERATURES = (-5.0, 5.0)  # searched: 0.0067 to 148


def expected_calibration_error(log_probabilities: np.ndarray, labels: np.ndarray) -> float:
    """ECE: the mean over images of |accuracy - mean confidence| of the image's bin.

    log_probabilities: (n, classes); labels: (n,). Bins are of equal width in the confidence, the
    probability of the predicted class, and closed on the right (Guo et al. 2017, equation 3).
    """
    confidence, correct, number = _binned(log_probabilities, labels)
    gaps = np.bincount(number, correct - confidence, minlength=BINS)
    return float(np.abs(gaps).sum() / len(labels))


def reliability(logits: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """What the calibration error sums up: each bin's images, confidence and accuracy.

    logits: (n, classes); labels: (n,). Returns float arrays (BINS,): `share` of the images, and
    the means `confidence` and `accuracy`, NaN where a bin has no image.
    """
    log_probabilities = log_softmax(np.asarray(logits, np.float64), 1)
    confidence, correct, number = _binned(log_probabilities, labels)
    count = np.bincount(number, minlength=BINS).astype(float)
    some = np.where(count > 0, count, np.nan)
    return {
        "share": count / len(labels),
        "confidence": np.bincount(number, confidence, minlength=BINS) / some,
        "accuracy": np.bincount(number, correct, minlength=BINS) / some,
    }


def _binned(
    log_probabilities: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each image's confidence, whether it is classified correctly, and the number of its bin."""
    confidence = np.exp(log_probabilities.max(axis=1))
    correct = log_probabilities.argmax(axis=1) == labels
    return confidence, correct, np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)


def negative_log_likelihood(log_probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Mean over images, in nats."""
    return float(-log_probabilities[np.arange(len(labels)), labels].mean())


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """The temperature T that minimises the negative log-likelihood of logits / T.

    logits: (n, classes); labels: (n,). Guo et al. 2017, section 4.2. Convex in 1 / T; searched
    between exp(-5) and exp(5), which is what logits without any error, or without any sense, get.
    """

    def loss(log_temperature: float) -> float:
        return negative_log_likelihood(log_softmax(logits / np.exp(log_temperature), 1), labels)

    found = minimize_scalar(loss, bounds=LOG_TEMPERATURES, method="bounded")
    return float(np.exp(found.x))


def halves(labels: np.ndarray) -> np.ndarray:
    """bool (n,): which images are in the first half, every other one of each class in order."""
    first = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        first[np.flatnonzero(labels == label)[::2]] = True
    return first


def calibrate(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Calibration of one run, before and after temperature scaling.

    logits: (n, classes); labels: (n,). `ece` and `nll` are of the logits as they are. Each half of
    the images is scaled by the temperature that fits the other half; `ece_scaled` and `nll_scaled`
    are over both halves, `temperature` is the geometric mean of the two.
    """
    logits = np.asarray(logits, np.float64)
    first, scaled, temperatures = halves(labels), np.empty_like(logits), []
    for judged in (first, ~first):
        temperatures.append(fit_temperature(logits[~judged], labels[~judged]))
        scaled[judged] = logits[judged] / temperatures[-1]
    plain, scaled = log_softmax(logits, 1), log_softmax(scaled, 1)
    return {
        "ece": expected_calibration_error(plain, labels),
        "ece_scaled": expected_calibration_error(scaled, labels),
        "temperature": float(np.sqrt(np.prod(temperatures))),
        "nll": negative_log_likelihood(plain, labels),
        "nll_scaled": negative_log_likelihood(scaled, labels),
    }
