"""Readers: the built-in data sets, from the files of their authors or torchvision's layout of them.

torch and torchvision are imported where they are needed; `digits` does without them.
"""

import gzip
import socket
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from normres.dataset_facts import SHAPES, SIZES
from normres.errors import InputError
from normres.files import replacing
from normres.image_folder import fit, to_array
from normres.images import stratified_subset
from normres.preparation import ImageSource, images_per_block

DOWNLOAD_ATTEMPTS = 3
BACKOFF_SECONDS = 2  # before the second attempt; doubled before each further one
TIMEOUT_SECONDS = 60  # without a byte from the server


class Arrays(NamedTuple):
    """A built-in data set in memory: images uint8 (n, H, W, C), labels (n,)."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    class_names: list[str]
    source: str


class Download(NamedTuple):
    """A file as its authors publish it; `md5` is torchvision's."""

    url: str
    filename: str
    md5: str


def read_dataset(name: str, root: str | Path, image_size: int | None = None) -> ImageSource:
    """Read a built-in data set from its files under `root`, downloading those that are missing.

    `root` is written to only for a download. `image_size` resizes to a square; without it images
    have their native shape (dataset_facts.SHAPES). Raises InputError that names a damaged file, or
    the missing ones and where to get them.
    """
    readers = {
        "digits": read_digits,
        "fashion_mnist": read_fashion_mnist,
        "cifar10": read_cifar10,
        "cifar100": read_cifar100,
        "svhn": read_svhn,
    }
    if name not in readers:
        raise InputError(f"dataset: {name!r} is not one of {', '.join(readers)}")
    arrays = readers[name](Path(root))
    shape = SHAPES[name] if image_size is None else (image_size, image_size, SHAPES[name][2])
    return ImageSource(
        name=name,
        source=arrays.source,
        class_names=list(arrays.class_names),
        labels=np.concatenate([arrays.train_labels, arrays.test_labels]).astype(np.int64),
        n_train=len(arrays.train_labels),
        shape=shape,
        blocks=_resized_blocks([arrays.train_images, arrays.test_images], shape),
    )


def _resized_blocks(
    arrays: Iterable[np.ndarray], shape: tuple[int, int, int]
) -> Iterator[np.ndarray]:
    step = images_per_block(shape)
    for images in arrays:
        for start in range(0, len(images), step):
            block = images[start : start + step]
            if block.shape[1:] != shape:
                # Pillow knows grey images without a channel axis only.
                pictures = (Image.fromarray(image.squeeze()) for image in block)
                block = np.stack([to_array(fit(picture, shape[0])) for picture in pictures])
            yield block


def read_digits(_root: Path) -> Arrays:
    """Read scikit-learn's 8x8 scans of digits, repeated to three channels; needs no files.

    They have no official split: 500 for testing are chosen here, stratified, always the same.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    grey = np.rint(digits.images * (255 / 16)).astype(np.uint8)  # scikit-learn's are 0..16
    images = np.repeat(grey[..., None], 3, axis=3)
    test = stratified_subset(digits.target, SIZES["digits"][1], seed="digits: test images")
    train = np.setdiff1d(np.arange(len(images)), test)
    return Arrays(
        images[train],
        digits.target[train],
        images[test],
        digits.target[test],
        [str(digit) for digit in digits.target_names],
        "scikit-learn's load_digits (UCI Optical Recognition of Handwritten Digits, test part)",
    )


def read_cifar10(root: Path) -> Arrays:
    """Read CIFAR-10 (Krizhevsky 2009) from `cifar-10-batches-py/` or its archive in `root`."""
    from torchvision.datasets import CIFAR10

    return _read_cifar(CIFAR10, root)


def read_cifar100(root: Path) -> Arrays:
    """Read CIFAR-100 (Krizhevsky 2009) from `cifar-100-python/` or its archive in `root`."""
    from torchvision.datasets import CIFAR100

    return _read_cifar(CIFAR100, root)


def _read_cifar(dataset: type, root: Path) -> Arrays:
    from torchvision.datasets.utils import extract_archive

    if not (root / dataset.base_folder).is_dir():
        archive = root / dataset.filename
        if not archive.is_file():
            download(dataset.__name__, [Download(dataset.url, archive.name, dataset.tgz_md5)], root)
        _verify(archive, dataset.tgz_md5)
        # Unpacked beside nothing of the user's: `root` may be read-only.
        with tempfile.TemporaryDirectory() as unpacked:
            extract_archive(str(archive), unpacked)
            return _read_cifar(dataset, Path(unpacked))

    batches = [*dataset.train_list, *dataset.test_list]
    for filename, md5 in [*batches, (dataset.meta["filename"], dataset.meta["md5"])]:
        _verify(root / dataset.base_folder / filename, md5)
    train, test = dataset(root, train=True), dataset(root, train=False)
    return Arrays(
        train.data,
        np.asarray(train.targets),
        test.data,
        np.asarray(test.targets),
        train.classes,
        dataset.url,
    )


def read_svhn(root: Path) -> Arrays:
    """Read SVHN's cropped digits (Netzer et al. 2011) from `train_32x32.mat`, `test_32x32.mat`."""
    from torchvision.datasets import SVHN

    published = [Download(*SVHN.split_list[split]) for split in ("train", "test")]
    download("SVHN", [file for file in published if not (root / file.filename).is_file()], root)
    for file in published:
        _verify(root / file.filename, file.md5)
    train, test = SVHN(root, split="train"), SVHN(root, split="test")
    return Arrays(
        train.data.transpose(0, 2, 3, 1),  # torchvision puts the channels first
        train.labels,
        test.data.transpose(0, 2, 3, 1),
        test.labels,
        [str(digit) for digit in range(10)],
        published[0].url.rpartition("/")[0] + "/",
    )


