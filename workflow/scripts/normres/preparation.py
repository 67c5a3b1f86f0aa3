"""Writing a prepared data set: images, labels and their description, all three files or none.

`normres.images` reads them. Nothing here can change what a run computes from given files, so this
code is not part of a run's fingerprint; the checksum of what it wrote is part of a run's key.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import write_array_header_1_0

from normres.files import replacing

# Blocks are read, hashed and counted at this size, so that memory does not grow with the data set.
BLOCK_BYTES = 2**24


@dataclass(frozen=True)
class ImageSource:
    """A data set on its way into the store; `blocks` can be read once.

    `blocks` yields uint8 arrays (n, H, W, C) in the order of `labels`: int64 (N,), the first
    `n_train` of them for training. `shape` is (H, W, C); `source` says where the images come from.
    """

    name: str
    source: str
    class_names: list[str]
    labels: np.ndarray
    n_train: int
    shape: tuple[int, int, int]
    blocks: Iterable[np.ndarray]


def images_per_block(shape: tuple[int, ...]) -> int:
    """Return how many uint8 images of `shape` fill about BLOCK_BYTES (at least one)."""
    return max(1, BLOCK_BYTES // int(np.prod(shape)))


def write_images(folder: str | Path, source: ImageSource) -> dict[str, Any]:
    """Write `source` into `folder`, all three files or none; return what dataset.json says.

    Raises whatever reading `source.blocks` raises, and ValueError where the blocks are fewer or
    more than the labels.
    """
    folder = Path(folder)
    description_path = folder / "dataset.json"
    n = len(source.labels)
    # The files move into place in reverse order: dataset.json, which says that all is there, last.
    with (
        replacing(description_path) as description_file,
        replacing(folder / "images.npy") as images_file,
        replacing(folder / "labels.npy") as labels_file,
    ):
        np.save(labels_file, source.labels.astype(np.int64))
        with open(images_file, "wb") as file:
            # Not through a map of the file: a full disk would end the process by SIGBUS.
            header = {"descr": "|u1", "fortran_order": False, "shape": (n, *source.shape)}
            write_array_header_1_0(file, header)
            done = 0
            for block in source.blocks:
                if block.shape[1:] != source.shape or block.dtype != np.uint8:
                    raise ValueError(f"{source.name}: a block of {block.dtype} {block.shape}")
                file.write(np.ascontiguousarray(block))
                done += len(block)
        if done != n:
            raise ValueError(f"{source.name}: {done} images for {n} labels")
        images = np.load(images_file, mmap_mode="r")
        mean, std = channel_statistics(images[: source.n_train])
        description = {
            "name": source.name,
            "source": source.source,
            "n_train": source.n_train,
            "n_test": n - source.n_train,
            "shape": list(source.shape),
            "class_names": source.class_names,
            "checksum": checksum(images, source.labels, source.n_train, source.class_names),
            "channel_mean": mean,
            "channel_std": std,
        }
        text = json.dumps(description, indent=2, sort_keys=True, allow_nan=False)
        description_file.write_text(text + "\n", encoding="utf-8")
        # An older description must not vouch for new images, should the next moves be interrupted.
        description_path.unlink(missing_ok=True)
    return description


def checksum(images: np.ndarray, labels: np.ndarray, n_train: int, class_names: list[str]) -> str:
    """Return "sha256:..." of everything a run can see: shape, classes, split, pixels and labels."""
    header = {"shape": images.shape, "n_train": n_train, "class_names": class_names}
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for block in _blocks(images):
        digest.update(np.ascontiguousarray(block))
    digest.update(labels.astype("<i8").tobytes())
    return f"sha256:{digest.hexdigest()}"


def channel_statistics(images: np.ndarray) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation a channel of uint8 (N, H, W, C), scaled to [0, 1].

    Images are divided by the deviation: that of a channel without any (as of an empty third one) is
    1. Both come from a histogram of the 256 values: exact, whatever the block size.
    """
    channels = images.shape[3]
    counts = np.zeros((channels, 256), dtype=np.int64)
    for block in _blocks(images):
        for channel in range(channels):
            counts[channel] += np.bincount(block[..., channel].ravel(), minlength=256)
    values = np.arange(256) / 255
    share = counts / counts.sum(axis=1, keepdims=True)
    mean = share @ values
    variance = (share * (values - mean[:, None]) ** 2).sum(axis=1)
    constant = (counts > 0).sum(axis=1) == 1
    return mean.tolist(), np.where(constant, 1.0, np.sqrt(variance)).tolist()


def _blocks(images: np.ndarray) -> Iterator[np.ndarray]:
    step = images_per_block(images.shape[1:])
    for start in range(0, len(images), step):
        yield images[start : start + step]
