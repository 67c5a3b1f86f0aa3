"""Prepared images, as runs read them: three files mapped into memory, and fixed subsets of them.

`images.npy` holds uint8 (N, H, W, C), training images first, `labels.npy` int64 (N,), and
`dataset.json` what they are. The file is mapped, not read, so runs on one machine share one copy.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from normres.errors import InputError
from normres.files import read_json

# Names the subsets that caps and validation images select. It is part of the project, not of a
# run: all runs of all studies see the same images.
SUBSET_SEED = "subsets of the prepared images, 1"


@dataclass(frozen=True)
class Images:
    """A prepared data set, mapped from its folder.

    images: uint8 (N, H, W, C), copy-on-write map, the first `n_train` for training, the remaining
    `n_test` for testing. labels: int64 (N,), indices into `class_names`. channel_mean and
    channel_std: of the training images scaled to [0, 1], one value per channel.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    shape: tuple[int, int, int]
    class_names: list[str]
    checksum: str
    n_train: int
    n_test: int
    channel_mean: list[float]
    channel_std: list[float]


class Split(NamedTuple):
    """Sorted indices (int64) into an `Images`: what is trained on, chosen on and tested on."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def open_images(folder: str | Path) -> Images:
    """Map the data set that `preparation.write_images` left in `folder`; nothing is read yet.

    Raises InputError naming the file that is missing, truncated or at odds with dataset.json.
    """
    folder = Path(folder)
    description = read_json(folder / "dataset.json")
    try:
        facts = {
            "name": str(description["name"]),
            "shape": tuple(int(side) for side in description["shape"]),
            "class_names": [str(name) for name in description["class_names"]],
            "checksum": str(description["checksum"]),
            "n_train": int(description["n_train"]),
            "n_test": int(description["n_test"]),
            "channel_mean": [float(value) for value in description["channel_mean"]],
            "channel_std": [float(value) for value in description["channel_std"]],
        }
    except KeyError as error:
        raise InputError(f"{folder / 'dataset.json'}: no key {error}; prepare it again") from None
    except (TypeError, ValueError) as error:
        raise InputError(f"{folder / 'dataset.json'}: {error}; prepare it again") from None
    n = facts["n_train"] + facts["n_test"]
    images = _load(folder / "images.npy", np.uint8, (n, *facts["shape"]), mmap_mode="c")
    labels = _load(folder / "labels.npy", np.int64, (n,))
    if n and not 0 <= labels.min() <= labels.max() < len(facts["class_names"]):
        raise InputError(
            f"{folder / 'labels.npy'}: labels outside 0..{len(facts['class_names']) - 1}, "
            "the classes in dataset.json; prepare it again"
        )
    return Images(images=images, labels=labels, **facts)


def _load(
    path: Path, dtype: type, shape: tuple[int, ...], mmap_mode: str | None = None
) -> np.ndarray:
    """Load a .npy file that must have this type and shape; raises InputError naming it."""
    try:
        array = np.load(path, mmap_mode=mmap_mode)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (ValueError, EOFError, OSError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: truncated or not a .npy file ({reason})") from None
    if array.dtype != dtype or array.shape != shape:
        raise InputError(
            f"{path}: {array.dtype} {array.shape}, but dataset.json says "
            f"{np.dtype(dtype)} {shape}; prepare it again"
        )
    return array


def stratified_subset(labels: np.ndarray, size: int, seed: int | str) -> np.ndarray:
    """Choose `size` positions in `labels`, each class in proportion to its count.

    Class counts are within one of the exact proportion (largest remainder, ties to the lower
    label), and positions come back sorted (int64). The same labels, size and seed give the same
    positions on every machine: the choice rests on PCG64's raw stream, which NumPy keeps stable
    (NEP 19), not on Generator's methods, which it may change. Raises ValueError where `size`
    is below 0 or above the number of labels.
    """
    n = len(labels)
    if not 0 <= size <= n:
        raise ValueError(f"size {size} is not in 0..{n}")
    if size in (0, n):
        return np.arange(size)
    classes, counts = np.unique(labels, return_counts=True)
    wanted, remainders = np.divmod(size * counts, n)
    left_over = size - wanted.sum()
    wanted[np.argsort(-remainders, kind="stable")[:left_over]] += 1

    key = int.from_bytes(hashlib.sha256(str(seed).encode()).digest(), "big")
    order = np.argsort(np.random.PCG64(key).random_raw(n), kind="stable")
    shuffled = labels[order]
    chosen = [order[shuffled == c][:k] for c, k in zip(classes, wanted, strict=True)]
    return np.sort(np.concatenate(chosen))


def split(
    images: Images,
    train_images: int | None = None,
    test_images: int | None = None,
    validation_images: int = 0,
) -> Split:
    """Divide `images`: validation is held out of the training images, then the caps apply.

    `train_images` counts what is trained on, so that a study over its sizes keeps one validation
    set. None means all there are. All choices are stratified and fixed (SUBSET_SEED). Raises
    InputError, naming the option, where it asks for more images than there are or leaves a class
    without any.
    """
    training = np.arange(images.n_train)
    testing = np.arange(images.n_train, images.n_train + images.n_test)
    validation = training[:0]
    if validation_images:
        validation = _choose(images, training, "validation_images", validation_images)
        training = np.setdiff1d(training, validation, assume_unique=True)
        _require_all_classes(images, training, "validation_images", "leaves to train on")
    if train_images is not None:
        training = _choose(images, training, "train_images", train_images)
    if test_images is not None:
        testing = _choose(images, testing, "test_images", test_images)
    return Split(training, validation, testing)


def _choose(images: Images, candidates: np.ndarray, option: str, size: int) -> np.ndarray:
    if not 0 < size <= len(candidates):
        raise InputError(f"{option}: {size}, but {images.name} has 1 to {len(candidates)} to give")
    positions = stratified_subset(images.labels[candidates], size, f"{SUBSET_SEED}: {option}")
    chosen = candidates[positions]
    _require_all_classes(images, chosen, option, "selects")
    return chosen


def _require_all_classes(images: Images, chosen: np.ndarray, option: str, verb: str) -> None:
    counts = np.bincount(images.labels[chosen], minlength=len(images.class_names))
    for name, count in zip(images.class_names, counts, strict=True):
        if count == 0:
            raise InputError(f"{option}: {verb} no image of class {name!r} of {images.name}")