def read_fashion_mnist(root: Path) -> Arrays:
    """Read Fashion-MNIST (Xiao et al. 2017): four IDX files, gzip'd or not.

    They may lie in `root` itself, as in Debian's package dataset-fashion-mnist, or in torchvision's
    `FashionMNIST/raw/`. Debian compresses them anew, so no published checksum fits what is found:
    gzip's own and the sizes in the headers are checked. A download has to match torchvision's.
    """
    from torchvision.datasets import FashionMNIST

    def find(filename: str) -> Path | None:
        folders = (root, root / "FashionMNIST" / "raw")
        names = (filename, filename.removesuffix(".gz"))
        paths = (folder / name for folder in folders for name in names)
        return next((path for path in paths if path.is_file()), None)

    mirror = FashionMNIST.mirrors[0]
    published = [Download(mirror + name, name, md5) for name, md5 in FashionMNIST.resources]
    download("FashionMNIST", [file for file in published if not find(file.filename)], root)
    paths = [find(file.filename) for file in published]
    train_images, train_labels, test_images, test_labels = (read_idx(path) for path in paths)
    for images, labels, path in (
        (train_images, train_labels, paths[1]),
        (test_images, test_labels, paths[3]),
    ):
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            raise InputError(f"{path}: labels {labels.shape} do not fit images {images.shape}")
    return Arrays(
        train_images[..., None],
        train_labels,
        test_images[..., None],
        test_labels,
        FashionMNIST.classes,
        "https://github.com/zalandoresearch/fashion-mnist",
    )


def read_idx(path: Path) -> np.ndarray:
    """Read a uint8 array from an IDX file, gzip'd where its name ends in .gz.

    The header is two zero bytes, the type (8: uint8), the number of dimensions, and each size as
    a big-endian uint32 (LeCun et al., MNIST). Raises InputError where the file is damaged.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            content = file.read()
        if content[:3] != b"\0\0\x08":
            raise ValueError("does not start with the header of 8-bit values")
        shape = np.frombuffer(content, ">u4", count=content[3], offset=4).tolist()
        values = np.frombuffer(content, np.uint8, offset=4 + 4 * len(shape))
        return values.reshape(shape)
    except (OSError, EOFError, zlib.error, IndexError, ValueError) as error:
        raise InputError(f"{path}: truncated or not an IDX file ({error})") from None


def _verify(path: Path, md5: str) -> None:
    from torchvision.datasets.utils import check_integrity

    if not path.is_file():
        raise InputError(f"{path}: no such file; delete its folder to download it again")
    if not check_integrity(path, md5):
        raise InputError(
            f"{path}: truncated or altered (its MD5 is not {md5}); delete it to download it again"
        )


def download(name: str, files: list[Download], root: Path) -> None:
    """Download `files` into `root`, each under its own name only once its checksum is right.

    Raises InputError after DOWNLOAD_ATTEMPTS failures, saying which files to put where by hand.
    """
    from torchvision.datasets.utils import download_url

    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_SECONDS)  # torchvision sets none: a silent server would hang
    try:
        for attempt in range(DOWNLOAD_ATTEMPTS):
            try:
                for url, filename, md5 in files:
                    if not (root / filename).is_file():
                        with replacing(root / filename) as temporary:
                            download_url(url, temporary.parent, temporary.name, md5)
                return
            except (OSError, RuntimeError, HTTPException) as error:
                reason = error
            if attempt < DOWNLOAD_ATTEMPTS - 1:
                time.sleep(BACKOFF_SECONDS * 2**attempt)
    finally:
        socket.setdefaulttimeout(timeout)
    missing = [file for file in files if not (root / file.filename).is_file()]
    raise InputError(
        f"{name}: the download failed ({' '.join(str(reason).split())}); put "
        f"{', '.join(file.filename for file in missing)} into {root}, from "
        f"{' '.join(file.url for file in missing)}"
    )
