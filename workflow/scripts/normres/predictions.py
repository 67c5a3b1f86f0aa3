"""What complete runs predict for the test images: the logits that each run left, and the labels.

The logits are those after a run's last epoch, in float16. Rounding keeps their order, but the two
largest of an image may become equal; the lower class is then taken as predicted, as everywhere in
NumPy and PyTorch. So the accuracy from logits may differ from history.csv's by the share of images
with such a tie; `read_predictions` checks that it does not differ by more.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from normres.errors import InputError
from normres.files import file_checksum, read_json
from normres.grid import LOGITS, RECORD
from normres.images import Images, split

HARDEST = 100  # images in hardest_images.csv


@dataclass(frozen=True)
class RunPredictions:
    """A run's logits on its test images.

    run: its name, a folder below runs/; model, norm, axes and seed are those of study.json. images:
    int64 (n,), the test images as positions in the prepared data set, sorted. labels: int64 (n,).
    logits: float16 (n, classes), a read-only map of the file.
    """

    run: str
    model: str
    norm: str
    axes: Mapping[str, Any]
    seed: int
    images: np.ndarray
    labels: np.ndarray
    logits: np.ndarray

    @cached_property
    def predicted(self) -> np.ndarray:
        """int64 (n,): the class with the largest logit, the lowest of equal ones."""
        return self.logits.argmax(axis=1)

    @cached_property
    def correct(self) -> np.ndarray:
        """bool (n,): whether the predicted class is the label."""
        return self.predicted == self.labels


@dataclass(frozen=True)
class Predictions:
    """The predictions of a study's complete runs, by run and in the order of study.json.

    left_out: the complete runs whose logits are not those of the study's last epoch, with the
    reason. class_names: what the labels stand for.
    """

    runs: Mapping[str, RunPredictions]
    left_out: Mapping[str, str]
    class_names: list[str]


def read_predictions(
    study: Mapping[str, Any],
    folder: str | Path,
    images: Images,
    only: Collection[str] | None = None,
) -> Predictions:
    """Read the predictions of the complete runs of a study.

    Args:
        study: what study.json holds (tables.read_study).
        folder: the study's folder, with runs/.
        images: the study's prepared data set (images.open_images).
        only: the names of the runs to read; all by default.

    Runs that failed, diverged or are not there are left out without a word: runs.csv names them.
    Raises InputError naming the file where logits are missing, damaged, or at odds with run.json.
    """
    found, left_out = {}, {}
    chosen: dict[int, tuple[np.ndarray, np.ndarray]] = {}  # runs share their test images
    for run in study["runs"]:
        place = Path(folder) / "runs" / run["run"]
        if (only is not None and run["run"] not in only) or not (place / RECORD).exists():
            continue
        record = read_json(place / RECORD)
        if record.get("status") != "ok":
            continue
        asked, weights = run["specification"]["epochs"], record["weights_epoch"]
        if weights != asked:
            left_out[run["run"]] = f"its logits are those after epoch {weights:g}, not {asked}"
            continue
        cap = run["specification"].get("test_images", 0)
        if cap not in chosen:
            positions = split(images, test_images=cap or None).test
            chosen[cap] = positions, images.labels[positions]
        positions, labels = chosen[cap]
        logits = _read_logits(place / LOGITS, record, (len(labels), len(images.class_names)))
        key = {name: run[name] for name in ("run", "model", "norm", "axes", "seed")}
        predictions = RunPredictions(**key, images=positions, labels=labels, logits=logits)
        _check_accuracy(predictions, record, place / LOGITS)
        found[run["run"]] = predictions
    return Predictions(found, left_out, images.class_names)


def _read_logits(path: Path, record: Mapping[str, Any], shape: tuple[int, int]) -> np.ndarray:
    """Map a run's logits; raises InputError where they are not what the run wrote."""
    try:
        logits = np.load(path, mmap_mode="r")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file, but run.json says ok") from None
    except (ValueError, EOFError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: truncated or not a .npy file ({reason})") from None
    if logits.dtype != np.float16 or logits.shape != shape:
        raise InputError(f"{path}: {logits.dtype} {logits.shape}, expected float16 {shape}")
    written = record.get("files", {}).get(path.name)
    if written and file_checksum(path) != written:
        raise InputError(f"{path}: edited since the run wrote it")
    return logits


def _check_accuracy(predictions: RunPredictions, record: Mapping[str, Any], path: Path) -> None:
    """Compare with the number of correct images that the run counted, ties in float16 aside."""
    counted = record["final"].get("test_correct")
    if counted is None:
        return
    at_label = np.take_along_axis(predictions.logits, predictions.labels[:, None], axis=1)[:, 0]
    others = predictions.logits.copy()
    np.put_along_axis(others, predictions.labels[:, None], np.float16(-np.inf), axis=1)
    highest = others.max(axis=1)
    least, most = int((at_label > highest).sum()), int((at_label >= highest).sum())
    if not least <= counted <= most:
        raise InputError(
            f"{path}: {least} to {most} images correct, but run.json says {counted}; "
            "they are of other images or another epoch"
        )
